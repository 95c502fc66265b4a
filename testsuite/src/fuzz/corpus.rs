//! Well-formed inputs to start from.

use std::io;
use std::path::Path;

use fermata::Driver;
use fermata_ir::front::npy::{write_npy, write_npz};
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{LargeConstants, PrintOptions, print_module};
use fermata_ir::types::DType;
use fermata_ir::weights;
use fermata_passes::table::PassTable;

use super::{Reader, models};
use crate::case;
use crate::generate::Generator;

/// The folder of this package.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Files that are larger are left out: inputs per second count for more.
const MAX_SEED: u64 = 256 << 10;

/// How many generated programs the readers of text start from.
const GENERATED: u64 = 24;

/// What the inputs of a reader are made from.
pub struct Corpus {
    /// The reader.
    pub reader: Reader,
    /// Well-formed inputs.
    pub seeds: Vec<Vec<u8>>,
    /// Words that mean something to the reader.
    pub words: Vec<String>,
}

impl Corpus {
    /// The corpus of a reader.
    ///
    /// # Errors
    /// If a file cannot be read, or there is none.
    pub fn new(reader: Reader) -> io::Result<Corpus> {
        let seeds = match reader {
            Reader::Onnx => onnx()?,
            Reader::Relay => relay()?,
            Reader::Metadata => vec![METADATA.into()],
            Reader::Tir => tir()?,
            Reader::Npz => npz()?,
            Reader::Npy => tensors().iter().map(write_npy).collect(),
            Reader::Safetensors => vec![safetensors()?],
            Reader::Artifact => artifacts()?,
            Reader::Pipeline => pipelines(),
        };
        match seeds.is_empty() {
            true => Err(io::Error::other(format!("there is nothing to start from for {}", reader.name()))),
            false => Ok(Corpus { reader, seeds, words: words(reader) }),
        }
    }
}

fn words(reader: Reader) -> Vec<String> {
    let ops = || OpTable::standard().iter().map(|op| op.name.to_owned()).collect::<Vec<_>>();
    match reader {
        Reader::Onnx => {
            let known = fermata_ir::front::onnx::supported().map(|(_, name)| name.to_owned());
            known.chain(models::WORDS.iter().map(|w| (*w).to_owned())).collect()
        }
        Reader::Relay | Reader::Metadata => {
            ops().into_iter().chain(RELAY_WORDS.iter().map(|w| (*w).to_owned())).collect()
        }
        Reader::Pipeline => PassTable::standard().iter().map(|pass| pass.name.to_owned()).collect(),
        Reader::Tir | Reader::Artifact => TIR_WORDS.iter().map(|w| (*w).to_owned()).collect(),
        Reader::Npz | Reader::Npy | Reader::Safetensors => {
            DType::ALL.iter().map(|d| d.name().to_owned()).chain(["F32".into(), "F8_E4M3".into()]).collect()
        }
    }
}

const RELAY_WORDS: &[&str] = &[
    "let",
    "if",
    "else",
    "fn",
    "def",
    "match",
    "match?",
    "type",
    "extern",
    "ref",
    "meta",
    "free_var",
    "Tensor",
    "float32",
    "int64",
    "bool",
    "bfloat16",
    "True",
    "nan",
    "inf",
    "weights",
    "elided",
    "const",
    "%0",
    "%x",
    "@main",
    "->",
    "=>",
    "?",
    "/*",
    "*/",
    "#[metadata]",
    "\"\\u{110000}\"",
    "1e999",
    "0x",
];

const TIR_WORDS: &[&str] = &[
    "T.grid",
    "T.serial",
    "T.tiles",
    "T.vectorized",
    "T.block",
    "T.reads",
    "T.writes",
    "T.axis.spatial",
    "T.axis.reduce",
    "T.init",
    "T.where",
    "T.Buffer",
    "T.alloc_buffer",
    "T.tensor_intrin",
    "T.checkpoint",
    "T.int64",
    "T.float32",
    "T.Select",
    "T.if_then_else",
    "T.evaluate",
    "for",
    "if",
    "else",
    "in",
    "range",
    "with",
    "while",
    "and",
    "or",
    "not",
    "//",
    "%",
    "\"float32\"",
    "shared",
    "    ",
];

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let small = std::fs::metadata(path)?.len() <= MAX_SEED;
    small.then(|| std::fs::read(path)).transpose()
}

fn cases(extension: &str) -> io::Result<Vec<Vec<u8>>> {
    let root = Path::new(ROOT);
    let mut seeds = Vec::new();
    for path in case::files(root, Path::new("cases")) {
        if path.extension().is_some_and(|e| e == extension) {
            seeds.extend(read(&root.join(path))?);
        }
    }
    Ok(seeds)
}

/// The demo's model, models that are made here, and ONNX's own where they were fetched.
fn onnx() -> io::Result<Vec<Vec<u8>>> {
    let root = Path::new(ROOT);
    let mut seeds = models::all();
    seeds.extend(read(&root.join("../cli/demo/digits.onnx"))?);
    for folder in ["../target/onnx-node", "../target/models"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let path = if path.is_dir() { path.join("model.onnx") } else { path };
            if path.extension().is_some_and(|e| e == "onnx") && path.is_file() {
                seeds.extend(read(&path)?);
            }
        }
    }
    Ok(seeds)
}

fn relay() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = cases("relay")?;
    let options = PrintOptions { large: LargeConstants::Inline, ..PrintOptions::default() };
    seeds.extend(
        (0..GENERATED).map(|seed| print_module(&Generator::new(seed).module(8).module, &options).into()),
    );
    Ok(seeds)
}

/// Runs the program for a file that it writes.
fn made(command: &[&str], folder: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = folder.join(name);
    let mut words: Vec<String> = command.iter().map(|w| (*w).to_owned()).collect();
    words.extend(["-o".to_owned(), path.display().to_string()]);
    let output = case::run(&Driver::standard(), &words);
    match output.code {
        0 => std::fs::read(path),
        _ => Err(io::Error::other(output.stderr)),
    }
}

/// Models that compile quickly to kernels of many kinds.
fn small_models(folder: &Path) -> io::Result<Vec<String>> {
    let texts = [
        "def @main(%x: Tensor[(2, 3), float32], %w: Tensor[(4, 3), float32]) { nn.softmax(nn.dense(%x, %w, units=None)) }",
        "def @main(%x: Tensor[(5), int32], %c: bool) { if (%c) { cumsum(%x) } else { floor_divide(%x, 3) } }",
        "def @main(%x: Tensor[(1, 2, 5, 5), float32]) { (nn.max_pool2d(%x, pool_size=[2, 2]), sum(%x)) }",
    ];
    let mut paths = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let path = folder.join(format!("{i}.relay"));
        std::fs::write(&path, format!("#[version = \"0.0.5\"]\n{text}\n"))?;
        paths.push(path.display().to_string());
    }
    Ok(paths)
}

fn tir() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = cases("tir")?;
    let folder = tempfile::tempdir()?;
    for model in small_models(folder.path())? {
        seeds.push(made(&["compile", &model, "--emit=tir"], folder.path(), "kernels.tir")?);
    }
    Ok(seeds)
}

fn artifacts() -> io::Result<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir()?;
    let models = small_models(folder.path())?;
    models.iter().map(|model| made(&["compile", model], folder.path(), "program.fermata")).collect()
}

/// A tensor of every dtype, with ranks from 0 up.
fn tensors() -> Vec<Tensor> {
    let shapes: [&[usize]; 4] = [&[], &[3], &[2, 3], &[1, 0, 4]];
    let each = DType::ALL.iter().zip(shapes.iter().cycle());
    each.filter_map(|(&dtype, shape)| Tensor::zeros(dtype, shape).ok()).collect()
}

fn named() -> Vec<(String, Tensor)> {
    tensors().into_iter().enumerate().map(|(i, tensor)| (format!("t{i}"), tensor)).collect()
}

fn npz() -> io::Result<Vec<Vec<u8>>> {
    let mut out = io::Cursor::new(Vec::new());
    let tensors = named();
    write_npz(&mut out, tensors.iter().map(|(name, tensor)| (&**name, tensor)))?;
    let sample = std::fs::read(Path::new(ROOT).join("../cli/demo/sample.npz"))?;
    Ok(vec![out.into_inner(), sample])
}

fn safetensors() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let tensors = named();
    weights::write(&mut out, tensors.iter().map(|(name, tensor)| (&**name, tensor)))?;
    Ok(out)
}

fn pipelines() -> Vec<Vec<u8>> {
    use fermata_passes::pipeline::{Level, standard};
    (0..=3).map(|level| standard(Level(level)).to_string().into()).collect()
}

/// A program as TVM writes it, with one constant in its metadata: `[1, 2]` as float32.
const METADATA: &str = r##"#[version = "0.0.5"]
def @main(%x: Tensor[(2), float32]) {
  add(%x, meta[relay.Constant][0])
}

#[metadata]
{
  "root": 1,
  "nodes": [
    {"type_key": ""},
    {"type_key": "Map", "keys": ["relay.Constant"], "data": [2]},
    {"type_key": "Array", "data": [3]},
    {"type_key": "relay.Constant", "attrs": {"data": "0", "span": "0"}}
  ],
  "b64ndarrays": [
    "P6G0lvBAXt0AAAAAAAAAAAEAAAAAAAAAAQAAAAIgAQACAAAAAAAAAAgAAAAAAAAAAACAPwAAAEA="
  ],
  "attrs": {"tvm_version": "0.14.0"}
}
"##;
