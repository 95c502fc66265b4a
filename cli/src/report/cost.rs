//! What operators cost, counted on their Tensor Expressions: arithmetic and bytes.

use std::collections::BTreeMap;

use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::{Lower, Op};
use fermata_ir::te::{Graph, StageKind};
use fermata_ir::tir::{Expr, ExprKind};
use fermata_ir::types::{DType, TensorType};
use fermata_ir::walk;
use fermata_passes::lower::group_to_te::flatten;

use crate::graph::{Family, short_type};

/// Shapes of results that a row shows.
const SHOWN_SHAPES: usize = 3;

/// All calls of one operator.
pub(crate) struct Row {
    /// The operator.
    pub(crate) op: Op,
    /// Its family.
    pub(crate) family: Family,
    /// Calls before the passes.
    pub(crate) before: usize,
    /// Calls after them.
    pub(crate) after: usize,
    /// The commonest types of results, and how many others there are.
    pub(crate) shapes: Vec<String>,
    /// Shapes that are not shown.
    pub(crate) more_shapes: usize,
    /// Operations on elements, a product and its sum two; nothing where a size is open.
    pub(crate) operations: u64,
    /// Bytes that its calls read and write, each run alone.
    pub(crate) bytes: u64,
}

/// The operators of a program after its passes, the costliest first, and those that are gone.
pub(crate) fn rows(before: &Module, after: &Module) -> Vec<Row> {
    let mut rows: BTreeMap<Op, (Row, BTreeMap<String, usize>)> = BTreeMap::new();
    let row = |op: Op| Row {
        op,
        family: Family::of(op),
        before: 0,
        after: 0,
        shapes: Vec::new(),
        more_shapes: 0,
        operations: 0,
        bytes: 0,
    };
    for id in walk::reachable(before) {
        if let Some((op, _)) = before.as_op_call(id) {
            rows.entry(op).or_insert_with(|| (row(op), BTreeMap::new())).0.before += 1;
        }
    }
    for id in walk::reachable(after) {
        let Some((op, _)) = after.as_op_call(id) else { continue };
        let (row, shapes) = rows.entry(op).or_insert_with(|| (row(op), BTreeMap::new()));
        row.after += 1;
        *shapes.entry(short_type(&after.types[id])).or_default() += 1;
        let (operations, bytes) = cost(after, id).unwrap_or_default();
        row.operations = row.operations.saturating_add(operations);
        row.bytes = row.bytes.saturating_add(bytes);
    }
    let mut rows: Vec<Row> = rows.into_values().map(|(row, shapes)| with_shapes(row, shapes)).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse((row.operations, row.bytes, row.after)), row.op));
    rows
}

fn with_shapes(mut row: Row, shapes: BTreeMap<String, usize>) -> Row {
    let mut shapes: Vec<(String, usize)> = shapes.into_iter().collect();
    shapes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    row.more_shapes = shapes.len().saturating_sub(SHOWN_SHAPES);
    row.shapes = shapes.into_iter().take(SHOWN_SHAPES).map(|(shape, _)| shape).collect();
    row
}

/// Operations and bytes of a call, if its types are static and it has a Tensor Expression.
pub(crate) fn cost(module: &Module, call: ExprId) -> Option<(u64, u64)> {
    let (op, at) = module.as_op_call(call)?;
    let outs = flatten(&module.types[call])?;
    let ins: Vec<TensorType> =
        at.args.iter().map(|&arg| flatten(&module.types[arg])).collect::<Option<Vec<_>>>()?.concat();
    let bytes = outs.iter().chain(&ins).try_fold(0u64, |sum, t| {
        Some(sum.saturating_add((t.elements()? as u64).saturating_mul(t.dtype.bytes() as u64)))
    })?;
    let Lower::Te(te) = op.lower else { return Some((0, bytes)) };
    let mut graph = Graph::new();
    let args: Option<Vec<_>> =
        ins.iter().map(|t| Some(graph.placeholder("x", &t.static_shape()?, t.dtype))).collect();
    te(&mut graph, &args?, &at.attrs, &outs).ok()?;
    Some((operations(&graph), bytes))
}

/// The operations of all stages of a graph.
fn operations(graph: &Graph) -> u64 {
    let mut sum = 0u64;
    for stage in &graph.stages {
        let count = match &stage.kind {
            StageKind::Placeholder => 0,
            StageKind::Compute(compute) => {
                let reduced = compute.reduce.iter().flat_map(|r| &r.axes);
                let points = compute.axes.iter().chain(reduced).map(|axis| axis.extent as u64);
                let each = compute.body.iter().map(of_element).sum::<u64>();
                let each = each + u64::from(compute.reduce.is_some());
                points.fold(each, u64::saturating_mul)
            }
            // A statement of its own: as much as it writes.
            StageKind::Extern { .. } => {
                stage.outputs.iter().map(|&b| graph.buffers[b].shape.iter().product::<usize>() as u64).sum()
            }
        };
        sum = sum.saturating_add(count);
    }
    sum
}

/// Operations on values, without the arithmetic of indices and conditions.
fn of_element(body: &Expr) -> u64 {
    let mut count = 0;
    let mut stack = vec![body];
    while let Some(expr) = stack.pop() {
        let on_values = !matches!(expr.dtype(), DType::I64 | DType::Bool);
        match expr.kind() {
            ExprKind::Unary(..) | ExprKind::Binary(..) => count += u64::from(on_values),
            ExprKind::Fma(..) => count += 2,
            // Inside are indices.
            ExprKind::Load(..) => continue,
            ExprKind::Const(_)
            | ExprKind::Var(_)
            | ExprKind::Cast(_)
            | ExprKind::Reinterpret(_)
            | ExprKind::Cmp(..)
            | ExprKind::Select(..) => {}
        }
        stack.extend(expr.kind().children());
    }
    count
}

#[cfg(test)]
mod tests {
    use fermata_ir::infer::infer_module;
    use fermata_ir::op::OpTable;
    use fermata_ir::text::{ParseOptions, parse_module};

    use super::*;

    fn parse(body: &str) -> Module {
        let params = "%x: Tensor[(4, 8), float32], %w: Tensor[(16, 8), float32], %i: Tensor[(1, 3, 10, 10), float32], \
                      %k: Tensor[(5, 3, 3, 3), float32], %n: Tensor[(n, 8), float32]";
        let text = format!("#[version = \"0.0.5\"]\ndef @main({params}) {{ {body} }}");
        let mut module =
            parse_module("test", &text, &ParseOptions::new(&OpTable::standard())).expect("it parses");
        infer_module(&mut module).expect("it is typed");
        module
    }

    fn costs(body: &str) -> Option<(u64, u64)> {
        let module = parse(body);
        let main = module.global("main").expect("it is there");
        cost(&module, module.globals[main].func.as_ref().expect("it lives").body)
    }

    #[test]
    fn products_count_two_for_each_term() {
        assert_eq!(costs("nn.dense(%x, %w, units=16)"), Some((2 * 4 * 16 * 8, 4 * (32 + 128 + 64))));
        let (operations, _) = costs("nn.conv2d(%i, %k)").expect("it is static");
        assert_eq!(operations, 2 * 5 * 8 * 8 * 3 * 3 * 3);
    }

    #[test]
    fn moves_cost_bytes_only_and_open_sizes_nothing() {
        assert_eq!(costs("transpose(%x)"), Some((0, 4 * 64)));
        assert_eq!(costs("add(%x, %x)"), Some((32, 4 * 96)));
        assert_eq!(costs("exp(%n)"), None);
    }

    #[test]
    fn operators_that_went_and_came_are_rows() {
        let rows = rows(&parse("exp(tanh(%x))"), &parse("exp(nn.dense(%x, %w, units=16))"));
        let found: Vec<_> = rows.iter().map(|r| (r.op.name(), r.before, r.after)).collect();
        assert_eq!(found, [("nn.dense", 0, 1), ("exp", 1, 1), ("tanh", 1, 0)]);
    }
}
