//! Run-time values of tensor-level programs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::expr::{CtorRef, ExprId, GlobalId, VarId};
use crate::op::{Op, OpError};
use crate::tensor::Tensor;
use crate::types::Type;

/// What an expression evaluates to.
#[derive(Clone, Debug)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// A tuple.
    Tuple(Arc<[Value]>),
    /// A function value.
    Closure(Rc<Closure>),
    /// A global function as a value.
    Global(GlobalId),
    /// An operator as a value.
    Op(Op),
    /// A constructor as a value.
    Ctor(CtorRef),
    /// A value of an algebraic data type.
    Adt(Rc<AdtValue>),
    /// A reference cell.
    Ref(Rc<RefCell<Value>>),
}

/// A value of an algebraic data type: which constructor, and its fields.
#[derive(Debug)]
pub struct AdtValue {
    /// The constructor.
    pub ctor: CtorRef,
    /// Its fields, in order.
    pub fields: Vec<Value>,
}

/// A function with what it captured.
#[derive(Debug)]
pub struct Closure {
    /// The function expression.
    pub func: ExprId,
    /// The values of its free variables; a recursive function's own is found when it is called.
    pub captured: Vec<(VarId, Value)>,
    /// The variable it is bound to, if it may call itself.
    pub itself: Option<VarId>,
}

impl Drop for AdtValue {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.fields));
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.captured).into_iter().map(|(_, value)| value).collect());
    }
}

/// Drops values whose nesting a program controls, such as the cells of a long list, without
/// recursing into them.
fn dismantle(mut values: Vec<Value>) {
    while let Some(value) = values.pop() {
        match value {
            Value::Adt(mut adt) => {
                if let Some(adt) = Rc::get_mut(&mut adt) {
                    values.append(&mut adt.fields);
                }
            }
            Value::Closure(mut closure) => {
                if let Some(closure) = Rc::get_mut(&mut closure) {
                    values.extend(closure.captured.drain(..).map(|(_, value)| value));
                }
            }
            Value::Tuple(mut fields) => {
                if let Some(fields) = Arc::get_mut(&mut fields) {
                    values.extend(fields.iter_mut().map(Value::take));
                }
            }
            Value::Ref(cell) => {
                if let Some(cell) = Rc::into_inner(cell) {
                    values.push(cell.into_inner());
                }
            }
            Value::Tensor(_) | Value::Global(_) | Value::Op(_) | Value::Ctor(_) => {}
        }
    }
}

impl Value {
    /// The unit tuple.
    pub fn unit() -> Value {
        Value::Tuple([].into())
    }

    /// A tuple.
    pub fn tuple(fields: impl IntoIterator<Item = Value>) -> Value {
        Value::Tuple(fields.into_iter().collect())
    }

    /// Takes the value out, leaving something small in its place.
    fn take(&mut self) -> Value {
        std::mem::replace(self, Value::Global(GlobalId::from_u32(0)))
    }

    /// The tensor, if this is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The fields, if this is a tuple.
    pub fn as_tuple(&self) -> Option<&[Value]> {
        match self {
            Value::Tuple(fields) => Some(fields),
            _ => None,
        }
    }

    /// The tensor, for operators, whose arguments inference has checked.
    ///
    /// # Errors
    /// If this is no tensor.
    pub fn tensor(&self) -> Result<&Tensor, OpError> {
        self.as_tensor().ok_or_else(|| OpError::new("expected a tensor"))
    }

    /// The type of a tensor or a tuple of such; [`Type::Unknown`] for other values.
    pub fn ty(&self) -> Type {
        match self {
            Value::Tensor(t) => t.ty(),
            Value::Tuple(fields) => Type::Tuple(fields.iter().map(Value::ty).collect()),
            _ => Type::Unknown,
        }
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Self {
        Value::Tensor(t)
    }
}
