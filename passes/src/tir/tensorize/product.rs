//! `nn.contrib_dense_pack` on `gemm_f32`: a tile is a block of rows and of panels.

use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Region, Stmt};
use fermata_ir::types::DType;

use super::super::inline::Env;
use super::super::nest::{Nest, Refusal};
use super::super::rules_cpu::Scheduled;
use super::{Anchored, TILE_FLOPS, clipped, close, epilogue, intrin, range, replace_loads, var};
use crate::target::CpuTarget;

/// Rows of a tile at most: its part of the left operand stays in the second-level cache.
const MAX_ROWS: usize = 128;

/// The sizes of a product and of its tiles.
struct Tiling {
    m: usize,
    n: usize,
    k: usize,
    nr: usize,
    rows: usize,
    columns: usize,
}

impl Tiling {
    fn new(m: usize, n: usize, k: usize, nr: usize) -> Tiling {
        let rows = m.clamp(1, MAX_ROWS);
        let fitting = TILE_FLOPS / (2 * rows * k.max(1)).max(1);
        // At least four tiles, so that a second worker finds work.
        let columns = fitting.min(n.div_ceil(4)).max(1).next_multiple_of(nr);
        Tiling { m, n, k, nr, rows, columns: columns.min(n.next_multiple_of(nr)).max(nr) }
    }
}

/// Emits the kernel.
pub fn emit(mut nest: Nest<'_>, anchored: &Anchored<'_>, _: &CpuTarget) -> Result<Scheduled, Refusal> {
    let [x, w] = &anchored.origin.args[..] else { unreachable!("dense has two arguments") };
    let output = anchored.root.outputs[0];
    let shape = nest.func.buffers[output].shape.clone();
    let (n, lead) = shape.split_last().expect("a product has a last dimension");
    let m: usize = lead.iter().product();
    let k = *x.shape.last().expect("an operand has a last dimension");
    let t = Tiling::new(m, *n, k, *w.shape.last().expect("panels have a width"));
    let element = flatten(&mut nest, anchored, x.id, output, lead);
    let column_tiles = t.n.div_ceil(t.columns);
    let tile = nest.var("t", DType::I64);
    nest.open(tile, (t.m.div_ceil(t.rows) * column_tiles).into(), LoopKind::Tiles);
    let m0 = nest.bind_fresh_named("m0", var(tile).floor_div(column_tiles) * t.rows);
    let n0 = nest.bind_fresh_named("n0", var(tile).floor_mod(column_tiles) * t.columns);
    let (rows, columns) = (clipped(t.rows, t.m, &m0), clipped(t.columns, t.n, &n0));
    let rows = nest.bind_fresh_named("rows", rows);
    let columns = nest.bind_fresh_named("columns", columns);
    let panels = (columns.clone() + (t.nr - 1)).floor_div(t.nr);
    let regions = vec![
        Region { buffer: output, ranges: vec![range(&m0, &rows), range(&n0, &columns)] },
        Region { buffer: x.id, ranges: vec![range(&m0, &rows), range(0i64, t.k)] },
        Region {
            buffer: w.id,
            ranges: vec![range(n0.clone().floor_div(t.nr), panels), range(0i64, t.k), range(0i64, t.nr)],
        },
    ];
    nest.push(intrin("gemm_f32", regions, vec![rows.clone(), columns.clone(), t.k.into(), t.nr.into()]));
    if let Some(element) = element {
        emit_epilogue(&mut nest, anchored, &element, [m0, rows, n0, columns])?;
    }
    nest.close();
    Ok(close(nest, anchored.root))
}

/// Sees the operand and the result as matrices; gives the epilogue's element in these terms.
fn flatten(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    x: BufferId,
    output: BufferId,
    lead: &[usize],
) -> Option<Expr> {
    let indices = anchored.axes.iter().map(|a| a.expr()).collect();
    let element = epilogue(anchored, nest, indices);
    let rows = lead.iter().product();
    for buffer in [x, output] {
        let last = *nest.func.buffers[buffer].shape.last().expect("a matrix");
        nest.func.buffers[buffer].shape = vec![rows, last];
    }
    element.map(|e| {
        replace_loads(&e, &mut |b, indices| {
            let (last, outer) = indices.split_last().filter(|_| b == x || b == output)?;
            let row = outer.iter().zip(lead).fold(Expr::int(0), |row, (i, &n)| row * n + i.clone());
            Some(Expr::new(ExprKind::Load(b, vec![row, last.clone()]), DType::F32))
        })
    })
}

/// The elementwise stage over the tile, in place.
fn emit_epilogue(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    element: &Expr,
    [m0, rows, n0, columns]: [Expr; 4],
) -> Result<(), Refusal> {
    let output = anchored.root.outputs[0];
    let (last, outer) = anchored.axes.split_last().expect("a product has a last axis");
    let i = nest.var("i", DType::I64);
    nest.open(i, rows, LoopKind::Serial);
    let row = nest.bind_fresh_named("row", m0 + var(i));
    let mut stride: usize = outer.iter().map(|a| a.extent).product();
    let mut env = Env::new();
    let mut index = Expr::int(0);
    for axis in outer {
        stride /= axis.extent.max(1);
        let value = row.clone().floor_div(stride.max(1)).floor_mod(axis.extent.max(1));
        let value = if outer.len() == 1 { row.clone() } else { value };
        index = index * axis.extent + value.clone();
        env.insert(axis.var, value);
    }
    let j = nest.var("j", DType::I64);
    nest.open(j, columns, LoopKind::Vectorized);
    let column = n0 + var(j);
    env.insert(last.var, column.clone());
    let element = nest.inliner().instantiate(element, &env);
    // The result's own row is the tile's, whatever its index was made of.
    let element = replace_loads(&element, &mut |b, _| {
        (b == output).then(|| Expr::new(ExprKind::Load(b, vec![row.clone(), column.clone()]), DType::F32))
    });
    let value = nest.place(&element)?;
    nest.push(Stmt::Store { buffer: output, indices: vec![row, column], value });
    nest.close();
    nest.close();
    Ok(())
}
