//! What is known of a value when compiling.
//!
//! Values stand in a table and name each other by number, so that long lists are dropped without
//! recursion.

use fermata_ir::entity_id;
use fermata_ir::expr::{CtorRef, ExprId, GlobalId, VarId};

entity_id!(/// A value of the interpreted program.
    Value, "value");

/// A value: what names it in the new program, and what is known of it.
#[derive(Clone, Debug)]
pub struct Fact {
    /// A variable, a constant or a global: valid where the value is.
    pub atom: ExprId,
    /// What is known.
    pub known: Known,
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// It is the constant that names it.
    Constant,
    /// A tuple of these.
    Tuple(Vec<Value>),
    /// What a constructor made of these.
    Data(CtorRef, Vec<Value>),
    /// A function with what it captured, by number.
    Closure(usize),
    /// A global function.
    Global(GlobalId),
    /// A constructor as a function.
    Ctor(CtorRef),
    /// A reference cell, by number.
    Cell(usize),
}

/// A function value.
#[derive(Clone, Debug)]
pub struct Closure {
    /// The function of the old program.
    pub func: ExprId,
    /// The values of its free variables.
    pub captured: Vec<(VarId, Value)>,
    /// The variable that it calls itself by, if it does.
    pub itself: Option<VarId>,
    /// The value that it is.
    pub value: Value,
    /// The expression of the new program that will be its function, once somebody needs it.
    pub holder: ExprId,
    /// Whether somebody does.
    pub needed: bool,
}
