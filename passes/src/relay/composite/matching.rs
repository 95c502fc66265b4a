//! Whether a pattern fits at an expression of a program.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::entity::SecondaryMap;
use fermata_ir::equal::attr_value;
use fermata_ir::expr::{Call, Expr, ExprId, Module, VarId};
use fermata_ir::infer::compatible;
use fermata_ir::op::broadcast::{ADD, EQUAL, MAXIMUM, MINIMUM, MULTIPLY};
use fermata_ir::op::{AttrValue, Op};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::{Pattern, Patterns};
use crate::relay::rewrite::value_of;

/// Comparisons at one place at most: operands that may be swapped multiply them.
const MAX_STEPS: usize = 4096;

/// A pattern found in a program.
pub struct Found {
    /// What it computes, its root last, in order of evaluation.
    pub inside: Vec<ExprId>,
    /// What stands for each of its parameters that it uses, in their order.
    pub args: Vec<ExprId>,
}

/// Why a pattern that fits is not there all the same.
pub struct Refusal {
    /// What something outside reads.
    pub read: ExprId,
}

/// One way that the search may go.
#[derive(Clone, Default)]
struct State {
    /// Pairs to compare: of the pattern and of the program.
    pending: Vec<(ExprId, ExprId)>,
    /// What stands for expressions of the pattern.
    exprs: BTreeMap<ExprId, ExprId>,
    /// What stands for its parameters.
    params: BTreeMap<VarId, ExprId>,
}

impl Patterns {
    /// The pattern at an expression, whose operands are used `uses` times; `None` if it does not fit.
    ///
    /// # Errors
    /// If it fits, but something else reads what it computes on the way.
    pub fn find(
        &self,
        pattern: &Pattern,
        module: &Module,
        root: ExprId,
        uses: &SecondaryMap<ExprId, u32>,
    ) -> Result<Option<Found>, Refusal> {
        let wanted = self.module.as_op_call(pattern.root).map(|(op, _)| op);
        if wanted != module.as_op_call(root).map(|(op, _)| op) {
            return Ok(None);
        }
        let Some(state) = self.search(pattern, module, root) else { return Ok(None) };
        let computed: BTreeSet<ExprId> = state.exprs.values().copied().collect();
        let mut inner: BTreeMap<ExprId, u32> = BTreeMap::new();
        for &expr in &computed {
            for child in walk::children(&module.exprs[expr]) {
                *inner.entry(child).or_default() += 1;
            }
        }
        let read = |&&e: &&ExprId| e != root && inner.get(&e).copied() != Some(uses[e]);
        if let Some(&read) = computed.iter().find(read) {
            return Err(Refusal { read });
        }
        let inside = in_order(module, root, &computed);
        let args = pattern.params.iter().filter_map(|p| state.params.get(p).copied()).collect();
        Ok(Some(Found { inside, args }))
    }

    /// Tries every way to swap operands, the way as they stand first.
    fn search(&self, pattern: &Pattern, module: &Module, root: ExprId) -> Option<State> {
        let mut ways = vec![State { pending: vec![(pattern.root, root)], ..State::default() }];
        let mut steps = 0;
        while let Some(mut state) = ways.pop() {
            loop {
                let Some((wanted, found)) = state.pending.pop() else {
                    // What stands for a parameter comes from outside.
                    let inside = |e: &ExprId| state.exprs.values().any(|x| x == e);
                    match state.params.values().any(inside) {
                        true => break,
                        false => return Some(state),
                    }
                };
                steps += 1;
                if steps > MAX_STEPS {
                    return None;
                }
                if !self.step(pattern, module, (wanted, found), &mut state, &mut ways) {
                    break;
                }
            }
        }
        None
    }

    /// Compares one pair; its operands are pending then. False if they differ.
    fn step(
        &self,
        pattern: &Pattern,
        module: &Module,
        (wanted, found): (ExprId, ExprId),
        state: &mut State,
        ways: &mut Vec<State>,
    ) -> bool {
        if let Some(&known) = state.exprs.get(&wanted) {
            return known == found;
        }
        let computes = !matches!(self.module.exprs[wanted], Expr::Var(_) | Expr::Const(_));
        // Two expressions of a pattern are two of the program.
        if computes && state.exprs.values().any(|&e| e == found) {
            return false;
        }
        match (&self.module.exprs[wanted], &module.exprs[found]) {
            (Expr::Var(param), _) => {
                let known = *state.params.entry(*param).or_insert(found);
                return value_of(module, known) == value_of(module, found)
                    && self.takes(pattern, *param, module, found);
            }
            (Expr::Const(c), Expr::Const(d)) => {
                return same_number(&self.module.consts[*c].tensor, &module.consts[*d].tensor);
            }
            (Expr::Tuple(a), Expr::Tuple(b)) if a.len() == b.len() => {
                state.pending.extend(a.iter().copied().zip(b.iter().copied()));
            }
            (Expr::Proj { tuple: a, index: i }, Expr::Proj { tuple: b, index: j }) if i == j => {
                state.pending.push((*a, *b));
            }
            _ => {
                let (Some((op, want)), Some((other, call))) =
                    (self.module.as_op_call(wanted), module.as_op_call(found))
                else {
                    return false;
                };
                if op != other
                    || want.args.len() != call.args.len()
                    || !attrs_fit(pattern, wanted, want, call)
                {
                    return false;
                }
                let pairs = want.args.iter().copied().zip(call.args.iter().copied());
                if let ([a, b], [x, y]) = (&want.args[..], &call.args[..])
                    && commutes(op)
                {
                    let mut swapped = state.clone();
                    swapped.exprs.insert(wanted, found);
                    swapped.pending.extend([(*a, *y), (*b, *x)]);
                    ways.push(swapped);
                }
                state.pending.extend(pairs);
            }
        }
        state.exprs.insert(wanted, found);
        true
    }

    /// Whether a parameter may stand for an expression.
    fn takes(&self, pattern: &Pattern, param: VarId, module: &Module, found: ExprId) -> bool {
        let wanted = &self.module.vars[param].ty;
        (!pattern.constants.contains(&param) || module.as_const(found).is_some())
            && (*wanted == Type::Unknown || compatible(wanted, &module.types[found]))
    }
}

/// What was computed, operands first; what lies before it is not gone through.
fn in_order(module: &Module, root: ExprId, computed: &BTreeSet<ExprId>) -> Vec<ExprId> {
    let (mut order, mut seen, mut stack) = (Vec::new(), BTreeSet::new(), vec![(root, false)]);
    while let Some((expr, done)) = stack.pop() {
        if done {
            order.push(expr);
        } else if computed.contains(&expr) && seen.insert(expr) {
            stack.push((expr, true));
            stack.extend(walk::children(&module.exprs[expr]).into_iter().rev().map(|c| (c, false)));
        }
    }
    order
}

fn commutes(op: Op) -> bool {
    [&ADD, &MULTIPLY, &MAXIMUM, &MINIMUM, &EQUAL].iter().any(|def| op.is(def))
}

/// Whether a call has the attributes that a pattern's call, at `place`, gives.
fn attrs_fit(pattern: &Pattern, place: ExprId, wanted: &Call, call: &Call) -> bool {
    let values = wanted.attrs.values().iter().zip(call.attrs.values()).enumerate();
    let mut given = values.filter(|(attr, _)| pattern.written.contains(&(place, *attr)));
    given.all(|(_, (wanted, found))| *wanted == AttrValue::None || attr_value(wanted, found))
}

/// Whether two constants of one element have one value.
fn same_number(wanted: &Tensor, found: &Tensor) -> bool {
    if wanted.dtype() != found.dtype() || found.len() != 1 {
        return false;
    }
    match (wanted.as_slice::<f32>(), found.as_slice::<f32>()) {
        (Some(&[a]), Some(&[b])) => a == b || (a - b).abs() <= a.abs() * f32::EPSILON * 8.0,
        _ => wanted.bytes() == found.bytes(),
    }
}
