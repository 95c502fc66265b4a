//! What a row of the op table holds.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::attrs::{AttrDef, Attrs};
use super::util::check_dtype;
use crate::eval::Value;
use crate::te;
use crate::tensor::TensorError;
use crate::types::{DType, TensorType, Type};

/// A row of the op table: everything there is to know of an operator.
///
/// Every column is required, so that a forgotten one does not compile.
pub struct OpDef {
    /// The name in Relay text: `nn.conv2d`.
    pub name: &'static str,
    /// One line.
    pub doc: &'static str,
    /// The names of the arguments, in order; the last one repeats if `variadic`.
    pub args: &'static [&'static str],
    /// How many arguments a call may leave out at the end.
    pub optional: usize,
    /// Attributes, in the order of [`Attrs`].
    pub attrs: &'static [AttrDef],
    /// How fusion sees it.
    pub pattern: FusePattern,
    /// Whether calls may be shared, folded and dropped.
    pub purity: Purity,
    /// The dtypes of the first tensor argument that it is defined for.
    pub dtypes: &'static [DType],
    /// The result type from argument types that are all known; called through [`OpDef::result`],
    /// which checks `dtypes` first.
    pub infer: fn(&[Type], &Attrs) -> Result<Type, OpError>,
    /// Types of arguments that follow from the others and the attributes; [`no_backward`] for most.
    pub backward: BackwardFn,
    /// The meaning: the result from the arguments, whose types have passed `infer`.
    /// The last parameter is the result type inferred from the values' own types.
    pub eval: fn(&[Value], &Attrs, &Type) -> Result<Value, OpError>,
    /// The Tensor Expression, or why there is none.
    pub lower: Lower,
    /// The ONNX operators that map to it, for the documentation.
    pub onnx: &'static [&'static str],
}

impl OpDef {
    /// The result type of a call with arguments of these types, all of them known: the
    /// `dtypes` column, then the type relation.
    ///
    /// # Errors
    /// If the arguments do not fit.
    pub fn result(&self, types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
        let tensors = types.iter().enumerate().flat_map(|(arg, ty)| {
            let fields = ty.as_tuple().unwrap_or(std::slice::from_ref(ty));
            fields.iter().filter_map(move |field| Some((arg, field.as_tensor()?)))
        });
        if let Some((arg, tensor)) = tensors.into_iter().next() {
            check_dtype(arg, tensor.dtype, self.dtypes)?;
        }
        (self.infer)(types, attrs)
    }
}

/// How an operator becomes loops.
pub enum Lower {
    /// As a Tensor Expression: adds stages to the graph for tensors of static shape and
    /// returns the results (one, or a tuple's fields). Tuple arguments arrive flattened.
    Te(TeFn),
    /// Not at all; the reason, for the diagnostic and the table in the docs.
    None(&'static str),
}

/// Adds an operator's stages to a TE graph: arguments (tuples flattened), attributes, result types.
pub type TeFn = fn(&mut te::Graph, &[te::Tensor], &Attrs, &[TensorType]) -> Result<Vec<te::Tensor>, OpError>;

/// Types of arguments, by their number, that follow from the other types and the attributes.
pub type BackwardFn = fn(&[Type], &Attrs) -> Vec<(usize, Type)>;

/// The `backward` column of operators that deduce nothing about their arguments.
pub fn no_backward(_: &[Type], _: &Attrs) -> Vec<(usize, Type)> {
    Vec::new()
}

/// How fusion sees an operator (Relay's op pattern kinds; the order matters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FusePattern {
    /// Each output element depends on the element of each input at the same place.
    Elemwise = 0,
    /// As elementwise, after broadcasting.
    Broadcast = 1,
    /// Each output element comes from one element of each input.
    Injective = 2,
    /// A reduction over commuting axes.
    CommReduce = 3,
    /// A complex operator whose output an elementwise chain may join.
    OutElemwiseFusable = 4,
    /// Groups tensors.
    Tuple = 7,
    /// Never fused.
    Opaque = 8,
}

/// Whether a call is a value or an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purity {
    /// Equal arguments give equal results and nothing else happens.
    Pure,
    /// Never folded, shared or dropped.
    Stateful,
}

/// Why an operator refused its arguments: a sentence, with an optional fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// What is wrong, without a full stop.
    pub message: String,
    /// The argument it is about, if it is about one.
    pub arg: Option<usize>,
    /// How to mend it.
    pub help: Option<String>,
}

impl OpError {
    /// An error about the whole call.
    pub fn new(message: impl Into<String>) -> OpError {
        OpError { message: message.into(), arg: None, help: None }
    }

    /// An error about one argument.
    pub fn arg(arg: usize, message: impl Into<String>) -> OpError {
        OpError { message: message.into(), arg: Some(arg), help: None }
    }

    /// Adds a fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> OpError {
        self.help = Some(help.into());
        self
    }
}

impl From<TensorError> for OpError {
    fn from(error: TensorError) -> OpError {
        OpError::new(error.to_string())
    }
}

/// A reference to a row: what programs hold. Rows are statics, built-in or a user's own.
#[derive(Clone, Copy)]
pub struct Op(pub &'static OpDef);

impl Op {
    /// True if this is the given row.
    pub fn is(self, def: &'static OpDef) -> bool {
        std::ptr::eq(self.0, def)
    }

    /// The name in Relay text.
    pub fn name(self) -> &'static str {
        self.0.name
    }
}

impl PartialEq for Op {
    fn eq(&self, other: &Op) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Op {}

impl Hash for Op {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialOrd for Op {
    fn partial_cmp(&self, other: &Op) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Op {
    fn cmp(&self, other: &Op) -> std::cmp::Ordering {
        self.0.name.cmp(other.0.name)
    }
}

impl std::ops::Deref for Op {
    type Target = OpDef;
    fn deref(&self) -> &OpDef {
        self.0
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}
