//! Normal forms: ToGraphNormalForm substitutes lets away, ToANormalForm binds every step, and
//! ToBasicBlockNormalForm binds what several scopes share.
//!
//! In graph normal form a value that is used twice is one expression with two users, which is
//! what fusion looks at. In A-normal form every expression that is not atomic is bound by a
//! let, in the innermost scope that all its users share; operands come before users.

use std::collections::BTreeMap;

use fermata_ir::diag::Diagnostics;
use fermata_ir::entity::PrimaryMap;
use fermata_ir::entity_id;
use fermata_ir::expr::{Expr, ExprId, Function, Module, VarId};
use fermata_ir::walk;

use super::rewrite::{owned_functions, rebuild_functions};
use super::sparse::Sparse;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static TO_GRAPH: PassDef = PassDef {
    name: "to_graph_normal_form",
    relay_name: "ToGraphNormalForm",
    level: 0,
    doc: "substitute lets away; lets of recursive functions and of effects stay",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: Some(Stage::Graph),
    float: FloatClass::Exact,
    run: to_graph,
};

/// The row of the pass table.
pub static TO_A_NORMAL: PassDef = PassDef {
    name: "to_a_normal_form",
    relay_name: "ToANormalForm",
    level: 0,
    doc: "bind every step by a let, in order",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: Some(Stage::ANormal),
    float: FloatClass::Exact,
    run: to_a_normal,
};

/// The row of the pass table.
pub static TO_BASIC_BLOCK: PassDef = PassDef {
    name: "to_basic_block_normal_form",
    relay_name: "ToBasicBlockNormalForm",
    level: 4,
    doc: "bind values that several branches or functions use by a let in the scope that they share",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run: to_basic_block,
};

fn to_graph(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let (purity, recursive) = (super::dead_code::Purities::of(module), walk::recursive_lets(module));
    let mut binders: BTreeMap<ExprId, Vec<VarId>> = BTreeMap::new();
    for expr in walk::reachable(module) {
        let Expr::Let { var, value, .. } = module.exprs[expr] else { continue };
        if purity.is_pure(value)
            && !recursive.contains(var)
            && context.fire("share instead of a let", module, value)
        {
            binders.entry(value).or_default().push(var);
        }
    }
    // A value comes before the scope that uses it, so its new form is known there.
    let mut known: BTreeMap<VarId, ExprId> = BTreeMap::new();
    Ok(rebuild_functions(module, |module, old, new| {
        let new = match module.exprs[new] {
            Expr::Var(v) => known.get(&v).copied().unwrap_or(new),
            Expr::Let { var, body, .. } if known.contains_key(&var) => body,
            _ => new,
        };
        known.extend(binders.remove(&old).into_iter().flatten().map(|var| (var, new)));
        new
    }))
}

fn to_a_normal(module: &mut Module, _: &mut PassContext) -> Result<Outcome, Diagnostics> {
    bind_steps(module, &mut |_, _, _| true)
}

/// A function's body in A-normal form.
pub(super) fn a_normal_body(module: &mut Module, body: ExprId) -> ExprId {
    ANormal::new(module, body, &mut |_, _, _| true).run(body)
}

fn to_basic_block(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    bind_steps(module, &mut |module, expr, across| {
        across && context.fire("bind what several scopes share", module, expr)
    })
}

/// Says whether an expression is bound, told whether several scopes use it.
type Wanted<'a> = dyn FnMut(&Module, ExprId, bool) -> bool + 'a;

/// Binds expressions by lets: those that `wanted` says so of.
fn bind_steps(module: &mut Module, wanted: &mut Wanted<'_>) -> Result<Outcome, Diagnostics> {
    let mut outcome = Outcome::Unchanged;
    for (global, func) in owned_functions(module) {
        let body = ANormal::new(module, func.body, wanted).run(func.body);
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    Ok(outcome)
}

entity_id!(/// A scope: a function's body, a branch or an arm.
    ScopeId, "scope");

struct Scope {
    parent: Option<ScopeId>,
    depth: u32,
    bindings: Vec<(VarId, ExprId)>,
}

struct ANormal<'a> {
    module: &'a mut Module,
    order: Vec<ExprId>,
    scopes: PrimaryMap<ScopeId, Scope>,
    /// The scope that an expression is bound in.
    scope_of: Sparse<Option<ScopeId>>,
    /// The scope that a function's body, a branch or an arm opens, by its owner and root.
    opened: BTreeMap<(ExprId, ExprId), ScopeId>,
    /// Lets by their value.
    binders: BTreeMap<ExprId, Vec<(ExprId, VarId)>>,
    /// What names the value of an old expression.
    atom: Sparse<Option<ExprId>>,
    counter: u32,
    /// Set for expressions that scopes besides the one they are bound in use.
    across: Sparse<bool>,
    wanted: &'a mut Wanted<'a>,
}

impl<'a> ANormal<'a> {
    fn new(module: &'a mut Module, body: ExprId, wanted: &'a mut Wanted<'a>) -> ANormal<'a> {
        let order = walk::post_order(module, &[body]);
        let mut this = ANormal {
            module,
            order,
            scopes: PrimaryMap::new(),
            scope_of: Sparse::default(),
            opened: BTreeMap::new(),
            binders: BTreeMap::new(),
            atom: Sparse::default(),
            counter: 0,
            across: Sparse::default(),
            wanted,
        };
        let root = this.scopes.push(Scope { parent: None, depth: 0, bindings: Vec::new() });
        this.scope_of[body] = Some(root);
        this.assign_scopes();
        this
    }

    /// Users before operands: an expression belongs to the common scope of its users.
    fn assign_scopes(&mut self) {
        for index in (0..self.order.len()).rev() {
            let expr = self.order[index];
            let Some(scope) = self.scope_of[expr] else { continue };
            if let Expr::Let { var, value, .. } = self.module.exprs[expr] {
                self.binders.entry(value).or_default().push((expr, var));
            }
            for (child, opens) in scoped_children(&self.module.exprs[expr]) {
                let at = if opens { self.open(expr, child, scope) } else { scope };
                self.scope_of[child] = Some(match self.scope_of[child] {
                    Some(known) => {
                        self.across[child] |= known != at;
                        self.common(known, at)
                    }
                    None => at,
                });
            }
        }
    }

    fn open(&mut self, owner: ExprId, root: ExprId, parent: ScopeId) -> ScopeId {
        let depth = self.scopes[parent].depth + 1;
        let scope = self.scopes.push(Scope { parent: Some(parent), depth, bindings: Vec::new() });
        self.opened.insert((owner, root), scope);
        scope
    }

    fn common(&self, a: ScopeId, b: ScopeId) -> ScopeId {
        let (mut a, mut b) = (a, b);
        while a != b {
            if self.scopes[a].depth >= self.scopes[b].depth {
                a = self.scopes[a].parent.expect("scopes meet at the root");
            } else {
                b = self.scopes[b].parent.expect("scopes meet at the root");
            }
        }
        a
    }

    fn run(mut self, body: ExprId) -> ExprId {
        for index in 0..self.order.len() {
            self.visit(self.order[index]);
        }
        let root = self.scope_of[body].expect("the body has a scope");
        self.chain(root, body)
    }

    fn visit(&mut self, old: ExprId) {
        let Some(scope) = self.scope_of[old] else { return };
        let new = self.with_atoms(old);
        let atom = match &self.module.exprs[old] {
            Expr::Let { body, .. } => self.atom[*body].expect("operands come first"),
            Expr::Var(_) | Expr::Global(_) | Expr::Op(_) | Expr::Ctor(_) => old,
            other => {
                let across = self.across[old] && !matches!(other, Expr::Const(_));
                match (self.wanted)(self.module, old, across) {
                    true => self.bind(old, new, scope),
                    false => new,
                }
            }
        };
        self.atom[old] = Some(atom);
        // A let of this value that does not name the binding itself is a binding of its own.
        for (let_expr, var) in self.binders.remove(&old).unwrap_or_default() {
            if !self.names(atom, var) {
                let scope = self.scope_of[let_expr].expect("a let has a scope");
                self.scopes[scope].bindings.push((var, atom));
            }
        }
    }

    fn names(&self, atom: ExprId, var: VarId) -> bool {
        matches!(self.module.exprs[atom], Expr::Var(v) if v == var)
    }

    /// Binds an expression: to its let's own variable if it has one in this scope, else to a new one.
    fn bind(&mut self, old: ExprId, new: ExprId, scope: ScopeId) -> ExprId {
        let ty = self.module.types[old].clone();
        let own = self.binders.get(&old).and_then(|lets| {
            lets.iter().find(|(l, _)| self.scope_of[*l] == Some(scope)).map(|(_, var)| *var)
        });
        let var = own.unwrap_or_else(|| {
            self.counter += 1;
            self.module.var(format!("x{}", self.counter - 1), ty.clone())
        });
        self.scopes[scope].bindings.push((var, new));
        let atom = self.module.add_like(Expr::Var(var), old);
        self.module.types[atom] = ty;
        atom
    }

    /// The expression with its operands named, and the scopes that it opens closed.
    fn with_atoms(&mut self, old: ExprId) -> ExprId {
        let mut replaced = Vec::new();
        for (child, opens) in scoped_children(&self.module.exprs[old]) {
            let new = match (opens, self.opened.get(&(old, child))) {
                (true, Some(&scope)) => self.chain(scope, child),
                _ => self.atom[child].expect("operands come first"),
            };
            replaced.push(new);
        }
        let mut next = replaced.into_iter();
        let expr = walk::map_children(&self.module.exprs[old], |c| next.next().unwrap_or(c));
        match expr {
            Some(expr) if !matches!(expr, Expr::Let { .. }) => {
                let id = self.module.add_like(expr, old);
                self.module.types[id] = self.module.types[old].clone();
                id
            }
            _ => old,
        }
    }

    /// The bindings of a scope as nested lets around the value of its root.
    fn chain(&mut self, scope: ScopeId, root: ExprId) -> ExprId {
        let mut body = self.atom[root].expect("operands come first");
        let ty = self.module.types[root].clone();
        let bindings = std::mem::take(&mut self.scopes[scope].bindings);
        for (var, value) in bindings.into_iter().rev() {
            body = self.module.add_like(Expr::Let { var, value, body }, value);
            self.module.types[body] = ty.clone();
        }
        body
    }
}

/// The operands of an expression, in order, and whether each stands in a scope of its own.
fn scoped_children(expr: &Expr) -> Vec<(ExprId, bool)> {
    let opens = |index: usize| match expr {
        Expr::Func(_) => true,
        Expr::If { .. } | Expr::Match { .. } => index > 0,
        Expr::Var(_)
        | Expr::Global(_)
        | Expr::Const(_)
        | Expr::Op(_)
        | Expr::Ctor(_)
        | Expr::Call(_)
        | Expr::Let { .. }
        | Expr::Tuple(_)
        | Expr::Proj { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => false,
    };
    walk::children(expr).into_iter().enumerate().map(|(i, child)| (child, opens(i))).collect()
}
