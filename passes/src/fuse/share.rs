//! Groups with several results: a group whose value others read too, with one that reads it.
//!
//! A residual sum that is normalised and added to again, or a norm that is quantised and added to,
//! would be a kernel's result only to be read by the next. The two groups become one with both
//! results if the target's schedules make fewer launches of them and no more work, and if nothing
//! else leads from the one to the other, which would then wait for itself. Two groups that read the
//! same and make elements of the same shape of it, such as fields of a split, become one likewise.
//! Which of several others is taken is decided by what it saves, never by where it stands.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Callee, Expr, ExprId, Module};
use fermata_ir::types::{Dim, Type};
use fermata_ir::walk;

use super::merge::{Group, Params, Trial, close, remark};
use crate::lower::kernels::function_key;
use crate::pass::PassContext;
use crate::relay::common_subexpr::share_equal;
use crate::relay::rewrite::instantiate;

/// The only rule there is.
const SHARE: &str = "join a group with one that reads its value or the same among others";

/// How often the whole program is looked at: joined groups can be joined again.
const MAX_ROUNDS: usize = 16;

/// Readers of one value that are tried, and groups that read the same.
const MAX_READERS: usize = 8;

/// Results of a joined group: each is a stream of writes, and a processor joins a few of them.
const MAX_RESULTS: usize = 8;

/// Expressions that a search for another way between two groups looks at.
const MAX_SEARCH: usize = 4096;

/// The body with groups that have several results, as far as that pays.
pub fn share(module: &mut Module, body: ExprId, trial: &mut Trial, context: &mut PassContext) -> ExprId {
    let mut body = body;
    for _ in 0..MAX_ROUNDS {
        let readers = match Readers::of(module, body) {
            Ok(readers) => readers,
            Err((at, what)) => {
                let why = format!("no groups with several results are looked for: there is {what} here");
                remark(module, at, why, context);
                return body;
            }
        };
        let mut round = Round { readers, joins: BTreeMap::new(), spans: Vec::new(), refused: Vec::new() };
        let done = round.choose(module, trial, context);
        if round.joins.is_empty() {
            round.refused.into_iter().for_each(|(at, why)| remark(module, at, why, context));
            return body;
        }
        body = round.rebuild(module, body);
        if done {
            return body;
        }
    }
    let why = format!("no more groups with several results are looked for after {MAX_ROUNDS} rounds");
    remark(module, body, why, context);
    body
}

/// A use of a group's value.
#[derive(Clone, Copy)]
struct Use {
    /// Who uses it; nothing for the function's result.
    user: Option<ExprId>,
    /// The field that is used; nothing for all.
    field: Option<usize>,
}

/// Who reads the values of groups.
#[derive(Default)]
struct Readers {
    /// Expressions outside of groups, operands first.
    order: Vec<ExprId>,
    place: SecondaryMap<ExprId, usize>,
    /// The uses of groups' values, by their calls.
    uses: BTreeMap<ExprId, Vec<Use>>,
    /// The groups that are called with a value, operands first.
    takers: BTreeMap<ExprId, Vec<ExprId>>,
}

impl Readers {
    /// The readers in a function's body.
    ///
    /// # Errors
    /// With what it does besides calling groups, and where.
    fn of(module: &Module, body: ExprId) -> Result<Readers, (ExprId, &'static str)> {
        let mut inside: BTreeSet<ExprId> = BTreeSet::new();
        let order = walk::post_order(module, &[body]);
        for &expr in &order {
            if let Expr::Func(func) = &module.exprs[expr]
                && super::is_primitive(func)
            {
                inside.extend(walk::post_order(module, &[func.body]));
            }
        }
        let order: Vec<ExprId> = order.into_iter().filter(|e| !inside.contains(e)).collect();
        let mut readers = Readers::default();
        for (place, &expr) in order.iter().enumerate() {
            if let Some(what) = scope(module, expr) {
                return Err((expr, what));
            }
            readers.place[expr] = place;
            if let Some(group) = Group::of(module, expr) {
                let args: BTreeSet<ExprId> = group.args.iter().copied().collect();
                args.into_iter().for_each(|arg| readers.takers.entry(arg).or_default().push(expr));
            }
            if !matches!(module.exprs[expr], Expr::Proj { .. }) {
                walk::children(&module.exprs[expr])
                    .into_iter()
                    .for_each(|c| readers.add(module, c, Some(expr)));
            }
        }
        readers.add(module, body, None);
        readers.order = order;
        Ok(readers)
    }

    fn add(&mut self, module: &Module, used: ExprId, user: Option<ExprId>) {
        let (call, field) = match module.exprs[used] {
            Expr::Proj { tuple, index } => (tuple, Some(index as usize)),
            _ => (used, None),
        };
        if is_group_call(module, call) {
            self.uses.entry(call).or_default().push(Use { user, field });
        }
    }

    /// The groups that read a group's value, each once.
    fn groups(&self, module: &Module, value: ExprId) -> Vec<ExprId> {
        let mut found = Vec::new();
        for user in self.uses.get(&value).into_iter().flatten().filter_map(|u| u.user) {
            if is_group_call(module, user) && !found.contains(&user) {
                found.push(user);
            }
        }
        found
    }

    /// Groups behind an elementwise one that make tensors of the same shape of one of its arguments,
    /// element by element too, and are not left out; one more than are tried at most. What is
    /// smaller than a result, such as a bias, is none.
    fn beside(&self, module: &Module, value: ExprId, left_out: impl Fn(ExprId) -> bool) -> Vec<ExprId> {
        let Some(group) = Group::of(module, value).filter(Group::is_elementwise) else { return Vec::new() };
        let Some(shape) = common_shape(&module.types[value]) else { return Vec::new() };
        let large = |arg: &&ExprId| elements(&module.types[**arg]) >= elements(&module.types[value]);
        let behind = |arg: &ExprId| {
            let takers = &self.takers[arg];
            &takers[takers.partition_point(|&taker| self.place[taker] <= self.place[value])..]
        };
        let args: BTreeSet<ExprId> = group.args.iter().filter(large).copied().collect();
        let mut found = Vec::new();
        for &taker in args.iter().flat_map(behind) {
            let alike = !left_out(taker)
                && common_shape(&module.types[taker]) == Some(shape)
                && Group::of(module, taker).is_some_and(|g| g.is_elementwise())
                && !self.uses[&value].iter().any(|used| used.user == Some(taker));
            if alike && !found.contains(&taker) {
                found.push(taker);
            }
            if found.len() > MAX_READERS {
                break;
            }
        }
        found
    }

    /// The fields of a value that something besides one reader needs.
    fn kept(&self, module: &Module, value: ExprId, reader: ExprId) -> Vec<usize> {
        let mut kept = BTreeSet::new();
        for used in self.uses.get(&value).into_iter().flatten().filter(|u| u.user != Some(reader)) {
            match used.field {
                Some(field) => drop(kept.insert(field)),
                None => kept.extend(0..width(&module.types[value]).unwrap_or(0)),
            }
        }
        kept.into_iter().collect()
    }

    /// True if a group has several results and something takes them as the tuple that they are in.
    fn reads_whole(&self, module: &Module, group: ExprId) -> bool {
        let mut uses = self.uses.get(&group).into_iter().flatten();
        module.types[group].as_tuple().is_some() && uses.any(|used| used.field.is_none())
    }

    /// True if a value reaches a reader by another way than directly, or if that would take too
    /// long to find out.
    fn leads_to(&self, module: &Module, value: ExprId, reader: ExprId) -> bool {
        let mut seen = BTreeSet::new();
        let direct = |&arg: &ExprId| source(module, arg) != Some(value);
        let mut stack: Vec<ExprId> =
            walk::children(&module.exprs[reader]).into_iter().filter(direct).collect();
        while let Some(at) = stack.pop() {
            if at == value || seen.len() >= MAX_SEARCH {
                return true;
            }
            // What stands before a value cannot depend on it.
            let behind = self.place[at] > self.place[value] && !super::is_primitive_expr(module, at);
            if behind && seen.insert(at) {
                stack.extend(walk::children(&module.exprs[at]));
            }
        }
        false
    }
}

/// What an expression is, if it is not evaluated wherever it stands or has a scope of its own.
fn scope(module: &Module, expr: ExprId) -> Option<&'static str> {
    match &module.exprs[expr] {
        Expr::Var(_)
        | Expr::Const(_)
        | Expr::Call(_)
        | Expr::Tuple(_)
        | Expr::Proj { .. }
        | Expr::Global(_)
        | Expr::Op(_)
        | Expr::Ctor(_) => None,
        Expr::Func(func) => (!super::is_primitive(func)).then_some("a closure"),
        Expr::Let { .. } => Some("a `let`"),
        Expr::If { .. } => Some("an `if`"),
        Expr::Match { .. } => Some("a `match`"),
        Expr::Ref(_) | Expr::RefRead(_) | Expr::RefWrite { .. } => Some("a reference cell"),
    }
}

/// True if the expression calls a group.
fn is_group_call(module: &Module, expr: ExprId) -> bool {
    let Expr::Call(call) = &module.exprs[expr] else { return false };
    matches!(call.callee, Callee::Expr(callee) if super::is_primitive_expr(module, callee))
}

/// The call of a group whose value, or a field of it, an expression is.
fn source(module: &Module, expr: ExprId) -> Option<ExprId> {
    let call = match module.exprs[expr] {
        Expr::Proj { tuple, .. } => tuple,
        _ => expr,
    };
    is_group_call(module, call).then_some(call)
}

/// The number of tensors in a type, if it is a tensor or a tuple of them.
fn width(ty: &Type) -> Option<usize> {
    match ty {
        Type::Tensor(_) => Some(1),
        Type::Tuple(fields) => fields.iter().all(|f| f.as_tensor().is_some()).then_some(fields.len()),
        Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => None,
    }
}

/// The shape of a tensor, or of all tensors of a tuple.
fn common_shape(ty: &Type) -> Option<&[Dim]> {
    match ty {
        Type::Tensor(tensor) => Some(&tensor.shape[..]),
        Type::Tuple(fields) => {
            let first = common_shape(fields.first()?);
            fields.iter().all(|field| common_shape(field) == first).then_some(first).flatten()
        }
        Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => None,
    }
}

/// Elements of a tensor of known shape, or of the largest one of a tuple; 0 of anything else.
fn elements(ty: &Type) -> usize {
    match ty {
        Type::Tensor(tensor) => tensor.static_shape().map_or(0, |shape| shape.iter().product()),
        Type::Tuple(fields) => fields.iter().map(elements).max().unwrap_or(0),
        Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => 0,
    }
}

/// What a group becomes that was joined: fields of a call.
#[derive(Clone)]
struct Joined {
    call: ExprId,
    /// Both groups, the one that is read first.
    groups: [ExprId; 2],
    /// The number of the first's results that are results still, in order, by its fields.
    kept: Vec<usize>,
}

/// One look at the whole program.
struct Round {
    readers: Readers,
    /// What becomes of groups, by the first and the second of each pair.
    joins: BTreeMap<ExprId, Joined>,
    /// From where to where pairs reach; pairs of one round do not overlap, so that together they
    /// are in order if each of them is.
    spans: Vec<(usize, usize)>,
    refused: Vec<(ExprId, String)>,
}

/// A pair that pays.
struct Found {
    reader: ExprId,
    joined: Joined,
    launches: usize,
    work: u64,
    key: Vec<u8>,
}

impl Round {
    /// Finds pairs; true if there is no fuel for more.
    fn choose(&mut self, module: &mut Module, trial: &mut Trial, context: &mut PassContext) -> bool {
        let values: Vec<ExprId> = self.readers.order.clone();
        for value in values {
            if self.joins.contains_key(&value) || !is_group_call(module, value) {
                continue;
            }
            let best = match self.best_reader(module, value, trial) {
                None => self.sibling(module, value, trial),
                best => best,
            };
            let Some(Found { reader, joined, launches, .. }) = best else { continue };
            if !context.fire(SHARE, module, reader) {
                return true;
            }
            let won =
                describe(module, value, reader, &format!("{launches} launches fewer with several results"));
            remark(module, reader, won, context);
            self.spans.push((self.readers.place[value], self.readers.place[reader]));
            self.joins.insert(value, joined.clone());
            self.joins.insert(reader, joined);
        }
        false
    }

    /// The one that saves most of the groups that read a group's value.
    fn best_reader(&mut self, module: &mut Module, value: ExprId, trial: &mut Trial) -> Option<Found> {
        let readers = self.readers.groups(module, value);
        self.leave_some(module, value, &readers, "read its value");
        let mut best: Option<Found> = None;
        for reader in readers.into_iter().take(MAX_READERS) {
            let Some(found) = self.tried(module, value, reader, trial) else { continue };
            let rank = |f: &Found| (std::cmp::Reverse(f.launches), f.work, f.key.clone());
            if best.as_ref().is_none_or(|b| rank(&found) < rank(b)) {
                best = Some(found);
            }
        }
        best
    }

    /// A group that reads the same: the first that pays in the order of what they compute. Each
    /// saves the same launch, so there is nothing to gain by trying all.
    fn sibling(&mut self, module: &mut Module, value: ExprId, trial: &mut Trial) -> Option<Found> {
        let mut siblings = self.readers.beside(module, value, |group| self.joins.contains_key(&group));
        self.leave_some(module, value, &siblings, "read the same");
        siblings.truncate(MAX_READERS);
        let key = |&group: &ExprId| Group::of(module, group).map(|g| function_key(module, &g.func));
        siblings.sort_by_cached_key(key);
        siblings.into_iter().find_map(|sibling| self.tried(module, value, sibling, trial))
    }

    /// Says that not all of so many groups are tried, if that is so.
    fn leave_some(&mut self, module: &Module, value: ExprId, groups: &[ExprId], what: &str) {
        if groups.len() > MAX_READERS {
            let name = Group::of(module, value).map_or_else(String::new, |g| g.last(module));
            let why = format!("of the groups that {what}, {MAX_READERS} are tried");
            self.refused.push((value, format!("the group of `{name}`: {why}")));
        }
    }

    /// What a pair is together if that pays; why it does not is noted.
    fn tried(
        &mut self,
        module: &mut Module,
        value: ExprId,
        reader: ExprId,
        trial: &mut Trial,
    ) -> Option<Found> {
        self.pair(module, value, reader, trial).unwrap_or_else(|why| {
            self.refused.push((reader, why));
            None
        })
    }

    /// What a value and one of its readers are together; nothing if they are not looked at in this
    /// round.
    ///
    /// # Errors
    /// Why they are better apart.
    fn pair(
        &self,
        module: &mut Module,
        value: ExprId,
        reader: ExprId,
        trial: &mut Trial,
    ) -> Result<Option<Found>, String> {
        let (Some(first), Some(second)) = (Group::of(module, value), Group::of(module, reader)) else {
            return Ok(None);
        };
        let (from, to) = (self.readers.place[value], self.readers.place[reader]);
        let apart = self.spans.iter().all(|&(a, b)| b < from || to < a);
        if !apart || self.joins.contains_key(&reader) {
            return Ok(None);
        }
        // A value that only this group reads was looked at before.
        let is_tuple = module.types[value].as_tuple().is_some();
        if !is_tuple && self.readers.kept(module, value, reader).is_empty() {
            return Ok(None);
        }
        let why = |why: &str, module: &Module| describe(module, value, reader, why);
        if [value, reader].iter().any(|&group| width(&module.types[group]).is_none()) {
            return Err(why("the results of one of them are more than tensors", module));
        }
        if let Some(obstacle) = first.obstacle(&second) {
            return Err(why(obstacle, module));
        }
        let results =
            self.readers.kept(module, value, reader).len() + width(&module.types[reader]).unwrap_or(0);
        if results > MAX_RESULTS {
            return Err(why(&format!("together they would have {results} results"), module));
        }
        if [value, reader].iter().any(|&group| self.readers.reads_whole(module, group)) {
            return Err(why("the results of one of them are used as one tuple", module));
        }
        trial.may_share(&first, &second).map_err(|w| why(&w, module))?;
        if self.readers.leads_to(module, value, reader) {
            return Err(why("something that reads the value is read too", module));
        }
        let joined = self.joined(module, (value, &first), (reader, &second));
        let together = Group::of(module, joined.call).expect("a group was made");
        let (launches, work) =
            trial.saves(module, &[&first, &second], &[&together]).map_err(|w| why(&w, module))?;
        let key = function_key(module, &together.func);
        Ok(Some(Found { reader, joined, launches, work, key }))
    }

    /// A call of a group that computes what both do.
    fn joined(
        &self,
        module: &mut Module,
        (value, first): (ExprId, &Group),
        (reader, second): (ExprId, &Group),
    ) -> Joined {
        let kept = self.readers.kept(module, value, reader);
        let mut params = Params::default();
        let own: Vec<ExprId> = first.args.iter().map(|&arg| params.inside(module, arg)).collect();
        let inner = instantiate(module, &first.func, &own);
        // One expression a field, however often it is read.
        let count = width(&module.types[value]).unwrap_or(0);
        let is_tuple = module.types[value].as_tuple().is_some();
        let read: BTreeSet<usize> = self.readers.uses[&value].iter().filter_map(|used| used.field).collect();
        let fields: Vec<ExprId> = (0..count)
            .map(|i| if is_tuple && read.contains(&i) { field(module, inner, i) } else { inner })
            .collect();
        let mut args = Vec::new();
        for &arg in &second.args {
            args.push(match module.exprs[arg] {
                _ if arg == value => inner,
                Expr::Proj { tuple, index } if tuple == value => fields[index as usize],
                _ => params.inside(module, arg),
            });
        }
        let outer = instantiate(module, &second.func, &args);
        let mut results: Vec<ExprId> = kept.iter().map(|&index| fields[index]).collect();
        match width(&module.types[reader]) {
            Some(count) if module.types[reader].as_tuple().is_some() => {
                for index in 0..count {
                    results.push(field(module, outer, index));
                }
            }
            _ => results.push(outer),
        }
        let body = match results[..] {
            [only] => only,
            _ => {
                let ty = Type::tuple(results.iter().map(|&r| module.types[r].clone()));
                let tuple = module.add_like(Expr::Tuple(results.into_iter().collect()), reader);
                module.types[tuple] = ty;
                tuple
            }
        };
        let body = share_equal(module, body);
        Joined { call: close(module, reader, params, body), groups: [value, reader], kept }
    }

    /// The body with the pairs in place.
    fn rebuild(&self, module: &mut Module, body: ExprId) -> ExprId {
        let mut mapped: BTreeMap<ExprId, ExprId> = BTreeMap::new();
        let mut stack = vec![(body, false)];
        while let Some((expr, ready)) = stack.pop() {
            if mapped.contains_key(&expr) {
                continue;
            }
            let joined = self.joins.get(&expr);
            if !ready {
                stack.push((expr, true));
                let needs: Vec<ExprId> = match joined {
                    Some(joined) => walk::children(&module.exprs[joined.call]).to_vec(),
                    None => walk::children(&module.exprs[expr]).to_vec(),
                };
                let func = |e: &ExprId| super::is_primitive_expr(module, *e);
                stack.extend(needs.into_iter().rev().filter(|e| !func(e)).map(|e| (e, false)));
                continue;
            }
            let of = joined.map_or(expr, |joined| joined.call);
            let made = joined.and_then(|joined| mapped.get(&joined.call).copied());
            let new = made.unwrap_or_else(|| {
                let operands =
                    walk::map_children(&module.exprs[of], |c| mapped.get(&c).copied().unwrap_or(c));
                operands.map_or(of, |operands| {
                    let ty = module.types[of].clone();
                    let id = module.add_like(operands, of);
                    module.types[id] = ty;
                    id
                })
            });
            mapped.insert(of, new);
            let stands = match (joined, &module.exprs[expr]) {
                (Some(joined), _) => self.stands_for(module, joined, new, expr),
                (None, &Expr::Proj { tuple, index }) if self.joins.contains_key(&tuple) => {
                    field(module, mapped[&tuple], index as usize)
                }
                (None, _) => new,
            };
            mapped.insert(expr, stands);
        }
        mapped[&body]
    }

    /// What stands for one of the two groups of a pair, whose call is `new` now: the result, or a
    /// tuple of all results, whose fields alone are used.
    fn stands_for(&self, module: &mut Module, joined: &Joined, new: ExprId, expr: ExprId) -> ExprId {
        let [value, reader] = joined.groups;
        let count = |e: ExprId| width(&module.types[e]).unwrap_or(1);
        let only = joined.kept.len() + count(reader) == 1;
        let at: Vec<usize> = match expr == value {
            // A field of the first that nobody else needs is never asked for.
            true => {
                (0..count(value)).map(|i| joined.kept.iter().position(|&k| k == i).unwrap_or(0)).collect()
            }
            false => (0..count(reader)).map(|i| joined.kept.len() + i).collect(),
        };
        let ty = module.types[expr].clone();
        let fields: Vec<ExprId> =
            at.into_iter().map(|at| if only { new } else { field(module, new, at) }).collect();
        if ty.as_tuple().is_none() {
            return fields[0];
        }
        let tuple = module.add_like(Expr::Tuple(fields.into_iter().collect()), expr);
        module.types[tuple] = ty;
        tuple
    }
}

/// A field of a tuple; of one that is written out, what stands there.
fn field(module: &mut Module, tuple: ExprId, index: usize) -> ExprId {
    if let Expr::Tuple(fields) = &module.exprs[tuple] {
        return fields[index];
    }
    let ty = module.types[tuple].as_tuple().map_or(Type::Unknown, |fields| fields[index].clone());
    let id = module.add_like(Expr::Proj { tuple, index: index as u32 }, tuple);
    module.types[id] = ty;
    id
}

/// What is said of a value's group and one that reads it.
fn describe(module: &Module, value: ExprId, reader: ExprId, why: &str) -> String {
    let name = |call: ExprId| Group::of(module, call).map_or_else(String::new, |g| g.last(module));
    format!("the groups of `{}` and `{}`: {why}", name(value), name(reader))
}
