//! Structural equality: the same program up to the names of local variables and ids.
//!
//! Globals and data types are matched by name, variables by where they are bound, constants by
//! their bits. Sharing counts: two uses of one expression equal two uses of one
//! expression, not two copies. Spans, inferred types and names of constants do not count, nor
//! does the annotation of a let or of a pattern where only one side has it.

use crate::entity::SecondaryMap;
use crate::expr::{
    Adt, Call, Callee, CtorRef, Expr, ExprId, FuncAttrs, Function, MatchPattern, Module, VarId,
};
use crate::op::{AttrValue, Attrs};
use crate::types::Type;
use crate::walk::children;

/// True if both modules have the same data types and functions.
pub fn structurally_equal(a: &Module, b: &Module) -> bool {
    let (fa, fb) = (a.functions(), b.functions());
    let mut compare = Compare::new(a, b);
    adts(a).len() == adts(b).len()
        && adts(a).iter().zip(adts(b)).all(|(x, y)| same_adt(x, y))
        && fa.len() == fb.len()
        && fa
            .iter()
            .zip(&fb)
            .all(|(x, y)| a.globals[x.0].name == b.globals[y.0].name && compare.global(x.1, y.1))
}

/// True if both expressions mean the same; free variables are matched by name.
pub fn exprs_equal(a: &Module, ea: ExprId, b: &Module, eb: ExprId) -> bool {
    Compare::new(a, b).run(ea, eb)
}

/// True if two attribute values are the same; NaN equals itself, a dtype equals its name.
pub fn attr_value(a: &AttrValue, b: &AttrValue) -> bool {
    match (a, b) {
        (AttrValue::Float(x), AttrValue::Float(y)) => {
            x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
        }
        (AttrValue::List(x), AttrValue::List(y)) => {
            x.len() == y.len() && x.iter().zip(y.iter()).all(|(x, y)| attr_value(x, y))
        }
        (AttrValue::DType(d), AttrValue::Str(s)) | (AttrValue::Str(s), AttrValue::DType(d)) => {
            d.name() == &**s
        }
        _ => a == b,
    }
}

/// The data types, sorted by name.
fn adts(module: &Module) -> Vec<&Adt> {
    let mut adts: Vec<&Adt> = module.adts.values().collect();
    adts.sort_by(|a, b| a.name.cmp(&b.name));
    adts
}

fn same_adt(a: &Adt, b: &Adt) -> bool {
    a.name == b.name
        && a.params == b.params
        && a.is_extern == b.is_extern
        && a.ctors.len() == b.ctors.len()
        && a.ctors.iter().zip(&b.ctors).all(|(x, y)| x.name == y.name && x.fields == y.fields)
}

fn same_attrs(a: &Attrs, b: &Attrs) -> bool {
    let (a, b) = (a.values(), b.values());
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| attr_value(x, y))
}

fn same_func_attrs(a: &FuncAttrs, b: &FuncAttrs) -> bool {
    a.len() == b.len() && a.iter().all(|(key, x)| b.get(key).is_some_and(|y| attr_value(x, y)))
}

/// True unless both types are known and differ.
fn compatible(a: &Type, b: &Type) -> bool {
    *a == Type::Unknown || *b == Type::Unknown || a == b
}

/// What is matched with what.
struct Compare<'m> {
    a: &'m Module,
    b: &'m Module,
    exprs: SecondaryMap<ExprId, Option<ExprId>>,
    back: SecondaryMap<ExprId, Option<ExprId>>,
    vars: SecondaryMap<VarId, Option<VarId>>,
    vars_back: SecondaryMap<VarId, Option<VarId>>,
    /// What was matched, so that it can be forgotten in its number.
    matched: Vec<(ExprId, ExprId)>,
    todo: Vec<(ExprId, ExprId)>,
}

impl<'m> Compare<'m> {
    fn new(a: &'m Module, b: &'m Module) -> Self {
        Compare {
            a,
            b,
            exprs: SecondaryMap::new(),
            back: SecondaryMap::new(),
            vars: SecondaryMap::new(),
            vars_back: SecondaryMap::new(),
            matched: Vec::new(),
            todo: Vec::new(),
        }
    }

    /// Compares two global functions. An expression that two globals share is one of each.
    fn global(&mut self, a: &Function, b: &Function) -> bool {
        for (x, y) in self.matched.drain(..) {
            self.exprs[x] = None;
            self.back[y] = None;
        }
        self.function(a, b) && self.run(a.body, b.body)
    }

    /// Compares all that hangs on two expressions.
    fn run(&mut self, a: ExprId, b: ExprId) -> bool {
        self.todo.push((a, b));
        while let Some((a, b)) = self.todo.pop() {
            match (self.exprs[a], self.back[b]) {
                (Some(x), Some(y)) if x == b && y == a => continue,
                (None, None) => {}
                _ => return self.fail(),
            }
            let (x, y) = (&self.a.exprs[a], &self.b.exprs[b]);
            if !is_atom(x) {
                self.exprs[a] = Some(b);
                self.back[b] = Some(a);
                self.matched.push((a, b));
            }
            let (xs, ys) = (children(x), children(y));
            if xs.len() != ys.len() || !self.node(x, y) {
                return self.fail();
            }
            self.todo.extend(xs.into_iter().zip(ys));
        }
        true
    }

    fn fail(&mut self) -> bool {
        self.todo.clear();
        false
    }

    /// Compares two nodes and leaves their operands to compare.
    fn node(&mut self, a: &Expr, b: &Expr) -> bool {
        if std::mem::discriminant(a) != std::mem::discriminant(b) {
            return false;
        }
        match (a, b) {
            (Expr::Var(x), &Expr::Var(y)) => self.var(*x, y),
            (Expr::Global(x), &Expr::Global(y)) => self.a.globals[*x].name == self.b.globals[y].name,
            (Expr::Const(x), &Expr::Const(y)) => {
                self.a.consts[*x].tensor.bitwise_eq(&self.b.consts[y].tensor)
            }
            (Expr::Op(x), Expr::Op(y)) => x == y,
            (Expr::Ctor(x), Expr::Ctor(y)) => self.ctor(*x, *y),
            (Expr::Call(x), Expr::Call(y)) => self.call(x, y),
            (Expr::Func(x), Expr::Func(y)) => self.function(x, y),
            (Expr::Let { var: x, .. }, &Expr::Let { var: y, .. }) => self.bind(*x, y),
            (Expr::Proj { index: x, .. }, Expr::Proj { index: y, .. }) => x == y,
            (Expr::Match { clauses: xs, complete: x, .. }, Expr::Match { clauses: ys, complete: y, .. }) => {
                x == y
                    && xs.len() == ys.len()
                    && xs.iter().zip(ys).all(|(x, y)| self.pattern(&x.pattern, &y.pattern))
            }
            // The kinds are the same, and these hold nothing beside their operands.
            (
                Expr::Var(_)
                | Expr::Global(_)
                | Expr::Const(_)
                | Expr::Op(_)
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
                | Expr::RefWrite { .. },
                _,
            ) => true,
        }
    }

    fn var(&self, a: VarId, b: VarId) -> bool {
        match (self.vars[a], self.vars_back[b]) {
            (None, None) => self.a.vars[a].name == self.b.vars[b].name,
            (x, y) => x == Some(b) && y == Some(a),
        }
    }

    /// Compares all of two calls but their operands.
    fn call(&self, a: &Call, b: &Call) -> bool {
        let callee = match (a.callee, b.callee) {
            (Callee::Op(x), Callee::Op(y)) => x == y,
            (Callee::Ctor(x), Callee::Ctor(y)) => self.ctor(x, y),
            (Callee::Expr(_), Callee::Expr(_)) => true,
            (Callee::Op(_) | Callee::Ctor(_) | Callee::Expr(_), _) => false,
        };
        callee && same_attrs(&a.attrs, &b.attrs)
    }

    /// Compares all of two functions but their bodies.
    fn function(&mut self, a: &Function, b: &Function) -> bool {
        a.type_params == b.type_params
            && a.params.len() == b.params.len()
            && a.params.iter().zip(&b.params).all(|(&x, &y)| {
                self.same_var(x, y);
                self.a.vars[x].ty == self.b.vars[y].ty
            })
            && a.ret == b.ret
            && same_func_attrs(&a.attrs, &b.attrs)
    }

    /// Matches two binders whose annotations may be missing.
    fn bind(&mut self, a: VarId, b: VarId) -> bool {
        self.same_var(a, b);
        compatible(&self.a.vars[a].ty, &self.b.vars[b].ty)
    }

    fn same_var(&mut self, a: VarId, b: VarId) {
        self.vars[a] = Some(b);
        self.vars_back[b] = Some(a);
    }

    fn ctor(&self, a: CtorRef, b: CtorRef) -> bool {
        self.a.adts[a.adt].name == self.b.adts[b.adt].name && a.index == b.index
    }

    /// Compares patterns, which nest at most as deep as the reader allows.
    fn pattern(&mut self, a: &MatchPattern, b: &MatchPattern) -> bool {
        match (a, b) {
            (MatchPattern::Wildcard, MatchPattern::Wildcard) => true,
            (MatchPattern::Var(x), MatchPattern::Var(y)) => self.bind(*x, *y),
            (MatchPattern::Tuple(xs), MatchPattern::Tuple(ys)) => self.patterns(xs, ys),
            (MatchPattern::Ctor(x, xs), MatchPattern::Ctor(y, ys)) => {
                self.ctor(*x, *y) && self.patterns(xs, ys)
            }
            _ => false,
        }
    }

    fn patterns(&mut self, a: &[MatchPattern], b: &[MatchPattern]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| self.pattern(x, y))
    }
}

/// True for expressions that stand for themselves wherever they are used.
fn is_atom(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(_) | Expr::Global(_) | Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_))
}
