//! Moves between space, channels and batch: pad, split dimensions, permute, join, crop.

use std::sync::Arc;

use crate::eval::Value;
use crate::op::check::{one_of, size};
use crate::op::strided::{Layout, copy, pick};
use crate::op::util::{ALL, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::Scalar;
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType};

op_attrs! {
    /// Attributes of [`DEPTH_TO_SPACE`] and [`SPACE_TO_DEPTH`].
    pub struct SubPixelAttrs {
        /// Side of a block.
        block_size: i64 = 1,
        /// `NCHW` or `NHWC`.
        layout: Arc<str> = "NCHW".into(),
        /// What varies slowest in the channels: the place in the block (`DCR`) or the channel (`CRD`).
        mode: Arc<str> = "DCR".into(),
    }
}

op_attrs! {
    /// Attributes of [`SPACE_TO_BATCH_ND`].
    pub struct SpaceToBatchNdAttrs {
        /// Sides of a block, one a spatial axis.
        block_shape: Vec<i64> = vec![1, 1],
        /// Padding before and after each spatial axis.
        paddings: Vec<Vec<i64>>,
        /// The value of the padding.
        pad_value: f64 = 0.0,
    }
}

op_attrs! {
    /// Attributes of [`BATCH_TO_SPACE_ND`].
    pub struct BatchToSpaceNdAttrs {
        /// Sides of a block, one a spatial axis.
        block_shape: Vec<i64> = vec![1, 1],
        /// What is cut off before and after each spatial axis.
        crops: Vec<Vec<i64>>,
    }
}

/// Declares a row whose calls a function describes as a [`Move`].
macro_rules! row {
    ($id:ident, $name:literal, $doc:literal, $attrs:ident, $plan:ident, $onnx:expr) => {
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            args: &["data"],
            optional: 0,
            attrs: $attrs::SCHEMA,
            pattern: FusePattern::Injective,
            purity: Purity::Pure,
            dtypes: ALL,
            infer: |args, attrs| {
                let data = tensor_arg(args, 0)?;
                tensor_type($plan(data, attrs)?.dims(&data.shape)?, data.dtype)
            },
            backward: no_backward,
            eval: |args, attrs, _| {
                let x = args[0].tensor()?;
                eval(x, &$plan(&x.tensor_type(), attrs)?)
            },
            lower: Lower::Te(|g, args, attrs, out| {
                let t = TensorType::of(&args[0].shape, args[0].dtype);
                Ok(vec![lower(g, &args[0], &$plan(&t, attrs)?, &out[0])?])
            }),
            onnx: $onnx,
        };
    };
}
row!(
    DEPTH_TO_SPACE,
    "nn.depth_to_space",
    "Spreads channels over blocks of space.",
    SubPixelAttrs,
    depth_to_space,
    &["DepthToSpace"]
);
row!(
    SPACE_TO_DEPTH,
    "nn.space_to_depth",
    "Gathers blocks of space into channels.",
    SubPixelAttrs,
    space_to_depth,
    &["SpaceToDepth"]
);
row!(
    SPACE_TO_BATCH_ND,
    "nn.space_to_batch_nd",
    "Gathers the places of blocks of padded space into batches.",
    SpaceToBatchNdAttrs,
    space_to_batch,
    &[]
);
row!(
    BATCH_TO_SPACE_ND,
    "nn.batch_to_space_nd",
    "Spreads batches over blocks of space, and crops.",
    BatchToSpaceNdAttrs,
    batch_to_space,
    &[]
);

/// A part of a dimension.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Of this size.
    Size(usize),
    /// What is left of the dimension.
    Rest,
}

/// A move of elements: dimensions are padded, split into parts, and joined anew.
struct Move {
    /// Padding of each dimension of the data.
    pads: Vec<(usize, usize)>,
    /// The value of the padding.
    fill: f64,
    /// The parts of each dimension, outermost first, one of them the rest.
    parts: Vec<Vec<Part>>,
    /// For each dimension of the result its parts, outermost first, as places in all parts.
    joins: Vec<Vec<usize>>,
    /// What is cut off each dimension of the result.
    crops: Vec<(usize, usize)>,
}

impl Move {
    /// The size of every part, where it is known; dimensions that do not divide are refused.
    fn sizes(&self, shape: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let mut sizes = Vec::new();
        for ((dim, &(before, after)), parts) in shape.iter().zip(&self.pads).zip(&self.parts) {
            let block: usize = parts.iter().map(|p| if let Part::Size(n) = p { *n } else { 1 }).product();
            let rest = match dim.as_static().map(|n| n + before + after) {
                Some(n) if !n.is_multiple_of(block) => {
                    return Err(OpError::arg(
                        0,
                        format!("a dimension of {n} does not divide into {block} parts"),
                    ));
                }
                Some(n) => Dim::Static(n / block),
                None if block == 1 && (before, after) == (0, 0) => dim.clone(),
                None => Dim::Any,
            };
            sizes.extend(
                parts.iter().map(|p| if let Part::Size(n) = p { Dim::Static(*n) } else { rest.clone() }),
            );
        }
        Ok(sizes)
    }

    /// The dimensions of the result.
    fn dims(&self, shape: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let sizes = self.sizes(shape)?;
        let joined = |(join, &(before, after)): (&Vec<usize>, &(usize, usize))| {
            let parts: Vec<&Dim> =
                join.iter().map(|&p| &sizes[p]).filter(|d| **d != Dim::Static(1)).collect();
            match &parts[..] {
                [one] if (before, after) == (0, 0) => Ok((*one).clone()),
                _ => match parts.iter().try_fold(1usize, |n, d| n.checked_mul(d.as_static()?)) {
                    Some(n) => n.checked_sub(before + after).map(Dim::Static).ok_or_else(|| {
                        OpError::new(format!("crops of {before} and {after} leave nothing of {n} elements"))
                    }),
                    None => Ok(Dim::Any),
                },
            }
        };
        self.joins.iter().zip(&self.crops).map(joined).collect()
    }

    /// The sizes of parts, all of them static.
    fn static_sizes(&self, shape: &[usize]) -> Result<Vec<usize>, OpError> {
        let dims: Vec<Dim> = shape.iter().map(|&n| Dim::Static(n)).collect();
        Ok(self.sizes(&dims)?.iter().filter_map(Dim::as_static).collect())
    }
}

/// The side of a block, and whether channels come last.
fn sub_pixel(data: &TensorType, attrs: &Attrs) -> Result<(usize, bool, bool), OpError> {
    let SubPixelAttrs { block_size, layout, mode } = attrs.read();
    one_of("layout", &layout, &["NCHW", "NHWC"])?;
    one_of("mode", &mode, &["DCR", "CRD"])?;
    if data.rank() != 4 {
        return Err(OpError::arg(0, format!("expected a tensor of rank 4, found rank {}", data.rank())));
    }
    Ok((size("block_size", block_size, 1)?, &*layout == "NHWC", &*mode == "CRD"))
}

/// A move of four dimensions without padding or crops.
fn of_four(parts: [Vec<Part>; 4], joins: [Vec<usize>; 4]) -> Move {
    let none = vec![(0, 0); 4];
    Move { pads: none.clone(), fill: 0.0, parts: parts.into(), joins: joins.into(), crops: none }
}

fn depth_to_space(data: &TensorType, attrs: &Attrs) -> Result<Move, OpError> {
    let (b, last, channel_first) = sub_pixel(data, attrs)?;
    let (b, rest) = (Part::Size(b), vec![Part::Rest]);
    let channels = if channel_first { vec![Part::Rest, b, b] } else { vec![b, b, Part::Rest] };
    // The places of the channel and of the block's row and column among the channels' parts.
    let [c, y, x] = if channel_first { [0, 1, 2] } else { [2, 0, 1] };
    Ok(if last {
        of_four(
            [rest.clone(), rest.clone(), rest, channels],
            [vec![0], vec![1, 3 + y], vec![2, 3 + x], vec![3 + c]],
        )
    } else {
        of_four(
            [rest.clone(), channels, rest.clone(), rest],
            [vec![0], vec![1 + c], vec![4, 1 + y], vec![5, 1 + x]],
        )
    })
}

fn space_to_depth(data: &TensorType, attrs: &Attrs) -> Result<Move, OpError> {
    let (b, last, channel_first) = sub_pixel(data, attrs)?;
    let (side, rest) = (vec![Part::Rest, Part::Size(b)], vec![Part::Rest]);
    let depth = |c: usize, y: usize, x: usize| if channel_first { vec![c, y, x] } else { vec![y, x, c] };
    Ok(if last {
        of_four([rest.clone(), side.clone(), side, rest], [vec![0], vec![1], vec![3], depth(5, 2, 4)])
    } else {
        of_four([rest.clone(), rest, side.clone(), side], [vec![0], depth(1, 3, 5), vec![2], vec![4]])
    })
}

/// Pairs of sizes, one a spatial axis.
fn pairs(name: &str, values: &[Vec<i64>], n: usize) -> Result<Vec<(usize, usize)>, OpError> {
    let pair = |p: &Vec<i64>| match p[..] {
        [before, after] => Ok((size(name, before, 0)?, size(name, after, 0)?)),
        _ => Err(OpError::new(format!("{name} needs two sizes an axis"))),
    };
    if values.len() == n {
        values.iter().map(pair).collect()
    } else {
        Err(OpError::new(format!("{name} needs {n} pairs")))
    }
}

/// Sides of a block that fit the rank: a batch, the block's axes, and any number of others.
fn block(data: &TensorType, block_shape: &[i64]) -> Result<Vec<usize>, OpError> {
    if data.rank() <= block_shape.len() {
        return Err(OpError::arg(0, format!("a tensor of rank {} has too few spatial axes", data.rank())));
    }
    block_shape.iter().map(|&b| size("block_shape", b, 1)).collect()
}

fn space_to_batch(data: &TensorType, attrs: &Attrs) -> Result<Move, OpError> {
    let SpaceToBatchNdAttrs { block_shape, paddings, pad_value } = attrs.read();
    let block = block(data, &block_shape)?;
    let (m, rank) = (block.len(), data.rank());
    let mut pads = vec![(0, 0)];
    pads.extend(pairs("paddings", &paddings, m)?);
    pads.resize(rank, (0, 0));
    let mut parts = vec![vec![Part::Rest]];
    parts.extend(block.iter().map(|&b| vec![Part::Rest, Part::Size(b)]));
    parts.resize(rank, vec![Part::Rest]);
    // Part 0 is the batch; axis d of the block has the parts 2d + 1 (outer) and 2d + 2 (inner).
    let mut joins = vec![(0..m).map(|d| 2 * d + 2).chain([0]).collect()];
    joins.extend((0..m).map(|d| vec![2 * d + 1]));
    joins.extend((1 + m..rank).map(|d| vec![d + m]));
    Ok(Move { pads, fill: pad_value, parts, joins, crops: vec![(0, 0); rank] })
}

fn batch_to_space(data: &TensorType, attrs: &Attrs) -> Result<Move, OpError> {
    let BatchToSpaceNdAttrs { block_shape, crops } = attrs.read();
    let block = block(data, &block_shape)?;
    let (m, rank) = (block.len(), data.rank());
    let mut parts = vec![block.iter().map(|&b| Part::Size(b)).chain([Part::Rest]).collect()];
    parts.resize(rank, vec![Part::Rest]);
    // Parts 0..m are the block's, m is the batch, and dimension d > 0 is part d + m.
    let mut joins = vec![vec![m]];
    joins.extend((0..m).map(|d| vec![d + 1 + m, d]));
    joins.extend((1 + m..rank).map(|d| vec![d + m]));
    let mut cut = vec![(0, 0)];
    cut.extend(pairs("crops", &crops, m)?);
    cut.resize(rank, (0, 0));
    Ok(Move { pads: vec![(0, 0); rank], fill: 0.0, parts, joins, crops: cut })
}

/// The tensor with padding around it.
fn padded(x: &Tensor, pads: &[(usize, usize)], fill: f64) -> Result<Tensor, OpError> {
    if pads.iter().all(|&p| p == (0, 0)) {
        return Ok(x.clone());
    }
    let shape: Vec<usize> = x.shape().iter().zip(pads).map(|(n, (b, a))| n + b + a).collect();
    let fill = Scalar::from_f64(x.dtype(), fill).bits().to_le_bytes();
    let width = x.dtype().bytes();
    Ok(Tensor::filled(x.dtype(), &shape, |bytes| {
        bytes.chunks_exact_mut(width).for_each(|v| v.copy_from_slice(&fill[..width]));
        let start = |layout: Layout, (d, &(before, _)): (usize, &(usize, usize))| {
            layout.sliced(d, before as isize, 1)
        };
        let to = pads.iter().enumerate().fold(Layout::dense(&shape), start);
        copy(width, x.shape(), x.bytes(), &Layout::dense(x.shape()), bytes, &to);
    })?)
}

fn eval(x: &Tensor, plan: &Move) -> Result<Value, OpError> {
    let sizes = plan.static_sizes(x.shape())?;
    let x = padded(x, &plan.pads, plan.fill)?;
    let order: Vec<usize> = plan.joins.concat();
    let permuted: Vec<usize> = order.iter().map(|&p| sizes[p]).collect();
    let moved = pick(&x, &Layout::dense(&sizes).permuted(&order), &permuted)?;
    let whole: Vec<usize> = plan.joins.iter().map(|j| j.iter().map(|&p| sizes[p]).product()).collect();
    let moved = moved.reshape(&whole)?;
    let kept: Vec<usize> = whole.iter().zip(&plan.crops).map(|(n, (b, a))| n - b - a).collect();
    let cut =
        |layout: Layout, (d, &(before, _)): (usize, &(usize, usize))| layout.sliced(d, before as isize, 1);
    let layout = plan.crops.iter().enumerate().fold(Layout::dense(&whole), cut);
    Ok(if kept == whole { moved } else { pick(&moved, &layout, &kept)? }.into())
}

fn lower(g: &mut Graph, x: &te::Tensor, plan: &Move, out: &TensorType) -> Result<te::Tensor, OpError> {
    let sizes = plan.static_sizes(&x.shape)?;
    Ok(g.compute("move", "injective", out, |i| {
        let mut parts = vec![Expr::int(0); sizes.len()];
        for ((i, join), &(before, _)) in i.iter().zip(&plan.joins).zip(&plan.crops) {
            let mut index = i + before;
            for (n, &p) in join.iter().enumerate().rev() {
                let whole = n == 0;
                parts[p] = if whole { index.clone() } else { index.clone().floor_mod(sizes[p].max(1)) };
                index = index.floor_div(sizes[p].max(1));
            }
        }
        let mut inside = Expr::constant(Scalar::from_i64(DType::Bool, 1));
        let mut at = Vec::new();
        let mut next = 0;
        for ((split, &(before, after)), &n) in plan.parts.iter().zip(&plan.pads).zip(&x.shape) {
            let own = next..next + split.len();
            next = own.end;
            let index = own.fold(Expr::int(0), |e, p| e * sizes[p] + &parts[p]);
            inside = if before > 0 { inside.and(index.clone().ge(before)) } else { inside };
            inside = if after > 0 { inside.and(index.clone().lt(before + n)) } else { inside };
            at.push(index - before);
        }
        inside.select(x.at(&at), Expr::float(plan.fill, x.dtype))
    }))
}
