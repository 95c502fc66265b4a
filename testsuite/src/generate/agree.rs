//! Does compiled code agree with the evaluator?
//!
//! A program runs on the evaluator and, compiled at some optimisation level, on a device. An
//! element that differs is a fault only where the evaluator itself is sure of it: `stable`
//! says how far rounding alone may move each element.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fermata_codegen::cpu::compile_all;
use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::compare::{compare, compare_with};
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Module;
use fermata_ir::infer::bind_shapes;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::{self, plan};
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_passes::target::{CpuFeatures, CpuTarget, CudaTarget, Target};
use fermata_runtime::detect;
use fermata_runtime::device::Device;
use fermata_runtime::device::cpu::Pool;
use fermata_runtime::device::simulated::Simulated;
use fermata_runtime::exec::Session;

use super::stable::Spread;
use super::{Program, Rng};

/// The limits of one evaluation: generated programs are small.
const LIMITS: EvalOptions = EvalOptions { max_depth: 10_000, max_steps: 1_000_000, max_bytes: 1 << 28 };

/// Where compiled code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Worker threads of this machine.
    Threads(usize),
    /// Three simulated workers in an order that the seed decides.
    Simulated(u64),
    /// Blocks of a GPU of this compute capability, on the evaluator with CUDA's semantics.
    Blocks(u32),
}

/// Compute capabilities whose schedules differ.
const SMS: [u32; 3] = [75, 80, 90];

/// A way to compile and run a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// The optimisation level.
    pub level: u8,
    /// Without the micro-kernels that this machine has instructions for.
    pub portable: bool,
    /// Where it runs.
    pub on: On,
    /// The bound on the time of a tile, in nanoseconds; 0 for none.
    pub bound_ns: u64,
}

/// Bounds that cut the tiles of small programs.
const BOUNDS: [u64; 4] = [0, 5_000, 1_000, 100];

impl Treatment {
    /// Every level on every device of this machine, and every level that fuses on a GPU.
    pub fn all(seed: u64) -> Vec<Treatment> {
        let devices = [On::Threads(1), On::Threads(2), On::Simulated(seed)];
        let each = |level: u8| {
            let portable = level == 3;
            devices.map(|on| Treatment { level, portable, on, bound_ns: BOUNDS[usize::from(level)] })
        };
        let blocks = (1..).zip(SMS).map(|(level, sm)| Treatment::on_blocks(level, sm));
        (0..=3).flat_map(each).chain(blocks).collect()
    }

    /// A GPU's kernels, which know no bound.
    fn on_blocks(level: u8, sm: u32) -> Treatment {
        Treatment { level, portable: false, on: On::Blocks(sm), bound_ns: 0 }
    }

    /// One of them.
    pub fn random(rng: &mut Rng) -> Treatment {
        let on = [On::Threads(1), On::Threads(2), On::Simulated(rng.bits())];
        let (level, portable, on) = (rng.below(4) as u8, rng.chance(1, 4), *rng.pick(&on));
        if rng.chance(1, 4) {
            return Treatment::on_blocks(level, *rng.pick(&SMS));
        }
        Treatment { level, portable, on, bound_ns: *rng.pick(&BOUNDS) }
    }

    fn target(self) -> Target {
        if let On::Blocks(sm) = self.on {
            return CudaTarget { sm }.into();
        }
        let host = detect::host();
        let features = if self.portable { CpuFeatures::default() } else { host.features };
        CpuTarget { features, ..host }.into()
    }
}

/// As flags of the program `fermata`.
impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-O{}", self.level)?;
        if self.portable {
            write!(f, " --target-feature=-avx2")?;
        }
        if self.bound_ns > 0 {
            write!(f, " --checkpoint-bound {}us", self.bound_ns as f64 / 1e3)?;
        }
        match self.on {
            On::Threads(1) | On::Simulated(_) => Ok(()),
            On::Threads(count) => write!(f, " --threads {count}"),
            On::Blocks(sm) => write!(f, " --device tir --target {}", CudaTarget { sm }),
        }
    }
}

/// How a program that is not at fault ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With equal results.
    Agrees,
    /// The evaluator stopped: a value made it impossible to go on.
    NoMeaning,
    /// The compiler refused it with this diagnostic.
    Refused(String),
    /// With results that differ only where rounding decides them.
    Unstable,
}

/// What is wrong with the compiled program.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How it was compiled and run.
    pub treatment: Treatment,
    /// What happened.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}): {}", self.treatment, self.treatment.on, self.message)
    }
}

/// Runs a program on the evaluator and under some treatments, those of a level one after another.
///
/// # Errors
/// If a treatment gives other results, stops where the evaluator does not, or panics.
pub fn check(program: &Program, treatments: &[Treatment]) -> Result<Verdict, Fault> {
    let Ok(expected) = evaluate(&program.module, &program.inputs) else {
        return Ok(Verdict::NoMeaning);
    };
    let mut verdict = Verdict::Agrees;
    let mut code: Option<(Treatment, Compiled)> = None;
    for &treatment in treatments {
        let fault = |message| Fault { treatment, message };
        let known =
            code.take().filter(|(t, _)| (t.level, t.target()) == (treatment.level, treatment.target()));
        let compiled = match known {
            Some((_, compiled)) => compiled,
            None => match guarded(|| compile(program, treatment)).map_err(fault)? {
                Ok(compiled) => compiled,
                Err(refusal) => {
                    verdict = Verdict::Refused(refused(&refusal).map_err(fault)?);
                    continue;
                }
            },
        };
        let found = guarded(|| execute(&compiled, treatment, &program.inputs)).map_err(fault)?;
        let found = found.map_err(|d| fault(format!("running failed: {}", d.message)))?;
        match judge(program, &found, &expected).map_err(fault)? {
            true => {}
            false => verdict = Verdict::Unstable,
        }
        code = Some((treatment, compiled));
    }
    Ok(verdict)
}

/// The results of `@main`, tuples flattened.
///
/// # Errors
/// If the evaluator stops.
pub fn evaluate(module: &Module, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    let args = inputs.iter().cloned().map(Value::from).collect();
    let value = eval_global(module, "main", args, &LIMITS)?;
    let mut found = Vec::new();
    let mut stack = vec![&value];
    while let Some(value) = stack.pop() {
        found.extend(value.as_tensor().cloned());
        stack.extend(value.as_tuple().into_iter().flatten().rev());
    }
    Ok(found)
}

/// A plan, and the code of its kernels where this machine runs them.
struct Compiled {
    program: plan::Program,
    kernels: Option<(Vec<CompiledKernel>, CpuFeatures)>,
}

fn compile(program: &Program, treatment: Treatment) -> Result<Compiled, Diagnostics> {
    let target = treatment.target();
    let mut module = specialised(program)?;
    let options = Options { target: target.clone(), ..Options::default() };
    manager::run(&mut module, &standard(Level(treatment.level)), &options, &mut [])?;
    let bound = (treatment.bound_ns > 0).then(|| Duration::from_nanos(treatment.bound_ns));
    let program = lower::lower_within(&module, &target, bound)?;
    let Target::Cpu(cpu) = target else { return Ok(Compiled { program, kernels: None }) };
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, &cpu)?;
    Ok(Compiled { program, kernels: Some((kernels, cpu.features)) })
}

/// The program with its dimensions bound to those of the inputs.
fn specialised(program: &Program) -> Result<Module, Diagnostics> {
    let mut module = program.module.clone();
    let Some(main) = module.global("main") else { return Ok(module) };
    let params = module.globals[main].func.as_ref().map(|func| func.params.clone()).unwrap_or_default();
    let names: Vec<_> = params.iter().map(|&p| module.vars[p].name.clone()).collect();
    let shapes = names.iter().zip(&program.inputs).map(|(name, input)| (&**name, input.shape().to_vec()));
    bind_shapes(&mut module, main, &shapes.collect::<Vec<_>>())?;
    Ok(module)
}

fn execute(
    Compiled { program, kernels }: &Compiled,
    treatment: Treatment,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, Diagnostic> {
    let device: Box<dyn Device + Send> = match treatment.on {
        On::Threads(count) => Box::new(Pool::new(count, false)),
        On::Simulated(seed) => Box::new(Simulated::new(3, seed, 7)),
        On::Blocks(_) => return lower::eval::run(program, inputs),
    };
    let (kernels, features) = kernels.clone().unwrap_or_default();
    Session::on_device(program.clone(), kernels, device, features)?.run(inputs)
}

/// What was refused; a fault if the compiler itself broke a rule.
fn refused(diagnostics: &Diagnostics) -> Result<String, String> {
    let first = diagnostics.0.first().ok_or("the compiler failed and said nothing")?;
    let message = format!("{}: {}", first.code, first.message);
    let allowed = [Code::LOWER, Code::DIM_UNBOUND].contains(&first.code);
    if allowed { Ok(message) } else { Err(format!("compiling failed: {message}")) }
}

/// Whether all elements match; false if some do not and rounding is to blame.
fn judge(program: &Program, found: &[Tensor], expected: &[Tensor]) -> Result<bool, String> {
    if found.len() != expected.len() {
        return Err(format!("{} results instead of {}", found.len(), expected.len()));
    }
    let mut spread = None;
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let comparison = compare(found, expected);
        if comparison.matches() {
            continue;
        }
        let spread = spread.get_or_insert_with(|| Spread::new(program));
        if comparison.types.is_some() || !spread.explains(place, found, expected) {
            return Err(format!("result {place}: {}", compare_with(found, expected, comparison.tolerance)));
        }
    }
    Ok(spread.is_none())
}

/// Calls what must not panic.
fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
        format!("panic: {}", message.unwrap_or("no message"))
    })
}
