//! Every case file as a test, under every treatment that must give the same.
//!
//! - as it is: the command lines with their checks; a `fermata run` that names no device runs on
//!   the evaluator, whose results are exact to the digit;
//! - reprinted: the program is read, printed and read again: the same program, the same bytes;
//! - emitted (in `ops`, `eval`, `run` and `emit`, and the network of the demo): every kernel's TIR
//!   prints as a script that reads back as the same TIR;
//! - compiled (in `ops`, `eval` and `run`): at every optimisation level, the CPU agrees with the
//!   evaluator, or refuses what has no code;
//! - for a GPU (in `ops`, `eval` and `run`): scheduled for CUDA, the evaluator of TIR with blocks,
//!   threads and barriers agrees with the evaluator, and every kernel has CUDA C.
//!
//! `cargo test --test cases -- NAME` runs those whose path has NAME in it. With `--bless`, or
//! `FERMATA_BLESS=1`, checks that no longer hold are rewritten from the output.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fermata::Driver;
use fermata_ir::compare::compare;
use fermata_ir::equal::structurally_equal;
use fermata_ir::expr::{Callee, Expr, Module};
use fermata_ir::front::npy;
use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_ir::infer::infer_module;
use fermata_ir::op::{Lower, OpTable};
use fermata_ir::text::{LargeConstants, ParseOptions, PrintOptions, parse_module, print_module};
use fermata_ir::tir;
use fermata_ir::walk;
use fermata_passes::lower::lower;
use fermata_passes::manager;
use fermata_passes::pipeline::{self, Level};
use fermata_passes::target::Target;
use fermata_testsuite::case::{self, Case, Run, bless};
use libtest_mimic::{Arguments, Failed, Trial};

/// The folders whose programs also run compiled.
const COMPILED: [&str; 3] = ["ops", "eval", "run"];

/// The folders whose programs' kernels are printed and read.
const EMITTED: [&str; 4] = ["ops", "eval", "run", "emit"];

/// The codes of diagnostics that refuse to compile what only the evaluator can do.
const REFUSALS: [&str; 2] = ["error[E0701]", "error[E0602]"];

fn main() {
    let mut args: Vec<String> = std::env::args().collect();
    let asked = args.iter().any(|a| a == "--bless");
    args.retain(|a| a != "--bless");
    let blessing = asked || std::env::var_os("FERMATA_BLESS").is_some_and(|v| v == "1");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::set_current_dir(root).expect("the package's folder is there");
    let mut trials = Vec::new();
    for path in case::files(root, Path::new("cases")) {
        trials.extend(trials_of(root, &path, blessing));
    }
    trials.push(Trial::test("demo emitted", || emitted_demo().map_err(Failed::from)));
    libtest_mimic::run(&Arguments::from_iter(args), trials).exit();
}

/// The tests of one file.
fn trials_of(root: &Path, path: &Path, blessing: bool) -> Vec<Trial> {
    let name = path.strip_prefix("cases").unwrap_or(path).display().to_string();
    let file: Arc<PathBuf> = Arc::new(path.to_owned());
    let folder = name.split('/').next().unwrap_or_default();
    let root: Arc<PathBuf> = Arc::new(root.to_owned());
    let trial = |suffix: &str, test: fn(&Case, &Path) -> Result<(), String>| {
        let (file, root) = (file.clone(), root.clone());
        Trial::test(format!("{name}{suffix}"), move || {
            let case = Case::read(&root, &file)?;
            test(&case, &root).map_err(Failed::from)
        })
    };
    let mut trials = vec![trial("", if blessing { blessed } else { as_it_is })];
    if path.extension().is_some_and(|e| e == "tir") {
        trials.push(trial(" reprinted", reprinted_tir));
    } else {
        trials.push(trial(" reprinted", reprinted));
        if EMITTED.contains(&folder) {
            trials.push(trial(" emitted", emitted));
        }
        if COMPILED.contains(&folder) {
            trials.push(trial(" compiled", compiled));
            trials.push(trial(" for a GPU", for_a_gpu));
        }
    }
    trials
}

/// A folder for the temporary file of a run.
fn temp() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|e| e.to_string())
}

/// The words of a run; one that names no device runs on the evaluator.
fn words(case: &Case, run: &Run, temp: &Path) -> Vec<String> {
    let mut words = case.words(run, &temp.join("t"));
    if words[0] == "run" && !words.iter().any(|w| w == "--device") {
        words.extend(["--device".into(), "interp".into()]);
    }
    words
}

fn as_it_is(case: &Case, _: &Path) -> Result<(), String> {
    let driver = Driver::standard();
    let temp = temp()?;
    for run in &case.runs {
        run.judge(&case::run(&driver, &words(case, run, temp.path())))?;
    }
    Ok(())
}

fn blessed(case: &Case, root: &Path) -> Result<(), String> {
    let driver = Driver::standard();
    let temp = temp()?;
    let outputs: Vec<_> =
        case.runs.iter().map(|run| case::run(&driver, &words(case, run, temp.path()))).collect();
    let text = bless(case, &outputs);
    if text != case.text {
        std::fs::write(root.join(&case.path), &text).map_err(|e| e.to_string())?;
    }
    let case = Case::parse(&case.path, text)?;
    case.runs.iter().zip(&outputs).try_for_each(|(run, output)| run.judge(output))
}

/// Reads the program of a case; none if it is not meant to be read.
fn program(case: &Case) -> Option<Module> {
    let ops = OpTable::standard();
    parse_module(&case.path.display().to_string(), &case.text, &ParseOptions::new(&ops)).ok()
}

fn reprinted(case: &Case, _: &Path) -> Result<(), String> {
    // The checks of the first treatment say why a text that is refused must be.
    let Some(module) = program(case) else { return Ok(()) };
    let options = PrintOptions { types: false, inline_elements: usize::MAX, large: LargeConstants::Elide };
    let once = print_module(&module, &options);
    let ops = OpTable::standard();
    let again = parse_module("reprinted", &once, &ParseOptions::new(&ops))
        .map_err(|d| format!("the printed text is refused: {:?}\n{once}", d))?;
    if !structurally_equal(&module, &again) {
        return Err(format!("the printed text means another program:\n{once}"));
    }
    let twice = print_module(&again, &options);
    if once == twice { Ok(()) } else { Err(format!("printing again differs:\n{once}\n---\n{twice}")) }
}

fn reprinted_tir(case: &Case, _: &Path) -> Result<(), String> {
    let Ok(funcs) = tir::parse::parse("case", &case.text) else { return Ok(()) };
    let once = tir::print::print_all(&funcs);
    let again = tir::parse::parse("reprinted", &once)
        .map_err(|d| format!("the printed text is refused: {:?}\n{once}", d))?;
    let twice = tir::print::print_all(&again);
    if once == twice { Ok(()) } else { Err(format!("printing again differs:\n{once}\n---\n{twice}")) }
}

/// Reads, types and fuses the program of a case, and compares its kernels with what their scripts
/// mean. What has no kernel is judged by the treatment `compiled`.
fn emitted(case: &Case, _: &Path) -> Result<(), String> {
    let Some(mut module) = program(case) else { return Ok(()) };
    if infer_module(&mut module).is_err() || module.global("main").is_none() {
        return Ok(());
    }
    scripts_mean_the_kernels(module)
}

/// The same of the network of the demo, for a batch of two.
fn emitted_demo() -> Result<(), String> {
    let options = ImportOptions { dims: [("batch".to_string(), 2)].into(), ..ImportOptions::default() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/demo/digits.onnx");
    let mut module = import_file(&path, &options).map_err(|d| format!("{d:?}"))?;
    infer_module(&mut module).map_err(|d| format!("{d:?}"))?;
    scripts_mean_the_kernels(module)
}

fn scripts_mean_the_kernels(mut module: Module) -> Result<(), String> {
    let pipeline = pipeline::standard(Level(2));
    let optimised = manager::run(&mut module, &pipeline, &manager::Options::default(), &mut []);
    let Ok(program) = optimised.and_then(|()| lower(&module, &Target::default())) else { return Ok(()) };
    for kernel in program.kernels.values() {
        let script = tir::print::print_all([&*kernel.func]);
        let read = tir::parse::parse("emitted", &script)
            .map_err(|d| format!("the script is refused: {:?}\n{script}", d))?;
        if !read.iter().all(|func| tir::equal::equal(func, &kernel.func)) || read.len() != 1 {
            return Err(format!("the script means another kernel:\n{script}"));
        }
    }
    Ok(())
}

/// Whether the program has something that only the evaluator can do.
fn needs_evaluator(module: &Module) -> bool {
    walk::reachable(module).into_iter().any(|id| match &module.exprs[id] {
        Expr::Call(call) => match &call.callee {
            Callee::Op(op) => matches!(op.lower, Lower::None(_)),
            Callee::Expr(_) | Callee::Ctor(_) => true,
        },
        Expr::Func(_) | Expr::Match { .. } => true,
        Expr::Ref(_) | Expr::RefRead(_) | Expr::RefWrite { .. } => true,
        Expr::Op(_) | Expr::Ctor(_) => true,
        Expr::Var(_) | Expr::Global(_) | Expr::Const(_) | Expr::Tuple(_) | Expr::Proj { .. } => false,
        Expr::Let { .. } | Expr::If { .. } => false,
    })
}

fn compiled(case: &Case, _: &Path) -> Result<(), String> {
    let driver = Driver::standard();
    let temp = temp()?;
    let may_refuse = program(case).is_none_or(|m| needs_evaluator(&m));
    for run in case.runs.iter().filter(|r| r.words[0] == "run") {
        // Compiled programs run `@main` only.
        if run.words.iter().any(|w| ["--device", "-o", "--expect", "--entry"].contains(&&**w)) {
            continue;
        }
        let on = |device: &str, level: u8, file: &Path| {
            let mut words = case.words(run, &temp.path().join("t"));
            words.extend(["--device", device, "-o"].map(String::from));
            words.extend([file.display().to_string(), format!("-O{level}")]);
            case::run(&driver, &words)
        };
        let expected = temp.path().join("expected.npz");
        let reference = on("interp", 2, &expected);
        for level in 0..=3 {
            let found = temp.path().join("found.npz");
            let output = on("cpu", level, &found);
            let fail = |m: String| format!("line {}, -O{level}: {m}\n{}", run.line, output.stderr);
            match (reference.code, output.code) {
                (0, 0) => same(&found, &expected).map_err(fail)?,
                (0, 1) if may_refuse && REFUSALS.iter().any(|r| output.stderr.contains(r)) => {}
                (0, _) => return Err(fail("the CPU fails where the evaluator does not".into())),
                (_, 0) => return Err(fail("the CPU runs what the evaluator refuses".into())),
                (_, code) if code == 1 || code == 2 => {}
                (_, code) => return Err(fail(format!("exit code {code}"))),
            }
        }
    }
    Ok(())
}

/// The target that cases are scheduled for; kernels of all generations are alike but for their
/// intrinsics.
const GPU: &str = "cuda:sm_80";

fn for_a_gpu(case: &Case, _: &Path) -> Result<(), String> {
    let driver = Driver::standard();
    let temp = temp()?;
    let may_refuse = program(case).is_none_or(|m| needs_evaluator(&m));
    for run in case.runs.iter().filter(|r| r.words[0] == "run") {
        if run.words.iter().any(|w| ["--device", "-o", "--expect", "--entry"].contains(&&**w)) {
            continue;
        }
        let on = |more: &[&str], file: &Path| {
            let mut words = case.words(run, &temp.path().join("t"));
            words.extend(more.iter().map(|w| w.to_string()));
            words.extend(["-o".into(), file.display().to_string()]);
            case::run(&driver, &words)
        };
        let (expected, found) = (temp.path().join("expected.npz"), temp.path().join("found.npz"));
        let reference = on(&["--device", "interp"], &expected);
        let output = on(&["--device", "tir", "--target", GPU], &found);
        let fail = |m: String| format!("line {}: {m}\n{}", run.line, output.stderr);
        match (reference.code, output.code) {
            (0, 0) => same(&found, &expected).map_err(fail)?,
            (0, 1) if may_refuse && REFUSALS.iter().any(|r| output.stderr.contains(r)) => continue,
            (0, _) => return Err(fail("the kernels fail where the evaluator does not".into())),
            (_, 0) => return Err(fail("the kernels run what the evaluator refuses".into())),
            (_, 1 | 2) => continue,
            (_, code) => return Err(fail(format!("exit code {code}"))),
        }
        emits_cuda(&driver, case)?;
    }
    Ok(())
}

/// Every kernel of a case has CUDA C; what only the evaluator can do was refused before.
fn emits_cuda(driver: &Driver, case: &Case) -> Result<(), String> {
    let file = case.path.display().to_string();
    let words = ["compile", &file, "--target", GPU, "--emit=cuda", "-o", "-"].map(String::from);
    let output = case::run(driver, &words);
    let unbound = output.stderr.contains("error[E0602]");
    if output.code == 0 || unbound { Ok(()) } else { Err(format!("no CUDA C:\n{}", output.stderr)) }
}

/// Compares the arrays of two files.
fn same(found: &Path, expected: &Path) -> Result<(), String> {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        npy::read_npz(&bytes).map_err(|d| d.message)
    };
    let (found, expected) = (read(found)?, read(expected)?);
    if found.len() != expected.len() {
        return Err(format!("{} results instead of {}", found.len(), expected.len()));
    }
    for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
        let outcome = compare(found, expected);
        if !outcome.matches() {
            return Err(format!("{name}: {outcome}"));
        }
    }
    Ok(())
}
