//! Inputs of a run: files, literals, fills and random values.

use std::collections::BTreeMap;
use std::path::Path;

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::dispatch;
use fermata_ir::front::hf::tokenizer::Tokenizer;
use fermata_ir::front::{npy, onnx};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::{DType, TensorType};

use crate::Failure;
use crate::args::{Fill, InputArgs, ModelArgs};
use crate::model::Bindings;

/// Arrays by name.
pub type Arrays = BTreeMap<String, Tensor>;

/// Texts as the inputs of a checkpoint's encoder, of the length that `--dim seq` gives.
fn tokens(texts: &[String], model: &ModelArgs) -> Result<Arrays, Failure> {
    if !model.model.is_dir() {
        let help = "name the folder of a checkpoint, or give the tokens with --inputs";
        let message = format!("`{}` has no tokenizer for --text", model.model.display());
        return Err(Failure::from_usage(Diagnostic::error(Code::USAGE, message).help(help)));
    }
    let length = Bindings::new(model)?.dims.into_iter().find(|(name, _)| name == "seq").map(|(_, n)| n);
    let batch = Tokenizer::read(&model.model)?.batch(texts, length).map_err(Failure::from_usage)?;
    Ok(batch.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

/// A parameter that wants a value.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
}

/// The arrays of an npz file.
///
/// # Errors
/// If the file cannot be read (2) or is malformed (1).
pub fn read_npz(path: &Path) -> Result<Arrays, Failure> {
    let bytes = read(path)?;
    let arrays = npy::read_npz(&bytes)?;
    Ok(arrays.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::usage(format!("cannot read `{}`: {e}", path.display())))
}

/// The tensors `prefix0.pb`, `prefix1.pb`, .. of a folder.
///
/// # Errors
/// If one cannot be read or is malformed.
pub fn read_test_data(dir: &Path, prefix: &str) -> Result<Vec<Tensor>, Failure> {
    let mut tensors = Vec::new();
    loop {
        let path = dir.join(format!("{prefix}{}.pb", tensors.len()));
        if !path.is_file() {
            return Ok(tensors);
        }
        tensors.push(onnx::read_tensor(&read(&path)?)?);
    }
}

/// Inputs that the flags give by name; those of `--onnx-test-data` by place.
#[derive(Default)]
pub struct Given {
    named: Arrays,
    placed: Vec<Tensor>,
}

impl Given {
    /// What the flags give a model.
    ///
    /// # Errors
    /// If a flag or file is wrong.
    pub fn new(args: &InputArgs, model: &ModelArgs) -> Result<Given, Failure> {
        let mut given = Given::default();
        if !args.text.is_empty() {
            given.named = tokens(&args.text, model)?;
        }
        if let Some(path) = &args.inputs {
            given.named.extend(read_npz(path)?);
        }
        if let Some(dir) = &args.onnx_test_data {
            given.placed = read_test_data(dir, "input_")?;
        }
        for text in &args.input {
            let (name, tensor) = literal(text)?;
            given.named.insert(name, tensor);
        }
        Ok(given)
    }

    /// The shapes of what is given, by the names of the parameters.
    pub fn shapes(&self, names: &[String]) -> Vec<(String, Vec<usize>)> {
        let placed = names.iter().zip(&self.placed).map(|(n, t)| (n.clone(), t.shape().to_vec()));
        let named = self.named.iter().map(|(n, t)| (n.clone(), t.shape().to_vec()));
        placed.chain(named.filter(|(n, _)| names.contains(n))).collect()
    }

    /// The value of a parameter, if it is given.
    pub fn get(&self, place: usize, name: &str) -> Option<&Tensor> {
        self.named.get(name).or_else(|| self.placed.get(place))
    }

    /// Names that no parameter has.
    fn unknown(&self, wanted: &[Wanted]) -> Option<&String> {
        self.named.keys().find(|name| !wanted.iter().any(|w| w.name == **name))
    }
}

/// A value for each parameter.
///
/// # Errors
/// If one is missing, or a name is unknown.
pub fn collect(args: &InputArgs, given: &Given, wanted: &[Wanted]) -> Result<Vec<Tensor>, Failure> {
    let ranges = args.range.iter().map(|r| range(r)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let ranged = ranges.keys().find(|name| !wanted.iter().any(|w| w.name == **name));
    if let Some(name) = given.unknown(wanted).or(ranged) {
        return Err(Failure::no_such("input", name, wanted.iter().map(|w| &*w.name)));
    }
    let mut random = Random::new(args.seed);
    let mut values = Vec::new();
    for (place, want) in wanted.iter().enumerate() {
        let value = match given.get(place, &want.name) {
            Some(tensor) => tensor.clone(),
            None => fill(args.fill, want, ranges.get(&want.name).copied(), &mut random)?,
        };
        values.push(value);
    }
    Ok(values)
}

fn range(text: &str) -> Result<(String, (f64, f64)), Failure> {
    let wrong = || Failure::usage(format!("`--range {text}` is not of the form NAME=LO:HI"));
    let (name, ends) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (low, high) = ends.split_once(':').ok_or_else(wrong)?;
    let number = |t: &str| t.trim().parse::<f64>().map_err(|_| wrong());
    let (low, high) = (number(low)?, number(high)?);
    if low <= high { Ok((name.into(), (low, high))) } else { Err(wrong()) }
}

fn fill(
    how: Option<Fill>,
    want: &Wanted,
    range: Option<(f64, f64)>,
    random: &mut Random,
) -> Result<Tensor, Failure> {
    let Some(shape) = want.ty.static_shape() else {
        let name = &want.name;
        return Err(Failure::usage(format!(
            "the input `{name}` has no fixed shape; give it with --shape {name}=.."
        )));
    };
    let dtype = want.ty.dtype;
    let too_large = |e| Failure::usage(format!("the input `{}`: {e}", want.name));
    match (how, range) {
        (None, None) => Err(Failure::usage(format!(
            "the input `{0}` is not given: use --inputs, -i {0}=.., or --fill random",
            want.name
        ))),
        (Some(Fill::Zeros), None) => Tensor::zeros(dtype, &shape).map_err(too_large),
        (Some(Fill::Ones), None) => splat(dtype, &shape, 1.0).map_err(too_large),
        (_, range) => {
            let (low, high) = range.unwrap_or(if dtype.is_float() { (0.0, 1.0) } else { (0.0, 10.0) });
            random.tensor(dtype, &shape, low, high).map_err(too_large)
        }
    }
}

fn splat(dtype: DType, shape: &[usize], value: f64) -> Result<Tensor, fermata_ir::tensor::TensorError> {
    let bytes = fermata_ir::tensor::byte_len(dtype, shape)?;
    let one = Scalar::from_f64(dtype, value).bits().to_le_bytes();
    let data: Vec<u8> = one[..dtype.bytes()].iter().copied().cycle().take(bytes).collect();
    Tensor::from_bytes(dtype, shape, &data)
}

/// A seeded generator of random numbers (SplitMix64, Steele, Lea and Flood, 2014).
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A tensor of numbers in [low, high): integers are rounded down.
    ///
    /// # Errors
    /// If the shape is too large.
    pub fn tensor(
        &mut self,
        dtype: DType,
        shape: &[usize],
        low: f64,
        high: f64,
    ) -> Result<Tensor, fermata_ir::tensor::TensorError> {
        let bytes = fermata_ir::tensor::byte_len(dtype, shape)?;
        let width = dtype.bytes();
        let mut data = Vec::with_capacity(bytes);
        for _ in 0..bytes / width {
            let number = low + self.unit() * (high - low);
            let number = match dtype {
                DType::Bool => f64::from(u8::from(self.unit() < 0.5)),
                d if d.is_float() => number,
                _ => number.floor(),
            };
            data.extend_from_slice(&Scalar::from_f64(dtype, number).bits().to_le_bytes()[..width]);
        }
        Tensor::from_bytes(dtype, shape, &data)
    }
}

/// `NAME=@x.npy`, `NAME=4x8xf32=1.5`, `NAME=2x2xi64=[1,2,3,4]`, `NAME=f32=1`.
fn literal(text: &str) -> Result<(String, Tensor), Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("`-i {text}`: {why}; write NAME=@x.npy, NAME=4x8xf32=1.5 or NAME=2xi64=[1,2]"))
    };
    if let Some((name, path)) = text.split_once("=@") {
        return Ok((name.into(), npy::read_npy(&read(Path::new(path))?)?));
    }
    let (rest, values) = text.rsplit_once('=').ok_or_else(|| wrong("there is no value"))?;
    let (name, ty) = rest.rsplit_once('=').ok_or_else(|| wrong("there is no type"))?;
    let mut parts: Vec<&str> = ty.split('x').collect();
    let dtype = short_dtype(parts.pop().unwrap_or("")).ok_or_else(|| wrong("the type ends in no dtype"))?;
    let shape: Vec<usize> = parts
        .iter()
        .filter(|p| !p.is_empty())
        .map(|p| p.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("a size is no number"))?;
    let tensor = match values.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        Some(list) => {
            let items: Vec<&str> = list.split(',').map(str::trim).filter(|t| !t.is_empty()).collect();
            let bytes: Option<Vec<[u8; 8]>> = items.iter().map(|t| element(dtype, t)).collect();
            let bytes = bytes.ok_or_else(|| wrong("a value is no number of this dtype"))?;
            let data: Vec<u8> = bytes.iter().flat_map(|b| b[..dtype.bytes()].to_vec()).collect();
            Tensor::from_bytes(dtype, &shape, &data)
        }
        None => {
            let one = element(dtype, values).ok_or_else(|| wrong("the value is no number of this dtype"))?;
            let count = fermata_ir::tensor::byte_len(dtype, &shape).map_err(|e| wrong(&e.to_string()))?;
            let data: Vec<u8> = one[..dtype.bytes()].iter().copied().cycle().take(count).collect();
            Tensor::from_bytes(dtype, &shape, &data)
        }
    };
    tensor.map(|t| (name.to_string(), t)).map_err(|e| wrong(&e.to_string()))
}

/// `f32`, `i8`, `u64`, `bf16`, `bool`, or the name in Relay.
fn short_dtype(name: &str) -> Option<DType> {
    let short = |d: DType| {
        let long = d.name();
        long.replace("bfloat", "bf").replace("float", "f").replace("uint", "u").replace("int", "i")
    };
    DType::ALL.into_iter().find(|d| short(*d) == name || d.name() == name)
}

/// The bytes of a number as it is written.
fn element(dtype: DType, text: &str) -> Option<[u8; 8]> {
    let text = text.trim();
    let scalar = match dtype {
        DType::Bool => match text {
            "true" | "True" | "1" => Scalar::from_i64(dtype, 1),
            "false" | "False" | "0" => Scalar::from_i64(dtype, 0),
            _ => return None,
        },
        // Parsed at the full width of each, so that nothing rounds twice or overflows unseen.
        DType::F32 => Scalar::of(text.parse::<f32>().ok()?),
        d if d.is_float() => Scalar::from_f64(d, text.parse().ok()?),
        DType::U64 => Scalar::of(text.parse::<u64>().ok()?),
        d => {
            let value: i64 = text.parse().ok()?;
            let scalar = Scalar::from_i64(d, value);
            if scalar.as_i64() != value {
                return None;
            }
            scalar
        }
    };
    Some(scalar.bits().to_le_bytes())
}

/// The elements as f64s.
pub fn to_f64(tensor: &Tensor) -> Vec<f64> {
    dispatch!(tensor.dtype(), T => {
        let data = tensor.as_slice::<T>().expect("dispatched on the dtype");
        data.iter().map(|&v| Scalar::of(v).as_f64()).collect()
    })
}
