//! Dropping what is no longer part of a program.

use std::collections::HashMap;
use std::hash::Hash;

use crate::entity::{EntityRef, EntitySet, PrimaryMap};
use crate::expr::{ConstId, Expr, ExprId, GlobalId, Module, VarId};
use crate::walk;

impl Module {
    /// Drops the expressions, variables, constants and removed globals that no live function
    /// reaches. What stays keeps its relative order; ids from before mean nothing afterwards.
    ///
    /// Data types and sources stay, for types and locations refer to them.
    pub fn compact(&mut self) {
        let mut live = walk::reachable(self);
        live.sort_unstable();
        let keep = Live::of(self, &live);
        let vars = retain(&mut self.vars, |id, _| keep.vars.contains(id));
        let consts = retain(&mut self.consts, |id, _| keep.consts.contains(id));
        let globals = retain(&mut self.globals, |id, g| g.func.is_some() || keep.globals.contains(id));
        let exprs: HashMap<ExprId, ExprId> =
            live.iter().enumerate().map(|(new, &old)| (old, ExprId::new(new))).collect();

        let mut old_exprs = std::mem::take(&mut self.exprs);
        let mut old_types = std::mem::take(&mut self.types);
        let mut old_spans = std::mem::take(&mut self.spans);
        let maps = Maps { exprs, vars, consts, globals };
        for old in live {
            let unit = Expr::Tuple(Default::default());
            let expr = maps.expr(std::mem::replace(&mut old_exprs[old], unit));
            let new = self.exprs.push(expr);
            self.types[new] = std::mem::take(&mut old_types[old]);
            self.spans[new] = std::mem::take(&mut old_spans[old]);
        }
        for global in self.globals.values_mut() {
            if let Some(func) = &mut global.func {
                func.body = maps.exprs[&func.body];
                func.params.iter_mut().for_each(|p| *p = maps.vars[p]);
            }
        }
    }
}

/// What live expressions refer to.
#[derive(Default)]
struct Live {
    vars: EntitySet<VarId>,
    consts: EntitySet<ConstId>,
    globals: EntitySet<GlobalId>,
}

impl Live {
    fn of(module: &Module, exprs: &[ExprId]) -> Live {
        let mut live = Live::default();
        for (_, func) in module.functions() {
            func.params.iter().for_each(|&p| {
                live.vars.insert(p);
            });
        }
        for &id in exprs {
            let expr = &module.exprs[id];
            walk::bound_vars(expr).into_iter().for_each(|v| {
                live.vars.insert(v);
            });
            match expr {
                Expr::Var(var) => drop(live.vars.insert(*var)),
                Expr::Const(c) => drop(live.consts.insert(*c)),
                Expr::Global(g) => drop(live.globals.insert(*g)),
                Expr::Op(_)
                | Expr::Ctor(_)
                | Expr::Call(_)
                | Expr::Func(_)
                | Expr::Let { .. }
                | Expr::If { .. }
                | Expr::Tuple(_)
                | Expr::Proj { .. }
                | Expr::Match { .. }
                | Expr::Ref(_)
                | Expr::RefRead(_)
                | Expr::RefWrite { .. } => {}
            }
        }
        live
    }
}

/// Keeps the entries that `keep` wants, and says where each went.
fn retain<K: EntityRef + Hash + Eq, V>(
    table: &mut PrimaryMap<K, V>,
    keep: impl Fn(K, &V) -> bool,
) -> HashMap<K, K> {
    let mut moved = HashMap::new();
    let mut new = PrimaryMap::new();
    for (old, value) in std::mem::take(table) {
        if keep(old, &value) {
            moved.insert(old, new.push(value));
        }
    }
    *table = new;
    moved
}

/// Old ids to new ones.
struct Maps {
    exprs: HashMap<ExprId, ExprId>,
    vars: HashMap<VarId, VarId>,
    consts: HashMap<ConstId, ConstId>,
    globals: HashMap<GlobalId, GlobalId>,
}

impl Maps {
    fn expr(&self, expr: Expr) -> Expr {
        let mut expr = walk::map_children(&expr, |child| self.exprs[&child]).unwrap_or(expr);
        match &mut expr {
            Expr::Var(var) | Expr::Let { var, .. } => *var = self.vars[var],
            Expr::Const(c) => *c = self.consts[c],
            Expr::Global(g) => *g = self.globals[g],
            Expr::Func(func) => func.params.iter_mut().for_each(|p| *p = self.vars[p]),
            Expr::Match { clauses, .. } => {
                clauses.iter_mut().for_each(|c| walk::map_pattern_vars(&mut c.pattern, |v| self.vars[&v]));
            }
            Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Call(_)
            | Expr::If { .. }
            | Expr::Tuple(_)
            | Expr::Proj { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => {}
        }
        expr
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Function, Global};
    use crate::tensor::Tensor;
    use crate::types::{DType, Type};

    #[test]
    fn keeps_what_is_reached_in_order() {
        let mut m = Module::new();
        let dead = m.constant(Tensor::scalar(1f32));
        let x = m.var("x", Type::scalar(DType::F32));
        m.var("unused", Type::Unknown);
        let live = m.constant(Tensor::scalar(2f32));
        let vx = m.add(Expr::Var(x));
        let _dead_pair = m.add(Expr::Tuple([dead, dead].into_iter().collect()));
        let body = m.add(Expr::Tuple([vx, live, live].into_iter().collect()));
        let func = Function {
            type_params: vec![],
            params: vec![x],
            body,
            ret: Type::Unknown,
            attrs: Default::default(),
        };
        m.globals.push(Global { name: "gone".into(), func: None });
        m.globals.push(Global { name: "main".into(), func: Some(func) });
        m.compact();
        assert_eq!((m.exprs.len(), m.vars.len(), m.consts.len(), m.globals.len()), (3, 1, 1, 1));
        let main = m.globals[m.global("main").expect("kept")].func.as_ref().expect("live");
        assert_eq!(main.body.index(), 2);
        assert_eq!(m.types[ExprId::new(0)], Type::scalar(DType::F32));
        assert_eq!(walk::children(&m.exprs[main.body])[1], walk::children(&m.exprs[main.body])[2]);
    }
}
