//! Prologues: operands that are computed element by element, such as cast or dequantised ones,
//! brought into form by each tile for itself.
//!
//! A tile computes its rows of the left operand and its columns of the right one into scratch, and
//! the intrinsic reads them there: one launch instead of two, and the operand is never written
//! whole. Tiles that share rows, or columns, do that work over again. So the cost model chooses the
//! tiles together with it, and an operand is rather computed before, once for all tiles, where even
//! the best tiles take longer than that.

use std::collections::BTreeSet;

use fermata_ir::te::{self, Axis, Graph, Stage, StageKind};
use fermata_ir::tir::visit::vars;
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Region, Stmt};
use fermata_ir::types::DType;

use super::super::super::checkpoint::Goal;
use super::super::super::cost;
use super::super::super::inline::{Env, Inliner, nodes};
use super::super::super::nest::{Nest, Refusal};
use super::super::super::rules_cpu::loaded;
use super::super::{TILE_CYCLES, over_tiles, range, var};
use super::tiling::{MIN_TILES, Tiling};
use super::{Place, Product, Right, row_axes};
use crate::target::CpuTarget;

/// Cycles that a launch takes besides its tiles: a hundred nanoseconds, measured on a chain of launches.
const LAUNCH: f64 = 300.0;

/// The part of the third-level cache that scratch may take: each worker has its own.
const SCRATCH: usize = 4;

/// Elements of a tile of a kernel that is elementwise.
const ELEMENTS: usize = 40_000;

/// Which operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// An operand that a tile brings into form.
pub(super) struct Prologue {
    /// Which.
    pub side: Side,
    /// Its tensor, which is nowhere in memory.
    operand: BufferId,
    /// An element, over the axes of the product.
    pub element: Expr,
    /// Cycles for an element.
    cycles: f64,
    /// Bytes that an element is made of.
    bytes: f64,
    /// How many batches of the product have an operand of their own.
    batches: usize,
}

/// Why a product does not bring an operand into form itself.
#[derive(Debug)]
pub struct Refused {
    /// The operand.
    pub operand: BufferId,
    /// The reason, of which "it" is the operand.
    pub why: String,
}

/// True if the tiles of a product might compute an operand: it is a function of the elements of what
/// the graph is given, does not lie in panels, and no other sum of the graph reads it.
pub fn may_compute(graph: &Graph, (tensor, product): (BufferId, &Product), operand: BufferId) -> bool {
    if matches!(product.right, Right::Panels { buffer, .. } if buffer == operand) {
        return false;
    }
    let Some(stage) = graph.stages.iter().find(|s| s.outputs == [operand]) else { return false };
    let StageKind::Compute(compute) = &stage.kind else { return false };
    if compute.reduce.is_some() || &*stage.tag == te::KEPT {
        return false;
    }
    let given = |b: &BufferId| {
        graph.stages.iter().any(|s| matches!(s.kind, StageKind::Placeholder) && s.outputs.contains(b))
    };
    let element = Inliner::new(graph, &Default::default()).instantiate(&compute.body[0], &Env::new());
    let reads_given = nodes(&element).iter().all(|n| match n.kind() {
        ExprKind::Load(b, indices) => {
            let is_load = |n: &Expr| matches!(n.kind(), ExprKind::Load(..));
            given(b) && !indices.iter().flat_map(nodes).any(|n| is_load(&n))
        }
        _ => true,
    });
    let takes_whole = |s: &Stage| match &s.kind {
        StageKind::Placeholder => false,
        StageKind::Compute(c) => c.reduce.is_some() && s.outputs != [tensor] && loaded(c).contains(&operand),
        StageKind::Extern { inputs, .. } => inputs.contains(&operand),
    };
    reads_given && !graph.stages.iter().any(takes_whole)
}

/// Why the tiles of a product do not compute those of its operands that they might, if that is so.
pub fn refused(
    graph: &Graph,
    product: &Product,
    kept: &BTreeSet<BufferId>,
    target: &CpuTarget,
) -> Option<Refused> {
    let mut nest = Nest::new("", Inliner::new(graph, kept), kept);
    let prologues = Prologue::all(&mut nest, product).ok()?;
    tiling(product, &prologues, false, &Goal::raw(target)).err()
}

impl Prologue {
    /// The operands of a product that its kernel has to compute, as nothing keeps them.
    ///
    /// # Errors
    /// With an operand that reads what the product sees in another shape.
    pub fn all(nest: &mut Nest<'_>, product: &Product) -> Result<Vec<Prologue>, Refusal> {
        let mut found = Vec::new();
        for (side, operand) in [Side::Left, Side::Right].into_iter().zip(product.operands()) {
            if !nest.inliner().inlines(operand) {
                continue;
            }
            let element = nest.inliner().instantiate(&product.elements[side as usize], &Env::new());
            let graph = nest.inliner().graph();
            let mut bytes = 0.0;
            for node in nodes(&element) {
                let ExprKind::Load(buffer, indices) = node.kind() else { continue };
                if !product.may_be_read(graph, *buffer) {
                    return Err(Refusal::Guarded(operand));
                }
                let along = vars(indices).contains(&product.step);
                bytes += if along { graph.buffers[*buffer].dtype.bytes() as f64 } else { 0.0 };
            }
            let lane = match (side, &product.right) {
                (Side::Right, Right::Rows(_)) => product.column.var,
                (Side::Left | Side::Right, _) => product.step,
            };
            let cycles = cost::element(&element, &graph.buffers, lane);
            let known = vars([&element]);
            let own = product.batch.iter().filter(|a| known.contains(&a.var));
            let batches = own.map(|a| a.extent).product();
            found.push(Prologue { side, operand, element, cycles, bytes, batches });
        }
        Ok(found)
    }

    /// Elements in a tile of this size.
    fn elements(&self, product: &Product, rows: usize, columns: usize) -> usize {
        product.k * if self.side == Side::Left { rows } else { columns }
    }

    /// How many tiles compute each element.
    fn times(&self, product: &Product, tiling: &Tiling) -> usize {
        let tiles = if self.side == Side::Left { tiling.column_tiles } else { tiling.row_tiles };
        tiles * (product.batches() / self.batches)
    }

    /// Computes a tile's part of the operand into scratch; gives where it lies.
    ///
    /// # Errors
    /// If an element is nothing that this nest can compute.
    pub fn emit(
        &self,
        nest: &mut Nest<'_>,
        product: &Product,
        tiling: &Tiling,
        at: &Place,
    ) -> Result<Region, Refusal> {
        let steps = || (Axis { var: product.step, extent: product.k }, Expr::int(0), Expr::from(product.k));
        let columns = || (product.column.clone(), at.n0.clone(), at.columns.clone());
        let widest = tiling.columns.min(product.column.extent);
        let (name, outer, inner, shape) = match (self.side, &product.right) {
            (Side::Left, _) => ("left", None, steps(), [tiling.rows, product.k]),
            (Side::Right, Right::Rows(_)) => ("right", Some(steps()), columns(), [product.k, widest]),
            (Side::Right, _) => ("right", Some(columns()), steps(), [widest, product.k]),
        };
        let scratch = nest.local(name, &shape, DType::F32);
        let i = nest.var("i", DType::I64);
        let outer_extent = outer.as_ref().map_or(&at.rows, |(.., extent)| extent).clone();
        nest.open(i, outer_extent.clone(), LoopKind::Serial);
        let mut env = Env::new();
        match outer {
            Some((axis, first, _)) => {
                env.insert(axis.var, nest.bind_fresh_named("at", first + var(i)));
            }
            None => {
                let row = nest.bind_fresh_named("row", at.m0.clone() + var(i));
                for (axis, value) in row_axes(&product.rows, &row) {
                    let value = if axis.extent == 1 { Expr::int(0) } else { value };
                    env.insert(axis.var, nest.bind_fresh_named("at", value));
                }
            }
        }
        let (axis, first, extent) = inner;
        let j = nest.var("j", DType::I64);
        nest.open(j, extent.clone(), LoopKind::Vectorized);
        env.insert(axis.var, first + var(j));
        let element = nest.inliner().instantiate(&self.element, &env);
        let value = nest.place(&element)?;
        nest.push(Stmt::Store { buffer: scratch, indices: vec![var(i), var(j)], value });
        nest.close();
        nest.close();
        Ok(Region { buffer: scratch, ranges: vec![range(0i64, outer_extent), range(0i64, extent)] })
    }
}

/// What kernels cost, in cycles.
struct Model<'a> {
    product: &'a Product,
    target: &'a CpuTarget,
}

impl Model<'_> {
    /// Computing and moving at once, where all that is worked on is so large.
    fn together(&self, cycles: f64, bytes: f64, all: f64) -> f64 {
        cost::overlapped(cycles, bytes / cost::rate(self.target, all) * self.target.peaks().clock)
    }

    /// A tile of the product whose prologues these are, and all of its tiles.
    fn product(&self, prologues: &[Prologue], [rows, columns]: [usize; 2]) -> [f64; 2] {
        let (product, peaks) = (self.product, self.target.peaks());
        let [m, n] = [product.m(), product.column.extent];
        let made = |side: Side| prologues.iter().find(|p| p.side == side);
        let bytes = |rows: usize, columns: usize| {
            let width = |side: Side| made(side).map_or(4.0, |p| p.bytes);
            let operands = width(Side::Left) * rows as f64 + width(Side::Right) * columns as f64;
            operands * product.k as f64 + 4.0 * (rows * columns) as f64
        };
        let all = bytes(m, n) * product.batches() as f64;
        let tile = |rows: usize, columns: usize| {
            let columns = columns.min(n);
            // The product begins when its operands are there.
            let made = prologues.iter().map(|p| self.scratch(p, p.elements(product, rows, columns)));
            let cycles = product.cycles(rows, columns, &peaks);
            self.together(cycles, bytes(rows, columns), all) + made.sum::<f64>()
        };
        [tile(rows, columns), over_tiles([m, n], [rows, columns], tile) * product.batches() as f64]
    }

    /// So many elements of an operand, written to scratch and read again.
    fn scratch(&self, prologue: &Prologue, elements: usize) -> f64 {
        let bytes = 4.0 * elements as f64;
        self.together(prologue.cycles * elements as f64, 2.0 * bytes, bytes)
    }

    /// A kernel that computes an operand whole.
    fn alone(&self, prologue: &Prologue) -> f64 {
        let [m, n] = [self.product.m(), self.product.column.extent];
        let elements = prologue.elements(self.product, m, n) * prologue.batches;
        let bytes = (prologue.bytes + 4.0) * elements as f64;
        let tiles = elements.div_ceil(ELEMENTS) as f64 * TILE_CYCLES;
        LAUNCH + tiles + self.together(prologue.cycles * elements as f64, bytes, bytes)
    }

    /// True if scratch of a size stays in a cache.
    fn is_near(&self, prologues: &[Prologue], [rows, columns]: [usize; 2]) -> bool {
        let elements = prologues.iter().map(|p| p.elements(self.product, rows, columns));
        elements.sum::<usize>().saturating_mul(4) <= self.target.peaks().l3_bytes / SCRATCH
    }
}

/// The tiles of a product that brings operands into form, if there are some.
///
/// # Errors
/// With the operand that is rather computed before.
pub(super) fn tiling(
    product: &Product,
    prologues: &[Prologue],
    whole_rows: bool,
    goal: &Goal<'_>,
) -> Result<Tiling, Refused> {
    let apart = if whole_rows { Tiling::of_whole_rows } else { Tiling::new };
    if prologues.is_empty() {
        return Ok(apart(product, goal));
    }
    // Which operands are brought into form does not depend on how short tiles must be.
    let raw = Goal::raw(goal.target);
    let model = Model { product, target: goal.target };
    let before = apart(product, &raw);
    let mut sizes = vec![[before.rows, before.columns]];
    if !whole_rows {
        sizes.extend(Tiling::sizes(product, goal));
    }
    // The product alone would have the best tiles too.
    let alone = sizes.iter().map(|&size| model.product(&[], size)[1]).fold(f64::INFINITY, f64::min);
    let separate = alone + prologues.iter().map(|p| model.alone(p)).sum::<f64>();
    let fewest = before.tiles(product).min(MIN_TILES);
    let near = sizes.iter().copied().filter(|&size| model.is_near(prologues, size));
    let enough = near.clone().filter(|&size| Tiling::of(product, size).tiles(product) >= fewest);
    let costs = enough.map(|size| (model.product(prologues, size)[1], size));
    match costs.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((cost, _)) if cost <= separate && whole_rows => Ok(apart(product, goal)),
        Some((cost, size)) if cost <= separate => {
            let size = goal.choose(size, near, |size| model.product(prologues, size).into());
            Ok(Tiling::of(product, size))
        }
        found => Err(refusal(product, prologues, found, separate)),
    }
}

/// The operand that costs most to bring into form in tiles, and what it would cost.
fn refusal(
    product: &Product,
    prologues: &[Prologue],
    best: Option<(f64, [usize; 2])>,
    separate: f64,
) -> Refused {
    let Some((cost, size)) = best else {
        let why = "its part of a tile is too large to stay in the cache".into();
        return Refused { operand: prologues[0].operand, why };
    };
    let tiling = Tiling::of(product, size);
    let again = |p: &&Prologue| p.cycles * p.times(product, &tiling) as f64;
    let most = prologues.iter().max_by(|a, b| again(a).total_cmp(&again(b))).expect("there are some");
    let why = format!(
        "tiles would compute it {} times over, in {cost:.0} cycles with the product against {separate:.0} apart",
        most.times(product, &tiling)
    );
    Refused { operand: most.operand, why }
}
