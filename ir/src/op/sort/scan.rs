//! Running sums and products.

use super::line::{LineLoops, Lines, serial, store, var_expr};
use crate::dispatch;
use crate::eval::Value;
use crate::op::elemwise::convert::cast;
use crate::op::reduce::narrow;
use crate::op::util::{
    ALL, NUMERIC, accumulator, build, check_dtype, elements, normalize_axis, result_type, static_shape,
    tensor_arg, tensor_type, tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{BinaryOp, Scalar, binary_fn};
use crate::te::{self, StageKind};
use crate::tir::{Expr, Stmt};
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `cumsum` and `cumprod`.
    pub struct ScanAttrs {
        /// The axis to run along; all elements in row-major order, as one line, if absent.
        axis: Option<i64> = None,
        /// The dtype of the result; that of the data if absent.
        dtype: Option<DType> = None,
        /// Whether an element is left out of its own result.
        exclusive: bool = false,
    }
}

/// Declares the rows.
macro_rules! rows {
    ($($row:ident $name:literal $op:ident [$($onnx:literal),*] $doc:literal;)*) => { $(
        #[doc = concat!("`", $name, "`: ", $doc)]
        pub static $row: OpDef = OpDef {
            name: $name,
            doc: $doc,
            args: &["data"],
            optional: 0,
            attrs: ScanAttrs::SCHEMA,
            pattern: FusePattern::Opaque,
            purity: Purity::Pure,
            dtypes: ALL,
            infer,
            backward: no_backward,
            eval: |args, attrs, ty| eval(BinaryOp::$op, args, attrs, ty),
            lower: Lower::Te(|graph, args, attrs, out| lower($name, BinaryOp::$op, graph, &args[0], attrs, &out[0])),
            onnx: &[$($onnx),*],
        };
    )* };
}

rows! {
    CUMSUM  "cumsum"  Add ["CumSum"]  "the sum of the elements so far.";
    CUMPROD "cumprod" Mul ["CumProd"] "the product of the elements so far.";
}

fn infer(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let attrs = attrs.read::<ScanAttrs>();
    let data = tensor_arg(types, 0)?;
    let dtype = attrs.dtype.unwrap_or(data.dtype);
    check_dtype(0, dtype, NUMERIC).map_err(|e| e.help("give a dtype for the result"))?;
    let shape = match attrs.axis {
        Some(axis) => {
            normalize_axis(axis, data.rank())?;
            data.shape.clone()
        }
        None => vec![data.elements().map_or(Dim::Any, Dim::Static)],
    };
    tensor_type(shape, dtype)
}

/// The axis of the result that is run along.
fn line_axis(attrs: &ScanAttrs, rank: usize) -> Result<usize, OpError> {
    attrs.axis.map_or(Ok(0), |axis| normalize_axis(axis, rank))
}

/// The value of no elements.
fn start(op: BinaryOp, dtype: DType) -> Scalar {
    Scalar::from_i64(dtype, (op == BinaryOp::Mul) as i64)
}

fn eval(op: BinaryOp, args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let attrs = attrs.read::<ScanAttrs>();
    let out = result_type(ty)?;
    let shape = static_shape(out)?;
    let x = cast(&cast(tensor_value(args, 0)?, out.dtype)?, accumulator(out.dtype))?;
    let lines = Lines::new(&shape, line_axis(&attrs, shape.len())?);
    let scanned = dispatch!(x.dtype(), T => {
        let x = elements::<T>(&x)?;
        let f = binary_fn::<T>(op);
        let start: T = start(op, accumulator(out.dtype)).get().expect("made of this dtype");
        build::<T>(&shape, |out| lines.for_each(|line| {
            let mut acc = start;
            for (k, at) in (0..lines.len).map(|k| lines.at(line, k)).enumerate() {
                let next = if k == 0 && !attrs.exclusive { x[at] } else { f(acc, x[at]) };
                out[at] = if attrs.exclusive { acc } else { next };
                acc = next;
            }
        }))?
    });
    Ok(cast(&scanned, out.dtype)?.into())
}

fn lower(
    name: &str,
    op: BinaryOp,
    graph: &mut te::Graph,
    data: &te::Tensor,
    attrs: &Attrs,
    out: &TensorType,
) -> Result<Vec<te::Tensor>, OpError> {
    let attrs = attrs.read::<ScanAttrs>();
    let shape = static_shape(out)?;
    let axis = line_axis(&attrs, shape.len())?;
    let wide = accumulator(out.dtype);
    let lines = LineLoops::new(graph, &shape, axis);
    let scan = graph.tensor(name, &shape, wide);
    let k = graph.var("k", DType::I64);
    let here = var_expr(k);
    // Not used at the first place, where it would lie before the line.
    let previous = (here.clone() - 1i64).max(0i64);
    let element = |place: &Expr| {
        let at = match attrs.axis {
            Some(_) => lines.at(place.clone()),
            None => unflatten(place, &data.shape),
        };
        data.at(&at).cast(out.dtype).cast(wide)
    };
    let so_far = scan.at(&lines.at(previous.clone()));
    let at_first = here.clone().equal(0i64);
    let value = match attrs.exclusive {
        true => at_first.select(Expr::constant(start(op, wide)), so_far.binary(op, element(&previous))),
        false => at_first.select(element(&here), so_far.binary(op, element(&here))),
    };
    let body = if shape.contains(&0) {
        Stmt::nop()
    } else {
        lines.around(serial(k, shape[axis], vec![store(scan.id, lines.at(here), value)]))
    };
    graph.push(
        name,
        "scan",
        &[scan.id],
        StageKind::Extern { inputs: vec![data.id], allocs: Vec::new(), body },
    );
    Ok(vec![narrow(name, graph, scan, out)])
}

/// The indices of the element at a place in row-major order.
fn unflatten(place: &Expr, shape: &[usize]) -> Vec<Expr> {
    let mut rest = place.clone();
    let mut indices = Vec::with_capacity(shape.len());
    for (d, &n) in shape.iter().enumerate().rev() {
        indices.push(if d == 0 { rest.clone() } else { rest.clone().floor_mod(n) });
        rest = rest.floor_div(n);
    }
    indices.reverse();
    indices
}
