//! Whatever the user named, as a module: an ONNX model, a checkpoint's folder, Relay text or an
//! artifact, told by content.

use std::io::Read;
use std::path::{Path, PathBuf};

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::Module;
use fermata_ir::front::onnx::{ImportOptions, import_bytes, import_file, input_names, shape_inputs};
use fermata_ir::front::{Kind, SNIFF_BYTES, hf, sniff};
use fermata_ir::infer::{bind_dims, bind_shapes, infer_module};
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{self, ParseOptions};
use fermata_ir::verify::verify;
use fermata_ir::weights;

use crate::args::ModelArgs;
use crate::{Driver, Failure, Streams};

/// The largest file that is read into memory (weights are mapped instead).
const MAX_BYTES: u64 = 4 << 30;

/// The name of standard input in messages.
const STDIN: &str = "<stdin>";

/// Sizes that the user bound.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// Symbolic dimensions.
    pub dims: Vec<(String, usize)>,
    /// Shapes of inputs.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Values of inputs that decide shapes: they become constants.
    pub values: Vec<(String, Tensor)>,
}

impl Bindings {
    /// The bindings of the command line.
    ///
    /// # Errors
    /// If a flag is not of its form.
    pub fn new(args: &ModelArgs) -> Result<Bindings, Failure> {
        let dims = args.dims.iter().map(|d| dim(d)).collect::<Result<_, _>>()?;
        let shapes = args.shapes.iter().map(|s| shape(s)).collect::<Result<_, _>>()?;
        Ok(Bindings { dims, shapes, values: Vec::new() })
    }
}

fn split<'a>(flag: &str, text: &'a str, form: &str) -> Result<(&'a str, &'a str), Failure> {
    text.rsplit_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Failure::usage(format!("`{flag} {text}` is not of the form {form}")))
}

fn dim(text: &str) -> Result<(String, usize), Failure> {
    let (name, size) = split("--dim", text, "NAME=N")?;
    let size = size.parse().map_err(|_| Failure::usage(format!("`--dim {text}`: `{size}` is not a size")))?;
    Ok((name.into(), size))
}

fn shape(text: &str) -> Result<(String, Vec<usize>), Failure> {
    let (name, sizes) = split("--shape", text, "NAME=1x3x224x224")?;
    let parsed: Result<Vec<usize>, _> = match sizes {
        "" => Ok(Vec::new()),
        _ => sizes.split(['x', ',']).map(str::parse).collect(),
    };
    let sizes =
        parsed.map_err(|_| Failure::usage(format!("`--shape {text}`: `{sizes}` is not a list of sizes")))?;
    Ok((name.into(), sizes))
}

/// What the user named.
pub enum Model {
    /// A program.
    Module(Box<Module>),
    /// A compiled artifact, by its path.
    Artifact(PathBuf),
}

/// Reads a model and infers its types.
///
/// # Errors
/// With code 2 if the file cannot be read, with code 1 if its contents are wrong.
pub fn load(
    driver: &Driver,
    args: &ModelArgs,
    bindings: &Bindings,
    streams: &mut Streams<'_>,
) -> Result<Model, Failure> {
    let (name, kind, bytes) = open(&args.model, streams)?;
    let mut module = match kind {
        Some(Kind::Onnx) => import(&args.model, &name, bytes, bindings)?,
        Some(Kind::Relay) => parse(driver, args, &name, bytes)?,
        Some(Kind::Checkpoint) => {
            hf::import_dir(&args.model).map_err(|d| Failure::refused(d, &text::sources(&name, "")))?
        }
        Some(Kind::Artifact) if bytes.is_none() => return Ok(Model::Artifact(args.model.clone())),
        Some(Kind::Artifact) => {
            return Err(Failure::usage("an artifact is read from a file, not from standard input"));
        }
        other => return Err(unreadable(&name, other)),
    };
    let sources = module.sources.clone();
    let refused = |d: Diagnostics| Failure::refused(d, &sources);
    let dims: Vec<(&str, usize)> = bindings.dims.iter().map(|(n, s)| (&**n, *s)).collect();
    infer_module(&mut module).map_err(refused)?;
    if matches!(kind, Some(Kind::Relay | Kind::Checkpoint)) {
        bind_dims(&mut module, &dims).map_err(refused)?;
        if let Some(main) = module.global("main") {
            let shapes: Vec<(&str, Vec<usize>)> =
                bindings.shapes.iter().map(|(n, s)| (&**n, s.clone())).collect();
            bind_shapes(&mut module, main, &shapes).map_err(refused)?;
        }
    }
    verify(&module).map_err(refused)?;
    Ok(Model::Module(Box::new(module)))
}

/// The name, the kind and, of standard input, the bytes.
type Opened = (String, Option<Kind>, Option<Vec<u8>>);

/// Tells a file, or standard input, by its first bytes.
fn open(path: &Path, streams: &mut Streams<'_>) -> Result<Opened, Failure> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        streams
            .stdin
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::usage(format!("cannot read standard input: {e}")))?;
        let kind = sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]);
        return Ok((STDIN.into(), kind, Some(bytes)));
    }
    let name = path.display().to_string();
    if path.is_dir() {
        return Ok((name, Some(Kind::Checkpoint), None));
    }
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot read `{name}`: {e}"));
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    let mut head = vec![0; SNIFF_BYTES];
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]).map_err(cannot)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok((name.clone(), sniff(&head[..filled]), None))
}

fn unreadable(name: &str, kind: Option<Kind>) -> Failure {
    let found = match kind {
        None => "nothing that is known here",
        Some(Kind::Tir) => "TIR, which `fermata opt` reads",
        Some(Kind::Npy | Kind::Npz) => "arrays; give them with --inputs",
        Some(Kind::Safetensors) => {
            "weights without a program; name their folder, or give them with --weights"
        }
        Some(Kind::Gguf) => "a GGUF checkpoint, which is not supported",
        Some(Kind::Onnx | Kind::Relay | Kind::Artifact | Kind::Checkpoint) => "a model",
    };
    let message = format!("`{name}` is no model: it holds {found}");
    Diagnostic::error(Code::IMPORT_FORMAT, message)
        .help("a model is an ONNX file, the folder of a checkpoint, Relay text or an artifact of `fermata compile`")
        .into()
}

fn read_all(path: &Path, bytes: Option<Vec<u8>>) -> Result<Vec<u8>, Failure> {
    if let Some(bytes) = bytes {
        return Ok(bytes);
    }
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot read `{}`: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > MAX_BYTES {
        return Err(Failure::usage(format!("`{}` is larger than 4 GiB", path.display())));
    }
    std::fs::read(path).map_err(cannot)
}

fn import(path: &Path, name: &str, bytes: Option<Vec<u8>>, bindings: &Bindings) -> Result<Module, Failure> {
    let options = ImportOptions {
        dims: bindings.dims.iter().cloned().collect(),
        shapes: bindings.shapes.iter().cloned().collect(),
        const_inputs: bindings.values.iter().cloned().collect(),
    };
    let imported = match bytes {
        Some(bytes) => import_bytes(name, &bytes, &options),
        None => import_file(path, &options),
    };
    imported.map_err(|d| Failure::refused(d, &text::sources(name, "")))
}

fn parse(driver: &Driver, args: &ModelArgs, name: &str, bytes: Option<Vec<u8>>) -> Result<Module, Failure> {
    let bytes = read_all(&args.model, bytes)?;
    let source = String::from_utf8(bytes).map_err(|e| {
        let message = format!("`{name}` is no text: byte {} is not UTF-8", e.utf8_error().valid_up_to());
        Failure::from(Diagnostic::error(Code::TEXT_TOKEN, message))
    })?;
    let beside = args.model.with_extension("safetensors");
    let path = args.weights.clone().or_else(|| beside.is_file().then_some(beside));
    let weights = path.map(|p| weights::read(&p)).transpose()?;
    let mut options = ParseOptions::new(&driver.ops);
    options.weights = weights.as_ref();
    text::parse_module(name, &source, &options)
        .map_err(|d| Failure::refused(d, &text::sources(name, &source)))
}

/// The program of a model that must be one.
///
/// # Errors
/// If it is an artifact, with what to do instead.
pub fn module(model: Model) -> Result<Module, Failure> {
    match model {
        Model::Module(module) => Ok(*module),
        Model::Artifact(_) => {
            Err(Failure::usage("this needs a program, and an artifact is compiled already"))
        }
    }
}

/// The inputs of an ONNX model.
pub struct OnnxInputs {
    /// All of them, in order.
    pub names: Vec<String>,
    /// Those whose values decide shapes.
    pub deciding: Vec<String>,
}

/// The inputs of a model, if it is an ONNX model.
///
/// # Errors
/// If the file cannot be read or is malformed.
pub fn onnx_inputs(args: &ModelArgs) -> Result<Option<OnnxInputs>, Failure> {
    if args.model.is_dir() {
        return Ok(None);
    }
    let bytes = read_all(&args.model, None)?;
    if sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]) != Some(Kind::Onnx) {
        return Ok(None);
    }
    Ok(Some(OnnxInputs { names: input_names(&bytes)?, deciding: shape_inputs(&bytes)? }))
}
