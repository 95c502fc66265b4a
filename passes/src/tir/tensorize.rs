//! tensorize: products and convolutions on the tensor intrinsics of the catalogue.
//!
//! A stage is replaced by calls of the intrinsic that means the same, a call a tile, written
//! straight into the result: a product by what the stage computes, a convolution by the
//! operator that made it. Elementwise stages behind it run over the same tile while it is in
//! the cache, in place.

mod conv;
mod gelu;
mod moves;
mod product;
mod product_i8;
pub mod quantize_i8;
mod results;
mod row_epilogue;
pub mod softmax;

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::op::conv::CONV2D_PACKED;
use fermata_ir::op::{Attrs, Op};
use fermata_ir::te::{Axis, Compute, Graph, Stage, StageKind, Tensor};
use fermata_ir::tir::{BufferId, Expr, ExprKind, Range, Region, Stmt, VarId};
use fermata_ir::types::DType;

use super::checkpoint::Goal;
use super::held::held_tensors;
use super::inline::{Env, Inliner, nodes, rebuild};
use super::joint::Joint;
use super::nest::{Nest, Refusal};
use super::rules_cpu::{Scheduled, finish_outputs};
use crate::target::CpuTarget;
use product::Product;

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

/// Clock cycles that a tile takes besides its work.
const TILE_CYCLES: f64 = 60.0;

/// A tensor that an intrinsic computes, and the elementwise stage that takes it on.
pub struct Anchored<'a> {
    /// The tensor that the intrinsic computes.
    pub tensor: BufferId,
    /// Which intrinsic that is.
    kind: Kind<'a>,
    /// The stage that the kernel writes: the anchor's own, the epilogue's, or one that moves its elements.
    pub root: &'a Stage,
    /// The element of the epilogue's result, over its axes; a load of `tensor` where there is no epilogue.
    pub element: Expr,
    /// The axes of the epilogue.
    pub axes: Vec<Axis>,
    /// Where the epilogue reduces over rows of the result: how.
    rows: Option<RowEpilogue>,
}

/// An epilogue that needs whole rows of what an intrinsic computes.
enum RowEpilogue {
    /// Stages, row by row.
    Stages {
        /// The element, nothing inlined.
        body: Expr,
        /// Tensors whose row is computed once, before all else.
        held: Vec<BufferId>,
        /// What is reduced over: kept, it leaves the stages behind it to a kernel of their own.
        reduced: Option<BufferId>,
    },
    /// The softmax of what the anchor's element is otherwise, by an intrinsic of its own.
    Softmax,
}

/// What an intrinsic computes.
enum Kind<'a> {
    Product(Product),
    ProductI8(&'a Origin),
    Conv(&'a Origin),
}

impl Kind<'_> {
    /// The tensors that the intrinsic reads.
    fn operands(&self) -> Vec<BufferId> {
        match self {
            Kind::Product(product) => product.operands().to_vec(),
            Kind::ProductI8(origin) | Kind::Conv(origin) => origin.args.iter().map(|a| a.id).collect(),
        }
    }

    /// Those of them that must be in memory whatever computes them.
    fn needed(&self, graph: &Graph, tensor: BufferId) -> Vec<BufferId> {
        let mut needed = self.operands();
        if let Kind::Product(product) = self {
            needed.retain(|&operand| !product::prologue::may_compute(graph, (tensor, product), operand));
        }
        needed
    }

    /// True if a tile of whole rows of the result is a good one.
    fn holds_rows(&self) -> bool {
        match self {
            Kind::Product(product) => product.holds_rows(),
            Kind::ProductI8(origin) => product_i8::holds_rows(origin),
            Kind::Conv(_) => false,
        }
    }

    /// True if the result's elements do not lie one after the other.
    fn is_moved(&self) -> bool {
        matches!(self, Kind::Product(product) if product.is_moved())
    }

    /// True if a load of any other element of a tensor can be written in terms of the view that the
    /// intrinsic has of it.
    fn may_be_read(&self, graph: &Graph, buffer: BufferId) -> bool {
        match self {
            Kind::Product(product) => product.may_be_read(graph, buffer),
            Kind::ProductI8(origin) => product_i8::may_be_read(origin, buffer),
            Kind::Conv(_) => true,
        }
    }
}

/// The intrinsic that computes a tensor, if one does.
fn kind<'a>(graph: &Graph, origins: &'a Origins, tensor: BufferId) -> Option<Kind<'a>> {
    if let Some(origin) = origins.get(&tensor)
        && origin.args.iter().all(|a| a.dtype == DType::F32)
        && (origin.op.is(&CONV2D_PACKED) || conv::channelwise(origin).is_some())
    {
        return Some(Kind::Conv(origin));
    }
    if let Some(origin) = origins.get(&tensor).filter(|o| product_i8::is_product(o)) {
        return Some(Kind::ProductI8(origin));
    }
    let stage = graph.stages.iter().find(|s| s.outputs == [tensor])?;
    let StageKind::Compute(compute) = &stage.kind else { return None };
    let seen = moves::seen_through(graph, compute);
    let product = seen.and_then(|body| Product::find(graph, compute, &body));
    let product = product.or_else(|| Product::find(graph, compute, compute.body.first()?))?;
    product.operands().iter().all(|&b| graph.buffers[b].dtype == DType::F32).then_some(Kind::Product(product))
}

/// Puts a stage before each convolution and product of a graph that is better off if one of its
/// operands is brought into the form that its tiles want once for all of them. It is the last
/// argument of the origin then. The stage is a kernel, with a bound or without.
pub fn prepare(graph: &mut Graph, origins: &mut Origins, target: &CpuTarget) {
    for at in (0..graph.stages.len()).rev() {
        let [output] = graph.stages[at].outputs[..] else { continue };
        let Some(origin) = origins.get_mut(&output) else { continue };
        let found = conv::windows::gathered(graph, origin, output, target)
            .or_else(|| product_i8::widened(graph, origin, target));
        if let Some((operand, stage)) = found {
            origin.args.push(operand);
            graph.stages.insert(at, stage);
        }
    }
}

/// A stage that prepares an operand by a statement.
fn prepared(name: &str, input: BufferId, output: BufferId, body: Stmt) -> Stage {
    let kind = StageKind::Extern { inputs: vec![input], allocs: Vec::new(), body };
    Stage { name: name.into(), outputs: vec![output], kind, tag: "prepared".into() }
}

/// The tensors that each intrinsic of a graph finds in memory, by the tensor that it computes.
pub type Tensorized = BTreeMap<BufferId, Vec<BufferId>>;

/// Finds the tensors that intrinsics compute.
pub fn tensorized(graph: &Graph, origins: &Origins) -> Tensorized {
    let outputs = graph.stages.iter().flat_map(|s| &s.outputs);
    let found =
        outputs.filter_map(|&tensor| Some((tensor, kind(graph, origins, tensor)?.needed(graph, tensor))));
    found.collect()
}

/// Why a product of a graph finds an operand in memory that its tiles might compute, if it does: `kept`
/// are the tensors that are in memory anyway.
pub fn held_back(
    graph: &Graph,
    origins: &Origins,
    kept: &BTreeSet<BufferId>,
    target: &CpuTarget,
) -> Option<String> {
    graph.stages.iter().flat_map(|s| &s.outputs).find_map(|&tensor| {
        let Kind::Product(product) = kind(graph, origins, tensor)? else { return None };
        let refused = product::prologue::refused(graph, &product, kept, target)?;
        Some(format!("of `{}`, {}", graph.buffers[refused.operand].name, refused.why))
    })
}

/// The anchor that a root stage can be computed with: itself, or the only tensor of an
/// intrinsic that it reads, at its own axes or moved as a whole.
pub fn anchor<'a>(
    graph: &'a Graph,
    origins: &'a Origins,
    tensorized: &Tensorized,
    root: &'a Stage,
    compute: &'a Compute,
    kept: &BTreeSet<BufferId>,
) -> Option<Anchored<'a>> {
    let [output] = root.outputs[..] else { return None };
    if tensorized.contains_key(&output) {
        let (element, axes) = own_element(output, compute);
        return Some(Anchored {
            tensor: output,
            kind: kind(graph, origins, output)?,
            root,
            element,
            axes,
            rows: None,
        });
    }
    if let Some(anchored) = softmax_anchor(graph, origins, tensorized, root, kept) {
        return Some(anchored);
    }
    let moved = moves::destination(graph, origins, root);
    let (base, compute) = match moved.as_ref().map(|m| (m.source, &m.source.kind)) {
        Some((source, StageKind::Compute(compute))) => (source.outputs[0], compute),
        _ => (output, compute),
    };
    if compute.reduce.is_some() && !tensorized.contains_key(&base) {
        return None;
    }
    let (element, axes) = match tensorized.contains_key(&base) {
        true => own_element(base, compute),
        false if base != output && kept.contains(&base) => return None,
        false => (Inliner::new(graph, kept).instantiate(&compute.body[0], &Env::new()), compute.axes.clone()),
    };
    let tensor = only_anchor(tensorized, &element, &axes)?;
    let mut kind = kind(graph, origins, tensor)?;
    if let Some(moved) = &moved {
        let Kind::Product(product) = &mut kind else { return None };
        product.send_to(graph, output, &moved.steps)?;
    }
    let fits = graph.buffers[tensor].shape == graph.buffers[base].shape
        && graph.buffers[output].dtype == DType::F32
        && reads_operands_in_view(graph, &element, &kind)
        && readers(graph, kept, tensor) == 1;
    let rows = match reads_reduction(graph, &element, kept) {
        true if moved.is_some() => return None,
        true => Some(row_epilogue(graph, kept, compute, (tensor, &kind), &element)?),
        false => None,
    };
    let anchored = fits.then_some(Anchored { tensor, kind, root, element, axes, rows })?;
    let allowed = match anchored.kind {
        Kind::Conv(origin) => conv::windows::allow(graph, &anchored, origin),
        Kind::Product(_) | Kind::ProductI8(_) => true,
    };
    allowed.then_some(anchored)
}

/// The product that a root is the softmax of, perhaps with elementwise stages between.
fn softmax_anchor<'a>(
    graph: &'a Graph,
    origins: &'a Origins,
    tensorized: &Tensorized,
    root: &'a Stage,
    kept: &BTreeSet<BufferId>,
) -> Option<Anchored<'a>> {
    let x = softmax::argument(origins, root.outputs[0])?.id;
    let StageKind::Compute(compute) = &graph.stages.iter().find(|s| s.outputs == [x])?.kind else {
        return None;
    };
    let (element, axes) = match tensorized.contains_key(&x) {
        true => own_element(x, compute),
        false if kept.contains(&x) || compute.reduce.is_some() => return None,
        false => (Inliner::new(graph, kept).instantiate(&compute.body[0], &Env::new()), compute.axes.clone()),
    };
    let tensor = only_anchor(tensorized, &element, &axes)?;
    let kind = kind(graph, origins, tensor)?;
    let Kind::Product(product) = &kind else { return None };
    let fits = product.holds_rows()
        && graph.buffers[tensor].shape == graph.buffers[x].shape
        && !reads_reduction(graph, &element, kept)
        && reads_operands_in_view(graph, &element, &kind)
        && readers(graph, kept, tensor) == 1;
    let rows = Some(RowEpilogue::Softmax);
    fits.then_some(Anchored { tensor, kind, root, element, axes, rows })
}

/// The elements of a tensor itself, over the axes of its compute.
fn own_element(tensor: BufferId, compute: &Compute) -> (Expr, Vec<Axis>) {
    let identity: Vec<Expr> = compute.axes.iter().map(Axis::expr).collect();
    (Expr::new(ExprKind::Load(tensor, identity), DType::F32), compute.axes.clone())
}

/// The tensor of an intrinsic that an element reads, if it is one and read at the element's own place.
fn only_anchor(tensorized: &Tensorized, element: &Expr, axes: &[Axis]) -> Option<BufferId> {
    let mut anchors = BTreeSet::new();
    for node in nodes(element) {
        if let ExprKind::Load(b, indices) = node.kind()
            && tensorized.contains_key(b)
        {
            if !indices.iter().zip(axes).all(|(i, axis)| stands_at(i, axis)) {
                return None;
            }
            anchors.insert(*b);
        }
    }
    anchors.first().copied().filter(|_| anchors.len() == 1)
}

/// How an epilogue reduces over the rows of a product, if one kernel can hold that.
fn row_epilogue(
    graph: &Graph,
    kept: &BTreeSet<BufferId>,
    root: &Compute,
    (tensor, kind): (BufferId, &Kind<'_>),
    element: &Expr,
) -> Option<RowEpilogue> {
    let fits = kind.holds_rows()
        && row_epilogue::holds(graph, kept, (tensor, &kind.operands()), &root.axes, element);
    fits.then(|| RowEpilogue::Stages {
        body: root.body[0].clone(),
        held: held_tensors(graph, root, kept),
        reduced: reduced_over(graph, kept),
    })
}

/// The first elementwise tensor that is not kept and that a reduction inside a kernel goes over.
fn reduced_over(graph: &Graph, kept: &BTreeSet<BufferId>) -> Option<BufferId> {
    let reduces = |stage: &&Stage| match &stage.kind {
        StageKind::Compute(c) => c.reduce.is_some() && !stage.outputs.iter().any(|b| kept.contains(b)),
        StageKind::Placeholder | StageKind::Extern { .. } => false,
    };
    let elementwise = |b: &BufferId| {
        let is = |s: &&Stage| matches!(&s.kind, StageKind::Compute(c) if c.reduce.is_none());
        !kept.contains(b) && graph.stages.iter().filter(is).any(|s| s.outputs.contains(b))
    };
    let loaded = |stage: &Stage| match &stage.kind {
        StageKind::Compute(c) => super::rules_cpu::loaded(c),
        StageKind::Placeholder | StageKind::Extern { .. } => BTreeSet::new(),
    };
    graph.stages.iter().filter(reduces).flat_map(loaded).find(elementwise)
}

/// True if what an epilogue reads of a product's operands is there in the view that the product has of them.
fn reads_operands_in_view(graph: &Graph, element: &Expr, kind: &Kind<'_>) -> bool {
    nodes(element).iter().all(|n| match n.kind() {
        ExprKind::Load(b, _) => kind.may_be_read(graph, *b),
        _ => true,
    })
}

/// True if an index is that of an axis; of one step, 0 is.
fn stands_at(index: &Expr, axis: &Axis) -> bool {
    match index.kind() {
        ExprKind::Var(v) => *v == axis.var,
        _ => axis.extent == 1 && index.as_int() == Some(0),
    }
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

/// The kernel of an anchored root, with what the `joint` says besides, or the tensor that must be
/// kept for it to be possible.
///
/// # Errors
/// If the epilogue reads what this nest cannot hold.
pub fn emit(
    name: &str,
    graph: &Graph,
    anchored: &Anchored<'_>,
    kept: &BTreeSet<BufferId>,
    joint: &Joint,
    goal: &Goal<'_>,
) -> Result<Scheduled, Refusal> {
    if !joint.is_alone() {
        results::check(graph, kept, anchored, joint)?;
    }
    let nest = Nest::new(name, Inliner::new(graph, kept), kept);
    match &anchored.kind {
        Kind::Product(product) => product::emit(nest, anchored, product, joint, goal),
        Kind::ProductI8(origin) => product_i8::emit(nest, anchored, origin, joint, goal),
        Kind::Conv(origin) => conv::emit(nest, anchored, origin, goal),
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
    replace_all_loads(std::slice::from_ref(expr), f).swap_remove(0)
}

/// As [`replace_loads`], of several expressions, which go on sharing what they share.
pub fn replace_all_loads(exprs: &[Expr], f: &mut dyn FnMut(BufferId, &[Expr]) -> Option<Expr>) -> Vec<Expr> {
    let mut done: BTreeMap<usize, Expr> = BTreeMap::new();
    for node in exprs.iter().flat_map(nodes) {
        if done.contains_key(&node.key()) {
            continue;
        }
        let rebuilt = rebuild(&node, &mut |e| done[&e.key()].clone());
        let value = match rebuilt.kind() {
            ExprKind::Load(b, indices) => f(*b, indices).unwrap_or(rebuilt.clone()),
            _ => rebuilt,
        };
        done.insert(node.key(), value);
    }
    exprs.iter().map(|expr| done[&expr.key()].clone()).collect()
}

fn var(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

/// `min .. min + extent`.
pub fn range(min: impl Into<Expr>, extent: impl Into<Expr>) -> Range {
    Range { min: min.into(), extent: extent.into() }
}

/// A call of an intrinsic.
pub fn intrin(name: &str, regions: Vec<Region>, params: Vec<Expr>) -> Stmt {
    Stmt::Intrin { name: name.into(), regions, params }
}

/// True if a tensor is what a graph is given first, not something that it computes.
fn is_given(graph: &Graph, tensor: BufferId) -> bool {
    let first = graph.stages.first();
    first.is_some_and(|s| matches!(s.kind, StageKind::Placeholder) && s.outputs == [tensor])
}

/// `min(step, size - first)`, or `step` where it divides the size.
fn clipped(step: usize, size: usize, first: &Expr) -> Expr {
    if size.is_multiple_of(step) { step.into() } else { (Expr::from(size) - first.clone()).min(step) }
}

/// What all tiles of a grid cost: `size` elements along each axis in steps of `tile`, the last
/// one of each axis cut off at the end.
fn over_tiles(size: [usize; 2], tile: [usize; 2], cost: impl Fn(usize, usize) -> f64) -> f64 {
    let axis = |at: usize| {
        let (whole, rest) = (size[at] / tile[at], size[at] % tile[at]);
        [(whole, tile[at]), (usize::from(rest > 0), rest)].into_iter().filter(|(count, _)| *count > 0)
    };
    axis(0)
        .flat_map(|(m, rows)| axis(1).map(move |(n, columns)| (m * n, rows, columns)))
        .fold(0.0, |all, (count, rows, columns)| all + count as f64 * (cost(rows, columns) + TILE_CYCLES))
}

/// The finished kernel of a nest that holds one tile loop.
fn close(nest: Nest<'_>, root: &Stage, joint: &Joint) -> Scheduled {
    let (func, scratch, body) = nest.finish();
    let Stmt::Seq(mut stmts) = body else { unreachable!("a nest is a sequence") };
    let outputs = joint.outputs(&root.outputs);
    finish_outputs(func, root.name.clone(), &outputs, scratch, stmts.pop().expect("the tile loop"))
}
