//! The gradients of an operator's arguments from that of its result, a function a family.

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostic;
use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::broadcast::select::WHERE;
use fermata_ir::op::broadcast::shape::{BROADCAST_TO, BroadcastToAttrs};
use fermata_ir::op::broadcast::{ADD, DIVIDE, GREATER, MAXIMUM, MINIMUM, MULTIPLY, SUBTRACT};
use fermata_ir::op::conv::{CONV2D, CONV2D_TRANSPOSE, Conv2dAttrs, Conv2dTransposeAttrs};
use fermata_ir::op::elemwise::convert::{CAST, CastAttrs};
use fermata_ir::op::elemwise::{COS, ERF, EXP, LOG, NEGATIVE, RSQRT, SIGMOID, SIN, SQRT, TANH};
use fermata_ir::op::nn::{
    BATCH_MATMUL, BIAS_ADD, BatchMatmulAttrs, BiasAddAttrs, DENSE, DenseAttrs, LOG_SOFTMAX, RELU, SOFTMAX,
    SoftmaxAttrs,
};
use fermata_ir::op::reduce::{COLLAPSE_SUM_TO, CollapseSumToAttrs, MEAN, ReduceAttrs, SUM};
use fermata_ir::op::transform::{
    RESHAPE, ReshapeAttrs, STRIDED_SLICE, StridedSliceAttrs, TRANSPOSE, TransposeAttrs,
};
use fermata_ir::op::{Attrs, Op, OpAttrs, OpDef};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;

use crate::fuse::is_reshape;
use crate::relay::rewrite::static_shape;

/// The gradients of a call's arguments; `None` if its operator has no rule. An argument that has no
/// gradient in the mathematical sense (a condition) gets that of the result, which nobody reads.
pub fn backward(module: &mut Module, expr: ExprId, grad: ExprId) -> Result<Option<Vec<ExprId>>, Diagnostic> {
    let Some((op, call)) = module.as_op_call(expr) else { return Ok(None) };
    let call = call.clone();
    let Some(shapes) = call.args.iter().map(|&a| static_shape(module, a)).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let mut rule = Rule { build, expr, grad, call, shapes };
    rule.gradients(op)
}

/// A call whose gradient is wanted.
struct Rule<'m> {
    build: Builder<'m>,
    expr: ExprId,
    grad: ExprId,
    call: Call,
    shapes: Vec<Vec<usize>>,
}

type Gradients = Result<Option<Vec<ExprId>>, Diagnostic>;

fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

impl Rule<'_> {
    fn gradients(&mut self, op: Op) -> Gradients {
        if let Some(found) = self.unary(op)? {
            return Ok(Some(vec![found]));
        }
        if let Some(found) = self.binary(op)? {
            return Ok(Some(found));
        }
        if let Some(found) = self.shape(op)? {
            return Ok(Some(vec![found]));
        }
        self.products(op)
    }

    fn op(&mut self, def: &'static OpDef, args: &[ExprId]) -> Result<ExprId, Diagnostic> {
        self.build.call(def, args, Attrs::NONE)
    }

    /// A scalar of the result's dtype.
    fn scalar(&mut self, value: f64) -> ExprId {
        let dtype = self.build.ty(self.expr).as_tensor().expect("a float tensor").dtype;
        let bits = Scalar::from_f64(dtype, value).bits().to_le_bytes();
        let tensor = Tensor::from_bytes(dtype, &[], &bits[..dtype.bytes()]).expect("one element");
        self.build.constant(tensor)
    }

    /// Elementwise operators of one argument.
    fn unary(&mut self, op: Op) -> Result<Option<ExprId>, Diagnostic> {
        let (y, g) = (self.expr, self.grad);
        let &[x] = &self.call.args[..] else { return Ok(None) };
        let slope = if op.is(&NEGATIVE) {
            return self.op(&NEGATIVE, &[g]).map(Some);
        } else if op.is(&EXP) {
            y
        } else if op.is(&LOG) {
            return self.op(&DIVIDE, &[g, x]).map(Some);
        } else if op.is(&SIN) {
            self.op(&COS, &[x])?
        } else if op.is(&COS) {
            let sine = self.op(&SIN, &[x])?;
            self.op(&NEGATIVE, &[sine])?
        } else if op.is(&SQRT) {
            let half = self.scalar(0.5);
            self.op(&DIVIDE, &[half, y])?
        } else if op.is(&RSQRT) {
            let (square, half) = (self.op(&MULTIPLY, &[y, y])?, self.scalar(-0.5));
            let cube = self.op(&MULTIPLY, &[square, y])?;
            self.op(&MULTIPLY, &[cube, half])?
        } else if op.is(&TANH) {
            let (square, one) = (self.op(&MULTIPLY, &[y, y])?, self.scalar(1.0));
            self.op(&SUBTRACT, &[one, square])?
        } else if op.is(&SIGMOID) {
            let one = self.scalar(1.0);
            let rest = self.op(&SUBTRACT, &[one, y])?;
            self.op(&MULTIPLY, &[y, rest])?
        } else if op.is(&ERF) {
            let square = self.op(&MULTIPLY, &[x, x])?;
            let minus = self.op(&NEGATIVE, &[square])?;
            let (bell, height) = (self.op(&EXP, &[minus])?, self.scalar(std::f64::consts::FRAC_2_SQRT_PI));
            self.op(&MULTIPLY, &[bell, height])?
        } else if op.is(&RELU) {
            let zero = self.scalar(0.0);
            let passes = self.op(&GREATER, &[x, zero])?;
            return self.op(&WHERE, &[passes, g, zero]).map(Some);
        } else if op.is(&SOFTMAX) || op.is(&LOG_SOFTMAX) {
            return self.softmax(op).map(Some);
        } else {
            return Ok(None);
        };
        self.op(&MULTIPLY, &[g, slope]).map(Some)
    }

    fn softmax(&mut self, op: Op) -> Result<ExprId, Diagnostic> {
        let (y, g) = (self.expr, self.grad);
        let axis = self.call.attrs.read::<SoftmaxAttrs>().axis;
        let over = ReduceAttrs { axis: Some(vec![axis]), keepdims: true, exclude: false }.attrs();
        if op.is(&SOFTMAX) {
            let weighted = self.op(&MULTIPLY, &[g, y])?;
            let sum = self.build.call(&SUM, &[weighted], over)?;
            let rest = self.op(&SUBTRACT, &[g, sum])?;
            return self.op(&MULTIPLY, &[y, rest]);
        }
        let sum = self.build.call(&SUM, &[g], over)?;
        let share = self.op(&EXP, &[y])?;
        let share = self.op(&MULTIPLY, &[share, sum])?;
        self.op(&SUBTRACT, &[g, share])
    }

    /// Operators that broadcast two arguments, and those that choose.
    fn binary(&mut self, op: Op) -> Result<Option<Vec<ExprId>>, Diagnostic> {
        let g = self.grad;
        if op.is(&WHERE) {
            let zero = self.scalar(0.0);
            let cond = self.call.args[0];
            let (a, b) = (self.op(&WHERE, &[cond, g, zero])?, self.op(&WHERE, &[cond, zero, g])?);
            return Ok(Some(vec![g, self.collapsed(a, 1)?, self.collapsed(b, 2)?]));
        }
        if op.is(&BIAS_ADD) {
            let axis = self.call.attrs.read::<BiasAddAttrs>().axis;
            let over = ReduceAttrs { axis: Some(vec![axis]), keepdims: false, exclude: true }.attrs();
            let bias = self.build.call(&SUM, &[g], over)?;
            return Ok(Some(vec![g, bias]));
        }
        let &[a, b] = &self.call.args[..] else { return Ok(None) };
        let (da, db) = if op.is(&ADD) {
            (g, g)
        } else if op.is(&SUBTRACT) {
            (g, self.op(&NEGATIVE, &[g])?)
        } else if op.is(&MULTIPLY) {
            (self.op(&MULTIPLY, &[g, b])?, self.op(&MULTIPLY, &[g, a])?)
        } else if op.is(&DIVIDE) {
            let da = self.op(&DIVIDE, &[g, b])?;
            let share = self.op(&DIVIDE, &[self.expr, b])?;
            let share = self.op(&MULTIPLY, &[g, share])?;
            (da, self.op(&NEGATIVE, &[share])?)
        } else if op.is(&MAXIMUM) || op.is(&MINIMUM) {
            let zero = self.scalar(0.0);
            let first = if op.is(&MAXIMUM) { [a, b] } else { [b, a] };
            let chosen = self.op(&GREATER, &first)?;
            (self.op(&WHERE, &[chosen, g, zero])?, self.op(&WHERE, &[chosen, zero, g])?)
        } else {
            return Ok(None);
        };
        Ok(Some(vec![self.collapsed(da, 0)?, self.collapsed(db, 1)?]))
    }

    /// A gradient of the result's shape, summed to that of an argument which was broadcast.
    fn collapsed(&mut self, grad: ExprId, arg: usize) -> Result<ExprId, Diagnostic> {
        let shape = sizes(&self.shapes[arg]);
        if static_shape(self.build.module(), grad).is_some_and(|s| sizes(&s) == shape) {
            return Ok(grad);
        }
        self.build.call(&COLLAPSE_SUM_TO, &[grad], CollapseSumToAttrs { shape }.attrs())
    }

    /// Sums, and operators that move elements.
    fn shape(&mut self, op: Op) -> Result<Option<ExprId>, Diagnostic> {
        let g = self.grad;
        let Some(own) = self.shapes.first().cloned() else { return Ok(None) };
        if is_reshape(op) {
            let newshape = sizes(&own);
            let attrs = ReshapeAttrs { allowzero: own.contains(&0), newshape }.attrs();
            return self.build.call(&RESHAPE, &[g], attrs).map(Some);
        }
        if op.is(&TRANSPOSE) {
            let rank = own.len() as i64;
            let axes = self.call.attrs.read::<TransposeAttrs>().axes.filter(|a| !a.is_empty());
            let axes = axes.unwrap_or_else(|| (0..rank).rev().collect());
            let mut inverse = vec![0; own.len()];
            for (place, axis) in axes.iter().enumerate() {
                inverse[axis.rem_euclid(rank.max(1)) as usize] = place as i64;
            }
            return self
                .build
                .call(&TRANSPOSE, &[g], TransposeAttrs { axes: Some(inverse) }.attrs())
                .map(Some);
        }
        if op.is(&CAST) {
            let dtype = self.build.ty(self.call.args[0]).as_tensor().expect("a tensor").dtype;
            return self.build.call(&CAST, &[g], CastAttrs { dtype }.attrs()).map(Some);
        }
        if op.is(&BROADCAST_TO) {
            return self.collapsed(g, 0).map(Some);
        }
        if op.is(&SUM) || op.is(&MEAN) {
            return self.spread(op, &own).map(Some);
        }
        Ok(None)
    }

    /// The gradient of a sum or a mean, at every element that went into it.
    fn spread(&mut self, op: Op, own: &[usize]) -> Result<ExprId, Diagnostic> {
        let attrs: ReduceAttrs = self.call.attrs.read();
        let listed: Vec<usize> = match &attrs.axis {
            Some(axes) => axes.iter().map(|a| a.rem_euclid(own.len().max(1) as i64) as usize).collect(),
            None => (0..own.len()).collect(),
        };
        let reduced = |d: usize| listed.contains(&d) != (attrs.exclude && attrs.axis.is_some());
        let kept: Vec<i64> =
            own.iter().enumerate().map(|(d, &n)| if reduced(d) { 1 } else { n as i64 }).collect();
        let allowzero = kept.contains(&0);
        let flat =
            self.build.call(&RESHAPE, &[self.grad], ReshapeAttrs { newshape: kept, allowzero }.attrs())?;
        let whole =
            self.build.call(&BROADCAST_TO, &[flat], BroadcastToAttrs { shape: sizes(own) }.attrs())?;
        if op.is(&SUM) {
            return Ok(whole);
        }
        let count: usize = own.iter().enumerate().filter(|(d, _)| reduced(*d)).map(|(_, &n)| n).product();
        let count = self.scalar(count as f64);
        self.op(&DIVIDE, &[whole, count])
    }

    /// Products and convolutions.
    fn products(&mut self, op: Op) -> Gradients {
        if op.is(&DENSE) {
            self.dense().map(Some)
        } else if op.is(&BATCH_MATMUL) {
            self.batch_matmul()
        } else if op.is(&CONV2D) {
            self.conv2d()
        } else {
            Ok(None)
        }
    }

    fn reshaped(&mut self, value: ExprId, shape: &[usize]) -> Result<ExprId, Diagnostic> {
        let attrs = ReshapeAttrs { newshape: sizes(shape), allowzero: shape.contains(&0) }.attrs();
        self.build.call(&RESHAPE, &[value], attrs)
    }

    fn swapped(&mut self, value: ExprId, axes: &[i64]) -> Result<ExprId, Diagnostic> {
        self.build.call(&TRANSPOSE, &[value], TransposeAttrs { axes: Some(axes.to_vec()) }.attrs())
    }

    /// `y = x * w^T`: `dx = dy * w` and `dw = dy^T * x`.
    fn dense(&mut self) -> Result<Vec<ExprId>, Diagnostic> {
        let (x, w) = (self.call.args[0], self.call.args[1]);
        let (units, k) = (self.shapes[1][0], self.shapes[1][1]);
        let rows: usize = self.shapes[0].iter().rev().skip(1).product();
        let own = DenseAttrs { units: None, out_dtype: None }.attrs();
        let columns = self.swapped(w, &[1, 0])?;
        let dx = self.build.call(&DENSE, &[self.grad, columns], own.clone())?;
        let (g, x) = (self.reshaped(self.grad, &[rows, units])?, self.reshaped(x, &[rows, k])?);
        let (g, x) = (self.swapped(g, &[1, 0])?, self.swapped(x, &[1, 0])?);
        Ok(vec![dx, self.build.call(&DENSE, &[g, x], own)?])
    }

    fn batch_matmul(&mut self) -> Gradients {
        let attrs: BatchMatmulAttrs = self.call.attrs.read();
        let (a, b, g) = (self.call.args[0], self.call.args[1], self.grad);
        let lead = |shape: &[usize]| shape[..shape.len().saturating_sub(2)].to_vec();
        if attrs.transpose_a || lead(&self.shapes[0]) != lead(&self.shapes[1]) {
            return Ok(None);
        }
        let with = |transpose_a: bool, transpose_b: bool| {
            BatchMatmulAttrs { out_dtype: None, transpose_a, transpose_b }.attrs()
        };
        let da = self.build.call(&BATCH_MATMUL, &[g, b], with(false, !attrs.transpose_b))?;
        let db = match attrs.transpose_b {
            true => self.build.call(&BATCH_MATMUL, &[g, a], with(true, false))?,
            false => self.build.call(&BATCH_MATMUL, &[a, g], with(true, false))?,
        };
        Ok(Some(vec![da, db]))
    }

    /// In NCHW and one group: the data's by a transposed convolution, the weight's by a convolution of
    /// the data with the gradient, channels for images.
    fn conv2d(&mut self) -> Gradients {
        let attrs: Conv2dAttrs = self.call.attrs.read();
        let plain = attrs.groups == 1 && &*attrs.data_layout == "NCHW" && &*attrs.kernel_layout == "OIHW";
        if !plain || !attrs.out_layout.is_empty() || attrs.out_dtype.is_some() {
            return Ok(None);
        }
        let pads: Vec<i64> = match attrs.padding[..] {
            [p] => vec![p; 4],
            [h, w] => vec![h, w, h, w],
            _ => attrs.padding.clone(),
        };
        let (x, w, g) = (self.call.args[0], self.call.args[1], self.grad);
        let (data, kernel) = (self.shapes[0].clone(), self.shapes[1].clone());
        let left = |d: usize| {
            let taken = attrs.dilation[d] * (kernel[2 + d] as i64 - 1) + 1;
            (data[2 + d] as i64 + pads[d] + pads[d + 2] - taken).rem_euclid(attrs.strides[d])
        };
        let back = Conv2dTransposeAttrs {
            channels: Some(data[1] as i64),
            kernel_size: Some(sizes(&kernel[2..])),
            strides: attrs.strides.clone(),
            output_padding: vec![left(0), left(1)],
            padding: pads.clone(),
            dilation: attrs.dilation.clone(),
            groups: 1,
            data_layout: "NCHW".into(),
            kernel_layout: "IOHW".into(),
            out_layout: "".into(),
            out_dtype: None,
        };
        let dx = self.build.call(&CONV2D_TRANSPOSE, &[g, w], back.attrs())?;
        let (images, filters) = (self.swapped(x, &[1, 0, 2, 3])?, self.swapped(g, &[1, 0, 2, 3])?);
        let across = Conv2dAttrs {
            strides: attrs.dilation.clone(),
            dilation: attrs.strides.clone(),
            padding: pads,
            channels: None,
            kernel_size: None,
            ..attrs
        };
        let whole = self.build.call(&CONV2D, &[images, filters], across.attrs())?;
        let cut = StridedSliceAttrs {
            begin: Some(vec![0, 0]),
            end: Some(sizes(&kernel[2..])),
            strides: None,
            slice_mode: "end".into(),
            axes: Some(vec![2, 3]),
        };
        let part = self.build.call(&STRIDED_SLICE, &[whole], cut.attrs())?;
        Ok(Some(vec![dx, self.swapped(part, &[1, 0, 2, 3])?]))
    }
}
