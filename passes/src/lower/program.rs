//! From a fused module to a plan: every call of a primitive function becomes launches.
//!
//! Values are lists of buffers (tuples flattened). A buffer stands on a *storage*; a group
//! that only reshapes gives another buffer on the same storage. The walk over expressions
//! keeps its own stack, so a program may be as deep as it likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Call, Callee, Expr, ExprId, Function, GlobalId, Module, VarId};
use fermata_ir::types::{TensorType, Type};

use super::bound;
use super::group_to_te::{flatten, unbound};
use super::in_place::Temporaries;
use super::kernels::{KernelSet, Lowered};
use super::memory::{self, Lifetime};
use super::plan::{BufferId, FuncId, FuncPlan, Place, PlanBuffer, Port, Program, Step};
use super::tail;
use crate::target::Target;

/// Lowers `@main` and what it calls.
///
/// # Errors
/// For every construct or operator that has no code: all of a function are reported at once.
pub fn lower(module: &Module, target: &Target) -> Result<Program, Diagnostics> {
    lower_within(module, target, None)
}

/// Lowers `@main` and what it calls, with kernels whose tiles take no longer than a bound where
/// the schedule rules have such. Kernels that are not fastest so have their raw variant beside them.
///
/// # Errors
/// As [`lower`]; also if a bound is given and the target has no cost model.
pub fn lower_within(
    module: &Module,
    target: &Target,
    bound: Option<Duration>,
) -> Result<Program, Diagnostics> {
    if let (Some(_), Target::Cuda(gpu)) = (bound, target) {
        let message = format!("there is no cost model for `{gpu}`, so a checkpoint bound cannot be kept");
        return Err(Diagnostic::error(Code::LOWER, message)
            .help("give --checkpoint-bound for cpu only")
            .into());
    }
    let Some(entry) = module.global("main") else {
        return Err(Diagnostic::error(Code::LOWER, "the program has no function `@main`").into());
    };
    bound::check(module)?;
    let mut work = Lowering {
        module,
        kernels: KernelSet::new(target.clone(), bound),
        program: Program { bound, ..Program::default() },
        funcs: BTreeMap::new(),
        constants: BTreeMap::new(),
        pending: Vec::new(),
        errors: Vec::new(),
    };
    work.program.entry = Some(work.func(entry));
    while let Some(global) = work.pending.pop() {
        let plan = FuncLowering::lower(&mut work, global);
        let id = work.funcs[&global];
        work.program.funcs[id] = plan;
    }
    if !work.errors.is_empty() {
        // The inputs are bound, so a size that is not known follows from an operator that is refused.
        if work.errors.iter().any(|d| d.code == Code::LOWER) {
            work.errors.retain(|d| d.code != Code::DIM_UNBOUND);
        }
        return Err(Diagnostics(work.errors));
    }
    work.program.kernels = work.kernels.into_kernels();
    Ok(work.program)
}

struct Lowering<'a> {
    module: &'a Module,
    kernels: KernelSet,
    program: Program,
    funcs: BTreeMap<GlobalId, FuncId>,
    /// The number of a constant in the program, by its bytes' address.
    constants: BTreeMap<(usize, usize), usize>,
    pending: Vec<GlobalId>,
    errors: Vec<Diagnostic>,
}

impl Lowering<'_> {
    /// The function's number; it is lowered later if it was not yet.
    fn func(&mut self, global: GlobalId) -> FuncId {
        if let Some(&id) = self.funcs.get(&global) {
            return id;
        }
        let id = self.program.funcs.push(FuncPlan::default());
        self.funcs.insert(global, id);
        self.pending.push(global);
        id
    }

    fn constant(&mut self, tensor: &fermata_ir::tensor::Tensor) -> usize {
        let key = (tensor.bytes().as_ptr() as usize, tensor.bytes().len());
        let next = self.program.constants.len();
        let index = *self.constants.entry(key).or_insert(next);
        if index == next {
            self.program.constants.push(tensor.clone());
        }
        index
    }
}

/// Where the bytes of buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Fixed(Place),
    /// In the arena, or an output: the number of a temporary.
    Temporary(usize),
}

/// Something still to be done; the last is next.
enum Task {
    /// Compute an expression.
    Eval(ExprId),
    /// Its operands are there: emit it.
    Finish(ExprId),
    /// A let's value is there: bind it and go on with the body.
    Bind(ExprId),
    /// A branch begins: put the steps so far aside.
    OpenBranch,
    /// A branch is done: copy its value to where the `if` wants it.
    CloseBranch(ExprId, ExprId),
    /// Both branches are done.
    Join(ExprId),
}

struct FuncLowering<'w, 'a> {
    work: &'w mut Lowering<'a>,
    plan: FuncPlan,
    storage: SecondaryMap<BufferId, Option<Storage>>,
    temporaries: Vec<usize>,
    values: SecondaryMap<ExprId, Option<Vec<BufferId>>>,
    vars: BTreeMap<VarId, Vec<BufferId>>,
    /// Expressions that got a value, in order: what a branch computed is forgotten at its end.
    computed: Vec<ExprId>,
    /// Steps of enclosing lists, with the length of `computed` when the branch began.
    outer: Vec<(Vec<Step>, usize)>,
    /// Finished branches.
    branches: Vec<Vec<Step>>,
}

impl<'w, 'a> FuncLowering<'w, 'a> {
    fn lower(work: &'w mut Lowering<'a>, global: GlobalId) -> FuncPlan {
        let module = work.module;
        let func = module.globals[global].func.as_ref().expect("a live function");
        let mut lowering = FuncLowering {
            work,
            plan: FuncPlan { name: module.globals[global].name.clone(), ..FuncPlan::default() },
            storage: SecondaryMap::new(),
            temporaries: Vec::new(),
            values: SecondaryMap::new(),
            vars: BTreeMap::new(),
            computed: Vec::new(),
            outer: Vec::new(),
            branches: Vec::new(),
        };
        lowering.inputs(func);
        lowering.run(func.body);
        lowering.outputs(func);
        lowering.place();
        lowering.plan
    }

    fn error(&mut self, expr: ExprId, message: impl Into<String>) {
        let diagnostic = Diagnostic::error(Code::LOWER, message).at(self.work.module.spans[expr].clone());
        self.work.errors.push(diagnostic);
    }

    fn buffer(&mut self, ty: &TensorType, storage: Storage) -> BufferId {
        let place = match storage {
            Storage::Fixed(place) => place,
            Storage::Temporary(_) => Place::Arena(0),
        };
        let shape = ty.static_shape().unwrap_or_default();
        let id = self.plan.buffers.push(PlanBuffer { shape, dtype: ty.dtype, place });
        self.storage[id] = Some(storage);
        id
    }

    fn temporary(&mut self, ty: &TensorType) -> BufferId {
        let index = self.temporaries.len();
        let bytes = ty.elements().unwrap_or(0) * ty.dtype.bytes();
        self.temporaries.push(bytes);
        self.buffer(ty, Storage::Temporary(index))
    }

    /// The tensors of an expression's type.
    fn tensors(&mut self, expr: ExprId) -> Vec<TensorType> {
        let module = self.work.module;
        match flatten(&module.types[expr]) {
            Some(flat) => {
                if let Some(t) = flat.iter().find(|t| t.static_shape().is_none()) {
                    self.work.errors.push(unbound(module, expr, t));
                }
                flat
            }
            None => {
                self.error(expr, "a value that is no tensor cannot be lowered; inline or fold it first");
                Vec::new()
            }
        }
    }

    fn temporaries_of(&mut self, expr: ExprId) -> Vec<BufferId> {
        self.tensors(expr).iter().map(|t| self.temporary(t)).collect()
    }

    fn inputs(&mut self, func: &Function) {
        for &param in &func.params {
            let var = &self.work.module.vars[param];
            let Some(flat) = flatten(&var.ty) else {
                self.error(func.body, format!("the parameter `%{}` is no tensor", var.name));
                continue;
            };
            let mut buffers = Vec::new();
            for (i, ty) in flat.iter().enumerate() {
                if ty.static_shape().is_none() {
                    self.work.errors.push(unbound(self.work.module, func.body, ty));
                }
                let name = match flat.len() {
                    1 => var.name.clone(),
                    _ => format!("{}.{i}", var.name).into(),
                };
                let place = Place::Input(self.plan.inputs.len());
                let buffer = self.buffer(ty, Storage::Fixed(place));
                self.plan.inputs.push(Port { name, buffer });
                buffers.push(buffer);
            }
            self.vars.insert(param, buffers);
        }
    }

    fn outputs(&mut self, func: &Function) {
        let names = output_names(func);
        for (i, buffer) in self.value(func.body).into_iter().enumerate() {
            let name = names.get(i).cloned().unwrap_or_else(|| format!("output{i}").into());
            self.plan.outputs.push(Port { name, buffer });
        }
    }

    fn value(&self, expr: ExprId) -> Vec<BufferId> {
        self.values[expr].clone().unwrap_or_default()
    }

    fn run(&mut self, body: ExprId) {
        let mut tasks = vec![Task::Eval(body)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Eval(expr) => self.begin(expr, &mut tasks),
                Task::Finish(expr) => self.finish(expr),
                Task::Bind(expr) => self.bind(expr, &mut tasks),
                Task::OpenBranch => {
                    self.outer.push((std::mem::take(&mut self.plan.steps), self.computed.len()));
                }
                Task::CloseBranch(conditional, branch) => self.close_branch(conditional, branch),
                Task::Join(expr) => self.join(expr),
            }
        }
    }

    /// Schedules an expression's operands before it.
    fn begin(&mut self, expr: ExprId, tasks: &mut Vec<Task>) {
        if self.values[expr].is_some() {
            return;
        }
        match &self.work.module.exprs[expr] {
            Expr::Let { value, .. } => {
                tasks.push(Task::Bind(expr));
                tasks.push(Task::Eval(*value));
            }
            Expr::If { cond, then, els } => {
                let results = self.temporaries_of(expr);
                self.set(expr, results);
                tasks.push(Task::Join(expr));
                for branch in [*els, *then] {
                    tasks.push(Task::CloseBranch(expr, branch));
                    tasks.push(Task::Eval(branch));
                    tasks.push(Task::OpenBranch);
                }
                tasks.push(Task::Eval(*cond));
            }
            Expr::Call(call) => {
                tasks.push(Task::Finish(expr));
                tasks.extend(call.args.iter().rev().map(|&a| Task::Eval(a)));
            }
            Expr::Tuple(fields) => {
                tasks.push(Task::Finish(expr));
                tasks.extend(fields.iter().rev().map(|&f| Task::Eval(f)));
            }
            Expr::Proj { tuple, .. } => tasks.extend([Task::Finish(expr), Task::Eval(*tuple)]),
            Expr::Var(_)
            | Expr::Const(_)
            | Expr::Global(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => self.finish(expr),
        }
    }

    fn bind(&mut self, expr: ExprId, tasks: &mut Vec<Task>) {
        let Expr::Let { var, value, body } = self.work.module.exprs[expr] else { return };
        let bound = self.value(value);
        self.vars.insert(var, bound);
        tasks.push(Task::Finish(expr));
        tasks.push(Task::Eval(body));
    }

    fn finish(&mut self, expr: ExprId) {
        let module = self.work.module;
        let value = match &module.exprs[expr] {
            Expr::Var(v) => self.vars.get(v).cloned().unwrap_or_default(),
            Expr::Const(c) => {
                let tensor = &module.consts[*c].tensor;
                let place = Place::Constant(self.work.constant(tensor));
                vec![self.buffer(&tensor.tensor_type(), Storage::Fixed(place))]
            }
            Expr::Tuple(fields) => fields.iter().flat_map(|&f| self.value(f)).collect(),
            Expr::Proj { tuple, index } => self.project(*tuple, *index as usize),
            Expr::Let { body, .. } => self.value(*body),
            Expr::Call(call) => self.call(expr, call),
            // A function that is only called is not a value; its calls report what is wrong.
            Expr::Func(_) | Expr::Global(_) | Expr::Op(_) | Expr::Ctor(_) => Vec::new(),
            Expr::If { .. } => self.value(expr),
            Expr::Match { .. } => self.unsupported(expr, "`match`"),
            Expr::Ref(_) | Expr::RefRead(_) | Expr::RefWrite { .. } => {
                self.unsupported(expr, "a reference cell")
            }
        };
        self.set(expr, value);
    }

    fn set(&mut self, expr: ExprId, value: Vec<BufferId>) {
        self.values[expr] = Some(value);
        self.computed.push(expr);
    }

    fn unsupported(&mut self, expr: ExprId, what: &str) -> Vec<BufferId> {
        self.error(expr, format!("{what} has no compiled form; the evaluator runs it (`--device interp`)"));
        // What uses the value is looked at all the same, for errors of its own.
        let tensors = flatten(&self.work.module.types[expr]).unwrap_or_default();
        tensors.iter().map(|ty| self.temporary(ty)).collect()
    }

    fn project(&mut self, tuple: ExprId, index: usize) -> Vec<BufferId> {
        let fields = self.work.module.types[tuple].as_tuple().unwrap_or(&[]);
        let widths: Vec<usize> = fields.iter().map(|f| flatten(f).map_or(0, |t| t.len())).collect();
        let first: usize = widths.iter().take(index).sum();
        let count = widths.get(index).copied().unwrap_or(0);
        self.value(tuple).into_iter().skip(first).take(count).collect()
    }

    fn call(&mut self, expr: ExprId, call: &Call) -> Vec<BufferId> {
        let module = self.work.module;
        let args: Vec<BufferId> = call.args.iter().flat_map(|&a| self.value(a)).collect();
        match call.callee {
            Callee::Expr(callee) => match &module.exprs[callee] {
                Expr::Func(func) if crate::fuse::is_primitive(func) => self.launch(expr, callee, func, args),
                Expr::Global(global) => {
                    let results = self.temporaries_of(expr);
                    let func = self.work.func(*global);
                    self.plan.steps.push(Step::Call { func, args, results: results.clone() });
                    results
                }
                _ => self.unsupported(expr, "a call of a function value"),
            },
            Callee::Op(op) => self.unsupported(expr, &format!("`{op}` outside of a fused group")),
            Callee::Ctor(_) => self.unsupported(expr, "an algebraic data type"),
        }
    }

    /// Launches the kernels of a primitive function, or aliases its argument if it only reshapes.
    fn launch(
        &mut self,
        expr: ExprId,
        callee: ExprId,
        func: &Function,
        args: Vec<BufferId>,
    ) -> Vec<BufferId> {
        let outs = self.tensors(expr);
        if func.attrs.contains_key("relay.reshape_only")
            && let ([source], [ty]) = (&args[..], &outs[..])
        {
            let storage = self.storage[*source].expect("every buffer has a storage");
            return vec![self.buffer(ty, storage)];
        }
        let lowered = match self.work.kernels.lower(self.work.module, callee, func) {
            Ok(lowered) => lowered,
            Err(diagnostic) => {
                self.work.errors.push(diagnostic);
                return outs.iter().map(|t| self.temporary(t)).collect();
            }
        };
        self.emit(&lowered, args, &outs)
    }

    fn emit(&mut self, lowered: &Arc<Lowered>, args: Vec<BufferId>, outs: &[TensorType]) -> Vec<BufferId> {
        let mut tensors: Vec<Option<BufferId>> = args.into_iter().map(Some).collect();
        for constant in &lowered.constants {
            let place = Place::Constant(self.work.constant(constant));
            tensors.push(Some(self.buffer(&constant.tensor_type(), Storage::Fixed(place))));
        }
        tensors.resize(lowered.tensors.len(), None);
        for launch in &lowered.launches {
            for &t in &launch.outputs {
                tensors[t] = Some(self.temporary(&lowered.tensors[t]));
            }
            let bound = launch.inputs.iter().chain(&launch.outputs);
            let args = bound.map(|&t| tensors[t].expect("launches are in order")).collect();
            self.plan.steps.push(Step::Launch { kernel: launch.kernel, args });
        }
        debug_assert_eq!(outs.len(), lowered.outputs.len());
        lowered.outputs.iter().map(|&t| tensors[t].expect("outputs are computed")).collect()
    }

    fn close_branch(&mut self, conditional: ExprId, branch: ExprId) {
        let (wanted, made) = (self.value(conditional), self.value(branch));
        if tail::computes(&self.plan.steps, &made) {
            tail::redirect(&mut self.plan.steps, &wanted);
        } else {
            self.plan.steps.extend(made.into_iter().zip(wanted).map(|(src, dst)| Step::Copy { src, dst }));
        }
        let (outer, computed) = self.outer.pop().expect("the branch was opened");
        for expr in self.computed.drain(computed..) {
            self.values[expr] = None;
        }
        self.branches.push(std::mem::replace(&mut self.plan.steps, outer));
    }

    fn join(&mut self, expr: ExprId) {
        let Expr::If { cond, .. } = self.work.module.exprs[expr] else { return };
        let els = self.branches.pop().expect("two branches");
        let then = self.branches.pop().expect("two branches");
        let Some(&cond) = self.value(cond).first() else { return };
        self.plan.steps.push(Step::If { cond, then, els });
    }

    /// Gives temporaries that are results memory of their own, and all others a place in the arena.
    fn place(&mut self) {
        let mut results: Vec<Option<usize>> = vec![None; self.temporaries.len()];
        for port in &self.plan.outputs {
            if let Some(Storage::Temporary(t)) = self.storage[port.buffer]
                && results[t].is_none()
            {
                results[t] = Some(self.plan.result_bytes.len());
                self.plan.result_bytes.push(self.temporaries[t]);
            }
        }
        let storage = &self.storage;
        let of = |buffer: BufferId| match storage[buffer] {
            Some(Storage::Temporary(t)) => Some(t),
            Some(Storage::Fixed(_)) | None => None,
        };
        let mut temporaries = Temporaries { lives: self.lifetimes(), results, of: &of };
        let owner = temporaries.take_over(&self.plan.steps, self.work.kernels.kernels());
        let Temporaries { lives, results, .. } = temporaries;
        let arena: Vec<usize> =
            (0..lives.len()).filter(|&t| results[t].is_none() && lives[t].first <= lives[t].last).collect();
        let (offsets, bytes) = memory::plan(&arena.iter().map(|&t| lives[t]).collect::<Vec<_>>());
        let mut places: Vec<Place> =
            results.iter().map(|r| r.map_or(Place::Arena(0), Place::Output)).collect();
        arena.iter().zip(offsets).for_each(|(&t, offset)| places[t] = Place::Arena(offset));
        for (id, buffer) in self.plan.buffers.iter_mut() {
            if let Some(Storage::Temporary(t)) = self.storage[id] {
                let owner = owner[t];
                buffer.place = places[owner];
                // What no step names any more needs no memory: its branch writes elsewhere.
                if results[owner].is_none() && lives[owner].first > lives[owner].last {
                    buffer.shape = vec![0];
                }
            }
        }
        self.plan.arena_bytes = bytes;
    }

    /// First and last step of every temporary; what a sub-plan touches counts for its step.
    fn lifetimes(&self) -> Vec<Lifetime> {
        let mut lives: Vec<Lifetime> =
            self.temporaries.iter().map(|&bytes| Lifetime { bytes, first: usize::MAX, last: 0 }).collect();
        for (index, step) in self.plan.steps.iter().enumerate() {
            let mut nested = vec![step];
            while let Some(step) = nested.pop() {
                for buffer in buffers_of(step) {
                    if let Some(Storage::Temporary(t)) = self.storage[buffer] {
                        lives[t].first = lives[t].first.min(index);
                        lives[t].last = lives[t].last.max(index);
                    }
                }
                if let Step::If { then, els, .. } = step {
                    nested.extend(then.iter().chain(els));
                }
            }
        }
        lives
    }
}

/// The buffers that a step names itself.
fn buffers_of(step: &Step) -> Vec<BufferId> {
    match step {
        Step::Launch { args, .. } => args.clone(),
        Step::If { cond, .. } => vec![*cond],
        Step::Call { args, results, .. } => args.iter().chain(results).copied().collect(),
        Step::Copy { src, dst } => vec![*src, *dst],
    }
}

/// The names that a model gives its results: the function attribute `outputs`.
pub fn output_names(func: &Function) -> Vec<Arc<str>> {
    use fermata_ir::op::AttrValue;
    let Some(AttrValue::List(names)) = func.attrs.get("outputs") else { return Vec::new() };
    let text = names.iter().map(|n| match n {
        AttrValue::Str(s) => s.clone(),
        _ => "output".into(),
    });
    text.collect()
}

/// True if the type holds tensors only.
pub fn is_data(ty: &Type) -> bool {
    flatten(ty).is_some()
}
