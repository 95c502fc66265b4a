//! What calls itself: global functions through each other, and functions that a let binds.

use std::collections::{BTreeMap, BTreeSet};

use super::for_each_child;
use crate::entity::EntitySet;
use crate::expr::{Expr, ExprId, GlobalId, Module, VarId};

/// Which live global functions name which.
pub struct CallGraph {
    /// Every live function, those that it names before it, unless they name each other.
    pub callees_first: Vec<GlobalId>,
    /// Those that may call themselves, directly or through others.
    pub recursive: BTreeSet<GlobalId>,
}

impl CallGraph {
    /// That of a program: its strongly connected components (Tarjan, 1972), in time proportional to it.
    pub fn of(module: &Module) -> CallGraph {
        let names = names(module);
        let mut graph = CallGraph { callees_first: Vec::new(), recursive: BTreeSet::new() };
        let mut search = Search::default();
        for &root in names.keys() {
            let mut path: Vec<(GlobalId, usize)> = Vec::new();
            search.begin(root, &mut path);
            while let Some((at, next)) = path.last_mut() {
                let at = *at;
                let Some(&callee) = names[&at].get(*next) else {
                    path.pop();
                    search.end(at, path.last().map(|&(caller, _)| caller), &mut graph);
                    continue;
                };
                *next += 1;
                if callee == at {
                    graph.recursive.insert(at);
                } else if !search.number.contains_key(&callee) {
                    if names.contains_key(&callee) {
                        search.begin(callee, &mut path);
                    }
                } else if search.open.contains(&callee) {
                    search.reaches(at, search.number[&callee]);
                }
            }
        }
        graph
    }
}

/// The functions that each live one names, in order of their first use.
fn names(module: &Module) -> BTreeMap<GlobalId, Vec<GlobalId>> {
    let mut names = BTreeMap::new();
    for (global, func) in module.functions() {
        // A set by search, not by index: many small functions take no more than their size.
        let (mut seen, mut known) = (BTreeSet::new(), BTreeSet::new());
        let (mut found, mut stack) = (Vec::new(), vec![func.body]);
        while let Some(expr) = stack.pop() {
            if !seen.insert(expr) {
                continue;
            }
            if let Expr::Global(callee) = module.exprs[expr]
                && known.insert(callee)
            {
                found.push(callee);
            }
            let first = stack.len();
            for_each_child(&module.exprs[expr], |child| stack.push(child));
            stack[first..].reverse();
        }
        names.insert(global, found);
    }
    names
}

/// The state of Tarjan's search.
#[derive(Default)]
struct Search {
    /// When each function was met, and the earliest one met that is known to be reached from it.
    number: BTreeMap<GlobalId, usize>,
    low: BTreeMap<GlobalId, usize>,
    /// Functions whose component is not complete.
    waiting: Vec<GlobalId>,
    open: BTreeSet<GlobalId>,
}

impl Search {
    fn begin(&mut self, global: GlobalId, path: &mut Vec<(GlobalId, usize)>) {
        if self.number.contains_key(&global) {
            return;
        }
        let number = self.number.len();
        self.number.insert(global, number);
        self.low.insert(global, number);
        self.waiting.push(global);
        self.open.insert(global);
        path.push((global, 0));
    }

    fn reaches(&mut self, from: GlobalId, number: usize) {
        let low = self.low.entry(from).or_insert(number);
        *low = number.min(*low);
    }

    fn end(&mut self, global: GlobalId, caller: Option<GlobalId>, graph: &mut CallGraph) {
        let low = self.low[&global];
        if let Some(caller) = caller {
            self.reaches(caller, low);
        }
        if low != self.number[&global] {
            return;
        }
        let first = self.waiting.iter().rposition(|&g| g == global).unwrap_or(0);
        let component = self.waiting.split_off(first);
        if component.len() > 1 {
            graph.recursive.extend(&component);
        }
        component.iter().for_each(|g| {
            self.open.remove(g);
        });
        graph.callees_first.extend(component);
    }
}

/// The variables that a let binds to a function which uses them itself.
///
/// Every way to a use of a variable leads through its let, and the function is gone through before
/// the let's scope: a use that is met until then is the function's.
pub fn recursive_lets(module: &Module) -> EntitySet<VarId> {
    enum Step {
        Visit(ExprId),
        Close(VarId),
    }
    let (mut recursive, mut open): (EntitySet<VarId>, EntitySet<VarId>) = Default::default();
    let mut seen: EntitySet<ExprId> = EntitySet::new();
    let mut stack: Vec<Step> = module.functions().iter().map(|(_, func)| Step::Visit(func.body)).collect();
    while let Some(step) = stack.pop() {
        let expr = match step {
            Step::Close(var) => {
                open.remove(var);
                continue;
            }
            Step::Visit(expr) => expr,
        };
        if !seen.insert(expr) {
            continue;
        }
        match &module.exprs[expr] {
            Expr::Let { var, value, body } => {
                open.insert(*var);
                stack.extend([Step::Visit(*body), Step::Close(*var), Step::Visit(*value)]);
            }
            Expr::Var(var) if open.contains(*var) => {
                recursive.insert(*var);
            }
            other => for_each_child(other, |child| stack.push(Step::Visit(child))),
        }
    }
    recursive
}
