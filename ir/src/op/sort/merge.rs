//! Sorting as a statement: a bottom-up merge sort of places, stable and without recursion.

use super::before;
use super::line::{LineLoops, serial, store, var_expr, within};
use crate::scalar::BinaryOp;
use crate::te::{self, StageKind};
use crate::tir::{Expr, Stmt, VarId};
use crate::types::DType;

/// The variables of a merge.
struct Vars {
    /// Counts doublings of the width of sorted runs.
    pass: VarId,
    /// The place that is filled at first, in a merge, and in copying back.
    places: [VarId; 3],
    /// Where the pair of runs starts that the place belongs to.
    start: VarId,
    /// The next place of the first run, and the element there.
    first: (VarId, VarId),
    /// The next place of the second run, and the element there.
    second: (VarId, VarId),
}

impl Vars {
    fn new(graph: &mut te::Graph) -> Vars {
        let mut var = |name| graph.var(name, DType::I64);
        Vars {
            pass: var("pass"),
            places: [var("k"), var("k"), var("k")],
            start: var("start"),
            first: (var("a"), var("x")),
            second: (var("b"), var("y")),
        }
    }
}

/// Adds a stage that gives, for each line of `data` along `axis`, the places of its elements
/// in order, as `int64`.
pub(super) fn argsort_stage(
    graph: &mut te::Graph,
    data: &te::Tensor,
    axis: usize,
    ascending: bool,
) -> te::Tensor {
    let len = data.shape[axis];
    let lines = LineLoops::new(graph, &data.shape, axis);
    let places = graph.tensor("places", &data.shape, DType::I64);
    let merged = graph.tensor("merged", &data.shape, DType::I64);
    let mut heads_shape = data.shape.clone();
    heads_shape.remove(axis);
    heads_shape.push(2);
    let heads = graph.tensor("heads", &heads_shape, DType::I64);
    let vars = Vars::new(graph);
    let [fill, merge, back] = vars.places;
    let (k, m) = (var_expr(fill), var_expr(back));

    let body = if data.shape.contains(&0) {
        Stmt::nop()
    } else {
        let step = merge_step(&lines, [data, &places, &merged, &heads], &vars, len, ascending);
        let copy = store(places.id, lines.at(m.clone()), merged.at(&lines.at(m)));
        let passes = (usize::BITS - (len - 1).leading_zeros()) as usize;
        lines.around(Stmt::Seq(vec![
            serial(fill, len, vec![store(places.id, lines.at(k.clone()), k)]),
            serial(vars.pass, passes, vec![serial(merge, len, step), serial(back, len, vec![copy])]),
        ]))
    };
    let kind = StageKind::Extern { inputs: vec![data.id], allocs: vec![merged.id, heads.id], body };
    graph.push("argsort", "sort", &[places.id], kind);
    places
}

/// Moves one place to `merged`: from the second run where its element comes before the first's.
fn merge_step(
    lines: &LineLoops,
    [data, places, merged, heads]: [&te::Tensor; 4],
    vars: &Vars,
    len: usize,
    ascending: bool,
) -> Vec<Stmt> {
    let width = Expr::int(1).binary(BinaryOp::Shl, var_expr(vars.pass));
    let pair = width.clone() * 2i64;
    let (k, start) = (var_expr(vars.places[1]), var_expr(vars.start));
    let middle = (start.clone() + width).min(len);
    let end = (start.clone() + pair.clone()).min(len);
    let head = |run: i64| [lines.others(), vec![Expr::int(run)]].concat();
    let place = |at: VarId| places.at(&lines.at(within(var_expr(at), len)));
    let element = |place: VarId| data.at(&lines.at(within(var_expr(place), len)));
    let ((a, x), (b, y)) = (vars.first, vars.second);
    let earlier = match ascending {
        true => before(element(y), element(x)),
        false => before(element(x), element(y)),
    };
    let exhausted = var_expr(a).ge(middle.clone());
    let take_second = var_expr(b).lt(end).and(exhausted.binary(BinaryOp::Or, earlier));
    let take = |run: i64, at: VarId, place: VarId| {
        Box::new(Stmt::Seq(vec![
            store(merged.id, lines.at(k.clone()), var_expr(place)),
            store(heads.id, head(run), var_expr(at) + 1i64),
        ]))
    };
    let reset = Stmt::Seq(vec![store(heads.id, head(0), start.clone()), store(heads.id, head(1), middle)]);
    vec![
        Stmt::Let { var: vars.start, value: k.clone().floor_div(pair.clone()) * pair },
        Stmt::If { cond: k.clone().equal(start), then: Box::new(reset), els: None },
        Stmt::Let { var: a, value: heads.at(&head(0)) },
        Stmt::Let { var: b, value: heads.at(&head(1)) },
        Stmt::Let { var: x, value: place(a) },
        Stmt::Let { var: y, value: place(b) },
        Stmt::If { cond: take_second, then: take(1, b, y), els: Some(take(0, a, x)) },
    ]
}
