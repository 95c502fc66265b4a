//! tensorize: products and convolutions on the tensor intrinsics of the catalogue.
//!
//! A stage that an operator made is replaced by calls of the intrinsic that means the same,
//! a call a tile, written straight into the result. Elementwise stages behind it run over
//! the same tile while it is in the cache, in place.

mod conv;
mod product;
mod product_i8;
pub mod quantize_i8;

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::op::conv::{CONV2D, CONV2D_PACKED};
use fermata_ir::op::nn::DENSE_PACK;
use fermata_ir::op::{Attrs, Op};
use fermata_ir::te::{Axis, Compute, Graph, Stage, StageKind, Tensor};
use fermata_ir::tir::{BufferId, Expr, ExprKind, Range, Region, Stmt, VarId};
use fermata_ir::types::DType;

use super::inline::{Env, Inliner, nodes, rebuild};
use super::nest::{Nest, Refusal};
use super::rules_cpu::{Scheduled, finish};
use crate::target::CpuTarget;

/// The operator that made a tensor.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Which.
    pub op: Op,
    /// Its attributes.
    pub attrs: Attrs,
    /// Its arguments, tuples flattened.
    pub args: Vec<Tensor>,
}

/// Origins by the tensor made, the first one where there are several.
pub type Origins = BTreeMap<BufferId, Origin>;

/// Floating-point operations that a tile should be worth.
const TILE_FLOPS: usize = 4_000_000;

/// A tensor that an intrinsic computes, and the elementwise stage that takes it on.
pub struct Anchored<'a> {
    /// The tensor that the intrinsic computes.
    pub tensor: BufferId,
    /// How it came to be.
    pub origin: &'a Origin,
    /// The stage that the kernel writes: the anchor's own, or the epilogue's.
    pub root: &'a Stage,
    /// The element of the root's result, over its axes; a load of `tensor` where there is no epilogue.
    pub element: Expr,
    /// The root's axes.
    pub axes: Vec<Axis>,
}

/// The arguments of the intrinsic that computes a tensor, if one does.
pub fn arguments(origins: &Origins, tensor: BufferId) -> Option<&[Tensor]> {
    let origin = origins.get(&tensor)?;
    let f32_only = origin.args.iter().all(|a| a.dtype == DType::F32);
    let handled = origin.op.is(&DENSE_PACK)
        || origin.op.is(&CONV2D_PACKED)
        || origin.op.is(&CONV2D) && conv::is_depthwise(origin);
    (handled && f32_only || product_i8::is_product(origin)).then_some(&origin.args)
}

/// The anchor that a root stage can be computed with: itself, or the only tensor of an
/// intrinsic that it reads, at its own axes.
pub fn anchor<'a>(
    graph: &'a Graph,
    origins: &'a Origins,
    root: &'a Stage,
    compute: &Compute,
    kept: &BTreeSet<BufferId>,
) -> Option<Anchored<'a>> {
    let [output] = root.outputs[..] else { return None };
    let axes = compute.axes.clone();
    let identity: Vec<Expr> = axes.iter().map(Axis::expr).collect();
    if arguments(origins, output).is_some() {
        let element = Expr::new(ExprKind::Load(output, identity), DType::F32);
        return Some(Anchored { tensor: output, origin: &origins[&output], root, element, axes });
    }
    if compute.reduce.is_some() {
        return None;
    }
    let element = Inliner::new(graph, kept).instantiate(&compute.body[0], &Env::new());
    let mut anchors = BTreeSet::new();
    for node in nodes(&element) {
        if let ExprKind::Load(b, indices) = node.kind()
            && arguments(origins, *b).is_some()
        {
            if *indices != identity {
                return None;
            }
            anchors.insert(*b);
        }
    }
    let tensor = *anchors.first()?;
    let same = graph.buffers[tensor].shape == graph.buffers[output].shape
        && graph.buffers[output].dtype == DType::F32
        && !reads_reduction(graph, &element, kept);
    (anchors.len() == 1 && same && readers(graph, kept, tensor) == 1).then(|| Anchored {
        tensor,
        origin: &origins[&tensor],
        root,
        element,
        axes,
    })
}

fn reads_reduction(graph: &Graph, element: &Expr, kept: &BTreeSet<BufferId>) -> bool {
    nodes(element).iter().any(|n| match n.kind() {
        ExprKind::Load(b, _) => {
            let stage = graph.stages.iter().find(|s| s.outputs.contains(b));
            let reduces =
                stage.is_some_and(|s| matches!(&s.kind, StageKind::Compute(c) if c.reduce.is_some()));
            reduces && !kept.contains(b)
        }
        _ => false,
    })
}

/// How many kept tensors are computed from this one directly, through what is inlined.
fn readers(graph: &Graph, kept: &BTreeSet<BufferId>, tensor: BufferId) -> usize {
    let mut reached: BTreeSet<BufferId> = [tensor].into();
    let mut count = 0;
    for stage in &graph.stages {
        let reads = match &stage.kind {
            StageKind::Placeholder => false,
            StageKind::Compute(c) => super::rules_cpu::loaded(c).iter().any(|b| reached.contains(b)),
            StageKind::Extern { inputs, .. } => inputs.iter().any(|b| reached.contains(b)),
        };
        if reads && stage.outputs.iter().any(|b| kept.contains(b)) {
            count += 1;
        } else if reads {
            reached.extend(&stage.outputs);
        }
    }
    count
}

/// The kernel of an anchored root, or the tensor that must be kept for it to be possible.
///
/// # Errors
/// If the epilogue reads what this nest cannot hold.
pub fn emit(
    name: &str,
    graph: &Graph,
    anchored: &Anchored<'_>,
    kept: &BTreeSet<BufferId>,
    target: &CpuTarget,
) -> Result<Scheduled, Refusal> {
    let nest = Nest::new(name, Inliner::new(graph, kept), kept);
    if anchored.origin.op.is(&DENSE_PACK) {
        product::emit(nest, anchored, target)
    } else if product_i8::is_product(anchored.origin) {
        product_i8::emit(nest, anchored, anchored.origin)
    } else {
        conv::emit(nest, anchored)
    }
}

/// The element with loads of the anchor replaced by loads of the result at `indices`.
fn epilogue(anchored: &Anchored<'_>, nest: &Nest<'_>, indices: Vec<Expr>) -> Option<Expr> {
    let output = anchored.root.outputs[0];
    if matches!(anchored.element.kind(), ExprKind::Load(b, _) if *b == anchored.tensor) {
        return None;
    }
    let own = Expr::new(ExprKind::Load(output, indices), nest.func.buffers[output].dtype);
    Some(replace_loads(&anchored.element, &mut |b, _| (b == anchored.tensor).then(|| own.clone())))
}

/// The expression with loads replaced where `f` gives something else.
fn replace_loads(expr: &Expr, f: &mut dyn FnMut(BufferId, &[Expr]) -> Option<Expr>) -> Expr {
    let mut done: BTreeMap<usize, Expr> = BTreeMap::new();
    for node in nodes(expr) {
        let rebuilt = rebuild(&node, &mut |e| done[&e.key()].clone());
        let value = match rebuilt.kind() {
            ExprKind::Load(b, indices) => f(*b, indices).unwrap_or(rebuilt.clone()),
            _ => rebuilt,
        };
        done.insert(node.key(), value);
    }
    done[&expr.key()].clone()
}

fn var(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

fn range(min: impl Into<Expr>, extent: impl Into<Expr>) -> Range {
    Range { min: min.into(), extent: extent.into() }
}

fn intrin(name: &str, regions: Vec<Region>, params: Vec<Expr>) -> Stmt {
    Stmt::Intrin { name: name.into(), regions, params }
}

/// `min(step, size - first)`, or `step` where it divides the size.
fn clipped(step: usize, size: usize, first: &Expr) -> Expr {
    if size.is_multiple_of(step) { step.into() } else { (Expr::from(size) - first.clone()).min(step) }
}

/// The finished kernel of a nest that holds one tile loop.
fn close(nest: Nest<'_>, root: &Stage) -> Scheduled {
    let (func, scratch, body) = nest.finish();
    let Stmt::Seq(mut stmts) = body else { unreachable!("a nest is a sequence") };
    finish(func, root, scratch, stmts.pop().expect("the tile loop"))
}
