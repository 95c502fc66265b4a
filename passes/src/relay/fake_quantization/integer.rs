//! Integers that stand for real numbers, and how they change their parameters.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::build::Builder;
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::broadcast::MULTIPLY;
use fermata_ir::op::elemwise::{CAST, CastAttrs};
use fermata_ir::op::quant::{DEQUANTIZE, DequantizeAttrs, REQUANTIZE, RequantizeAttrs};
use fermata_ir::op::util::integers;
use fermata_ir::op::{Attrs, OpAttrs, OpDef};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use crate::relay::rewrite::value_of;

/// How integers stand for real numbers: `(q - zero) * scale`.
#[derive(Clone, Debug)]
pub struct Params {
    /// A float32, or one for each index of the axis.
    pub scale: ExprId,
    /// An integer, or one for each index of the axis.
    pub zero: ExprId,
    /// The axis, if either has several.
    pub axis: Option<usize>,
    /// Of the integers.
    pub dtype: DType,
}

/// Integers with their parameters.
#[derive(Clone, Debug)]
pub struct Affine {
    /// The integers.
    pub expr: ExprId,
    /// What they stand for.
    pub params: Params,
}

/// What an expression of a region is in integers.
#[derive(Clone, Debug)]
pub enum Value {
    /// A tensor.
    Quantised(Affine),
    /// The fields of a tuple.
    Fields(Vec<ExprId>),
}

impl Params {
    /// The parameters of a tensor of a rank.
    pub fn new(
        module: &Module,
        scale: ExprId,
        zero: ExprId,
        axis: i64,
        rank: usize,
        dtype: DType,
    ) -> Result<Params, String> {
        let single = |e: ExprId| module.types[e].as_tensor().is_some_and(|t| t.elements() == Some(1));
        if module.types[scale].as_tensor().is_none_or(|t| t.dtype != DType::F32) {
            return Err("a scale is not of float32".into());
        }
        let axis = match single(scale) && single(zero) {
            true => None,
            false => {
                let axis = if axis < 0 { axis + rank as i64 } else { axis };
                Some(usize::try_from(axis).map_err(|_| "an axis is out of bounds")?)
            }
        };
        Ok(Params { scale, zero, axis, dtype })
    }

    /// An error unless there is one scale and one zero point.
    pub fn single(&self) -> Result<(), String> {
        match self.axis {
            None => Ok(()),
            Some(_) => Err("its scales are along an axis".into()),
        }
    }
}

/// Why a constant has no form in integers: most often, it had one.
const FOLDED: &str = "a constant of floats stands where integers are needed; if `fold_constant` made it of \
                      `qnn.dequantize`, let that run after this pass, or with `fold_qnn=False`";

/// A region that is being computed in integers.
pub struct Work<'m> {
    /// The program.
    pub module: &'m mut Module,
    /// What the region computes, as integers.
    pub goal: Params,
    /// The expressions that only monotone operators and moves lie behind: they may be at the goal already.
    pub reaching: BTreeSet<ExprId>,
    /// What is known.
    pub values: BTreeMap<ExprId, Value>,
    root: ExprId,
}

impl<'m> Work<'m> {
    /// A region that ends in a quantisation.
    pub fn new(module: &'m mut Module, root: ExprId, goal: Params) -> Work<'m> {
        Work { module, goal, reaching: BTreeSet::new(), values: BTreeMap::new(), root }
    }

    /// A call, located at the end of the region.
    pub fn call(&mut self, op: &'static OpDef, args: &[ExprId], attrs: Attrs) -> Result<ExprId, String> {
        let span = self.module.spans[self.root].clone();
        let mut build = Builder::new(self.module);
        build.with_span(span);
        build.call(op, args, attrs).map_err(super::said)
    }

    /// The integers of an expression of the region, or of a dequantised tensor.
    pub fn quantised(&mut self, expr: ExprId) -> Result<Affine, String> {
        if let Some(Value::Quantised(affine)) = self.values.get(&expr) {
            return Ok(affine.clone());
        }
        let Some((op, call)) = self.module.as_op_call(expr).filter(|(op, _)| op.is(&DEQUANTIZE)) else {
            return Err(match self.module.as_const(expr) {
                Some(_) => FOLDED.into(),
                None => "a float stands where it has no form in integers".into(),
            });
        };
        debug_assert!(op.is(&DEQUANTIZE));
        let call = call.clone();
        let Some(data) = self.module.types[call.args[0]].as_tensor().cloned() else {
            return Err("a type is not known".into());
        };
        let attrs: DequantizeAttrs = call.attrs.read();
        let params =
            Params::new(self.module, call.args[1], call.args[2], attrs.axis, data.rank(), data.dtype)?;
        Ok(Affine { expr: call.args[0], params })
    }

    /// The integers under other parameters: as they are, or requantised.
    pub fn requantised(&mut self, affine: &Affine, params: &Params) -> Result<ExprId, String> {
        if self.same(&affine.params, params) {
            return Ok(affine.expr);
        }
        let axis = match (affine.params.axis, params.axis) {
            (Some(a), Some(b)) if a != b => return Err("scales lie along different axes".into()),
            (a, b) => a.or(b).map_or(-1, |axis| axis as i64),
        };
        let attrs = RequantizeAttrs {
            axis,
            rounding: "TONEVEN".into(),
            compute_dtype: "None".into(),
            out_dtype: params.dtype,
        };
        let own = &affine.params;
        let args = [affine.expr, own.scale, own.zero, params.scale, params.zero];
        self.call(&REQUANTIZE, &args, attrs.attrs())
    }

    /// The integers as the region gives them.
    pub fn at_goal(&mut self, affine: &Affine) -> Result<ExprId, String> {
        let goal = self.goal.clone();
        self.requantised(affine, &goal)
    }

    /// True if both stand for the same numbers.
    pub fn same(&self, a: &Params, b: &Params) -> bool {
        let scales = || match (self.floats(a.scale), self.floats(b.scale)) {
            (Some(a), Some(b)) => a == b,
            _ => value_of(self.module, a.scale) == value_of(self.module, b.scale),
        };
        let zeros = || match (self.integers(a.zero), self.integers(b.zero)) {
            (Some(a), Some(b)) => a == b,
            _ => value_of(self.module, a.zero) == value_of(self.module, b.zero),
        };
        a.dtype == b.dtype && a.axis == b.axis && scales() && zeros()
    }

    /// The elements of a constant of float32.
    pub fn floats(&self, expr: ExprId) -> Option<Vec<f32>> {
        Some(self.module.as_const(expr)?.as_slice::<f32>()?.to_vec())
    }

    /// The elements of a constant of integers.
    pub fn integers(&self, expr: ExprId) -> Option<Vec<i64>> {
        integers(self.module.as_const(expr)?).ok()
    }

    /// The scale and zero point, if both are one constant each.
    pub fn numbers(&self, params: &Params) -> Option<(f32, i64)> {
        match (&self.floats(params.scale)?[..], &self.integers(params.zero)?[..]) {
            (&[scale], &[zero]) => Some((scale, zero)),
            _ => None,
        }
    }

    /// An error unless larger integers are known to stand for larger numbers.
    pub fn ascending(&self, params: &Params) -> Result<(), String> {
        match self.floats(params.scale) {
            Some(scales) if scales.iter().all(|&s| s > 0.0) => Ok(()),
            _ => Err("a scale is not known to be positive".into()),
        }
    }

    /// A constant of one integer.
    pub fn integer(&mut self, dtype: DType, value: i64) -> ExprId {
        let bits = Scalar::from_i64(dtype, value).bits().to_le_bytes();
        let tensor = Tensor::from_bytes(dtype, &[], &bits[..dtype.bytes()]).expect("one element");
        self.module.constant(tensor)
    }

    /// The only zero point as a number of the integers' own dtype.
    pub fn zero(&mut self, params: &Params) -> Result<ExprId, String> {
        params.single()?;
        match self.integers(params.zero) {
            Some(zero) => Ok(self.integer(params.dtype, zero[0])),
            None => self.call(&CAST, &[params.zero], CastAttrs { dtype: params.dtype }.attrs()),
        }
    }

    /// The product of two scales, or of one and a number.
    pub fn product(&mut self, a: ExprId, b: ExprId) -> Result<ExprId, String> {
        let (Some(x), Some(y)) = (self.floats(a), self.floats(b)) else {
            return self.call(&MULTIPLY, &[a, b], Attrs::NONE);
        };
        let n = x.len().max(y.len());
        let product: Vec<f32> = (0..n).map(|i| x[i % x.len()] * y[i % y.len()]).collect();
        let shape: &[usize] = if n == 1 { &[] } else { &[n] };
        let tensor = Tensor::from_slice(shape, &product).map_err(|e| e.to_string())?;
        Ok(self.module.constant(tensor))
    }
}
