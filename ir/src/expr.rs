//! Tensor-level programs: expressions, functions and modules, as tables.
//!
//! Expressions are immutable once made: a pass appends new ones and points at them, so
//! the inferred type of an id never goes stale and inference after a pass touches only
//! what is new. Two uses of one id are sharing (`%0 = ..`); [`Expr::Let`] fixes scope and
//! order. [`Module::compact`] drops what no function reaches.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::diag::{SourceMap, Span};
use crate::entity::{PrimaryMap, SecondaryMap};
use crate::entity_id;
use crate::op::{Attrs, Op};
use crate::tensor::Tensor;
use crate::types::Type;

entity_id!(/// An expression of a module.
    ExprId, "e");
entity_id!(/// A local variable: a parameter, a let binder, or a pattern's.
    VarId, "v");
entity_id!(/// A constant tensor of a module.
    ConstId, "c");
entity_id!(/// A global function of a module.
    GlobalId, "g");
entity_id!(/// An algebraic data type of a module.
    AdtId, "adt");

/// The arguments of a call or the fields of a tuple.
pub type Args = SmallVec<[ExprId; 4]>;

/// What a call calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callee {
    /// An operator of the op table.
    Op(Op),
    /// A function value: a global, a closure, a variable.
    Expr(ExprId),
    /// A constructor of an algebraic data type.
    Ctor(CtorRef),
}

/// A constructor: which one of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtorRef {
    /// The data type.
    pub adt: AdtId,
    /// Index into [`Adt::ctors`].
    pub index: u32,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called.
    pub callee: Callee,
    /// Positional arguments.
    pub args: Args,
    /// Attributes in the order of the operator's schema; empty for other callees.
    pub attrs: Attrs,
}

/// One expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A use of a local variable.
    Var(VarId),
    /// A use of a global function as a value.
    Global(GlobalId),
    /// A constant tensor.
    Const(ConstId),
    /// An operator as a value.
    Op(Op),
    /// A constructor as a value.
    Ctor(CtorRef),
    /// A call.
    Call(Call),
    /// A function value; its free variables are captured.
    Func(Box<Function>),
    /// `let var = value; body`. The variable is in scope in `value` only if that is a function.
    Let {
        /// The binder.
        var: VarId,
        /// What it is bound to, evaluated first.
        value: ExprId,
        /// The scope.
        body: ExprId,
    },
    /// `if (cond) { then } else { els }`; `cond` is a bool scalar; one branch is evaluated.
    If {
        /// The condition.
        cond: ExprId,
        /// Evaluated if it is true.
        then: ExprId,
        /// Evaluated if it is false.
        els: ExprId,
    },
    /// A tuple.
    Tuple(Args),
    /// A field of a tuple.
    Proj {
        /// The tuple.
        tuple: ExprId,
        /// The field, from 0.
        index: u32,
    },
    /// `match (value) { clauses }`; the first clause that fits is taken.
    Match {
        /// What is taken apart.
        value: ExprId,
        /// Clauses in order.
        clauses: Vec<Clause>,
        /// False for `match?`, which need not cover every case.
        complete: bool,
    },
    /// `ref(value)`: a new reference cell.
    Ref(ExprId),
    /// `ref_read(cell)`.
    RefRead(ExprId),
    /// `ref_write(cell, value)`; gives the unit tuple.
    RefWrite {
        /// The cell.
        cell: ExprId,
        /// The new content.
        value: ExprId,
    },
}

/// One arm of a match.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// What must fit.
    pub pattern: MatchPattern,
    /// What is evaluated then.
    pub body: ExprId,
}

/// A pattern of a match.
#[derive(Clone, Debug, PartialEq)]
pub enum MatchPattern {
    /// `_`
    Wildcard,
    /// Binds the value.
    Var(VarId),
    /// A constructor with patterns for its fields.
    Ctor(CtorRef, Vec<MatchPattern>),
    /// A tuple of patterns.
    Tuple(Vec<MatchPattern>),
}

/// A local variable.
#[derive(Clone, Debug)]
pub struct Var {
    /// The name as written, without `%`; need not be unique.
    pub name: Arc<str>,
    /// The annotation, or the inferred type once inference has run.
    pub ty: Type,
}

/// A constant tensor with the name it has in its weights file, if it has one.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The value.
    pub tensor: Tensor,
    /// Its key in a safetensors file (`weights["name"]`).
    pub name: Option<Arc<str>>,
}

/// The value of a function attribute (`Primitive=1`).
pub type FuncAttrs = indexmap::IndexMap<Arc<str>, crate::op::AttrValue>;

/// A function: global, closure or fused group.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Type parameters (`fn [A](..)`).
    pub type_params: Vec<Arc<str>>,
    /// Parameters, in order.
    pub params: Vec<VarId>,
    /// The body.
    pub body: ExprId,
    /// Declared result type, or inferred.
    pub ret: Type,
    /// Attributes after the parameters.
    pub attrs: FuncAttrs,
}

/// A global function.
#[derive(Clone, Debug)]
pub struct Global {
    /// The name without `@`, unique in the module.
    pub name: Arc<str>,
    /// The definition; `None` once a pass has removed it.
    pub func: Option<Function>,
}

/// A user-defined algebraic data type.
#[derive(Clone, Debug)]
pub struct Adt {
    /// The name, unique in the module.
    pub name: Arc<str>,
    /// Type parameters.
    pub params: Vec<Arc<str>>,
    /// Constructors; their names are unique in the module.
    pub ctors: Vec<Ctor>,
    /// Declared with `extern type`.
    pub is_extern: bool,
}

/// A constructor of an algebraic data type.
#[derive(Clone, Debug)]
pub struct Ctor {
    /// The name.
    pub name: Arc<str>,
    /// Field types.
    pub fields: Vec<Type>,
}

/// A program: global functions over one set of tables.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Every expression ever made; only those a function reaches are part of the program.
    pub exprs: PrimaryMap<ExprId, Expr>,
    /// Local variables.
    pub vars: PrimaryMap<VarId, Var>,
    /// Constants; never copied between expressions.
    pub consts: PrimaryMap<ConstId, Constant>,
    /// Global functions.
    pub globals: PrimaryMap<GlobalId, Global>,
    /// Algebraic data types.
    pub adts: PrimaryMap<AdtId, Adt>,
    /// Where an expression came from.
    pub spans: SecondaryMap<ExprId, Span>,
    /// Inferred types; [`Type::Unknown`] where inference has not been.
    pub types: SecondaryMap<ExprId, Type>,
    /// The files that spans point into.
    pub sources: SourceMap,
}

impl Module {
    /// An empty module.
    pub fn new() -> Module {
        Module::default()
    }

    /// Adds an expression without a source location.
    pub fn add(&mut self, expr: Expr) -> ExprId {
        self.exprs.push(expr)
    }

    /// Adds an expression that stands for, or comes from, `origin`: it gets its location.
    pub fn add_like(&mut self, expr: Expr, origin: ExprId) -> ExprId {
        let id = self.exprs.push(expr);
        self.spans[id] = self.spans[origin].clone();
        id
    }

    /// Adds a call of an operator. The attributes must follow the operator's schema.
    pub fn call_op(&mut self, op: Op, args: &[ExprId], attrs: Attrs) -> ExprId {
        self.add(Expr::Call(Call { callee: Callee::Op(op), args: Args::from_slice(args), attrs }))
    }

    /// Adds a constant, typed at once.
    pub fn constant(&mut self, tensor: Tensor) -> ExprId {
        let ty = tensor.ty();
        let id = self.consts.push(Constant { tensor, name: None });
        let expr = self.add(Expr::Const(id));
        self.types[expr] = ty;
        expr
    }

    /// Adds a variable.
    pub fn var(&mut self, name: impl Into<Arc<str>>, ty: Type) -> VarId {
        self.vars.push(Var { name: name.into(), ty })
    }

    /// The tensor, if the expression is a constant.
    pub fn as_const(&self, id: ExprId) -> Option<&Tensor> {
        match self.exprs[id] {
            Expr::Const(c) => Some(&self.consts[c].tensor),
            _ => None,
        }
    }

    /// The call and its operator, if the expression is a call of an operator.
    pub fn as_op_call(&self, id: ExprId) -> Option<(Op, &Call)> {
        match &self.exprs[id] {
            Expr::Call(call) => match call.callee {
                Callee::Op(op) => Some((op, call)),
                Callee::Expr(_) | Callee::Ctor(_) => None,
            },
            _ => None,
        }
    }

    /// The global function of this name.
    pub fn global(&self, name: &str) -> Option<GlobalId> {
        self.globals.iter().find(|(_, g)| &*g.name == name && g.func.is_some()).map(|(id, _)| id)
    }

    /// The live global functions, sorted by name.
    pub fn functions(&self) -> Vec<(GlobalId, &Function)> {
        let mut live: Vec<_> =
            self.globals.iter().filter_map(|(id, g)| Some((id, g.func.as_ref()?))).collect();
        live.sort_by(|a, b| self.globals[a.0].name.cmp(&self.globals[b.0].name));
        live
    }
}
