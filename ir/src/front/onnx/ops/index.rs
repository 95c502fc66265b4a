//! Reading and writing by index, sorting, searching.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, floats, refuse, wrong};
use crate::op::broadcast as b;
use crate::op::index::{
    GATHER, GATHER_ND, GatherAttrs, GatherNdAttrs, SCATTER_ELEMENTS, SCATTER_ND, ScatterElementsAttrs,
    ScatterNdAttrs, TAKE, TakeAttrs,
};
use crate::op::sort::{ARGWHERE, CUMPROD, CUMSUM, ScanAttrs, TOPK, TopkAttrs, UNIQUE, UniqueAttrs};
use crate::op::transform::{REVERSE, ReverseAttrs, TRILU, TriluAttrs};
use crate::op::{Attrs, OpAttrs, OpDef};
use crate::tensor::Tensor;
use crate::types::DType;

/// Indices.
pub(super) const ROWS: &[Row] = &[
    one!("Compress", compress),
    one!("CumProd", |cx| running(cx, &CUMPROD)).known(&[1]),
    one!("CumSum", |cx| running(cx, &CUMSUM)).known(&[1]),
    one!("Gather", gather).moves(),
    one!("GatherElements", gather_elements),
    one!("GatherND", gather_nd),
    one!("NonZero", non_zero),
    one!("OneHot", one_hot).known(&[1]),
    one!("Scatter", scatter_elements),
    one!("ScatterElements", scatter_elements),
    one!("ScatterND", scatter_nd),
    one!("TensorScatter", tensor_scatter),
    Row::new("TopK", top_k).known(&[1]),
    one!("Trilu", trilu).known(&[1]),
    Row::new("Unique", unique),
];

impl Cx<'_, '_> {
    /// The slices of a dimension that the indices name; negative ones count from the end.
    pub(in crate::front::onnx) fn take(&mut self, x: ExprId, indices: ExprId, axis: usize) -> Step {
        let attrs = TakeAttrs { batch_dims: 0, axis: Some(axis as i64), mode: "fast".into() };
        self.call(&TAKE, &[x, indices], attrs.attrs())
    }

    /// The slices of a dimension at known places.
    pub(in crate::front::onnx) fn take_known(&mut self, x: ExprId, places: &[usize], axis: usize) -> Step {
        let places: Vec<i64> = places.iter().map(|&p| p as i64).collect();
        let places = self.ints_const(&places);
        self.take(x, places, axis)
    }

    /// The element at each index along an axis, the other coordinates being the index's own.
    pub(in crate::front::onnx) fn gather(&mut self, x: ExprId, indices: ExprId, axis: usize) -> Step {
        self.call(&GATHER, &[x, indices], GatherAttrs { axis: axis as i64 }.attrs())
    }

    /// Indices counted from the front; those that count from the end need the dimension's size.
    fn counted_from_front(&mut self, indices: ExprId, x: ExprId, axis: usize) -> Step {
        if self.known(indices).is_some_and(|t| floats(&t).iter().all(|&i| i >= 0.0)) {
            return Ok(indices);
        }
        let size = self.size(x, axis)?;
        let moved = self.num(&b::ADD, indices, size as f64)?;
        let negative = self.num(&b::LESS, indices, 0.0)?;
        self.select(negative, moved, indices)
    }

    /// Coordinates in the last dimension, from the front, moved to the first dimension.
    fn coordinates(&mut self, indices: ExprId, x: ExprId, first: usize) -> Step {
        let rank = self.rank(indices)?;
        if rank == 0 {
            return wrong("the indices are a scalar");
        }
        let known = self.known(indices).is_some_and(|t| floats(&t).iter().all(|&i| i >= 0.0));
        let mut indices = indices;
        if !known {
            let count = self.size(indices, rank - 1)?;
            let sizes = (0..count).map(|d| Ok(self.size(x, first + d)? as i64)).collect::<Step<Vec<_>>>()?;
            let dtype = self.dtype(indices)?;
            let sizes = self.ints_const(&sizes);
            let sizes = self.cast(sizes, dtype)?;
            let moved = self.add(indices, sizes)?;
            let negative = self.num(&b::LESS, indices, 0.0)?;
            indices = self.select(negative, moved, indices)?;
        }
        let order: Vec<usize> = std::iter::once(rank - 1).chain(0..rank - 1).collect();
        self.transpose(indices, &order)
    }

    /// Written at the coordinates in the first dimension of the indices.
    pub(in crate::front::onnx) fn scatter_at(
        &mut self,
        x: ExprId,
        columns: ExprId,
        updates: ExprId,
        mode: &str,
    ) -> Step {
        self.call(&SCATTER_ND, &[x, columns, updates], ScatterNdAttrs { mode: mode.into() }.attrs())
    }

    /// The elements of a dimension in reverse order.
    pub(in crate::front::onnx) fn reverse(&mut self, x: ExprId, axis: usize) -> Step {
        self.call(&REVERSE, &[x], ReverseAttrs { axis: axis as i64 }.attrs())
    }

    /// The integers from 0 along one dimension of a tensor of `rank`.
    pub(in crate::front::onnx) fn count_up(
        &mut self,
        n: usize,
        dtype: DType,
        axis: usize,
        rank: usize,
    ) -> Step {
        let numbers: Vec<i64> = (0..n as i64).collect();
        let numbers = self.ints_const(&numbers);
        let numbers = self.cast(numbers, dtype)?;
        self.along(numbers, axis, rank)
    }
}

fn gather(cx: &mut Cx<'_, '_>) -> Step {
    let (x, indices) = (cx.arg(0)?, cx.arg(1)?);
    let axis = cx.axis(cx.int("axis", 0)?, cx.rank(x)?)?;
    cx.take(x, indices, axis)
}

fn gather_elements(cx: &mut Cx<'_, '_>) -> Step {
    let (x, indices) = (cx.arg(0)?, cx.arg(1)?);
    let axis = cx.axis(cx.int("axis", 0)?, cx.rank(x)?)?;
    let indices = cx.counted_from_front(indices, x, axis)?;
    cx.gather(x, indices, axis)
}

fn gather_nd(cx: &mut Cx<'_, '_>) -> Step {
    let (x, indices) = (cx.arg(0)?, cx.arg(1)?);
    let batch_dims = cx.int("batch_dims", 0)?;
    let first = usize::try_from(batch_dims).or_else(|_| wrong("batch_dims is negative"))?;
    let columns = cx.coordinates(indices, x, first)?;
    let attrs = GatherNdAttrs { batch_dims, index_rank: None };
    cx.call(&GATHER_ND, &[x, columns], attrs.attrs())
}

/// The name of a way to combine in our operators.
fn combine(cx: &Cx<'_, '_>) -> Step<&'static str> {
    match cx.text("reduction", "none")? {
        "none" => Ok("update"),
        "add" => Ok("add"),
        "mul" => Ok("mul"),
        "max" => Ok("max"),
        "min" => Ok("min"),
        other => wrong(format!("reduction `{other}` does not exist")),
    }
}

fn scatter_elements(cx: &mut Cx<'_, '_>) -> Step {
    let (x, indices, updates) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    let axis = cx.axis(cx.int("axis", 0)?, cx.rank(x)?)?;
    let indices = cx.counted_from_front(indices, x, axis)?;
    let attrs = ScatterElementsAttrs { axis: axis as i64, reduction: combine(cx)?.into() };
    cx.call(&SCATTER_ELEMENTS, &[x, indices, updates], attrs.attrs())
}

fn scatter_nd(cx: &mut Cx<'_, '_>) -> Step {
    let (x, indices, updates) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    let mode = combine(cx)?;
    let columns = cx.coordinates(indices, x, 0)?;
    cx.scatter_at(x, columns, updates, mode)
}

/// Writes a stretch of a sequence, at a place of its own for each sample.
fn tensor_scatter(cx: &mut Cx<'_, '_>) -> Step {
    let (cache, update) = (cx.arg(0)?, cx.arg(1)?);
    let rank = cx.rank(cache)?;
    let axis = cx.axis(cx.int("axis", -2)?, rank)?;
    if axis == 0 {
        return wrong("the axis of TensorScatter cannot be the batch");
    }
    let (shape, length) = (cx.shape(update)?, cx.size(cache, axis)?);
    if shape.len() != rank {
        return wrong(format!("TensorScatter writes {} dimensions into {rank}", shape.len()));
    }
    let mut place = cx.count_up(shape[axis], DType::I64, axis, rank)?;
    if let Some(starts) = cx.opt(2)? {
        let starts = cx.cast(starts, DType::I64)?;
        let starts = cx.along(starts, 0, rank)?;
        place = cx.add(place, starts)?;
    }
    if cx.text("mode", "linear")? == "circular" {
        place = cx.num(&b::FLOOR_MOD, place, length as f64)?;
    }
    let place = cx.broadcast_to(place, &shape)?;
    let attrs = ScatterElementsAttrs { axis: axis as i64, reduction: "update".into() };
    cx.call(&SCATTER_ELEMENTS, &[cache, place, update], attrs.attrs())
}

fn one_hot(cx: &mut Cx<'_, '_>) -> Step {
    let (indices, values) = (cx.arg(0)?, cx.arg(2)?);
    let depth = cx.const_floats_opt(1, "the depth")?.and_then(|d| d.first().copied()).unwrap_or(0.0);
    if !(1.0..1e9).contains(&depth) {
        return wrong(format!("OneHot cannot have a depth of {depth}"));
    }
    let rank = cx.rank(indices)? + 1;
    let axis = cx.axis(cx.int("axis", -1)?, rank)?;
    let indices = cx.cast(indices, DType::I64)?;
    let moved = cx.num(&b::ADD, indices, depth)?;
    let negative = cx.num(&b::LESS, indices, 0.0)?;
    let indices = cx.select(negative, moved, indices)?;
    let indices = cx.expand_dims(indices, axis, 1)?;
    let places = cx.count_up(depth as usize, DType::I64, axis, rank)?;
    let hit = cx.bin(&b::EQUAL, indices, places)?;
    let off = cx.part(values, 0, 0, 1)?;
    let off = cx.squeeze(off, &[0])?;
    let on = cx.part(values, 0, 1, 2)?;
    let on = cx.squeeze(on, &[0])?;
    cx.select(hit, on, off)
}

/// The slices where a condition holds; how many there are may be known only at run time.
fn compress(cx: &mut Cx<'_, '_>) -> Step {
    let (x, cond) = (cx.arg(0)?, cx.arg(1)?);
    let (x, axis) = match cx.int_opt("axis")? {
        Some(axis) => (x, cx.axis(axis, cx.rank(x)?)?),
        None => (cx.reshape(x, &[-1])?, 0),
    };
    let places = cx.call(&ARGWHERE, &[cond], Attrs::NONE)?;
    let places = cx.squeeze(places, &[1])?;
    cx.take(x, places, axis)
}

fn non_zero(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let places = cx.call(&ARGWHERE, &[x], Attrs::NONE)?;
    let places = cx.transpose(places, &[1, 0])?;
    cx.cast(places, DType::I64)
}

fn top_k(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", -1)?, cx.rank(x)?)?;
    let k = match cx.opset {
        ..10 => cx.int("k", 0)?,
        10.. => cx.const_ints(1, "k")?.first().copied().unwrap_or(0),
    };
    if k < 1 || cx.ty(x)?.shape[axis].as_static().is_some_and(|n| k > n as i64) {
        return wrong(format!("TopK cannot choose {k} elements"));
    }
    let attrs = TopkAttrs {
        k,
        axis: axis as i64,
        ret_type: "both".into(),
        is_ascend: !cx.flag("largest", true)?,
        dtype: DType::I64,
    };
    let fields = cx.call_multi(&TOPK, &[x], attrs.attrs())?;
    Ok(fields.into_iter().map(Value::Tensor).collect())
}

fn unique(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    if cx.int_opt("axis")?.is_some() && cx.rank(x)? != 1 {
        return refuse("Unique along an axis is not supported");
    }
    let x = cx.reshape(x, &[-1])?;
    let attrs = UniqueAttrs { sorted: cx.flag("sorted", true)?, return_counts: true };
    let fields = cx.call_multi(&UNIQUE, &[x], attrs.attrs())?;
    let [y, first, inverse, _, counts] = fields[..] else { return wrong("Unique") };
    let mut results = vec![Value::Tensor(y)];
    for e in [first, inverse, counts] {
        results.push(Value::Tensor(cx.cast(e, DType::I64)?));
    }
    Ok(results)
}

/// Sums or products so far.
fn running(cx: &mut Cx<'_, '_>, op: &'static OpDef) -> Step {
    let x = cx.arg(0)?;
    let axis = cx.const_ints(1, "the axis")?.first().copied().unwrap_or(0);
    let axis = cx.axis(axis, cx.rank(x)?)?;
    let (exclusive, reverse) = (cx.flag("exclusive", false)?, cx.flag("reverse", false)?);
    let x = if reverse { cx.reverse(x, axis)? } else { x };
    let attrs = ScanAttrs { axis: Some(axis as i64), dtype: None, exclusive };
    let y = cx.call(op, &[x], attrs.attrs())?;
    if reverse { cx.reverse(y, axis) } else { Ok(y) }
}

/// The upper or lower triangle; the rest becomes zero.
fn trilu(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    if rank < 2 {
        return wrong("Trilu wants matrices");
    }
    let k = cx.const_ints_opt(1, "the diagonal")?.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = cx.flag("upper", true)?;
    let k = cx.constant(Tensor::scalar(k));
    cx.call(&TRILU, &[x, k], TriluAttrs { upper }.attrs())
}
