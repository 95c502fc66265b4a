//! The plan as JSON: plain rows that say nothing a reader would have to trust.

use fermata_ir::entity::{EntityRef, PrimaryMap};
use fermata_ir::tir::protocol::Certificate;
use fermata_ir::types::DType;
use fermata_passes::lower::plan::{
    BufferId, FuncId, FuncPlan, KernelId, Place, PlanBuffer, Port, Program, Step,
};
use serde::{Deserialize, Serialize};

/// What `manifest.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Always `fermata`.
    pub format: String,
    /// Another major version is not read; a newer minor version is.
    pub version: [u32; 2],
    /// The compiler that wrote the artifact.
    pub compiler: String,
    /// What the object code was made for.
    pub target: String,
}

/// What `plan.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub entry: usize,
    pub constants: usize,
    /// The bound that the kernels' tiles were chosen for, in nanoseconds.
    #[serde(default)]
    pub bound_ns: Option<u64>,
    pub kernels: Vec<Kernel>,
    pub functions: Vec<Function>,
}

/// A kernel: its files are `kernels/FILE.tir` and, beside it, its code.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kernel {
    pub file: String,
    pub scratch_bytes: usize,
    pub imports: Vec<String>,
    pub provenance: Vec<(u32, String)>,
    /// For people and tools: a reader of this crate makes it anew.
    #[serde(default)]
    pub certificate: Option<CertificateRow>,
    /// The number of the kernel that computes the same with the best schedule that knows no bound.
    #[serde(default)]
    pub raw: Option<usize>,
}

/// What the cost model said of a kernel when it was compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CertificateRow {
    pub tile_ns: u64,
    pub lookahead: u32,
    pub holds: bool,
    pub obstacle: Option<String>,
}

impl CertificateRow {
    pub fn of(certificate: &Certificate) -> CertificateRow {
        CertificateRow {
            tile_ns: certificate.tile_ns,
            lookahead: certificate.lookahead,
            holds: certificate.holds(),
            obstacle: certificate.obstacle.as_deref().map(str::to_owned),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Function {
    pub name: String,
    pub inputs: Vec<Named>,
    pub outputs: Vec<Named>,
    pub buffers: Vec<Buffer>,
    pub result_bytes: Vec<usize>,
    pub arena_bytes: usize,
    pub steps: Vec<StepRow>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named {
    pub name: String,
    pub buffer: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Buffer {
    pub shape: Vec<usize>,
    pub dtype: String,
    pub place: PlaceRow,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PlaceRow {
    Input(usize),
    Output(usize),
    Constant(usize),
    Arena(usize),
}

/// Branches are rows of their own list, so that reading them needs no recursion: a step names
/// how many of the steps after it are its first and its second branch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepRow {
    Launch { kernel: usize, args: Vec<usize> },
    If { cond: usize, then: usize, els: usize },
    Call { func: usize, args: Vec<usize>, results: Vec<usize> },
    Copy { src: usize, dst: usize },
}

fn numbers(ids: &[BufferId]) -> Vec<usize> {
    ids.iter().map(|id| id.index()).collect()
}

/// The rows of a list of steps. Branches nest as deeply as the program's do, which the compiler bounds.
fn step_rows(steps: &[Step], rows: &mut Vec<StepRow>) {
    for step in steps {
        match step {
            Step::Launch { kernel, args } => {
                rows.push(StepRow::Launch { kernel: kernel.index(), args: numbers(args) });
            }
            Step::Copy { src, dst } => rows.push(StepRow::Copy { src: src.index(), dst: dst.index() }),
            Step::Call { func, args, results } => rows.push(StepRow::Call {
                func: func.index(),
                args: numbers(args),
                results: numbers(results),
            }),
            Step::If { cond, then, els } => {
                let at = rows.len();
                rows.push(StepRow::If { cond: cond.index(), then: 0, els: 0 });
                step_rows(then, rows);
                let middle = rows.len();
                step_rows(els, rows);
                let (then, els) = (middle - at - 1, rows.len() - middle);
                rows[at] = StepRow::If { cond: cond.index(), then, els };
            }
        }
    }
}

/// A list of steps that is being read, and what it is for once it is full.
struct Open {
    steps: Vec<Step>,
    left: usize,
    role: Role,
}

enum Role {
    Body,
    Then { cond: BufferId, els: usize },
    Else { cond: BufferId, then: Vec<Step> },
}

/// How deeply branches may nest.
const MAX_NESTING: usize = 1000;

/// The steps of rows; `None` if a branch is longer than what is left of the list it is in, or
/// branches nest too deeply.
fn steps(rows: &[StepRow]) -> Option<Vec<Step>> {
    let mut stack = vec![Open { steps: Vec::new(), left: rows.len(), role: Role::Body }];
    let mut rows = rows.iter();
    loop {
        let top = stack.last_mut()?;
        if top.left == 0 {
            let done = stack.pop()?;
            match done.role {
                Role::Body => return Some(done.steps),
                Role::Then { cond, els } => {
                    stack.push(Open {
                        steps: Vec::new(),
                        left: els,
                        role: Role::Else { cond, then: done.steps },
                    });
                }
                Role::Else { cond, then } => {
                    stack.last_mut()?.steps.push(Step::If { cond, then, els: done.steps });
                }
            }
            continue;
        }
        top.left -= 1;
        let ids = |list: &[usize]| list.iter().map(|&n| id(n)).collect::<Option<Vec<BufferId>>>();
        match rows.next()? {
            StepRow::Launch { kernel, args } => {
                top.steps.push(Step::Launch { kernel: id(*kernel)?, args: ids(args)? });
            }
            StepRow::Copy { src, dst } => top.steps.push(Step::Copy { src: id(*src)?, dst: id(*dst)? }),
            StepRow::Call { func, args, results } => {
                top.steps.push(Step::Call { func: id(*func)?, args: ids(args)?, results: ids(results)? });
            }
            StepRow::If { cond, then, els } => {
                top.left = top.left.checked_sub(then.checked_add(*els)?)?;
                if stack.len() > MAX_NESTING {
                    return None;
                }
                let role = Role::Then { cond: id(*cond)?, els: *els };
                stack.push(Open { steps: Vec::new(), left: *then, role });
            }
        }
    }
}

/// An id of a number that an id can hold.
pub(super) fn id<T: EntityRef>(number: usize) -> Option<T> {
    (number < u32::MAX as usize).then(|| T::new(number))
}

fn place_row(place: Place) -> PlaceRow {
    match place {
        Place::Input(n) => PlaceRow::Input(n),
        Place::Output(n) => PlaceRow::Output(n),
        Place::Constant(n) => PlaceRow::Constant(n),
        Place::Arena(n) => PlaceRow::Arena(n),
    }
}

fn place(row: &PlaceRow) -> Place {
    match *row {
        PlaceRow::Input(n) => Place::Input(n),
        PlaceRow::Output(n) => Place::Output(n),
        PlaceRow::Constant(n) => Place::Constant(n),
        PlaceRow::Arena(n) => Place::Arena(n),
    }
}

/// The rows of a function.
fn function_row(func: &FuncPlan) -> Function {
    let named = |ports: &[Port]| {
        ports.iter().map(|p| Named { name: p.name.to_string(), buffer: p.buffer.index() }).collect()
    };
    let mut rows = Vec::new();
    step_rows(&func.steps, &mut rows);
    let buffer = |b: &PlanBuffer| Buffer {
        shape: b.shape.clone(),
        dtype: b.dtype.name().to_owned(),
        place: place_row(b.place),
    };
    Function {
        name: func.name.to_string(),
        inputs: named(&func.inputs),
        outputs: named(&func.outputs),
        buffers: func.buffers.values().map(buffer).collect(),
        result_bytes: func.result_bytes.clone(),
        arena_bytes: func.arena_bytes,
        steps: rows,
    }
}

/// The function of rows; `None` if they say something that no plan could.
fn function(row: &Function) -> Option<FuncPlan> {
    let ports = |list: &[Named]| {
        let port = |n: &Named| Some(Port { name: n.name.as_str().into(), buffer: id(n.buffer)? });
        list.iter().map(port).collect::<Option<Vec<Port>>>()
    };
    let mut buffers = PrimaryMap::new();
    for b in &row.buffers {
        buffers.push(PlanBuffer {
            shape: b.shape.clone(),
            dtype: DType::from_name(&b.dtype)?,
            place: place(&b.place),
        });
    }
    Some(FuncPlan {
        name: row.name.as_str().into(),
        inputs: ports(&row.inputs)?,
        outputs: ports(&row.outputs)?,
        buffers,
        result_bytes: row.result_bytes.clone(),
        steps: steps(&row.steps)?,
        arena_bytes: row.arena_bytes,
    })
}

/// The functions of a program as rows.
pub(super) fn functions_out(program: &Program) -> Vec<Function> {
    program.funcs.values().map(function_row).collect()
}

/// The functions of rows; `None` if they say something that no plan could.
pub(super) fn functions_in(rows: &[Function]) -> Option<PrimaryMap<FuncId, FuncPlan>> {
    let mut funcs = PrimaryMap::new();
    for row in rows {
        funcs.push(function(row)?);
    }
    Some(funcs)
}

/// The name of a kernel's files: its number keeps them apart, its name tells people.
pub(super) fn kernel_file(id: KernelId, name: &str) -> String {
    let readable: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
    format!("{:05}_{readable}", id.index())
}
