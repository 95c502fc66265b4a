//! TVM's metadata: JSON of an object graph with tensors in base64.
//!
//! Only what constants need is looked at. Node 0 of the graph is null; the root is a map from
//! type keys to arrays; an entry of `relay.Constant` names one of the `b64ndarrays`, which
//! are tensors in the layout that `.params` files use.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::tensor::Tensor;
use crate::types::DType;

/// The key of constants.
pub(super) const CONSTANT: &str = "relay.Constant";

/// What a metadata section holds.
#[derive(Default)]
pub(super) struct Entries {
    /// How many entries each key has.
    pub counts: BTreeMap<String, usize>,
    /// The entries of [`CONSTANT`]; an unreadable one is refused only if it is used.
    pub constants: Vec<Result<Tensor, String>>,
}

/// Reads the JSON of a metadata section.
pub(super) fn read(json: &str) -> Result<Entries, String> {
    let json: Value = serde_json::from_str(json).map_err(|e| format!("the metadata is no JSON: {e}"))?;
    entries(&json).ok_or_else(|| "the metadata is not an object graph as TVM writes it".to_owned())
}

fn entries(json: &Value) -> Option<Entries> {
    let nodes = json.get("nodes")?.as_array()?;
    let node = |index: &Value| nodes.get(usize::try_from(index.as_u64()?).ok()?);
    let root = node(json.get("root")?)?;
    let mut entries = Entries::default();
    let keys = root.get("keys").and_then(Value::as_array);
    let data = root.get("data").and_then(Value::as_array);
    for (key, array) in keys.into_iter().flatten().zip(data.into_iter().flatten()) {
        let items = node(array)?.get("data").and_then(Value::as_array).map_or(&[][..], |v| v);
        let key = key.as_str()?;
        entries.counts.insert(key.to_owned(), items.len());
        if key == CONSTANT {
            let constants = items.iter().map(|item| {
                let blob = node(item).and_then(|n| blob(json, n)).ok_or("this constant has no data")?;
                ndarray(&base64(blob).ok_or("this constant is not in base64")?)
            });
            entries.constants = constants.collect();
        }
    }
    Some(entries)
}

/// The base64 text of a constant.
fn blob<'j>(json: &'j Value, constant: &Value) -> Option<&'j str> {
    let index = constant.get("attrs")?.get("data")?;
    let index = index.as_str().map_or_else(|| index.as_u64(), |s| s.parse().ok())?;
    json.get("b64ndarrays")?.get(usize::try_from(index).ok()?)?.as_str()
}

/// Decodes base64; white space is skipped, padding may be missing.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// The first eight bytes of a saved tensor.
const MAGIC: u64 = 0xdd5e_40f0_96b4_a13f;

/// Reads a tensor as TVM saves it: magic, reserved, device, rank, dtype, shape, length, bytes.
fn ndarray(bytes: &[u8]) -> Result<Tensor, String> {
    let mut rest = bytes;
    let mut take = |n: usize| -> Result<&[u8], String> {
        let (head, tail) = rest.split_at_checked(n).ok_or("the constant is truncated")?;
        rest = tail;
        Ok(head)
    };
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, &b| n << 8 | b as u64);
    if word(take(8)?) != MAGIC {
        return Err("the constant does not start as a tensor does".to_owned());
    }
    take(16)?;
    let rank = word(take(4)?) as usize;
    let (code, bits, lanes) = (word(take(1)?), word(take(1)?), word(take(2)?));
    let dtype = match (code, bits, lanes) {
        (0, 8, 1) => DType::I8,
        (0, 16, 1) => DType::I16,
        (0, 32, 1) => DType::I32,
        (0, 64, 1) => DType::I64,
        (1, 1, 1) | (6, 8, 1) => DType::Bool,
        (1, 8, 1) => DType::U8,
        (1, 16, 1) => DType::U16,
        (1, 32, 1) => DType::U32,
        (1, 64, 1) => DType::U64,
        (2, 16, 1) => DType::F16,
        (2, 32, 1) => DType::F32,
        (2, 64, 1) => DType::F64,
        (4, 16, 1) => DType::BF16,
        _ => {
            return Err(format!(
                "the constant has an unsupported dtype (code {code}, {bits} bits, {lanes} lanes)"
            ));
        }
    };
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(usize::try_from(word(take(8)?)).map_err(|e| e.to_string())?);
    }
    let length = word(take(8)?);
    let data = take(usize::try_from(length).map_err(|e| e.to_string())?)?;
    Tensor::from_bytes(dtype, &shape, data).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(bytes: &[u8]) -> String {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |c: &[u8]| {
            let n = (0..3).fold(0u32, |n, i| n << 8 | c.get(i).copied().unwrap_or(0) as u32);
            (0..4)
                .map(|i| if i <= c.len() { digits[(n >> (18 - 6 * i)) as usize & 63] as char } else { '=' })
                .collect::<String>()
        };
        bytes.chunks(3).map(group).collect()
    }

    fn saved(code: u8, bits: u8, shape: &[i64], data: &[u8]) -> String {
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([0; 8]);
        out.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        out.extend((shape.len() as i32).to_le_bytes());
        out.extend([code, bits, 1, 0]);
        out.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
        out.extend((data.len() as u64).to_le_bytes());
        out.extend(data);
        encode(&out)
    }

    fn document(blobs: &[String]) -> String {
        let constants: Vec<String> = (0..blobs.len())
            .map(|i| format!(r#"{{"type_key": "relay.Constant", "attrs": {{"data": "{i}", "span": "0"}}}}"#))
            .collect();
        let ids: Vec<String> = (0..blobs.len()).map(|i| (i + 3).to_string()).collect();
        format!(
            r#"{{"root": 1, "nodes": [{{"type_key": ""}},
                {{"type_key": "Map", "keys": ["relay.Constant"], "data": [2]}},
                {{"type_key": "Array", "data": [{}]}}, {}],
                "b64ndarrays": ["{}"], "attrs": {{"tvm_version": "0.14.0"}}}}"#,
            ids.join(", "),
            constants.join(", "),
            blobs.join("\", \"")
        )
    }

    #[test]
    fn constants_are_read() {
        let data: Vec<u8> = [1f32, 2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        let entries = read(&document(&[saved(2, 32, &[2], &data), saved(0, 64, &[], &7i64.to_le_bytes())]));
        let entries = entries.expect("it is well formed");
        assert_eq!(entries.counts[CONSTANT], 2);
        let get = |i: usize| entries.constants[i].as_ref().expect("it is well formed");
        assert_eq!(get(0).as_slice::<f32>(), Some(&[1f32, 2.5][..]));
        assert_eq!(get(1).as_slice::<i64>(), Some(&[7i64][..]));
    }

    #[test]
    fn damage_is_refused() {
        assert!(read("{").is_err() && read("[]").is_err() && read(r#"{"root": 9, "nodes": []}"#).is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
        let bad =
            |blob: String| read(&document(&[blob])).expect("the graph is well formed").constants[0].is_err();
        assert!(bad("!".into()) && bad(String::new()) && bad(encode(&MAGIC.to_le_bytes())));
        assert!(bad(saved(2, 32, &[2], &[0; 4])), "shape and length differ");
        assert!(bad(saved(2, 32, &[-1, -1], &[0; 4])) && bad(saved(2, 32, &[i64::MAX, 8], &[0; 4])));
        assert!(bad(saved(3, 64, &[1], &[0; 8])));
    }
}
