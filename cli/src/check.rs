//! What judges a program for `bisect` and `reduce`: a command, or the evaluator.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::expr::Module;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{LargeConstants, PrintOptions, print};
use fermata_passes::bisect::Verdict;

use crate::args::{CheckArgs, Device, Handed, InputArgs, PipelineArgs, ToleranceArgs};
use crate::bound::Bound;
use crate::compile::{any_target, generate, target};
use crate::run::{Results, execute, interpret, judge, session};
use crate::{Failure, Streams, cuda, output};

/// The exit code of a command that cannot judge.
const SKIP: i32 = 125;

/// The largest exit code that says that a program is bad; what is above ends the search.
const LARGEST_BAD: i32 = 127;

/// The check that needs no command.
const COMPARE: &str = "compare";

/// A check and what it needs.
pub(crate) struct Checker<'a> {
    /// The command; `None` compares with the evaluator.
    command: Option<&'a str>,
    handed: Handed,
    with: Device,
    tolerance: &'a ToleranceArgs,
    pipeline: &'a PipelineArgs,
    /// Where programs are written.
    folder: tempfile::TempDir,
}

impl<'a> Checker<'a> {
    /// The check that the flags name.
    ///
    /// # Errors
    /// If a command says nowhere where the program's path goes, or there is no temporary folder.
    pub(crate) fn new(
        args: &'a CheckArgs,
        handed: Handed,
        pipeline: &'a PipelineArgs,
        tolerance: &'a ToleranceArgs,
    ) -> Result<Checker<'a>, Failure> {
        let command = (args.check != COMPARE).then_some(&*args.check);
        if command.is_some_and(|c| !c.contains("{}")) {
            let message = format!("`--check {}` has no `{{}}`, where the program's path goes", args.check);
            let help = "write it like --check \"./good.sh {}\", or --check compare";
            return Err(Failure::from_usage(Diagnostic::error(Code::USAGE, message).help(help)));
        }
        let folder = tempfile::tempdir()
            .map_err(|e| Failure::usage(format!("cannot make a temporary folder: {e}")))?;
        Ok(Checker { command, handed, with: args.with, tolerance, pipeline, folder })
    }

    /// Whether results are compared, and so inputs needed.
    pub(crate) fn compares(&self) -> bool {
        self.command.is_none()
    }

    /// Judges a program. Where results are compared, `expected` are those that are right.
    ///
    /// # Errors
    /// If the command cannot be run or was killed, or a file cannot be written.
    pub(crate) fn judge(
        &self,
        module: &Module,
        inputs: &[Tensor],
        expected: Option<&Results>,
    ) -> Result<Verdict, Failure> {
        match self.command {
            Some(command) => match self.write(module)? {
                Some(path) => run(command, &path),
                None => Ok(Verdict::Skip),
            },
            None => Ok(self.compare(module, inputs, expected)),
        }
    }

    /// The evaluator's results, if results are compared and it has any.
    pub(crate) fn expected(&self, module: &Module, inputs: &[Tensor]) -> Option<Results> {
        self.command.is_none().then(|| interpret(module, inputs.to_vec()).ok()).flatten()
    }

    fn compare(&self, module: &Module, inputs: &[Tensor], expected: Option<&Results>) -> Verdict {
        let Some(expected) = expected else { return Verdict::Skip };
        let found = match self.with {
            Device::Interp => interpret(module, inputs.to_vec()),
            Device::Cpu => self.compiled(module, inputs),
            Device::Tir => self.on_tir(module, inputs),
            Device::Cuda => self.on_gpu(module, inputs),
        };
        let Ok(found) = found else { return Verdict::Bad };
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|((_, a), (_, b))| judge(self.tolerance, a, b).matches());
        if same { Verdict::Good } else { Verdict::Bad }
    }

    fn compiled(&self, module: &Module, inputs: &[Tensor]) -> Result<Results, Failure> {
        let compiled = generate(module.clone(), &target(self.pipeline)?, Bound::of(self.pipeline)?)?;
        execute(&mut session(compiled, self.pipeline, 1)?, inputs)
    }

    fn on_tir(&self, module: &Module, inputs: &[Tensor]) -> Result<Results, Failure> {
        let program = fermata_passes::lower::lower(module, &any_target(self.pipeline)?)?;
        let tensors = fermata_passes::lower::eval::run(&program, inputs)?;
        Ok(tensors.into_iter().map(|t| (String::new(), t)).collect())
    }

    fn on_gpu(&self, module: &Module, inputs: &[Tensor]) -> Result<Results, Failure> {
        let program = fermata_passes::lower::lower(module, &any_target(self.pipeline)?)?;
        execute(&mut cuda::session(program, cuda::compiled(self.pipeline)?)?, inputs)
    }

    /// Writes a program to where the command will look; nothing if it does not compile.
    fn write(&self, module: &Module) -> Result<Option<PathBuf>, Failure> {
        match self.handed {
            Handed::Relay => {
                let path = self.folder.path().join("program.relay");
                write_relay(module, &path)?;
                Ok(Some(path))
            }
            Handed::Artifact => {
                let path = self.folder.path().join("program.fermata");
                let target = target(self.pipeline)?;
                let Ok(c) = generate(module.clone(), &target, Bound::of(self.pipeline)?) else {
                    return Ok(None);
                };
                let code = fermata_codegen::artifact::Code::Cpu(&c.kernels, &target);
                output::write_artifact(&c.module, &c.program, code, &path)?;
                Ok(Some(path))
            }
        }
    }
}

/// Writes a program as text, its large constants beside it.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_relay(module: &Module, path: &Path) -> Result<(), Failure> {
    let options = PrintOptions { large: LargeConstants::Weights, ..PrintOptions::default() };
    let printed = print(module, &options);
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot write `{}`: {e}", path.display()));
    let weights = path.with_extension("safetensors");
    if printed.weights.is_empty() {
        // A file of an earlier program would be read with this one.
        match std::fs::remove_file(&weights) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(cannot(e)),
        }
    } else {
        let tensors = printed.weights.iter().map(|(name, id)| (&**name, &module.consts[*id].tensor));
        let mut bytes = Vec::new();
        fermata_ir::weights::write(&mut bytes, tensors)?;
        std::fs::write(&weights, bytes).map_err(cannot)?;
    }
    std::fs::write(path, printed.text).map_err(cannot)
}

/// Runs a command of the user's on a file.
fn run(command: &str, path: &Path) -> Result<Verdict, Failure> {
    let line = command.replace("{}", &crate::crash::quoted(&path.to_string_lossy()));
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(&line).stdin(Stdio::null());
    let output = shell.output().map_err(|e| Failure::usage(format!("cannot run `{line}`: {e}")))?;
    match output.status.code() {
        Some(0) => Ok(Verdict::Good),
        Some(SKIP) => Ok(Verdict::Skip),
        Some(code) if code <= LARGEST_BAD => Ok(Verdict::Bad),
        code => {
            let how = code.map_or("it was killed".to_owned(), |c| format!("exit code {c}"));
            let message = format!("the check ended in a way that says nothing of the program: {how}");
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default().to_owned();
            let error = Diagnostic::error(Code::CHECK, message).note(format!("the command: {line}"));
            let error = if last.is_empty() { error } else { error.note(format!("its last words: {last}")) };
            Err(error
                .help("a check exits with 0 (good), 1 to 124, 126 or 127 (bad) or 125 (cannot say)")
                .into())
        }
    }
}

/// The flags of inputs with random values for what is not given.
pub(crate) fn filled(args: &InputArgs) -> InputArgs {
    InputArgs { fill: Some(args.fill.unwrap_or(crate::args::Fill::Random)), ..args.clone() }
}

/// The word for a verdict.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Bad => "bad",
        Verdict::Skip => "cannot be judged",
    }
}

/// Says how far a search is, where somebody watches.
pub(crate) fn progress(streams: &mut Streams<'_>, text: &str) {
    if streams.terminal {
        let _ = writeln!(streams.stderr, "{text}");
    }
}
