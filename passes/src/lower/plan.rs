//! The plan: a lowered program as a list of steps over buffers.
//!
//! Buffers are numbered for the whole plan; inside a sub-plan of an `if` they are the same
//! buffers, inside a called function its own. All sizes are static. The memory plan gives
//! every temporary an offset in one arena; constants, inputs and outputs lie outside it.

use std::sync::Arc;
use std::time::Duration;

use fermata_ir::entity::{EntityRef, PrimaryMap};
use fermata_ir::entity_id;
use fermata_ir::tensor::Tensor;
use fermata_ir::tir::PrimFunc;
use fermata_ir::tir::protocol::Certificate;
use fermata_ir::types::DType;

entity_id!(/// A buffer of a plan.
    BufferId, "buf");
entity_id!(/// A kernel of a program.
    KernelId, "k");
entity_id!(/// A function of a program: `main` and what it calls.
    FuncId, "f");

/// A lowered program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Kernels, each once: equal TIR is one kernel.
    pub kernels: PrimaryMap<KernelId, Kernel>,
    /// Functions; the entry is [`Program::entry`].
    pub funcs: PrimaryMap<FuncId, FuncPlan>,
    /// The function that runs.
    pub entry: Option<FuncId>,
    /// Constants, shared by all functions.
    pub constants: Vec<Tensor>,
    /// The bound on a tile's time that the schedules were asked to keep.
    pub bound: Option<Duration>,
}

impl Program {
    /// The program with the raw variant of every kernel that has one: for where nothing preempts it.
    #[must_use]
    pub fn raw(&self) -> Program {
        let mut program = self.clone();
        let raw = |id: KernelId| self.kernels[id].raw.unwrap_or(id);
        for func in program.funcs.values_mut() {
            let mut lists = vec![&mut func.steps];
            while let Some(steps) = lists.pop() {
                for step in steps {
                    match step {
                        Step::Launch { kernel, .. } => *kernel = raw(*kernel),
                        Step::If { then, els, .. } => lists.extend([then, els]),
                        Step::Call { .. } | Step::Copy { .. } => {}
                    }
                }
            }
        }
        program
    }

    /// How often each kernel stands in the program, branches included, by its number.
    pub fn launches(&self) -> Vec<usize> {
        let mut counts = vec![0; self.kernels.len()];
        for func in self.funcs.values() {
            let mut lists = vec![&func.steps];
            while let Some(steps) = lists.pop() {
                for step in steps {
                    match step {
                        Step::Launch { kernel, .. } => counts[kernel.index()] += 1,
                        Step::If { then, els, .. } => lists.extend([then, els]),
                        Step::Call { .. } | Step::Copy { .. } => {}
                    }
                }
            }
        }
        counts
    }
}

/// A kernel: a scheduled function with one outermost tile loop.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The scheduled TIR.
    pub func: Arc<PrimFunc>,
    /// Number of tiles.
    pub tiles: u64,
    /// What the cost model says of its tiles; none for a target that has no model.
    pub certificate: Option<Certificate>,
    /// The kernel that computes the same with the best schedule that knows no bound, where that is
    /// another: same parameters, and the same results bit for bit.
    pub raw: Option<KernelId>,
}

impl Kernel {
    /// A kernel without certificate that is its own raw variant.
    pub fn new(func: PrimFunc) -> Kernel {
        let tiles = func.tiles().unwrap_or(1).max(0) as u64;
        Kernel { func: Arc::new(func), tiles, certificate: None, raw: None }
    }
}

/// A function: parameters, results, buffers and steps.
#[derive(Clone, Debug, Default)]
pub struct FuncPlan {
    /// The name of the global function it came from.
    pub name: Arc<str>,
    /// Parameters in order (tuples flattened), with the names as the model gives them.
    pub inputs: Vec<Port>,
    /// Results in order (tuples flattened).
    pub outputs: Vec<Port>,
    /// All buffers. Several may lie in one place: views of another shape.
    pub buffers: PrimaryMap<BufferId, PlanBuffer>,
    /// Sizes of the memory that results lie in.
    pub result_bytes: Vec<usize>,
    /// What to do.
    pub steps: Vec<Step>,
    /// Bytes of the arena that temporaries lie in.
    pub arena_bytes: usize,
}

/// A parameter or a result.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: Arc<str>,
    /// Its buffer. A result may be a parameter's or a constant's buffer; the executor copies it out.
    pub buffer: BufferId,
}

/// A buffer of a plan.
#[derive(Clone, Debug)]
pub struct PlanBuffer {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// Where it lies.
    pub place: Place,
}

impl PlanBuffer {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The memory of a parameter, by its number.
    Input(usize),
    /// Memory that the executor hands out, by its number in [`FuncPlan::result_bytes`].
    Output(usize),
    /// A constant of the program.
    Constant(usize),
    /// In the arena, at this offset, aligned to 64 bytes.
    Arena(usize),
}

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Run all tiles of a kernel. Arguments follow the kernel's parameters.
    Launch {
        /// Which kernel.
        kernel: KernelId,
        /// Buffers, inputs then outputs.
        args: Vec<BufferId>,
    },
    /// One of two lists of steps.
    If {
        /// A bool scalar.
        cond: BufferId,
        /// Steps if it is true.
        then: Vec<Step>,
        /// Steps if it is false.
        els: Vec<Step>,
    },
    /// A call of another function, with an arena of its own; depth is bounded by the executor.
    Call {
        /// Which.
        func: FuncId,
        /// Its inputs.
        args: Vec<BufferId>,
        /// Where its outputs go.
        results: Vec<BufferId>,
    },
    /// Copies all bytes.
    Copy {
        /// From.
        src: BufferId,
        /// To; of the same size.
        dst: BufferId,
    },
}
