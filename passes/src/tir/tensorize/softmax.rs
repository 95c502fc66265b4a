//! `nn.softmax` along the last axis on `softmax_f32`: a tile is a few rows, copied and then changed
//! in place. Behind a product it is done on the product's own tile (see [`super::product`]).

use fermata_ir::op::nn::{SOFTMAX, SoftmaxAttrs};
use fermata_ir::te::{Graph, Tensor};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, PrimFunc, Region, Stmt, VarInfo};
use fermata_ir::types::DType;

use super::super::checkpoint::Goal;
use super::super::rules_cpu::{Scheduled, finish_outputs};
use super::{Origins, clipped, intrin, is_given, range, var};

/// Numbers that a tile should be worth.
const TILE_NUMBERS: usize = 1 << 14;

/// The largest size that the intrinsic takes.
const MAX_SIZE: usize = 1 << 20;

/// What a tensor is the softmax of, along its last axis and in float32.
pub fn argument(origins: &Origins, output: BufferId) -> Option<&Tensor> {
    let origin = origins.get(&output).filter(|o| o.op.is(&SOFTMAX))?;
    let data = &origin.args[0];
    let axis = origin.attrs.read::<SoftmaxAttrs>().axis;
    let last = axis == -1 || axis == data.rank() as i64 - 1;
    let sized = data.shape.iter().all(|&n| n > 0) && data.shape.last().is_some_and(|&n| n <= MAX_SIZE);
    (last && sized && data.dtype == DType::F32).then_some(data)
}

/// The softmax of rows of a tensor.
pub fn rows(of: Region, rows: Expr, n: usize) -> Stmt {
    intrin("softmax_f32", vec![of], vec![rows, n.into()])
}

/// A graph that is one softmax of rows.
pub struct Softmax {
    data: BufferId,
    m: usize,
    n: usize,
}

/// The softmax that a graph is, if it is one.
pub fn find(graph: &Graph, origins: &Origins, outputs: &[BufferId]) -> Option<Softmax> {
    let &[output] = outputs else { return None };
    let data = argument(origins, output).filter(|data| is_given(graph, data.id))?;
    let (&n, outer) = data.shape.split_last()?;
    Some(Softmax { data: data.id, m: outer.iter().product(), n })
}

impl Softmax {
    /// Its kernel.
    pub fn emit(&self, name: &str, graph: &Graph, outputs: &[BufferId], goal: &Goal<'_>) -> Scheduled {
        let (&Softmax { data, m, n }, output) = (self, outputs[0]);
        let mut func = PrimFunc::new(name);
        func.buffers = graph.buffers.clone();
        func.vars = graph.vars.clone();
        for buffer in [data, output] {
            func.buffers[buffer].shape = vec![m, n];
        }
        let tile_rows = (goal.cut(TILE_NUMBERS) / n).clamp(1, m.min(MAX_SIZE));
        let info = |v: &str| VarInfo { name: v.into(), dtype: DType::I64 };
        let [tile, i, j] = ["t", "i", "j"].map(|v| func.vars.push(info(v)));
        let first = var(tile) * tile_rows;
        let count = clipped(tile_rows, m, &first);
        let at = vec![first.clone() + var(i), var(j)];
        let value = Expr::new(ExprKind::Load(data, at.clone()), DType::F32);
        let copied = Stmt::Store { buffer: output, indices: at, value };
        let nested = |var, extent, kind, body| Stmt::For { var, extent, kind, body: Box::new(body) };
        let row = nested(j, n.into(), LoopKind::Vectorized, copied);
        let copy = nested(i, count.clone(), LoopKind::Serial, row);
        let region = Region { buffer: output, ranges: vec![range(&first, &count), range(0i64, n)] };
        let body = Stmt::Seq(vec![copy, rows(region, count.clone(), n)]);
        let tiles = nested(tile, m.div_ceil(tile_rows).into(), LoopKind::Tiles, body);
        finish_outputs(func, "softmax".into(), outputs, Vec::new(), tiles)
    }
}
