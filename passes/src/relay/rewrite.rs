//! What the passes of this folder share: rebuilding functions from the operands up.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostic;
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{ConstId, Expr, ExprId, Function, GlobalId, Module, VarId};
use fermata_ir::types::Type;
use fermata_ir::walk;

use crate::fuse::is_primitive;
use crate::pass::Outcome;

/// What stands for each old expression, while a function is rebuilt.
pub type Mapped = SecondaryMap<ExprId, Option<ExprId>>;

/// Rebuilds every function: `f(module, old, new)` sees each expression once, operands first,
/// `new` with its operands replaced, and gives what shall stand in its place. Types are kept,
/// so `f` must keep them too. The bodies of primitive functions are left alone. What several functions
/// share is seen once for all of them.
pub fn rebuild_functions(
    module: &mut Module,
    mut f: impl FnMut(&mut Module, ExprId, ExprId) -> ExprId,
) -> Outcome {
    let mut outcome = Outcome::Unchanged;
    let mut rebuilt = Rebuilt::default();
    for (global, func) in owned_functions(module) {
        let body = rebuilt.rebuild(module, func.body, &mut f);
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    outcome
}

/// Rebuilds what one root reaches.
pub fn rebuild(
    module: &mut Module,
    root: ExprId,
    f: &mut impl FnMut(&mut Module, ExprId, ExprId) -> ExprId,
) -> ExprId {
    Rebuilt::default().rebuild(module, root, f)
}

/// What has been rebuilt, of all roots: tables of one size for all of them.
#[derive(Default)]
pub struct Rebuilt {
    walk: walk::Walk,
    mapped: Mapped,
}

impl Rebuilt {
    /// Rebuilds what a root reaches and no earlier root did.
    pub fn rebuild(
        &mut self,
        module: &mut Module,
        root: ExprId,
        f: &mut impl FnMut(&mut Module, ExprId, ExprId) -> ExprId,
    ) -> ExprId {
        let enters = |expr: &Expr| !matches!(expr, Expr::Func(func) if is_primitive(func));
        for old in self.walk.post_order(module, root, enters) {
            let mapped = &self.mapped;
            let operands = walk::map_children(&module.exprs[old], |child| mapped[child].unwrap_or(child));
            let new = match operands {
                Some(expr) => {
                    let ty = module.types[old].clone();
                    let id = module.add_like(expr, old);
                    module.types[id] = ty;
                    id
                }
                None => old,
            };
            let new = f(module, old, new);
            self.mapped[old] = Some(new);
        }
        self.mapped[root].unwrap_or(root)
    }
}

/// What stands in the body of a function that says what becomes of it: a group of operators, a
/// composite, or a region for an external code generator.
pub fn marked_bodies(module: &Module, order: &[ExprId]) -> BTreeSet<ExprId> {
    let marked = |func: &Function| {
        is_primitive(func) || ["Composite", "Compiler"].iter().any(|&mark| func.attrs.contains_key(mark))
    };
    let mut inside = BTreeSet::new();
    for &expr in order {
        let mut stack = match &module.exprs[expr] {
            Expr::Func(func) if marked(func) => vec![func.body],
            _ => continue,
        };
        while let Some(expr) = stack.pop() {
            if inside.insert(expr) {
                walk::for_each_child(&module.exprs[expr], |child| stack.push(child));
            }
        }
    }
    inside
}

/// The body of a function that is called once, with arguments in the place of its parameters. Takes
/// time for the body only, however large the program is.
pub fn in_place(module: &mut Module, func: &Function, args: &[ExprId]) -> ExprId {
    let known: BTreeMap<VarId, ExprId> = func.params.iter().copied().zip(args.iter().copied()).collect();
    let mut mapped: BTreeMap<ExprId, ExprId> = BTreeMap::new();
    let mut stack = vec![(func.body, false)];
    while let Some((old, done)) = stack.pop() {
        if !done {
            if !mapped.contains_key(&old) {
                stack.push((old, true));
                stack.extend(walk::children(&module.exprs[old]).into_iter().rev().map(|c| (c, false)));
            }
            continue;
        }
        let of = |child: ExprId| mapped.get(&child).copied().unwrap_or(child);
        let new = match (&module.exprs[old], walk::map_children(&module.exprs[old], of)) {
            (Expr::Var(var), _) => known.get(var).copied().unwrap_or(old),
            (_, None) => old,
            (_, Some(expr)) => {
                let ty = module.types[old].clone();
                let id = module.add_like(expr, old);
                module.types[id] = ty;
                id
            }
        };
        mapped.insert(old, new);
    }
    mapped[&func.body]
}

/// What an expression is the value of: all uses of a variable are one, and so are those of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Of a variable.
    Var(VarId),
    /// Of a constant.
    Const(ConstId),
    /// Of itself.
    Expr(ExprId),
}

/// What an expression is the value of.
pub fn value_of(module: &Module, expr: ExprId) -> Value {
    match module.exprs[expr] {
        Expr::Var(var) => Value::Var(var),
        Expr::Const(constant) => Value::Const(constant),
        _ => Value::Expr(expr),
    }
}

/// A function over these arguments that computes `outputs`, a tuple if there are several, by copies of
/// what is `inside`, which is in order of evaluation. Constants that it reads stay in it.
///
/// # Errors
/// If what is inside is not typed.
pub fn outline(
    module: &mut Module,
    inside: &[ExprId],
    outputs: &[ExprId],
    args: &[ExprId],
) -> Result<Function, Diagnostic> {
    let mut mapped: BTreeMap<Value, ExprId> = BTreeMap::new();
    let mut params = Vec::new();
    for (place, &arg) in args.iter().enumerate() {
        let ty = module.types[arg].clone();
        let (param, used) = Builder::new(module).param(&format!("p{place}"), ty);
        params.push(param);
        mapped.entry(value_of(module, arg)).or_insert(used);
    }
    let of = |module: &Module, mapped: &BTreeMap<Value, ExprId>, e: ExprId| {
        mapped.get(&value_of(module, e)).copied().unwrap_or(e)
    };
    for &old in inside {
        let operands = walk::map_children(&module.exprs[old], |c| of(module, &mapped, c));
        if let Some(expr) = operands {
            let ty = module.types[old].clone();
            let id = module.add_like(expr, old);
            module.types[id] = ty;
            mapped.insert(Value::Expr(old), id);
        }
    }
    let outputs: Vec<ExprId> = outputs.iter().map(|&o| of(module, &mapped, o)).collect();
    let mut build = Builder::new(module);
    let body = match outputs[..] {
        [one] => one,
        _ => build.tuple(&outputs)?,
    };
    build.function(&params, body)
}

/// The live functions, cloned, so that they can be replaced one after the other.
pub fn owned_functions(module: &Module) -> Vec<(GlobalId, Function)> {
    module.functions().into_iter().map(|(id, func)| (id, func.clone())).collect()
}

/// How often each expression of all functions is used as an operand or a body.
pub fn use_counts(module: &Module) -> SecondaryMap<ExprId, u32> {
    let roots: Vec<ExprId> = module.functions().iter().map(|(_, f)| f.body).collect();
    walk::use_counts(module, &roots)
}

/// The static shape of an expression's tensor type.
pub fn static_shape(module: &Module, expr: ExprId) -> Option<Vec<usize>> {
    module.types[expr].as_tensor()?.static_shape()
}

/// True if both expressions are known to have the same type.
pub fn same_type(module: &Module, a: ExprId, b: ExprId) -> bool {
    module.types[a] != Type::Unknown && module.types[a] == module.types[b]
}

/// A copy of a function's body over these arguments; what it binds is bound anew. What does not
/// depend on them, and binds nothing, is shared with the function.
///
/// The function has no type parameters.
pub fn instantiate(module: &mut Module, func: &Function, args: &[ExprId]) -> ExprId {
    let order = walk::post_order(module, &[func.body]);
    let known: BTreeMap<VarId, ExprId> = func.params.iter().copied().zip(args.iter().copied()).collect();
    let mut renamed: BTreeMap<VarId, VarId> = BTreeMap::new();
    for &expr in &order {
        for var in walk::bound_vars(&module.exprs[expr]) {
            let outer = module.vars[var].clone();
            renamed.insert(var, module.var(outer.name, outer.ty));
        }
    }
    let mut mapped: Mapped = SecondaryMap::new();
    for old in order {
        if let Expr::Var(var) = module.exprs[old]
            && let Some(&arg) = known.get(&var)
        {
            mapped[old] = Some(arg);
            continue;
        }
        let operands = walk::map_children(&module.exprs[old], |child| mapped[child].unwrap_or(child));
        let mut changed = operands.is_some();
        let mut new = operands.unwrap_or_else(|| module.exprs[old].clone());
        let mut rename = |var: &mut VarId| {
            if let Some(&own) = renamed.get(var) {
                *var = own;
                changed = true;
            }
        };
        match &mut new {
            Expr::Var(var) | Expr::Let { var, .. } => rename(var),
            Expr::Func(func) => func.params.iter_mut().for_each(rename),
            Expr::Match { clauses, .. } => {
                for clause in clauses {
                    walk::map_pattern_vars(&mut clause.pattern, |mut var| {
                        rename(&mut var);
                        var
                    });
                }
            }
            Expr::Global(_)
            | Expr::Const(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Call(_)
            | Expr::If { .. }
            | Expr::Tuple(_)
            | Expr::Proj { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => {}
        }
        if changed {
            let ty = module.types[old].clone();
            let id = module.add_like(new, old);
            module.types[id] = ty;
            mapped[old] = Some(id);
        }
    }
    mapped[func.body].unwrap_or(func.body)
}
