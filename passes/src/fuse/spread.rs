//! Groups that end in a split, written into each of their readers.
//!
//! What reads a field of a split can as well read the tensor before it. Every element is in one field,
//! so no work is done twice, and the fields need not be written. A split's group goes where all of its
//! readers are groups and the target's schedules make fewer launches of them and no more work.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::transform::SPLIT;
use fermata_ir::walk;

use super::merge::{GPU_PRODUCT, Group, Trial, joined, remark};
use crate::pass::PassContext;
use crate::relay::rewrite::rebuild;

/// The only rule there is.
const SPREAD: &str = "write a split into its readers";

/// Readers of the largest split that is tried.
const MAX_READERS: usize = 64;

/// The body with groups that end in splits gone, as far as that pays.
pub fn spread(module: &mut Module, body: ExprId, trial: &mut Trial, context: &mut PassContext) -> ExprId {
    let mut chosen = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for (split, readers) in splits(module, body) {
        let tried = match readers {
            Some(readers) if readers.iter().any(|r| taken.contains(r)) => {
                Err("one of its readers takes in another split".into())
            }
            Some(readers) => saves(module, split, &readers, trial).map(|won| (won, readers)),
            None => Err("not only groups, or too many of them, read its fields".into()),
        };
        match tried {
            Ok((won, readers)) if context.fire(SPREAD, module, split) => {
                let won = format!("its readers read what was split, which is {won} launches fewer");
                remark(module, split, format!("the group of `split`: {won}"), context);
                chosen.insert(split);
                taken.extend(readers);
            }
            Ok(_) => break,
            Err(why) => remark(module, split, format!("the group of `split`: {why}"), context),
        }
    }
    if chosen.is_empty() {
        return body;
    }
    let mut gone = BTreeSet::new();
    rebuild(module, body, &mut |module, old, new| {
        if chosen.contains(&old) {
            gone.insert(new);
        }
        let Some(reader) = Group::of(module, new) else { return new };
        let Some(&split) = reader.args.iter().find(|a| gone.contains(a)) else { return new };
        let producer = Group::of(module, split).expect("a split's group was chosen");
        joined(module, new, (split, &producer), &reader)
    })
}

/// The groups that end in a split, operands first, with the groups that read each; nothing if
/// something else does, or too many.
fn splits(module: &Module, body: ExprId) -> Vec<(ExprId, Option<Vec<ExprId>>)> {
    let order = walk::post_order(module, &[body]);
    let mut users: BTreeMap<ExprId, Vec<ExprId>> = BTreeMap::new();
    for &expr in &order {
        walk::children(&module.exprs[expr]).into_iter().for_each(|c| users.entry(c).or_default().push(expr));
    }
    let ends_in_split = |&expr: &ExprId| {
        let group = Group::of(module, expr)?;
        let (op, _) = module.as_op_call(group.func.body)?;
        (op.is(&SPLIT) && group.is_elementwise()).then_some(expr)
    };
    let readers = |split: ExprId| {
        let mut readers = users.get(&split).cloned().unwrap_or_default();
        readers.dedup();
        let all = readers.iter().all(|&r| Group::of(module, r).is_some());
        (all && !readers.is_empty() && readers.len() <= MAX_READERS && split != body).then_some(readers)
    };
    order.iter().filter_map(ends_in_split).map(|split| (split, readers(split))).collect()
}

/// How many launches fewer there are if a split is written into its readers.
///
/// # Errors
/// Why it is better apart.
fn saves(module: &mut Module, split: ExprId, readers: &[ExprId], trial: &mut Trial) -> Result<usize, String> {
    let groups = |module: &Module, calls: &[ExprId]| {
        calls.iter().filter_map(|&call| Group::of(module, call)).collect::<Vec<_>>()
    };
    let producer = groups(module, &[split]);
    let apart = groups(module, readers);
    if apart.iter().any(|reader| trial.leaves(reader)) {
        return Err(GPU_PRODUCT.into());
    }
    let calls: Vec<ExprId> = readers
        .iter()
        .zip(&apart)
        .map(|(&reader, group)| joined(module, reader, (split, &producer[0]), group))
        .collect();
    let together = groups(module, &calls);
    let apart: Vec<&Group> = producer.iter().chain(&apart).collect();
    trial.saves(module, &apart, &together.iter().collect::<Vec<_>>()).map(|(launches, _)| launches)
}
