//! `quant.quantize_per_token` on `quantize_i8`: a tile is a few rows, numbers and scales alike.

use fermata_ir::op::quant::QUANTIZE_PER_TOKEN;
use fermata_ir::te::Graph;
use fermata_ir::tir::{BufferId, Expr, LoopKind, PrimFunc, Region, Stmt, VarInfo};
use fermata_ir::types::DType;

use super::super::checkpoint::Goal;
use super::super::rules_cpu::{Scheduled, finish_outputs};
use super::{Origins, clipped, intrin, is_given, range, var};

/// Numbers that a tile should be worth.
const TILE_NUMBERS: usize = 1 << 15;

/// The largest size that the intrinsic takes.
pub const MAX_SIZE: usize = 1 << 20;

/// A graph that is one quantisation of float32 rows.
pub struct Quantisation {
    data: BufferId,
    m: usize,
    k: usize,
}

/// The quantisation that a graph is, if it is one.
pub fn find(graph: &Graph, origins: &Origins, outputs: &[BufferId]) -> Option<Quantisation> {
    let &[numbers, _] = outputs else { return None };
    let origin = origins.get(&numbers).filter(|o| o.op.is(&QUANTIZE_PER_TOKEN))?;
    let data = &origin.args[0];
    let (&k, outer) = data.shape.split_last()?;
    let m: usize = outer.iter().product();
    let fits = is_given(graph, data.id) && data.dtype == DType::F32 && k <= MAX_SIZE && m > 0;
    fits.then_some(Quantisation { data: data.id, m, k })
}

impl Quantisation {
    /// Its kernel.
    pub fn emit(&self, name: &str, graph: &Graph, outputs: &[BufferId], goal: &Goal<'_>) -> Scheduled {
        let &Quantisation { data, m, k } = self;
        let (numbers, scales) = (outputs[0], outputs[1]);
        let mut func = PrimFunc::new(name);
        func.buffers = graph.buffers.clone();
        func.vars = graph.vars.clone();
        for (buffer, matrix) in [(data, vec![m, k]), (numbers, vec![m, k]), (scales, vec![m])] {
            func.buffers[buffer].shape = matrix;
        }
        let rows = (goal.cut(TILE_NUMBERS) / k.max(1)).clamp(1, m.min(MAX_SIZE));
        let tile = func.vars.push(VarInfo { name: "t".into(), dtype: DType::I64 });
        let first = var(tile) * rows;
        let count = clipped(rows, m, &first);
        let rows_of = || range(&first, &count);
        let matrix = |buffer| Region { buffer, ranges: vec![rows_of(), range(0i64, k)] };
        let regions = vec![matrix(numbers), Region { buffer: scales, ranges: vec![rows_of()] }, matrix(data)];
        let call = intrin("quantize_i8", regions, vec![count.clone(), k.into()]);
        let tiles: Expr = m.div_ceil(rows).into();
        let body = Stmt::For { var: tile, extent: tiles, kind: LoopKind::Tiles, body: Box::new(call) };
        finish_outputs(func, "quantize".into(), outputs, Vec::new(), body)
    }
}
