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
    load_opened(driver, args, bindings, open(&args.model, streams)?)
}

/// As [`load`], of what is open already.
pub(crate) fn load_opened(
    driver: &Driver,
    args: &ModelArgs,
    bindings: &Bindings,
    opened: Opened,
) -> Result<Model, Failure> {
    let Opened { name, kind, bytes } = opened;
    let module = match kind {
        Some(Kind::Onnx) => import(&args.model, &name, bytes, bindings)?,
        Some(Kind::Checkpoint) => {
            let imported = hf::import_dir(&args.model);
            let module = imported.map_err(|d| Failure::refused(d, &text::sources(&name, "")))?;
            return Ok(Model::Module(Box::new(sized(module, bindings)?)));
        }
        Some(Kind::Relay) => {
            let source = text_of(&name, read_all(&args.model, bytes)?)?;
            return Ok(Model::Module(Box::new(of_text(driver, args, bindings, &name, &source)?)));
        }
        Some(Kind::Artifact) if bytes.is_none() => return Ok(Model::Artifact(args.model.clone())),
        Some(Kind::Artifact) => {
            return Err(Failure::usage("an artifact is read from a file, not from standard input"));
        }
        other => return Err(unreadable(&name, other)),
    };
    if let Some(entry) = &args.entry {
        let message = format!("`--entry {entry}`: an ONNX model has no function but its graph");
        return Err(Failure::usage(message));
    }
    Ok(Model::Module(Box::new(checked(module, |_| Ok(()))?)))
}

/// The program of a Relay text, typed, its sizes bound.
///
/// # Errors
/// If the text is malformed or the program wrong.
pub(crate) fn of_text(
    driver: &Driver,
    args: &ModelArgs,
    bindings: &Bindings,
    name: &str,
    source: &str,
) -> Result<Module, Failure> {
    let mut module = parse(driver, args, name, source)?;
    if let Some(entry) = &args.entry {
        take_as_main(&mut module, entry)?;
    }
    sized(module, bindings)
}

/// A program, typed and held to the rules, its sizes bound.
fn sized(module: Module, bindings: &Bindings) -> Result<Module, Failure> {
    let dims: Vec<(&str, usize)> = bindings.dims.iter().map(|(n, s)| (&**n, *s)).collect();
    let shapes: Vec<(&str, Vec<usize>)> = bindings.shapes.iter().map(|(n, s)| (&**n, s.clone())).collect();
    checked(module, |module| {
        bind_dims(module, &dims)?;
        module.global("main").map_or(Ok(()), |main| bind_shapes(module, main, &shapes))
    })
}

/// Infers the types of a program, binds its sizes and holds it to the rules.
fn checked(
    mut module: Module,
    bind: impl FnOnce(&mut Module) -> Result<(), Diagnostics>,
) -> Result<Module, Failure> {
    let sources = module.sources.clone();
    let outcome = infer_module(&mut module).and_then(|()| bind(&mut module));
    let outcome = outcome.and_then(|()| verify(&module).map(|_| ()));
    outcome.map_err(|d| Failure::refused(d, &sources))?;
    Ok(module)
}

/// Gives a function the name `main`, and what had that name another one.
fn take_as_main(module: &mut Module, entry: &str) -> Result<(), Failure> {
    let entry = entry.trim_start_matches('@');
    let Some(chosen) = module.global(entry) else {
        let names = module.functions().into_iter().map(|(id, _)| &*module.globals[id].name);
        return Err(Failure::no_such("function", entry, names));
    };
    if let Some(main) = module.global("main").filter(|&main| main != chosen) {
        let free = (0..).map(|n| format!("main_{n}")).find(|name| module.global(name).is_none());
        module.globals[main].name = free.expect("names do not end").into();
    }
    module.globals[chosen].name = "main".into();
    Ok(())
}

/// What the user named, before it is read.
pub(crate) struct Opened {
    /// Its name in messages.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: Option<Kind>,
    /// Of standard input, the bytes.
    bytes: Option<Vec<u8>>,
}

impl Opened {
    /// Its text.
    ///
    /// # Errors
    /// If it cannot be read or is no text.
    pub(crate) fn text(self, path: &Path) -> Result<String, Failure> {
        text_of(&self.name, read_all(path, self.bytes)?)
    }
}

/// Opens what the user named and looks what it holds.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn open(path: &Path, streams: &mut Streams<'_>) -> Result<Opened, Failure> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        streams
            .stdin
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::usage(format!("cannot read standard input: {e}")))?;
        let kind = sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]);
        return Ok(Opened { name: STDIN.into(), kind, bytes: Some(bytes) });
    }
    let name = path.display().to_string();
    if path.is_dir() {
        return Ok(Opened { name, kind: Some(Kind::Checkpoint), bytes: None });
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
    let kind = sniff(&head[..filled]);
    Ok(Opened { name, kind, bytes: None })
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

/// The bytes of a text.
fn text_of(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|e| {
        let message = format!("`{name}` is no text: byte {} is not UTF-8", e.utf8_error().valid_up_to());
        Failure::from(Diagnostic::error(Code::TEXT_TOKEN, message))
    })
}

fn parse(driver: &Driver, args: &ModelArgs, name: &str, source: &str) -> Result<Module, Failure> {
    let beside = args.model.with_extension("safetensors");
    let path = args.weights.clone().or_else(|| beside.is_file().then_some(beside));
    let weights = path.map(|p| weights::read(&p)).transpose()?;
    let mut options = ParseOptions::new(&driver.ops);
    options.weights = weights.as_ref();
    text::parse_module(name, source, &options).map_err(|d| Failure::refused(d, &text::sources(name, source)))
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
    let sources = text::sources(&args.model.display().to_string(), "");
    let refused = |d: Diagnostic| Failure::refused(d, &sources);
    let names = input_names(&bytes).map_err(refused)?;
    Ok(Some(OnnxInputs { names, deciding: shape_inputs(&bytes).map_err(refused)? }))
}
