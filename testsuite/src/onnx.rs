//! ONNX models, written field by field: for tests and as seeds of fuzzing.

/// A field of a message.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its number.
    pub number: u64,
    /// Its value.
    pub payload: Payload,
}

/// The value of a field.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64([u8; 8]),
    /// Wire type 5.
    Fixed32([u8; 4]),
    /// Wire type 2: text, packed numbers, raw data.
    Bytes(Vec<u8>),
    /// Wire type 2.
    Message(Vec<Field>),
}

/// The element type float32.
pub const FLOAT: u64 = 1;
/// The element type int64.
pub const INT64: u64 = 7;
/// The element type bool.
pub const BOOL: u64 = 9;

/// A field that holds a text.
pub fn text(number: u64, text: &str) -> Field {
    Field { number, payload: Payload::Bytes(text.into()) }
}

/// A field that holds an integer.
pub fn int(number: u64, value: i64) -> Field {
    Field { number, payload: Payload::Varint(value as u64) }
}

/// A field that holds a message.
pub fn message(number: u64, fields: Vec<Field>) -> Field {
    Field { number, payload: Payload::Message(fields) }
}

/// A value's name and type in the fields of a graph: 11 is an input, 12 an output. Dimensions are
/// sizes, or names if they are no numbers.
pub fn value(number: u64, name: &str, dtype: u64, dims: &[&str]) -> Field {
    let dim = |d: &&str| match d.parse() {
        Ok(size) => message(1, vec![int(1, size)]),
        Err(_) => message(1, vec![text(2, d)]),
    };
    let shape = message(2, dims.iter().map(dim).collect());
    let tensor = message(1, vec![int(1, dtype as i64), shape]);
    message(number, vec![text(1, name), message(2, vec![tensor])])
}

/// A node, as a field of a graph.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attrs: Vec<Field>) -> Field {
    let mut fields: Vec<Field> = inputs.iter().map(|name| text(1, name)).collect();
    fields.extend(outputs.iter().map(|name| text(2, name)));
    fields.push(text(4, op));
    fields.extend(attrs);
    message(1, fields)
}

/// An attribute that is a list of integers, as a field of a node.
pub fn ints(name: &str, values: &[i64]) -> Field {
    let mut fields = vec![text(1, name), int(20, 7)];
    fields.extend(values.iter().map(|&v| int(8, v)));
    message(5, fields)
}

/// An attribute that is a graph.
pub fn subgraph(name: &str, graph: Vec<Field>) -> Field {
    message(5, vec![text(1, name), int(20, 5), message(6, graph)])
}

/// A tensor with raw data, as a field of a graph: an initialiser.
pub fn tensor(name: &str, dtype: u64, dims: &[i64], raw: Vec<u8>) -> Field {
    let mut fields: Vec<Field> = dims.iter().map(|&d| int(1, d)).collect();
    fields.extend([int(2, dtype as i64), text(8, name)]);
    fields.push(Field { number: 9, payload: Payload::Bytes(raw) });
    message(5, fields)
}

/// A tensor of one dimension.
pub fn longs(name: &str, values: &[i64]) -> Field {
    let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, INT64, &[values.len() as i64], raw)
}

/// The bytes of a model with this graph, opset 21, and more fields.
pub fn model(graph: Vec<Field>, more: Vec<Field>) -> Vec<u8> {
    let mut fields = vec![int(1, 10), message(7, graph), message(8, vec![text(1, ""), int(2, 21)])];
    fields.extend(more);
    encode(&fields)
}

/// The bytes of a message. Calls itself as deeply as messages nest.
pub fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|field| field_into(&mut out, field));
    out
}

/// Writes a field; calls itself as deeply as messages nest.
fn field_into(out: &mut Vec<u8>, field: &Field) {
    let wire = match field.payload {
        Payload::Varint(_) => 0,
        Payload::Fixed64(_) => 1,
        Payload::Bytes(_) | Payload::Message(_) => 2,
        Payload::Fixed32(_) => 5,
    };
    varint(out, field.number << 3 | wire);
    match &field.payload {
        Payload::Varint(n) => varint(out, *n),
        Payload::Fixed64(bytes) => out.extend(bytes),
        Payload::Fixed32(bytes) => out.extend(bytes),
        Payload::Bytes(bytes) => {
            varint(out, bytes.len() as u64);
            out.extend(bytes);
        }
        Payload::Message(inner) => {
            let bytes = encode(inner);
            varint(out, bytes.len() as u64);
            out.extend(bytes);
        }
    }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
