//! MergeCompilerRegions: regions of one external code generator that follow each other become one.
//!
//! Two are joined if one reads what the other computes and no way from the one to the other leads
//! through anything else: what lies there would wait for the region that waits for it. Both must
//! stand in one scope, a function's body, a branch or what follows a let. Fields of a region's result
//! go with it. What others read of a region is its result; of several results, a tuple.

mod scope;

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::build::Builder;
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::entity::{EntitySet, SecondaryMap};
use fermata_ir::expr::{Expr, ExprId, Function, Module};
use fermata_ir::op::AttrValue;
use fermata_ir::walk;

use super::regions::{COMPILER, region};
use super::rewrite::{Value, in_place, marked_bodies, owned_functions, use_counts, value_of};
use super::sparse::Sparse;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "merge_compiler_regions",
    relay_name: "MergeCompilerRegions",
    level: 4,
    doc: "join regions of one external code generator that follow each other",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

/// Expressions that all searches for ways around go through at most, for each of the program.
const STEPS_EACH: usize = 64;

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let (mut outcome, uses) = (Outcome::Unchanged, use_counts(module));
    for (global, func) in owned_functions(module) {
        let groups = Groups::find(module, func.body, &uses, context);
        if groups.members.is_empty() {
            continue;
        }
        let body = Rebuild::new(&groups).run(module, func.body)?;
        outcome = Outcome::Changed;
        module.globals[global].func = Some(Function { body, ..func });
    }
    Ok(outcome)
}

/// The regions of a function, each with the regions that it is joined with.
struct Groups {
    /// The number of the region, before any is joined, that an expression belongs to.
    of: Sparse<Option<usize>>,
    /// A region that each is joined with, itself for the one that stands for all.
    parent: Vec<usize>,
    /// The expressions of joined regions, by the one that stands for all, in order of evaluation.
    members: BTreeMap<usize, Vec<ExprId>>,
    /// Those that something else reads, in order.
    outputs: BTreeMap<usize, Vec<ExprId>>,
}

/// What the search for groups knows of a function.
struct Search {
    order: Vec<ExprId>,
    /// The place in the order.
    place: Sparse<usize>,
    users: Sparse<Vec<ExprId>>,
    /// The expressions of each group.
    members: Vec<Vec<ExprId>>,
    /// Those of each group that something outside of it reads.
    read: Vec<Vec<ExprId>>,
    /// Steps that are left.
    steps: usize,
}

impl Groups {
    fn find(
        module: &Module,
        root: ExprId,
        uses: &SecondaryMap<ExprId, u32>,
        context: &mut PassContext,
    ) -> Groups {
        let all = walk::post_order(module, &[root]);
        let marked = marked_bodies(module, &all);
        let order: Vec<ExprId> = all.into_iter().filter(|e| !marked.contains(e)).collect();
        let scopes = scope::scopes(module, root, &order);
        let mut groups = Groups {
            of: Sparse::default(),
            parent: Vec::new(),
            members: BTreeMap::new(),
            outputs: BTreeMap::new(),
        };
        let mut search = Search::new(module, order);
        for &expr in &search.order.clone() {
            let own = match module.exprs[expr] {
                Expr::Proj { tuple, .. } if scopes[tuple] == scopes[expr] => groups.of[tuple],
                // A function that is called twice stays one.
                _ => region(module, expr).filter(|r| uses[r.1] == 1).map(|_| search.members.len()),
            };
            let Some(own) = own else { continue };
            groups.of[expr] = Some(own);
            if own == search.members.len() {
                search.members.push(Vec::new());
                groups.parent.push(own);
            }
            search.members[own].push(expr);
        }
        search.read = search.members.clone();
        groups.join(module, &mut search, &scopes, context);
        groups.close(root, search);
        groups
    }

    /// The group that stands for all that an expression's region is joined with.
    fn group(&self, expr: ExprId) -> Option<usize> {
        let mut at = self.of[expr]?;
        while self.parent[at] != at {
            at = self.parent[at];
        }
        Some(at)
    }

    fn join(
        &mut self,
        module: &Module,
        search: &mut Search,
        scopes: &Sparse<usize>,
        context: &mut PassContext,
    ) {
        for &expr in &search.order.clone() {
            let Some((target, ..)) = region(module, expr) else { continue };
            for arg in walk::children(&module.exprs[expr]) {
                let (Some(own), Some(before)) = (self.group(expr), self.group(arg)) else { continue };
                let first = search.members[before][0];
                let fits = own != before
                    && scopes[first] == scopes[expr]
                    && region(module, first).is_some_and(|(other, ..)| other == target);
                if !fits {
                    continue;
                }
                if self.leads_around(search, (before, own), search.place[expr]) {
                    let why = match search.steps {
                        0 => "it would take too long to know what lies between",
                        _ => "what lies between would wait for itself",
                    };
                    context.remark(module, expr, || {
                        format!("not joined with the region for `{target}` before it: {why}")
                    });
                } else if context.fire_named("join regions", module, expr, || format!(", for `{target}`")) {
                    self.unite(search, before, own);
                }
            }
        }
    }

    /// The smaller of two groups joins the larger.
    fn unite(&mut self, search: &mut Search, a: usize, b: usize) {
        let (to, from) = if search.members[a].len() >= search.members[b].len() { (a, b) } else { (b, a) };
        self.parent[from] = to;
        let moved = std::mem::take(&mut search.members[from]);
        search.members[to].extend(moved);
        let mut read = std::mem::take(&mut search.read[to]);
        read.append(&mut search.read[from]);
        read.retain(|&e| search.users[e].iter().any(|&user| self.group(user) != Some(to)));
        search.read[to] = read;
    }

    /// Whether a way leads from a group to a later one, whose last region is at the place `last`, through
    /// anything that is in neither, or it would take too long to know.
    ///
    /// Regions behind that one are not joined yet, so no way leads back from there.
    fn leads_around(&self, search: &mut Search, (from, to): (usize, usize), last: usize) -> bool {
        let mut outside: EntitySet<ExprId> = EntitySet::new();
        let mut stack: Vec<ExprId> = search.read[from].clone();
        while let Some(expr) = stack.pop() {
            if search.steps == 0 {
                return true;
            }
            search.steps -= 1;
            for &user in &search.users[expr] {
                let group = self.group(user);
                if outside.contains(expr) && group == Some(to) {
                    return true;
                }
                let ours = group == Some(from) || group == Some(to);
                if ours || search.place[user] > last || outside.contains(user) {
                    continue;
                }
                // Whoever comes to one part of another group comes to all of it.
                let reached = group.map_or(vec![user], |g| search.read[g].clone());
                outside.insert(user);
                for expr in reached {
                    if expr == user || outside.insert(expr) {
                        stack.push(expr);
                    }
                }
            }
        }
        false
    }

    /// Keeps the groups of several regions, in order, with what is read of them.
    fn close(&mut self, root: ExprId, search: Search) {
        for (group, mut members) in search.members.into_iter().enumerate() {
            let regions = members.iter().filter_map(|&e| self.of[e]).collect::<BTreeSet<_>>();
            if regions.len() < 2 {
                members.iter().for_each(|&e| self.of[e] = None);
                continue;
            }
            members.sort_by_key(|&e| search.place[e]);
            let read = |&e: &ExprId| {
                e == root || search.users[e].iter().any(|&user| self.group(user) != Some(group))
            };
            let outputs = members.iter().copied().filter(read).collect();
            self.outputs.insert(group, outputs);
            self.members.insert(group, members);
        }
    }
}

impl Search {
    fn new(module: &Module, order: Vec<ExprId>) -> Search {
        let mut users: Sparse<Vec<ExprId>> = Sparse::default();
        let mut place = Sparse::default();
        for (index, &expr) in order.iter().enumerate() {
            place[expr] = index;
            for child in walk::children(&module.exprs[expr]) {
                users[child].push(expr);
            }
        }
        let steps = order.len().saturating_mul(STEPS_EACH);
        Search { order, place, users, members: Vec::new(), read: Vec::new(), steps }
    }
}

/// A function with its groups in the place of their regions.
struct Rebuild<'a> {
    groups: &'a Groups,
    mapped: Sparse<Option<ExprId>>,
    seen: EntitySet<ExprId>,
}

impl<'a> Rebuild<'a> {
    fn new(groups: &'a Groups) -> Rebuild<'a> {
        Rebuild { groups, mapped: Sparse::default(), seen: EntitySet::new() }
    }

    /// Operands first, where a group's operands are those of all of its regions.
    fn run(mut self, module: &mut Module, root: ExprId) -> Result<ExprId, Diagnostic> {
        let mut stack = vec![(root, false)];
        while let Some((old, done)) = stack.pop() {
            let group = self.groups.group(old);
            if done {
                match group {
                    Some(group) => self.make(module, group)?,
                    None => self.copy(module, old),
                }
                continue;
            }
            if !self.seen.insert(old) {
                continue;
            }
            stack.push((old, true));
            let operands = match group {
                Some(group) => {
                    for &member in &self.groups.members[&group] {
                        self.seen.insert(member);
                    }
                    self.operands(module, group)
                }
                None => walk::children(&module.exprs[old]).to_vec(),
            };
            stack.extend(operands.into_iter().rev().map(|c| (c, false)));
        }
        Ok(self.mapped[root].unwrap_or(root))
    }

    /// What a group reads from outside, in order, each once.
    fn operands(&self, module: &Module, group: usize) -> Vec<ExprId> {
        let (mut operands, mut known) = (Vec::new(), BTreeSet::new());
        for &member in &self.groups.members[&group] {
            let args = match &module.exprs[member] {
                Expr::Call(call) => &call.args[..],
                _ => &[],
            };
            for &arg in args {
                if self.groups.group(arg) != Some(group) && known.insert(value_of(module, arg)) {
                    operands.push(arg);
                }
            }
        }
        operands
    }

    /// Makes the call of a joined region, and what stands for the results of its parts.
    fn make(&mut self, module: &mut Module, group: usize) -> Result<(), Diagnostic> {
        let members = &self.groups.members[&group];
        let target = members.iter().find_map(|&e| region(module, e)).map(|(target, ..)| target.to_owned());
        let operands = self.operands(module, group);
        let mut inner: BTreeMap<Value, ExprId> = BTreeMap::new();
        let mut params = Vec::new();
        for (place, &operand) in operands.iter().enumerate() {
            let ty = module.types[operand].clone();
            let (param, used) = Builder::new(module).param(&format!("p{place}"), ty);
            params.push(param);
            inner.insert(value_of(module, operand), used);
        }
        for &member in members {
            let made = match &module.exprs[member] {
                Expr::Proj { tuple, index } => {
                    let (tuple, index) = (inner[&Value::Expr(*tuple)], *index);
                    Builder::new(module).proj(tuple, index)?
                }
                Expr::Call(call) => {
                    let args: Vec<ExprId> = call.args.iter().map(|&a| inner[&value_of(module, a)]).collect();
                    let (_, _, func) = region(module, member).expect("a member calls a region");
                    in_place(module, &func.clone(), &args)
                }
                _ => unreachable!("a group has regions and fields of their results"),
            };
            inner.insert(Value::Expr(member), made);
        }
        let outputs = &self.groups.outputs[&group];
        let results: Vec<ExprId> = outputs.iter().map(|&o| inner[&Value::Expr(o)]).collect();
        let args: Vec<ExprId> = operands.iter().map(|&a| self.mapped[a].unwrap_or(a)).collect();
        let span = module.spans[*members.last().expect("a group has members")].clone();
        let mut build = Builder::new(module);
        build.with_span(span);
        let body = match results[..] {
            [one] => one,
            _ => build.tuple(&results)?,
        };
        let mut func = build.function(&params, body)?;
        func.attrs.insert(COMPILER.into(), AttrValue::Str(target.unwrap_or_default().into()));
        let func = build.add(Expr::Func(Box::new(func)))?;
        let call = build.call_func(func, &args)?;
        for (place, &output) in outputs.iter().enumerate() {
            let result = if outputs.len() == 1 { call } else { build.proj(call, place as u32)? };
            self.mapped[output] = Some(result);
        }
        Ok(())
    }

    fn copy(&mut self, module: &mut Module, old: ExprId) {
        let operands = walk::map_children(&module.exprs[old], |c| self.mapped[c].unwrap_or(c));
        self.mapped[old] = Some(match operands {
            Some(expr) => {
                let ty = module.types[old].clone();
                let id = module.add_like(expr, old);
                module.types[id] = ty;
                id
            }
            None => old,
        });
    }
}
