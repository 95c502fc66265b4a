//! Operators that give elements another shape, order or place.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::fold::Extent;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::transform::{
    RESHAPE, REVERSE_SEQUENCE, ReshapeAttrs, ReverseSequenceAttrs, SPLIT, Sections, SplitAttrs, TILE,
    TileAttrs,
};
use crate::types::Dim;

/// Shapes.
pub(super) const ROWS: &[Row] = &[
    one!("CenterCropPad", center_crop_pad).known(&[1]),
    one!("Concat", concat).all_move(),
    one!("DepthToSpace", depth_to_space),
    one!("Expand", expand).known(&[1]).moves(),
    one!("Flatten", flatten),
    Row::new("Identity", |cx| Ok(vec![cx.value(0)])).moves(),
    one!("Reshape", reshape).known(&[1]).moves(),
    one!("ReverseSequence", reverse_sequence),
    one!("Slice", slice).known(&[1, 2, 3, 4]).moves(),
    one!("SpaceToDepth", space_to_depth),
    Row::new("Split", split).known(&[1]).moves(),
    one!("Squeeze", squeeze).known(&[1]).moves(),
    one!("Tile", tile).known(&[1]),
    one!("Transpose", transpose).moves(),
    one!("Unsqueeze", unsqueeze).known(&[1]).moves(),
];

fn concat(cx: &mut Cx<'_, '_>) -> Step {
    let args = cx.tensors()?;
    let Some(&first) = args.first() else { return wrong("Concat needs an input") };
    let axis = match cx.int_opt("axis")? {
        Some(axis) => axis,
        None if cx.opset < 4 => 1,
        None => return wrong("Concat needs an axis"),
    };
    let axis = cx.axis(axis, cx.rank(first)?)?;
    cx.concat(&args, axis)
}

/// What a target shape becomes: the codes of our `reshape`, or `None` if they cannot say it.
///
/// A symbolic dimension that stands where the data has the same one is copied; one entry
/// may be inferred from the others.
fn reshape_codes(target: &[Extent], data: &[Dim], allowzero: bool) -> Option<(Vec<i64>, bool)> {
    let mut codes = Vec::with_capacity(target.len());
    let mut copies = false;
    let mut inferred = 0;
    for (i, extent) in target.iter().enumerate() {
        codes.push(match extent {
            Extent::Known(0) if !allowzero => {
                copies = true;
                0
            }
            Extent::Known(n) => {
                inferred += usize::from(*n == -1);
                *n
            }
            Extent::Sym(s) if data.get(i) == Some(&Dim::Sym(s.clone())) => {
                copies = true;
                0
            }
            Extent::Sym(_) | Extent::Unknown => {
                inferred += 1;
                -1
            }
        });
    }
    let zero = allowzero && target.contains(&Extent::Known(0));
    (inferred <= 1 && !(zero && copies)).then_some((codes, zero))
}

fn reshape(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let target = if cx.opset < 5 {
        match cx.ints_opt("shape")? {
            Some(shape) => shape.into_iter().map(Extent::Known).collect(),
            None => return wrong("Reshape needs a shape"),
        }
    } else {
        let shape = cx.arg(1)?;
        match cx.extents(shape) {
            Some(extents) => extents,
            None => return cx.dyn_reshape(x, shape),
        }
    };
    let allowzero = cx.flag("allowzero", false)?;
    match reshape_codes(&target, &cx.ty(x)?.shape, allowzero) {
        Some((newshape, allowzero)) => cx.call(&RESHAPE, &[x], ReshapeAttrs { newshape, allowzero }.attrs()),
        None => {
            let shape = cx.arg(1)?;
            cx.dyn_reshape(x, shape)
        }
    }
}

fn flatten(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let ty = cx.ty(x)?;
    let axis = cx.int("axis", 1)?;
    let rank = ty.rank();
    let axis = if axis == rank as i64 { rank } else { cx.axis(axis, rank)? };
    cx.flatten_at(x, axis)
}

/// The axes of `Squeeze` and `Unsqueeze`: an attribute before opset 13, an operand since.
fn axes_operand(cx: &Cx<'_, '_>) -> Step<Option<Vec<i64>>> {
    if cx.opset < 13 { cx.ints_opt("axes") } else { cx.const_ints_opt(1, "axes") }
}

fn squeeze(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let ty = cx.ty(x)?;
    let axes = match axes_operand(cx)? {
        Some(axes) => cx.axes(&axes, ty.rank())?,
        None => (0..ty.rank()).filter(|&i| ty.shape[i] == Dim::Static(1)).collect(),
    };
    cx.squeeze(x, &axes)
}

fn unsqueeze(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let Some(axes) = axes_operand(cx)? else { return wrong("Unsqueeze needs axes") };
    let rank = cx.rank(x)? + axes.len();
    let axes = cx.axes(&axes, rank)?;
    axes.into_iter().try_fold(x, |x, axis| cx.expand_dims(x, axis, 1))
}

fn transpose(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let order: Vec<usize> = match cx.ints_opt("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&p| cx.axis(p, rank)).collect::<Step<_>>()?,
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return wrong(format!("perm {order:?} of Transpose is no order of {rank} dimensions"));
    }
    cx.transpose(x, &order)
}

/// Both shapes broadcast: a size of 1 in the target keeps the data's.
fn expand(cx: &mut Cx<'_, '_>) -> Step {
    let (x, shape) = (cx.arg(0)?, cx.arg(1)?);
    let Some(target) = cx.known(shape) else { return cx.dyn_broadcast(x, shape) };
    let target = crate::front::onnx::fold::ints(&target).unwrap_or_default();
    let target: Vec<usize> = target
        .iter()
        .map(|&n| usize::try_from(n).or_else(|_| wrong(format!("Expand cannot give a size of {n}"))))
        .collect::<Step<_>>()?;
    let ty = cx.ty(x)?;
    let Some(own) = ty.static_shape() else {
        // A choice between the data and itself has the broadcast shape, known or not.
        let yes = cx.filled(&target, crate::types::DType::Bool, 1.0)?;
        return cx.select(yes, x, x);
    };
    match broadcast_shape(&own, &target) {
        Some(shape) => cx.broadcast_to(x, &shape),
        None => wrong(format!("Expand cannot broadcast {own:?} with {target:?}")),
    }
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (1, n) | (n, 1) => Some(n),
            (m, n) => (m == n).then_some(n),
        })
        .collect()
}

fn slice(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let (starts, ends, axes, steps) = if cx.opset < 10 {
        (cx.ints_opt("starts")?, cx.ints_opt("ends")?, cx.ints_opt("axes")?, None)
    } else {
        let known = |i: usize| -> Step<bool> { Ok(cx.opt(i)?.is_none_or(|e| cx.known(e).is_some())) };
        if !(known(1)? && known(2)?) && known(3)? && known(4)? {
            return dynamic_slice(cx, x, rank);
        }
        let list = |i: usize, what: &str| cx.const_ints_opt(i, what);
        (list(1, "the starts")?, list(2, "the ends")?, list(3, "the axes")?, list(4, "the steps")?)
    };
    let (Some(starts), Some(ends)) = (starts, ends) else { return wrong("Slice needs starts and ends") };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return wrong("the lists of Slice differ in length");
    }
    if steps.contains(&0) {
        return wrong("Slice cannot take steps of 0");
    }
    let axes: Vec<usize> = axes.iter().map(|&a| cx.axis(a, rank)).collect::<Step<_>>()?;
    cx.slice(x, &axes, &starts, &ends, &steps)
}

/// A slice whose bounds are computed at run time, in terms of all dimensions.
fn dynamic_slice(cx: &mut Cx<'_, '_>, x: ExprId, rank: usize) -> Step {
    let (starts, ends) = (cx.arg(1)?, cx.arg(2)?);
    let count = cx.size(starts, 0)?;
    let axes = cx.const_ints_opt(3, "the axes")?.unwrap_or_else(|| (0..count as i64).collect());
    let axes: Vec<usize> = axes.iter().map(|&a| cx.axis(a, rank)).collect::<Step<_>>()?;
    let steps = cx.const_ints_opt(4, "the steps")?.unwrap_or_else(|| vec![1; count]);
    cx.dyn_slice(x, &axes, starts, ends, &steps)
}

fn split(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", 0)?, cx.rank(x)?)?;
    let parts = match cx.opset {
        ..13 => cx.ints_opt("split")?,
        13.. => cx.const_ints_opt(1, "the sizes of the parts")?,
    };
    let count = cx.node.outputs.len();
    let parts = match parts {
        Some(parts) => parts,
        None => {
            let count = cx.int("num_outputs", count as i64)?;
            let size = cx.size(x, axis)? as i64;
            if count < 1 || count as usize > cx.node.outputs.len() {
                return wrong(format!("Split cannot make {count} parts"));
            }
            // Parts are of one size, but for the last, which may be smaller.
            let part = (size + count - 1) / count;
            (0..count).map(|i| part.min(size - part * i).max(0)).collect()
        }
    };
    let mut cuts = Vec::new();
    let mut at = 0i64;
    for &part in &parts {
        if part < 0 {
            return wrong(format!("Split cannot make a part of {part}"));
        }
        at = at.saturating_add(part);
        cuts.push(at);
    }
    let total = cuts.pop().unwrap_or(0);
    if cx.ty(x)?.shape[axis].as_static().is_some_and(|n| n as i64 != total) {
        return wrong(format!("the parts of Split are {total} together, the dimension is another"));
    }
    let attrs = SplitAttrs { indices_or_sections: Sections::At(cuts), axis: axis as i64 };
    let fields = cx.call_multi(&SPLIT, &[x], attrs.attrs())?;
    Ok(fields.into_iter().map(Value::Tensor).collect())
}

fn tile(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let reps = if cx.opset < 6 {
        let (tiles, axis) = (cx.const_ints(1, "the tiles")?, cx.const_ints(2, "the axis")?);
        let (Some(&n), Some(&axis)) = (tiles.first(), axis.first()) else { return wrong("Tile needs tiles") };
        let mut reps = vec![1; rank];
        reps[cx.axis(axis, rank)?] = n;
        reps
    } else {
        cx.const_ints(1, "the repeats")?
    };
    if reps.len() != rank || reps.iter().any(|&n| n < 0) {
        return wrong(format!("repeats {reps:?} of Tile do not fit rank {rank}"));
    }
    cx.call(&TILE, &[x], TileAttrs { reps }.attrs())
}

/// Batch, channels and spatial sizes of an image whose batch may be unknown.
fn image_sizes(cx: &Cx<'_, '_>, x: ExprId) -> Step<[usize; 3]> {
    if cx.rank(x)? != 4 {
        return wrong(format!("`{}` wants a tensor of rank 4", cx.node.op_type));
    }
    Ok([cx.size(x, 1)?, cx.size(x, 2)?, cx.size(x, 3)?])
}

fn block_size(cx: &Cx<'_, '_>) -> Step<usize> {
    match usize::try_from(cx.int("blocksize", 0)?) {
        Ok(n) if (1..1 << 16).contains(&n) => Ok(n),
        _ => wrong("blocksize must be positive"),
    }
}

fn depth_to_space(cx: &mut Cx<'_, '_>) -> Step {
    let (x, s) = (cx.arg(0)?, block_size(cx)?);
    let [c, h, w] = image_sizes(cx, x)?;
    let (shape, order) = match cx.text("mode", "DCR")? {
        "DCR" => ([s, s, c / (s * s), h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([c / (s * s), s, s, h, w], [0, 1, 4, 2, 5, 3]),
        other => return refuse(format!("mode `{other}` of DepthToSpace is not supported")),
    };
    let y = cx.reshape_batch(x, &shape)?;
    let y = cx.transpose(y, &order)?;
    cx.reshape_batch(y, &[c / (s * s), h * s, w * s])
}

fn space_to_depth(cx: &mut Cx<'_, '_>) -> Step {
    let (x, s) = (cx.arg(0)?, block_size(cx)?);
    let [c, h, w] = image_sizes(cx, x)?;
    let y = cx.reshape_batch(x, &[c, h / s, s, w / s, s])?;
    let order = match cx.text("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return refuse(format!("mode `{other}` of SpaceToDepth is not supported")),
    };
    let y = cx.transpose(y, &order)?;
    cx.reshape_batch(y, &[c * s * s, h / s, w / s])
}

fn reverse_sequence(cx: &mut Cx<'_, '_>) -> Step {
    let (x, lens) = (cx.arg(0)?, cx.arg(1)?);
    let (seq_axis, batch_axis) = (cx.int("time_axis", 0)?, cx.int("batch_axis", 1)?);
    cx.call(&REVERSE_SEQUENCE, &[x, lens], ReverseSequenceAttrs { seq_axis, batch_axis }.attrs())
}

fn center_crop_pad(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let target = cx.const_ints(1, "the shape")?;
    let axes = cx.ints_opt("axes")?.unwrap_or_else(|| (0..rank as i64).collect());
    if axes.len() != target.len() {
        return wrong("the shape and the axes of CenterCropPad differ in length");
    }
    let mut pads = vec![0i64; 2 * rank];
    let mut y = x;
    for (&axis, &want) in axes.iter().zip(&target) {
        let axis = cx.axis(axis, rank)?;
        let have = cx.size(x, axis)? as i64;
        if want < 0 {
            return wrong(format!("CenterCropPad cannot give a size of {want}"));
        }
        if want < have {
            let start = (have - want) / 2;
            y = cx.slice(y, &[axis], &[start], &[start + want], &[1])?;
        } else {
            pads[axis] = (want - have) / 2;
            pads[rank + axis] = want - have - pads[axis];
        }
    }
    cx.pad_zeros(y, &pads)
}
