//! Sums of products on `gemm_f32` and its kin, found by what a stage computes.
//!
//! Any stage `C[b.., i.., j] = sum over k of A * B` qualifies, whatever operator made it, if
//! both operands, seen as one matrix each, have a matrix of the product for every `b` at
//! fixed distances: rows next to each other or heads inside of a row alike. A tile is a block
//! of rows and of columns of one `b`. An operand that is computed element by element is brought
//! into form by each tile for itself where that is less time ([`prologue`]).

pub mod prologue;
mod tiling;

use fermata_ir::scalar::{BinaryOp, Scalar};
use fermata_ir::te::{Axis, Combiner, Compute, Graph};
use fermata_ir::tir::linear::Linear;
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Range, Region, Stmt, VarId};
use fermata_ir::types::DType;

use super::super::checkpoint::Goal;
use super::super::cost;
use super::super::inline::Env;
use super::super::joint::Joint;
use super::super::nest::{Nest, Refusal};
use super::super::rules_cpu::Scheduled;
use super::{Anchored, RowEpilogue, clipped, close, intrin, range, replace_all_loads, results, softmax, var};
use crate::target::CpuPeaks;
use prologue::Prologue;
use tiling::Tiling;

/// The largest size that the intrinsics take.
const MAX_SIZE: usize = 1 << 20;

/// The intrinsics, by how the right operand lies.
const NN: &str = "gemm_f32_nn";
const NT: &str = "gemm_f32_nt";
const PACKED: &str = "gemm_f32";

/// A buffer seen as a matrix, and where in it a product's operand begins for each batch.
#[derive(Clone, Debug, PartialEq)]
struct View {
    buffer: BufferId,
    /// Elements of a row of the whole buffer.
    width: usize,
    row: Expr,
    column: Expr,
}

/// How the right operand lies.
#[derive(Clone, Debug, PartialEq)]
enum Right {
    /// `B[k, n]`.
    Rows(View),
    /// `B[n, k]`.
    Columns(View),
    /// `[n / nr, k, nr]`.
    Panels { buffer: BufferId, nr: usize },
}

/// A sum of products: `C[batch, m, n] = A[batch, m, k] * B[batch, k, n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    left: View,
    right: Right,
    /// The leading axes of the result, those of the rows, and the last.
    batch: Vec<Axis>,
    rows: Vec<Axis>,
    column: Axis,
    k: usize,
    /// The variable of the steps of `k`, and the elements of the operands over all of these axes.
    step: VarId,
    elements: [Expr; 2],
    /// Where the result's elements go, if not one after the other.
    result: Option<View>,
}

/// A load of an operand: its offset in elements, and its indices.
struct Operand<'a> {
    buffer: BufferId,
    load: &'a Expr,
    indices: &'a [Expr],
    offset: Linear,
}

impl<'a> Operand<'a> {
    fn of(graph: &Graph, load: &'a Expr) -> Option<Operand<'a>> {
        let ExprKind::Load(buffer, indices) = load.kind() else { return None };
        let shape = &graph.buffers[*buffer].shape;
        let flat = indices.iter().zip(shape).fold(Expr::int(0), |sum, (i, &n)| sum * n + i.clone());
        Some(Operand { buffer: *buffer, load, indices, offset: Linear::of(&flat) })
    }

    fn step(&self, axis: &Axis) -> usize {
        usize::try_from(self.offset.coefficient(axis.var)).unwrap_or(0)
    }

    /// True if the offset is a sum of these axes' multiples.
    fn only_uses<'b>(&self, axes: impl Iterator<Item = &'b Axis> + Clone) -> bool {
        let known = |e: &Expr| matches!(e.kind(), ExprKind::Var(v) if axes.clone().any(|a| a.var == *v));
        self.offset.constant >= 0 && self.offset.terms.iter().all(|(atom, step)| *step > 0 && known(atom))
    }

    /// The matrix with the steps of `rows` between its rows and those of `column` inside of them.
    fn view(&self, graph: &Graph, rows: &[Axis], column: &Axis, batch: &[Axis]) -> Option<View> {
        let shape = &graph.buffers[self.buffer].shape;
        let size: usize = shape.iter().product();
        let mut width = 0;
        let mut run = 1;
        for axis in rows.iter().rev().filter(|a| a.extent > 1) {
            let step = self.step(axis);
            width = if width == 0 { step } else { width };
            if step == 0 || step != width * run {
                return None;
            }
            run *= axis.extent;
        }
        let width = if run == 1 { *shape.last()? } else { width };
        let fits = width >= column.extent && size.is_multiple_of(width);
        if !fits || (column.extent > 1 && self.step(column) != 1) {
            return None;
        }
        let constant = self.offset.constant as usize;
        let (mut row, mut first) = (Expr::from(constant / width), Expr::from(constant % width));
        let mut last = constant % width + column.extent;
        for axis in batch.iter().filter(|a| a.extent > 1 && self.step(a) > 0) {
            let step = self.step(axis);
            if step.is_multiple_of(width) {
                row = row + axis.expr() * (step / width);
            } else {
                first = first + axis.expr() * step;
                last += step * (axis.extent - 1);
            }
        }
        (last <= width).then_some(View { buffer: self.buffer, width, row, column: first })
    }

    /// The width of panels, if the operand is `B[j / nr, k, j % nr]`.
    fn panels(&self, graph: &Graph, column: &Axis, k: &Axis) -> Option<usize> {
        let &[_, depth, nr] = &graph.buffers[self.buffer].shape[..] else { return None };
        let [panel, step, lane] = self.indices else { return None };
        let j = column.expr();
        let packed = *panel == j.clone().floor_div(nr) && *step == k.expr() && *lane == j.floor_mod(nr);
        (packed && depth == k.extent).then_some(nr)
    }
}

impl Product {
    /// The product that a compute is, if it is one that an intrinsic computes; `body` is what it
    /// combines, with loads of the operands in whatever form they are there.
    pub fn find(graph: &Graph, compute: &Compute, body: &Expr) -> Option<Product> {
        let reduce = compute.reduce.as_ref()?;
        let ([k], [_], [identity]) = (&reduce.axes[..], &compute.body[..], &reduce.identity[..]) else {
            return None;
        };
        let zero = matches!(identity.kind(), ExprKind::Const(c) if *c == Scalar::of(0f32));
        if reduce.combiner != Combiner::Binary(BinaryOp::Add) || body.dtype() != DType::F32 || !zero {
            return None;
        }
        let ExprKind::Binary(BinaryOp::Mul, a, b) = body.kind() else { return None };
        let (column, outer) = compute.axes.split_last()?;
        if compute.axes.iter().any(|a| a.extent == 0) || k.extent == 0 {
            return None;
        }
        let (a, b) = (Operand::of(graph, a)?, Operand::of(graph, b)?);
        Product::of_operands(graph, [&a, &b], outer, column, k)
            .or_else(|| Product::of_operands(graph, [&b, &a], outer, column, k))
    }

    fn of_operands(
        graph: &Graph,
        [a, b]: [&Operand<'_>; 2],
        outer: &[Axis],
        column: &Axis,
        k: &Axis,
    ) -> Option<Product> {
        if !a.only_uses(outer.iter().chain([k])) {
            return None;
        }
        let elements = [a.load.clone(), b.load.clone()];
        let made = |left, right, [batch, rows]: [&[Axis]; 2]| {
            let (batch, rows, column) = (batch.to_vec(), rows.to_vec(), column.clone());
            Product { left, right, batch, rows, column, k: k.extent, step: k.var, elements, result: None }
        };
        if let Some(nr) = b.panels(graph, column, k).filter(|_| k.extent <= MAX_SIZE && a.buffer != b.buffer)
        {
            let left = a.view(graph, outer, k, &[])?;
            return Some(made(left, Right::Panels { buffer: b.buffer, nr }, [&[], outer]));
        }
        if !b.only_uses(outer.iter().chain([column, k])) {
            return None;
        }
        // The rows are as many trailing axes as the right operand does not know.
        let shared =
            outer.iter().rposition(|axis| axis.extent > 1 && b.step(axis) > 0).map_or(0, |at| at + 1);
        let candidates = (shared..=outer.len()).map(|at| outer.split_at(at));
        let (batch, rows, left) = candidates
            .filter_map(|(batch, rows)| Some((batch, rows, a.view(graph, rows, k, batch)?)))
            .next()?;
        let one = std::slice::from_ref;
        let by_columns = || b.view(graph, one(column), k, batch).map(Right::Columns);
        let right = b.view(graph, one(k), column, batch).map(Right::Rows).or_else(by_columns)?;
        let product = made(left, right, [batch, rows]);
        (product.is_worth_it() && product.sees_one_matrix()).then_some(product)
    }

    /// Two views of one buffer have to be of one matrix.
    fn sees_one_matrix(&self) -> bool {
        let views = self.views();
        views.iter().all(|v| v.buffer != self.left.buffer || v.width == self.left.width)
    }

    /// Has the result written to another tensor, where neighbours on each axis are `steps` apart.
    pub fn send_to(&mut self, graph: &Graph, output: BufferId, steps: &[usize]) -> Option<()> {
        let axes = self.batch.iter().chain(&self.rows).chain([&self.column]);
        let place = axes.zip(steps).fold(Expr::int(0), |sum, (axis, &step)| sum + axis.expr() * step);
        let result = Operand { buffer: output, load: &place, indices: &[], offset: Linear::of(&place) };
        self.result = Some(result.view(graph, &self.rows, &self.column, &self.batch)?);
        Some(())
    }

    /// True if the result's elements do not lie one after the other.
    pub fn is_moved(&self) -> bool {
        self.result.is_some()
    }

    /// One column of results, or one row by columns of the right operand, is a dot product each
    /// and leaves nothing to keep in registers.
    fn is_worth_it(&self) -> bool {
        let packs = matches!(self.right, Right::Columns(_));
        self.column.extent > 1 && (self.m() > 1 || !packs) && self.k <= MAX_SIZE
    }

    /// The tensors that it reads.
    pub fn operands(&self) -> [BufferId; 2] {
        let right = match &self.right {
            Right::Rows(view) | Right::Columns(view) => view.buffer,
            Right::Panels { buffer, .. } => *buffer,
        };
        [self.left.buffer, right]
    }

    /// True if a load of any other element of an operand can be written in terms of its view.
    pub fn may_be_read(&self, graph: &Graph, buffer: BufferId) -> bool {
        self.views()
            .iter()
            .all(|v| v.buffer != buffer || graph.buffers[buffer].shape.last() == Some(&v.width))
    }

    fn views(&self) -> Vec<&View> {
        match &self.right {
            Right::Rows(view) | Right::Columns(view) => vec![&self.left, view],
            Right::Panels { .. } => vec![&self.left],
        }
    }

    /// What a call for so many rows and columns costs.
    fn cycles(&self, rows: usize, columns: usize, peaks: &CpuPeaks) -> f64 {
        let mut sizes = vec![rows as i64, columns as i64, self.k as i64];
        let name = match &self.right {
            Right::Rows(_) => NN,
            Right::Columns(_) => NT,
            Right::Panels { nr, .. } => {
                sizes.push(*nr as i64);
                PACKED
            }
        };
        cost::intrin::cycles(name, &sizes, peaks)
    }

    fn m(&self) -> usize {
        self.rows.iter().map(|a| a.extent).product()
    }

    fn batches(&self) -> usize {
        self.batch.iter().map(|a| a.extent).product()
    }
}

/// Where a tile lies: its batch, first row and column, and their numbers.
pub(super) struct Place {
    batch: Option<Expr>,
    m0: Expr,
    n0: Expr,
    rows: Expr,
    columns: Expr,
}

/// Emits the kernel.
///
/// # Errors
/// If the epilogue, or what the `joint` says besides, is nothing that a tile can hold.
pub fn emit(
    mut nest: Nest<'_>,
    anchored: &Anchored<'_>,
    product: &Product,
    joint: &Joint,
    goal: &Goal<'_>,
) -> Result<Scheduled, Refusal> {
    let output = anchored.root.outputs[0];
    let mut prologues = Prologue::all(&mut nest, product)?;
    let whole_rows = anchored.rows.is_some() || joint.quantised.is_some();
    let tiling = prologue::tiling(product, &prologues, whole_rows, goal)
        .map_err(|refused| Refusal::Guarded(refused.operand))?;
    let mut elements = results::elements(&mut nest, anchored, joint);
    elements.extend(prologues.iter().map(|p| p.element.clone()));
    let mut elements = see_as_matrices(&mut nest, anchored, product, joint, &elements);
    let own = elements.split_off(elements.len() - prologues.len());
    prologues.iter_mut().zip(own).for_each(|(prologue, element)| prologue.element = element);
    let tile = nest.var("t", DType::I64);
    nest.open(tile, tiling.tiles(product).into(), LoopKind::Tiles);
    let place = place(&mut nest, product, &tiling, var(tile));
    let mut operands = operand_regions(product, &place);
    for prologue in &prologues {
        operands[prologue.side as usize] = prologue.emit(&mut nest, product, &tiling, &place)?;
    }
    nest.push(call(product, output, operands, &place));
    let tile_rows = place.rows.clone();
    let result = Region { buffer: output, ranges: result_ranges(product, &place) };
    match &anchored.rows {
        Some(RowEpilogue::Stages { body, held, .. }) => {
            emit_row_epilogue(&mut nest, anchored, product, joint, (body, held), place)?;
        }
        Some(RowEpilogue::Softmax) | None if !elements.is_empty() || joint.quantised.is_some() => {
            emit_epilogue(&mut nest, anchored, product, joint, &elements, place)?;
        }
        Some(RowEpilogue::Softmax) | None => {}
    }
    if let Some(RowEpilogue::Softmax) = anchored.rows {
        nest.push(softmax::rows(result, tile_rows, product.column.extent));
    }
    nest.close();
    Ok(close(nest, anchored.root, joint))
}

/// Binds where a tile lies.
fn place(nest: &mut Nest<'_>, product: &Product, tiling: &Tiling, tile: Expr) -> Place {
    let rest = tile.clone().floor_div(tiling.column_tiles);
    let m0 = nest.bind_fresh_named("m0", rest.clone().floor_mod(tiling.row_tiles) * tiling.rows);
    let n0 = nest.bind_fresh_named("n0", tile.floor_mod(tiling.column_tiles) * tiling.columns);
    let rows = nest.bind_fresh_named("rows", clipped(tiling.rows, product.m(), &m0));
    let columns = nest.bind_fresh_named("columns", clipped(tiling.columns, product.column.extent, &n0));
    let batch =
        (product.batches() > 1).then(|| nest.bind_fresh_named("batch", rest.floor_div(tiling.row_tiles)));
    let mut stride = product.batches();
    for axis in &product.batch {
        stride /= axis.extent;
        let number = batch.clone().unwrap_or_else(|| Expr::int(0));
        nest.bind(axis.var, number.floor_div(stride).floor_mod(axis.extent));
    }
    Place { batch, m0, n0, rows, columns }
}

/// Where a tile of the result lies in it.
fn result_ranges(product: &Product, at: &Place) -> Vec<Range> {
    let batch = at.batch.iter().map(|b| range(b, 1i64));
    match &product.result {
        Some(view) => region(view, [(&at.m0, &at.rows), (&at.n0, &at.columns)]).ranges,
        None => batch.chain([range(&at.m0, &at.rows), range(&at.n0, &at.columns)]).collect(),
    }
}

/// Where a tile's operands lie.
fn operand_regions(product: &Product, at: &Place) -> [Region; 2] {
    let (k0, k) = (Expr::int(0), Expr::from(product.k));
    let left = region(&product.left, [(&at.m0, &at.rows), (&k0, &k)]);
    let right = match &product.right {
        Right::Rows(view) => region(view, [(&k0, &k), (&at.n0, &at.columns)]),
        Right::Columns(view) => region(view, [(&at.n0, &at.columns), (&k0, &k)]),
        Right::Panels { buffer, nr } => {
            let panels = (at.columns.clone() + (nr - 1)).floor_div(*nr);
            let first = at.n0.clone().floor_div(*nr);
            Region { buffer: *buffer, ranges: vec![range(first, panels), range(k0, k), range(0i64, *nr)] }
        }
    };
    [left, right]
}

/// The call of the intrinsic for a tile.
fn call(product: &Product, output: BufferId, operands: [Region; 2], at: &Place) -> Stmt {
    let result = Region { buffer: output, ranges: result_ranges(product, at) };
    let sizes = vec![at.rows.clone(), at.columns.clone(), product.k.into()];
    let (name, width) = match &product.right {
        Right::Rows(_) => (NN, None),
        Right::Columns(_) => (NT, None),
        Right::Panels { nr, .. } => (PACKED, Some(Expr::from(*nr))),
    };
    let regions = [result].into_iter().chain(operands).collect();
    intrin(name, regions, sizes.into_iter().chain(width).collect())
}

/// Rows and columns of a view, from its own origin.
fn region(view: &View, [(row, rows), (column, columns)]: [(&Expr, &Expr); 2]) -> Region {
    let rows = range(view.row.clone() + row.clone(), rows);
    let columns = range(view.column.clone() + column.clone(), columns);
    Region { buffer: view.buffer, ranges: vec![rows, columns] }
}

/// Sees operands and results as matrices; gives the elements of the epilogue in these terms.
fn see_as_matrices(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    product: &Product,
    joint: &Joint,
    elements: &[Expr],
) -> Vec<Expr> {
    let mut seen = Vec::new();
    for view in product.views() {
        let shape = nest.func.buffers[view.buffer].shape.clone();
        let size: usize = shape.iter().product();
        nest.func.buffers[view.buffer].shape = vec![size / view.width, view.width];
        seen.push((view.buffer, shape));
    }
    let output = anchored.root.outputs[0];
    let matrix = match &product.result {
        Some(view) => {
            let size = nest.func.buffers[output].shape.iter().product::<usize>();
            vec![size / view.width, view.width]
        }
        None => {
            let batches = (product.batches() > 1).then(|| product.batches());
            batches.into_iter().chain([product.m(), product.column.extent]).collect()
        }
    };
    joint.see_as(&mut nest.func.buffers, output, &matrix);
    replace_all_loads(elements, &mut |buffer, indices| {
        let (_, shape) = seen.iter().find(|(b, _)| *b == buffer)?;
        let (last, outer) = indices.split_last()?;
        let row = outer.iter().zip(shape).fold(Expr::int(0), |row, (i, &n)| row * n + i.clone());
        Some(Expr::new(ExprKind::Load(buffer, vec![row, last.clone()]), DType::F32))
    })
}

/// The elementwise stages over the tile, in place, and what becomes of its rows.
fn emit_epilogue(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    product: &Product,
    joint: &Joint,
    elements: &[Expr],
    at: Place,
) -> Result<(), Refusal> {
    let i = nest.var("i", DType::I64);
    nest.open(i, at.rows, LoopKind::Serial);
    let row = nest.bind_fresh_named("row", at.m0 + var(i));
    let place: Vec<Expr> = match &product.result {
        Some(view) => vec![view.row.clone() + row.clone()],
        None => at.batch.into_iter().chain([row.clone()]).collect(),
    };
    if !elements.is_empty() {
        // The epilogue's axes stand at the product's.
        let own: Vec<&Axis> = product.batch.iter().chain(&product.rows).chain([&product.column]).collect();
        let standing =
            |axis: &Axis| anchored.axes[own.iter().position(|a| a.var == axis.var).unwrap_or(0)].var;
        let mut env: Env = product.batch.iter().map(|a| (standing(a), a.expr())).collect();
        env.extend(row_axes(&product.rows, &row).into_iter().map(|(axis, value)| (standing(&axis), value)));
        let j = nest.var("j", DType::I64);
        nest.open(j, at.columns, LoopKind::Vectorized);
        let column = at.n0 + var(j);
        env.insert(standing(&product.column), column.clone());
        let first = product.result.as_ref().map(|view| view.column.clone());
        let column = first.into_iter().fold(column, |column, first| first + column);
        results::store(
            nest,
            anchored,
            joint,
            (elements, &env),
            place.iter().cloned().chain([column]).collect(),
        )?;
        nest.close();
    }
    nest.extend(joint.quantise_row(anchored.root.outputs[0], &place, product.column.extent));
    nest.close();
    Ok(())
}

/// The stages that reduce over whole rows, row by row, in place.
fn emit_row_epilogue(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    product: &Product,
    joint: &Joint,
    (body, held): (&Expr, &[BufferId]),
    at: Place,
) -> Result<(), Refusal> {
    let (_, leading) = anchored.axes.split_last().expect("a product has columns");
    let i = nest.var("i", DType::I64);
    nest.open(i, at.rows, LoopKind::Serial);
    let row = nest.bind_fresh_named("row", at.m0 + var(i));
    // Places are variables or 0, so that what is read at one place is seen to be.
    let own: Vec<&Axis> = product.batch.iter().chain(&product.rows).collect();
    let moving: Vec<Axis> = product.rows.iter().filter(|a| a.extent > 1).cloned().collect();
    let mut env: Env = leading.iter().map(|a| (a.var, Expr::int(0))).collect();
    let batch = product.batch.iter().filter(|a| a.extent > 1).map(|a| (a.clone(), a.expr()));
    for (axis, value) in batch.chain(row_axes(&moving, &row)).collect::<Vec<_>>() {
        let value = nest.bind_fresh_named("at", value);
        let standing = own.iter().zip(leading).find(|(mine, _)| mine.var == axis.var);
        env.extend(standing.map(|(_, axis)| (axis.var, value)));
    }
    let prefix: Vec<Expr> = at.batch.into_iter().chain([row]).collect();
    results::store_row(nest, anchored, joint, (body, held), (env, prefix))?;
    nest.close();
    Ok(())
}

/// The axes of the rows at one row.
fn row_axes(rows: &[Axis], row: &Expr) -> Vec<(Axis, Expr)> {
    let mut stride: usize = rows.iter().map(|a| a.extent).product();
    let mut at = |axis: &Axis| {
        stride /= axis.extent;
        let value = row.clone().floor_div(stride);
        let outermost = rows.first().is_some_and(|a| a.var == axis.var);
        (axis.clone(), if outermost { value } else { value.floor_mod(axis.extent) })
    };
    rows.iter().map(&mut at).collect()
}
