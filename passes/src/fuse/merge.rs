//! Joining of groups where the target holds the two of them in fewer launches.
//!
//! A group whose value one other group alone reads is tried together with it: both are lowered by
//! the target's own schedules, alone and joined, and they are joined if that leaves fewer launches
//! and no more work. So no rule here has to know what a kernel can hold, and no group lowers worse
//! than its parts did.

use std::collections::BTreeMap;

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Args, Call, Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::nn::{BATCH_MATMUL, DENSE, DENSE_PACK, FAST_SOFTMAX, LOG_SOFTMAX, MATMUL, SOFTMAX};
use fermata_ir::op::norm::{GROUP_NORM, INSTANCE_NORM, L2_NORMALIZE, LAYER_NORM, RMS_NORM};
use fermata_ir::op::quant::{QUANT_DENSE, QUANT_DENSE_PACK, QUANT_MATMUL, QUANTIZE_PER_TOKEN};
use fermata_ir::op::transform::TRANSPOSE;
use fermata_ir::op::{AttrValue, Attrs, FusePattern, Op, OpDef, Purity};
use fermata_ir::types::{FuncType, Type};
use fermata_ir::walk;
use indexmap::IndexMap;

use super::extract::is_reshape_only;
use super::group::Limits;
use super::{is_primitive, is_reshape};
use crate::lower::kernels::KernelSet;
use crate::lower::plan::KernelId;
use crate::pass::PassContext;
use crate::relay::rewrite::{instantiate, rebuild};
use crate::target::Target;
use crate::tir::work;

/// The only rule there is.
const JOIN: &str = "join groups that are fewer launches together";

/// Sums of products.
const PRODUCTS: [&OpDef; 7] =
    [&DENSE, &MATMUL, &DENSE_PACK, &BATCH_MATMUL, &QUANT_DENSE, &QUANT_DENSE_PACK, &QUANT_MATMUL];

/// Operators that need a row of their argument at once, besides plain reductions.
const ROWS: [&OpDef; 8] = [
    &SOFTMAX,
    &FAST_SOFTMAX,
    &LOG_SOFTMAX,
    &LAYER_NORM,
    &GROUP_NORM,
    &INSTANCE_NORM,
    &RMS_NORM,
    &L2_NORMALIZE,
];

/// Why a group stays as it is on a GPU.
pub const GPU_PRODUCT: &str = "a GPU's product takes no other group";

/// What joined groups may cost more than alone, in hundredths: the estimate is no finer.
const SLACK: u64 = 110;

/// Nodes of the largest group that is tried: every trial lowers all of it, so a chain of reductions
/// must not become one group step by step.
const MAX_TRIED: u32 = 40;

/// What lowering says of groups, each asked for once.
pub struct Trial {
    kernels: KernelSet,
    work: BTreeMap<KernelId, u64>,
    costs: BTreeMap<ExprId, Option<Cost>>,
    limits: Limits,
    /// Whether products take no rows, and nothing in front: on a GPU fewer launches of them are not
    /// always less time, but rows that a block has at hand are best used there.
    rows_only: bool,
}

/// What a group costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    launches: usize,
    work: u64,
}

impl Trial {
    /// Nothing asked yet, for a target; no group grows beyond the limits.
    pub fn new(target: Target, limits: Limits) -> Trial {
        let rows_only = matches!(target, Target::Cuda(_));
        let kernels = KernelSet::new(target, None);
        Trial { kernels, work: BTreeMap::new(), costs: BTreeMap::new(), limits, rows_only }
    }

    /// Nothing, if the target's schedules may hold a group and one that reads its value, with the
    /// results of both.
    ///
    /// # Errors
    /// Why they do not.
    pub fn may_share(&self, first: &Group, second: &Group) -> Result<(), String> {
        let (first, second) = (first.kinds, second.kinds);
        if self.rows_only && (second.product || first.product && second.row) {
            return Err("a tile of a GPU's product has no whole rows, and takes nothing in front".into());
        }
        self.allows_nodes(first.nodes.saturating_add(second.nodes))
    }

    /// True if a group stays as it is, whatever the schedules say.
    pub fn leaves(&self, group: &Group) -> bool {
        self.rows_only && group.kinds.product
    }

    /// The cost of a group, looked up if it was asked for before; `None` if it cannot be lowered.
    fn cost(&mut self, module: &Module, group: &Group) -> Option<Cost> {
        if let Some(&known) = self.costs.get(&group.callee) {
            return known;
        }
        let cost = self.lowered(module, group.callee, &group.func);
        self.costs.insert(group.callee, cost);
        cost
    }

    /// How many launches some groups save as others that do the same, and the work that these are.
    ///
    /// # Errors
    /// Why they are better apart.
    pub fn saves(
        &mut self,
        module: &Module,
        apart: &[&Group],
        together: &[&Group],
    ) -> Result<(usize, u64), String> {
        together.iter().try_for_each(|group| self.allows(module, group))?;
        let Some(before) = self.sum(module, apart) else { return Err("one of them has no code".into()) };
        let Some(after) = self.sum(module, together) else {
            return Err("together they have no code".into());
        };
        if after.launches >= before.launches {
            let why = format!("together they are {} launches, as they are alone", after.launches);
            let more = together.iter().find_map(|group| self.kernels.held_back(module, &group.func));
            return Err(more.map_or(why.clone(), |more| format!("{why}; {more}")));
        }
        if after.work > before.work.saturating_mul(SLACK) / 100 {
            return Err(format!("together they are more work: {} against {}", after.work, before.work));
        }
        Ok((before.launches - after.launches, after.work))
    }

    /// Whether there may be a group.
    ///
    /// # Errors
    /// Why not.
    fn allows(&self, module: &Module, group: &Group) -> Result<(), String> {
        self.allows_nodes(group.kinds.nodes)?;
        if !ends_in_shape(module, &group.func) {
            return Err("together they would end in another shape than the product in them".into());
        }
        let results = module.types[group.func.body].as_tuple().map_or(1, <[Type]>::len);
        if self.limits.args > 0 && group.args.len() + results > self.limits.args as usize {
            return Err("together they have more than `max_function_args` arguments and results".into());
        }
        Ok(())
    }

    fn allows_nodes(&self, nodes: u32) -> Result<(), String> {
        let most = self.limits.nodes.min(MAX_TRIED);
        let why = || format!("together they have more than {most} nodes");
        (nodes <= most).then_some(()).ok_or_else(why)
    }

    /// What groups cost in all; `None` if one of them cannot be lowered.
    fn sum(&mut self, module: &Module, groups: &[&Group]) -> Option<Cost> {
        groups.iter().try_fold(Cost { launches: 0, work: 0 }, |sum, group| {
            let cost = self.cost(module, group)?;
            let work = sum.work.saturating_add(cost.work);
            Some(Cost { launches: sum.launches + cost.launches, work })
        })
    }

    fn lowered(&mut self, module: &Module, expr: ExprId, func: &Function) -> Option<Cost> {
        if func.attrs.contains_key("relay.reshape_only") {
            return Some(Cost { launches: 0, work: 0 });
        }
        let lowered = self.kernels.lower(module, expr, func).ok()?;
        let mut cost = Cost { launches: lowered.launches.len(), work: 0 };
        for launch in &lowered.launches {
            let kernel = &self.kernels.kernels()[launch.kernel].func;
            let work = *self.work.entry(launch.kernel).or_insert_with(|| work::of(kernel));
            cost.work = cost.work.saturating_add(work);
        }
        Some(cost)
    }
}

/// The body with its groups joined as far as that pays.
pub fn merge(module: &mut Module, body: ExprId, trial: &mut Trial, context: &mut PassContext) -> ExprId {
    let before = walk::use_counts(module, &[body]);
    let mut uses: SecondaryMap<ExprId, u32> = SecondaryMap::new();
    rebuild(module, body, &mut |module, old, new| {
        let mut at = new;
        while let Some(joined) = join_one(module, at, &mut uses, trial, context) {
            at = joined;
        }
        uses[at] = before[old];
        at
    })
}

/// A call of a group.
pub struct Group {
    callee: ExprId,
    /// The group.
    pub func: Function,
    /// What it is called with.
    pub args: Args,
    kinds: Kinds,
}

impl Group {
    /// The group that an expression calls, if it does.
    pub fn of(module: &Module, expr: ExprId) -> Option<Group> {
        let Expr::Call(Call { callee: Callee::Expr(callee), args, .. }) = &module.exprs[expr] else {
            return None;
        };
        let Expr::Func(func) = &module.exprs[*callee] else { return None };
        let kinds = Kinds::of(module, func);
        is_primitive(func).then(|| Group {
            callee: *callee,
            func: Function::clone(func),
            args: args.clone(),
            kinds,
        })
    }

    /// Why no kernel holds this group and then that one, if that is known before it is tried.
    pub fn obstacle(&self, then: &Group) -> Option<&'static str> {
        self.kinds.obstacle(then.kinds)
    }

    /// True if there is no product in it, and nothing that needs whole rows.
    pub fn is_elementwise(&self) -> bool {
        let Kinds { product, row, other, .. } = self.kinds;
        !product && !row && !other
    }

    /// The name of the operator that it ends in.
    pub fn last(&self, module: &Module) -> String {
        let order = walk::post_order(module, &[self.func.body]);
        let ops = order.into_iter().filter_map(|e| Some(module.as_op_call(e)?.0.name()));
        ops.fold("tuple", |_, op| op).to_string()
    }
}

/// What there is in a group.
#[derive(Clone, Copy, Default)]
struct Kinds {
    product: bool,
    row: bool,
    other: bool,
    nodes: u32,
}

impl Kinds {
    fn of(module: &Module, func: &Function) -> Kinds {
        let mut kinds = Kinds::default();
        for expr in walk::post_order(module, &[func.body]) {
            kinds.nodes += 1;
            if let Some((op, _)) = module.as_op_call(expr) {
                kinds.add(op);
            }
        }
        kinds
    }

    fn add(&mut self, op: Op) {
        let is = |defs: &[&'static OpDef]| defs.iter().any(|def| op.is(def));
        if is(&PRODUCTS) {
            self.product = true;
        } else if is(&ROWS) || op.is(&QUANTIZE_PER_TOKEN) || op.pattern == FusePattern::CommReduce {
            self.row = true;
        } else if op.pattern > FusePattern::Injective || op.purity != Purity::Pure {
            self.other = true;
        }
    }

    /// Why no kernel holds this group and then that one, if that is known before it is tried.
    fn obstacle(self, then: Kinds) -> Option<&'static str> {
        match self.other || then.other {
            true => Some("an operator in one of them has kernels of its own"),
            // There is no product behind a product or behind rows.
            false if then.product && (self.product || self.row) => {
                Some("no product takes another one, or rows, before it")
            }
            false => None,
        }
    }

    /// Why a group is not tried with this one before it, which it alone reads.
    fn obstacle_before(self, then: Kinds) -> Option<&'static str> {
        let some_anchor = self.product || self.row || then.product || then.row;
        let neither = (!some_anchor).then_some("neither has a product or rows");
        self.obstacle(then).or(neither)
    }
}

/// Joins a group with the first of its arguments that it may be joined with.
fn join_one(
    module: &mut Module,
    expr: ExprId,
    uses: &mut SecondaryMap<ExprId, u32>,
    trial: &mut Trial,
    context: &mut PassContext,
) -> Option<ExprId> {
    let consumer = Group::of(module, expr)?;
    let mut tried = Vec::new();
    for &arg in &consumer.args {
        if tried.contains(&arg) {
            continue;
        }
        tried.push(arg);
        let Some(producer) = Group::of(module, arg) else { continue };
        if let Some(why) = producer.kinds.obstacle_before(consumer.kinds) {
            tell(module, expr, (&producer, &consumer), why, context);
            continue;
        }
        if trial.leaves(&producer) || trial.leaves(&consumer) {
            tell(module, expr, (&producer, &consumer), GPU_PRODUCT, context);
            continue;
        }
        let own = consumer.args.iter().filter(|&&a| a == arg).count();
        if uses[arg] as usize != own {
            tell(module, expr, (&producer, &consumer), "others read its value too", context);
            continue;
        }
        match try_join(module, expr, (arg, &producer), &consumer, trial) {
            Ok((joined, won)) if context.fire(JOIN, module, expr) => {
                let won = format!("{} launches fewer", won);
                tell(module, expr, (&producer, &consumer), &won, context);
                let shared = producer.args.iter().filter(|a| consumer.args.contains(a));
                let shared: Vec<ExprId> = shared.copied().collect();
                shared.into_iter().for_each(|a| uses[a] = uses[a].saturating_sub(1));
                return Some(joined);
            }
            Ok(_) => return None,
            Err(why) => tell(module, expr, (&producer, &consumer), &why, context),
        }
    }
    None
}

/// The call of two groups as one, and how many launches that saves.
///
/// # Errors
/// Why they are better apart.
fn try_join(
    module: &mut Module,
    expr: ExprId,
    (value, producer): (ExprId, &Group),
    consumer: &Group,
    trial: &mut Trial,
) -> Result<(ExprId, usize), String> {
    let most = trial.limits.nodes.min(MAX_TRIED);
    if producer.kinds.nodes.saturating_add(consumer.kinds.nodes) > most {
        return Err(format!("together they have more than {most} nodes"));
    }
    let joined = joined(module, expr, (value, producer), consumer);
    let together = Group::of(module, joined).expect("a group was made");
    let (launches, _) = trial.saves(module, &[producer, consumer], &[&together])?;
    Ok((joined, launches))
}

/// True if all results of a group with a product have the product's shape, but for reshapes and
/// transposes at the end, and the scales of rows that are quantised.
fn ends_in_shape(module: &Module, func: &Function) -> bool {
    let results = match &module.exprs[func.body] {
        Expr::Tuple(fields) => fields.clone(),
        _ => [func.body].into_iter().collect(),
    };
    let ends: Vec<ExprId> = results.into_iter().map(|result| end(module, result)).collect();
    let order = walk::post_order(module, &[func.body]);
    let mut products = order
        .into_iter()
        .filter(|&e| module.as_op_call(e).is_some_and(|(op, _)| PRODUCTS.iter().any(|def| op.is(def))));
    let shape = |e: ExprId| module.types[e].as_tensor().map(|t| &t.shape);
    products.all(|product| ends.iter().all(|&end| shape(product) == shape(end)))
}

/// What a result is before it is reshaped, transposed or quantised.
fn end(module: &Module, result: ExprId) -> ExprId {
    let mut end = result;
    loop {
        end = match (&module.exprs[end], module.as_op_call(end)) {
            (Expr::Proj { tuple, .. }, _) => *tuple,
            (_, Some((op, call))) if op.is(&TRANSPOSE) || op.is(&QUANTIZE_PER_TOKEN) || is_reshape(op) => {
                call.args[0]
            }
            _ => return end,
        };
    }
}

/// The parameters that a group has so far: the value outside, and the variable inside.
#[derive(Default)]
pub struct Params(IndexMap<ExprId, VarId>);

impl Params {
    /// What stands for a value inside of the group.
    pub fn inside(&mut self, module: &mut Module, value: ExprId) -> ExprId {
        let ty = module.types[value].clone();
        let next = self.0.len();
        let var = *self.0.entry(value).or_insert_with(|| module.var(format!("p{next}"), ty.clone()));
        let id = module.add(Expr::Var(var));
        module.types[id] = ty;
        id
    }
}

/// A call of a group that computes what the two compute.
pub fn joined(
    module: &mut Module,
    expr: ExprId,
    (value, producer): (ExprId, &Group),
    consumer: &Group,
) -> ExprId {
    let mut params = Params::default();
    let mut made = None;
    let mut args = Vec::new();
    for &arg in &consumer.args {
        args.push(if arg == value {
            *made.get_or_insert_with(|| {
                let own: Vec<ExprId> = producer.args.iter().map(|&a| params.inside(module, a)).collect();
                instantiate(module, &producer.func, &own)
            })
        } else {
            params.inside(module, arg)
        });
    }
    let body = instantiate(module, &consumer.func, &args);
    close(module, expr, params, body)
}

/// The call of a group with these parameters and this body, in the place of an expression.
pub fn close(module: &mut Module, expr: ExprId, Params(params): Params, body: ExprId) -> ExprId {
    let vars: Vec<VarId> = params.values().copied().collect();
    let ret = module.types[body].clone();
    let mut attrs: IndexMap<_, _> = [("Primitive".into(), AttrValue::Int(1))].into();
    if is_reshape_only(module, body) {
        attrs.insert("relay.reshape_only".into(), AttrValue::Int(1));
    }
    let types: Vec<Type> = vars.iter().map(|&v| module.vars[v].ty.clone()).collect();
    let ty = FuncType { type_params: Vec::new(), params: types, ret: ret.clone() };
    let func = Function { type_params: Vec::new(), params: vars, body, ret: ret.clone(), attrs };
    let func = module.add_like(Expr::Func(Box::new(func)), expr);
    module.types[func] = Type::Func(ty.into());
    let call =
        Call { callee: Callee::Expr(func), args: params.keys().copied().collect(), attrs: Attrs::NONE };
    let call = module.add_like(Expr::Call(call), expr);
    module.types[call] = ret;
    call
}

/// Says what became of two groups.
fn tell(
    module: &Module,
    at: ExprId,
    (producer, consumer): (&Group, &Group),
    why: &str,
    context: &mut PassContext,
) {
    if context.want_remarks {
        let (first, second) = (producer.last(module), consumer.last(module));
        remark(module, at, format!("the groups of `{first}` and `{second}`: {why}"), context);
    }
}

/// Adds a remark, if remarks are wanted.
pub fn remark(module: &Module, at: ExprId, message: String, context: &mut PassContext) {
    if context.want_remarks {
        context.remarks.push(Diagnostic::warning(Code::PASS, message).at(module.spans[at].clone()));
    }
}
