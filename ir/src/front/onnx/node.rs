//! What a mapping function sees of a node: operands, attributes, and how to build.

use std::rc::Rc;

use super::fold::{Extent, ints};
use super::graph::{Importer, Value};
use super::proto::{AttrData, Attribute, Graph, Node, TensorProto};
use crate::build::Builder;
use crate::diag::{Code, Diagnostic};
use crate::dispatch;
use crate::expr::{Expr, ExprId};
use crate::op::{Attrs, OpDef};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType, Type};

/// The result of a step of a mapping.
pub(super) type Step<T = ExprId> = Result<T, Diagnostic>;

/// A refusal of what a node asks for; the walk adds the place.
pub(super) fn refuse<T>(message: impl Into<String>) -> Step<T> {
    Err(Diagnostic::error(Code::IMPORT_UNSUPPORTED, message))
}

/// A refusal of a node that breaks ONNX's rules.
pub(super) fn wrong<T>(message: impl Into<String>) -> Step<T> {
    Err(Diagnostic::error(Code::IMPORT_FORMAT, message))
}

/// A node that is being mapped.
pub(super) struct Cx<'i, 'a> {
    /// The import that it is part of.
    pub im: &'i mut Importer<'a>,
    /// The node.
    pub node: &'a Node<'a>,
    /// The opset of its domain.
    pub opset: i64,
    attrs: Vec<(&'a str, &'a Attribute<'a>)>,
    args: Vec<Value>,
}

impl<'i, 'a> Cx<'i, 'a> {
    pub(super) fn new(
        im: &'i mut Importer<'a>,
        node: &'a Node<'a>,
        attrs: Vec<(&'a str, &'a Attribute<'a>)>,
        args: Vec<Value>,
        opset: i64,
    ) -> Cx<'i, 'a> {
        Cx { im, node, opset, attrs, args }
    }

    /// Gives the operands back.
    pub(super) fn into_args(self) -> Vec<Value> {
        self.args
    }

    // Operands.

    /// Number of operands, absent ones in between included.
    pub(super) fn arity(&self) -> usize {
        self.args.len()
    }

    /// Operand `i`, which must be a tensor.
    pub(super) fn arg(&self, i: usize) -> Step {
        match self.opt(i)? {
            Some(e) => Ok(e),
            None => wrong(format!("`{}` needs input {i}", self.node.op_type)),
        }
    }

    /// Operand `i`, a tensor if it is given.
    pub(super) fn opt(&self, i: usize) -> Step<Option<ExprId>> {
        match self.args.get(i) {
            Some(Value::Tensor(e)) => Ok(Some(*e)),
            None | Some(Value::Absent) => Ok(None),
            Some(Value::Sequence(_)) => wrong(format!("input {i} is a sequence where a tensor is wanted")),
            Some(Value::Poison) => wrong(format!("input {i} is not there")),
        }
    }

    /// Operand `i` as it is.
    pub(super) fn value(&self, i: usize) -> Value {
        self.args.get(i).cloned().unwrap_or(Value::Absent)
    }

    /// All operands, which must be tensors.
    pub(super) fn tensors(&self) -> Step<Vec<ExprId>> {
        (0..self.arity()).map(|i| self.arg(i)).collect()
    }

    /// Operand `i`, a sequence.
    pub(super) fn sequence(&self, i: usize) -> Step<Rc<[ExprId]>> {
        match self.args.get(i) {
            Some(Value::Sequence(items)) => Ok(items.clone()),
            _ => refuse(format!("input {i} must be a sequence whose length is known")),
        }
    }

    /// The value of operand `i`, if it is given; refused if it is not known at compile time.
    pub(super) fn const_opt(&self, i: usize, what: &str) -> Step<Option<Tensor>> {
        let Some(e) = self.opt(i)? else { return Ok(None) };
        match self.known(e) {
            Some(tensor) => Ok(Some(tensor)),
            None => {
                let name = self.node.inputs.get(i).copied().unwrap_or_default();
                let message = format!("{what} of `{}` must be known at compile time", self.node.op_type);
                let error = Diagnostic::error(Code::IMPORT_UNSUPPORTED, message);
                Err(error
                    .note(format!("it is computed from inputs, as value `{name}`"))
                    .help("bind the dimensions that it depends on, or bake in the input's value"))
            }
        }
    }

    /// The integers of operand `i`, if it is given; they must be known.
    pub(super) fn const_ints_opt(&self, i: usize, what: &str) -> Step<Option<Vec<i64>>> {
        let Some(tensor) = self.const_opt(i, what)? else { return Ok(None) };
        match ints(&tensor) {
            Some(ints) => Ok(Some(ints)),
            None => wrong(format!("{what} must be integers")),
        }
    }

    /// The integers of operand `i`; they must be known.
    pub(super) fn const_ints(&self, i: usize, what: &str) -> Step<Vec<i64>> {
        match self.const_ints_opt(i, what)? {
            Some(ints) => Ok(ints),
            None => wrong(format!("`{}` needs {what}", self.node.op_type)),
        }
    }

    /// The numbers of operand `i`, if it is given; they must be known.
    pub(super) fn const_floats_opt(&self, i: usize, what: &str) -> Step<Option<Vec<f64>>> {
        let Some(tensor) = self.const_opt(i, what)? else { return Ok(None) };
        Ok(Some(floats(&tensor)))
    }

    /// What is known of the elements of a vector that holds a shape.
    pub(super) fn extents(&self, e: ExprId) -> Option<Vec<Extent>> {
        self.im.folder.extents(&self.im.module, e)
    }

    /// The value of an expression, if it depends on constants alone.
    pub(super) fn known(&self, e: ExprId) -> Option<Tensor> {
        self.im.folder.constant(&self.im.module, e)
    }

    // Types.

    /// The type of a tensor.
    pub(super) fn ty(&self, e: ExprId) -> Step<TensorType> {
        match &self.im.module.types[e] {
            Type::Tensor(t) => Ok((**t).clone()),
            _ => wrong("a tensor is wanted"),
        }
    }

    /// Its element type.
    pub(super) fn dtype(&self, e: ExprId) -> Step<DType> {
        Ok(self.ty(e)?.dtype)
    }

    /// Its number of dimensions.
    pub(super) fn rank(&self, e: ExprId) -> Step<usize> {
        Ok(self.ty(e)?.rank())
    }

    /// Its sizes; refused if one is not known.
    pub(super) fn shape(&self, e: ExprId) -> Step<Vec<usize>> {
        let ty = self.ty(e)?;
        if let Some(shape) = ty.static_shape() {
            return Ok(shape);
        }
        let open: Vec<String> =
            ty.shape.iter().filter(|d| d.as_static().is_none()).map(Dim::to_string).collect();
        let message = format!("`{}` needs the shape of its input at compile time", self.node.op_type);
        let error = Diagnostic::error(Code::IMPORT_UNSUPPORTED, message);
        Err(error
            .note(format!("not known: {}", open.join(", ")))
            .help("bind the dimensions with --dim or --shape"))
    }

    /// One of its sizes; refused if it is not known.
    pub(super) fn size(&self, e: ExprId, axis: usize) -> Step<usize> {
        let ty = self.ty(e)?;
        match ty.shape.get(axis) {
            Some(Dim::Static(n)) => Ok(*n),
            Some(_) => Ok(self.shape(e)?[axis]),
            None => wrong(format!("a tensor of rank {} has no dimension {axis}", ty.rank())),
        }
    }

    /// An axis counted from the front.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Step<usize> {
        let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(from_front) {
            Ok(a) if a < rank => Ok(a),
            _ => wrong(format!("axis {axis} is out of range for a tensor of rank {rank}")),
        }
    }

    /// Axes counted from the front, in order; each may occur once.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Step<Vec<usize>> {
        let mut found: Vec<usize> = axes.iter().map(|&a| self.axis(a, rank)).collect::<Step<_>>()?;
        found.sort_unstable();
        match found.windows(2).any(|w| w[0] == w[1]) {
            true => wrong("an axis is given twice"),
            false => Ok(found),
        }
    }

    // Attributes.

    fn attr(&self, name: &str) -> Option<&'a AttrData<'a>> {
        self.attrs.iter().find(|(n, _)| *n == name).map(|(_, a)| &a.data)
    }

    fn wrong_kind<T>(&self, name: &str, wanted: &str) -> Step<T> {
        if let Some(AttrData::Other(kind)) = self.attr(name) {
            return refuse(format!(
                "attribute `{name}` of `{}` is {kind}, which is not supported",
                self.node.op_type
            ));
        }
        wrong(format!("attribute `{name}` of `{}` must be {wanted}", self.node.op_type))
    }

    /// An integer attribute.
    pub(super) fn int_opt(&self, name: &str) -> Step<Option<i64>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Int(n)) => Ok(Some(*n)),
            Some(_) => self.wrong_kind(name, "an integer"),
        }
    }

    /// An integer attribute with its default.
    pub(super) fn int(&self, name: &str, default: i64) -> Step<i64> {
        Ok(self.int_opt(name)?.unwrap_or(default))
    }

    /// An integer attribute that says yes or no.
    pub(super) fn flag(&self, name: &str, default: bool) -> Step<bool> {
        Ok(self.int(name, default.into())? != 0)
    }

    /// A float attribute.
    pub(super) fn float_opt(&self, name: &str) -> Step<Option<f64>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Float(x)) => Ok(Some(f64::from(*x))),
            Some(_) => self.wrong_kind(name, "a float"),
        }
    }

    /// A float attribute with its default.
    pub(super) fn float(&self, name: &str, default: f32) -> Step<f64> {
        Ok(self.float_opt(name)?.unwrap_or(f64::from(default)))
    }

    /// A list of integers.
    pub(super) fn ints_opt(&self, name: &str) -> Step<Option<Vec<i64>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Ints(list)) => Ok(Some(list.clone())),
            Some(_) => self.wrong_kind(name, "a list of integers"),
        }
    }

    /// A list of floats.
    pub(super) fn floats_opt(&self, name: &str) -> Step<Option<Vec<f32>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Floats(list)) => Ok(Some(list.clone())),
            Some(_) => self.wrong_kind(name, "a list of floats"),
        }
    }

    /// A string attribute.
    pub(super) fn text_opt(&self, name: &str) -> Step<Option<&'a str>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Str(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => self.wrong_kind(name, "UTF-8"),
            },
            Some(_) => self.wrong_kind(name, "a string"),
        }
    }

    /// A string attribute with its default.
    pub(super) fn text(&self, name: &str, default: &'a str) -> Step<&'a str> {
        Ok(self.text_opt(name)?.unwrap_or(default))
    }

    /// A list of strings.
    pub(super) fn texts_opt(&self, name: &str) -> Step<Option<Vec<&'a str>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Strs(list)) => {
                let texts: Result<Vec<_>, _> = list.iter().map(|b| std::str::from_utf8(b)).collect();
                texts.map(Some).or_else(|_| self.wrong_kind(name, "UTF-8"))
            }
            Some(_) => self.wrong_kind(name, "a list of strings"),
        }
    }

    /// A tensor attribute.
    pub(super) fn tensor_opt(&self, name: &str) -> Step<Option<&'a TensorProto<'a>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrData::Tensor(t)) => Ok(Some(t)),
            Some(_) => self.wrong_kind(name, "a tensor"),
        }
    }

    /// A graph attribute, which must be given.
    pub(super) fn graph(&self, name: &str) -> Step<&'a Graph<'a>> {
        match self.attr(name) {
            Some(AttrData::Graph(g)) => Ok(g),
            _ => self.wrong_kind(name, "a graph"),
        }
    }

    /// The dtype that an attribute names.
    pub(super) fn dtype_attr(&self, name: &str) -> Step<Option<DType>> {
        match self.int_opt(name)? {
            None => Ok(None),
            Some(n) => match super::tensor::dtype_of(i32::try_from(n).unwrap_or(-1)) {
                Ok(dtype) => Ok(Some(dtype)),
                Err(message) => refuse(message),
            },
        }
    }

    // Building.

    /// A call of an operator.
    pub(super) fn call(&mut self, op: &'static OpDef, args: &[ExprId], attrs: Attrs) -> Step {
        Builder::new(&mut self.im.module).call(op, args, attrs)
    }

    /// A call of an operator that gives a tuple; its fields.
    pub(super) fn call_multi(
        &mut self,
        op: &'static OpDef,
        args: &[ExprId],
        attrs: Attrs,
    ) -> Step<Vec<ExprId>> {
        let tuple = self.call(op, args, attrs)?;
        let fields = match &self.im.module.types[tuple] {
            Type::Tuple(fields) => fields.clone(),
            _ => return Ok(vec![tuple]),
        };
        let fields = fields.iter().enumerate().map(|(i, ty)| {
            let e = self.im.module.add(Expr::Proj { tuple, index: i as u32 });
            self.im.module.types[e] = ty.clone();
            e
        });
        Ok(fields.collect())
    }

    /// A tuple.
    pub(super) fn tuple(&mut self, fields: &[ExprId]) -> ExprId {
        let ty = Type::tuple(fields.iter().map(|&e| self.im.module.types[e].clone()));
        let e = self.im.module.add(Expr::Tuple(fields.into()));
        self.im.module.types[e] = ty;
        e
    }

    /// A constant.
    pub(super) fn constant(&mut self, tensor: Tensor) -> ExprId {
        self.im.module.constant(tensor)
    }

    /// A constant of rank 0.
    pub(super) fn scalar(&mut self, dtype: DType, value: f64) -> ExprId {
        let tensor = dispatch!(dtype, T => {
            Tensor::scalar(Scalar::from_f64(dtype, value).get::<T>().expect("made in this dtype"))
        });
        self.constant(tensor)
    }

    /// A constant vector of int64.
    pub(super) fn ints_const(&mut self, ints: &[i64]) -> ExprId {
        let tensor = Tensor::from_slice(&[ints.len()], ints).expect("a vector is within every limit");
        self.constant(tensor)
    }
}

/// The elements of a tensor as numbers.
pub(super) fn floats(tensor: &Tensor) -> Vec<f64> {
    dispatch!(tensor.dtype(), T => {
        let data = tensor.as_slice::<T>().unwrap_or(&[]);
        data.iter().map(|&x| Scalar::of(x).as_f64()).collect()
    })
}
