//! The loop of a GPU's block on the evaluator with CUDA's semantics, the word flipped at each read.

use fermata_ir::expr::Module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_ir::tir::eval::{Launch, Program, run_persistent};
use fermata_ir::tir::parse::parse;
use fermata_ir::tir::protocol::{BLOCK_LOOP, BlockLoop, Word};
use fermata_ir::tir::{BufferId, PrimFunc, Stmt, verify};
use fermata_ir::{infer::infer_module, tensor::Tensor};
use fermata_passes::lower::lower;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_passes::target::CudaTarget;

/// Each block reverses 8 elements through shared memory.
pub const REVERSE: &str = "\
@T.prim_func
def reverse(X: T.Buffer((24,), \"float32\"), Y: T.Buffer((24,), \"float32\")):
    for t in T.tiles(3):
        with T.block(\"reverse\"):
            S = T.alloc_buffer((8,), scope=\"shared\")
            L = T.alloc_buffer((1,), scope=\"local\")
            for tx in T.thread_binding(8, thread=\"threadIdx.x\"):
                S[tx] = X[t * 8 + tx]
                T.tvm_storage_sync(\"shared\")
                L[0] = S[7 - tx]
                T.tvm_storage_sync(\"shared\")
                Y[t * 8 + tx] = L[0]
";

/// Each block copies 8 elements and has no barrier of its own, which would hide others missing.
pub const COPY: &str = "\
@T.prim_func
def copy(X: T.Buffer((24,), \"float32\"), Y: T.Buffer((24,), \"float32\")):
    for t in T.tiles(3):
        for tx in T.thread_binding(8, thread=\"threadIdx.x\"):
            Y[t * 8 + tx] = X[t * 8 + tx]
";

/// A product whose tiles of operands lie in shared memory.
const PRODUCT: &str = "#[version = \"0.0.5\"]
def @main(%x: Tensor[(96, 48), float32], %w: Tensor[(72, 48), float32]) {
  nn.dense(%x, %w, units=72)
}
";

/// Softmax of rows that the threads of a block share.
const ROWS: &str = "#[version = \"0.0.5\"]
def @main(%x: Tensor[(3, 200), float32]) {
  nn.softmax(%x)
}
";

/// A sum that others need too, and its rows in int8: a kernel with three results.
const RESULTS: &str = "#[version = \"0.0.5\"]
def @main(%x: Tensor[(3, 200), float32], %y: Tensor[(3, 200), float32]) {
  %0 = add(%x, %y);
  %1 = quant.quantize_per_token(%0);
  (%0, %1.0, %1.1)
}
";

/// A kernel with its arguments.
pub struct Kernel {
    /// The kernel.
    pub func: PrimFunc,
    args: Vec<Tensor>,
}

impl Kernel {
    /// A kernel on arguments in float32 that no two tiles have in common.
    ///
    /// # Errors
    /// If an argument would be too large.
    pub fn new(func: PrimFunc) -> Result<Kernel, String> {
        let inputs = func.params.len() - func.outputs;
        let argument = |(i, b): (usize, &BufferId)| {
            let buffer = &func.buffers[*b];
            if i >= inputs {
                return Tensor::zeros(buffer.dtype, &buffer.shape).map_err(|e| e.to_string());
            }
            let count = buffer.shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| (i % 251) as f32 / 8.0 - 11.0).collect();
            Tensor::from_slice(&buffer.shape, &values).map_err(|e| e.to_string())
        };
        let args = func.params.iter().enumerate().map(argument).collect::<Result<_, _>>()?;
        Ok(Kernel { func, args })
    }

    /// What an undisturbed run gives.
    ///
    /// # Errors
    /// What the evaluator says.
    pub fn undisturbed(&self) -> Result<Vec<Tensor>, String> {
        let mut args = self.args.clone();
        let program = Program::compile(&self.func).map_err(|d| d.message)?;
        program.run(&mut args).map_err(|d| d.message)?;
        Ok(args)
    }

    /// Runs the loop of a block, the word another from its read number `flip` on, and then takes
    /// the launch on under the new epoch; gives the results and how often the word was read before.
    ///
    /// # Errors
    /// What the evaluator says: a race, a torn block.
    pub fn preempted(&self, shape: &BlockLoop, flip: usize) -> Result<(Vec<Tensor>, usize), String> {
        let program = Program::compile(&self.func).map_err(|d| d.message)?;
        let mut args = self.args.clone();
        let mut launch = Launch { epoch: 1, ..Launch::default() };
        let mut reads = 0;
        let mut word = || {
            reads += 1;
            Word { epoch: 1 + u32::from(reads > flip), quota: 1 }
        };
        run_persistent(&program, &mut args, &mut launch, 0, shape, &mut word).map_err(|d| d.message)?;
        launch.epoch = 2;
        let mut calm = || Word { epoch: 2, quota: 1 };
        run_persistent(&program, &mut args, &mut launch, 0, shape, &mut calm).map_err(|d| d.message)?;
        let tiles = self.func.tiles().unwrap_or(0);
        match launch.done as i64 == tiles {
            true => Ok((args, reads)),
            false => Err(format!("{} of {tiles} tiles are counted as done", launch.done)),
        }
    }

    /// Preempts the loop at each read of the word in turn; gives how many there are.
    ///
    /// # Errors
    /// What the evaluator says, or that a result is not that of an undisturbed run.
    pub fn preempted_everywhere(&self, shape: &BlockLoop) -> Result<usize, String> {
        let expected = self.undisturbed()?;
        let mut flip = 0;
        loop {
            let (found, reads) = self.preempted(shape, flip)?;
            if !found.iter().zip(&expected).all(|(a, b)| a.bitwise_eq(b)) {
                return Err(format!("other bits after a preemption at read {flip}"));
            }
            if reads <= flip {
                return Ok(flip);
            }
            flip += 1;
        }
    }
}

/// A kernel given as text.
///
/// # Errors
/// If it is no kernel.
pub fn kernel(text: &str) -> Result<Kernel, String> {
    let said = |d: fermata_ir::diag::Diagnostics| d.0.first().map_or(String::new(), |d| d.message.clone());
    let func = parse("blocks.tir", text).map_err(said)?.pop().ok_or("no function")?;
    verify::verify(&func).map_err(said)?;
    Kernel::new(func)
}

/// The kernels that the compiler makes of a product and of softmax: those with barriers, without any
/// of which they are wrong.
///
/// # Errors
/// If they do not compile.
pub fn compiled() -> Result<Vec<Kernel>, String> {
    Ok([compile(PRODUCT)?, compile(ROWS)?].into_iter().flatten().collect())
}

/// The kernels with barriers that the compiler makes of a program.
fn compile(text: &str) -> Result<Vec<Kernel>, String> {
    let ops = OpTable::standard();
    let said = |d: fermata_ir::diag::Diagnostics| d.0.first().map_or(String::new(), |d| d.message.clone());
    let mut module: Module = parse_module("blocks.relay", text, &ParseOptions::new(&ops)).map_err(said)?;
    infer_module(&mut module).map_err(said)?;
    let target = CudaTarget { sm: 75 };
    let options = Options { target: target.into(), ..Options::default() };
    manager::run(&mut module, &standard(Level(2)), &options, &mut []).map_err(said)?;
    let program = lower(&module, &target.into()).map_err(said)?;
    let kernels = program.kernels.values().filter(|k| barriers(&k.func) > 0);
    kernels.map(|kernel| Kernel::new((*kernel.func).clone())).collect()
}

/// A kernel with several results, of which a tile writes its part of each.
///
/// # Errors
/// If the program does not become one such kernel.
fn several_results() -> Result<Vec<Kernel>, String> {
    let kernels = compile(RESULTS)?;
    match kernels[..] {
        [Kernel { func: PrimFunc { outputs: 3, .. }, .. }] => Ok(kernels),
        _ => Err("a sum and its rows in int8 are no longer one kernel with three results".into()),
    }
}

/// How many barriers a kernel has.
pub fn barriers(func: &PrimFunc) -> usize {
    let mut count = 0;
    func.body.walk(&mut |s| count += usize::from(matches!(s, Stmt::Barrier)));
    count
}

/// A kernel without its barrier number `missing`.
pub fn without_barrier(func: &PrimFunc, missing: usize) -> PrimFunc {
    let mut seen = 0;
    let mut func = func.clone();
    func.body = func.body.map(&mut |s| match s {
        Stmt::Barrier => {
            seen += 1;
            if seen == missing + 1 { Stmt::nop() } else { Stmt::Barrier }
        }
        other => other,
    });
    func
}

/// The loop of the protocol on each of these kernels; how many reads of the word there were.
///
/// # Errors
/// As [`Kernel::preempted_everywhere`].
pub fn all_hold() -> Result<usize, String> {
    let mut kernels = vec![kernel(REVERSE)?, kernel(COPY)?];
    kernels.extend(compiled()?);
    kernels.extend(several_results()?);
    kernels.iter().map(|kernel| kernel.preempted_everywhere(&BLOCK_LOOP)).sum()
}
