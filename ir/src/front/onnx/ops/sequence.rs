//! Sequences and optional values: lists that exist at compile time only.

use super::Row;
use crate::expr::ExprId;
use crate::front::onnx::graph::{Border, Mapped, Value};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::tensor::Tensor;
use crate::types::DType;

/// Lists of tensors.
pub(super) const ROWS: &[Row] = &[
    Row::new("ConcatFromSequence", concat_from_sequence),
    Row::new("Optional", |cx| Ok(vec![cx.value(0)])),
    Row::new("OptionalGetElement", |cx| match cx.value(0) {
        Value::Absent => wrong("OptionalGetElement of an empty optional"),
        value => Ok(vec![value]),
    }),
    Row::new("OptionalHasElement", |cx| {
        let has = !matches!(cx.value(0), Value::Absent);
        Ok(vec![Value::Tensor(cx.scalar(DType::Bool, f64::from(has)))])
    }),
    Row::new("SequenceAt", |cx| {
        let items = cx.sequence(0)?;
        let at = position(cx, 1, items.len())?;
        match items.get(at) {
            Some(&e) => Ok(vec![Value::Tensor(e)]),
            None => wrong(format!("SequenceAt {at} of {} elements", items.len())),
        }
    })
    .known(&[1]),
    Row::new("SequenceConstruct", |cx| Ok(vec![Value::Sequence(cx.tensors()?.into())])),
    Row::new("SequenceEmpty", |_| Ok(vec![Value::Sequence([].into())])),
    Row::new("SequenceErase", |cx| {
        let mut items = cx.sequence(0)?.to_vec();
        let at = match cx.opt(1)? {
            Some(_) => position(cx, 1, items.len())?,
            None => items.len().wrapping_sub(1),
        };
        if at >= items.len() {
            return wrong(format!("SequenceErase {at} of {} elements", items.len()));
        }
        items.remove(at);
        Ok(vec![Value::Sequence(items.into())])
    })
    .known(&[1]),
    Row::new("SequenceInsert", |cx| {
        let mut items = cx.sequence(0)?.to_vec();
        let new = cx.arg(1)?;
        let at = match cx.opt(2)? {
            Some(_) => position(cx, 2, items.len())?,
            None => items.len(),
        };
        if at > items.len() {
            return wrong(format!("SequenceInsert at {at} of {} elements", items.len()));
        }
        items.insert(at, new);
        Ok(vec![Value::Sequence(items.into())])
    })
    .known(&[2]),
    Row::new("SequenceLength", |cx| {
        let length = cx.sequence(0)?.len() as i64;
        Ok(vec![Value::Tensor(cx.constant(Tensor::scalar(length)))])
    }),
    Row::new("SequenceMap", sequence_map),
    Row::new("SplitToSequence", split_to_sequence).known(&[1]),
];

/// A position counted from the front; one past every list if it is out of range.
fn position(cx: &Cx<'_, '_>, operand: usize, len: usize) -> Step<usize> {
    let at = cx.const_ints(operand, "the position")?;
    let Some(&at) = at.first() else { return wrong("a position is one number") };
    let at = if at < 0 { at + len as i64 } else { at };
    Ok(usize::try_from(at).unwrap_or(usize::MAX))
}

fn concat_from_sequence(cx: &mut Cx<'_, '_>) -> Mapped {
    let items = cx.sequence(0)?;
    let Some(&first) = items.first() else { return wrong("ConcatFromSequence of nothing") };
    let Some(axis) = cx.int_opt("axis")? else { return wrong("ConcatFromSequence needs an axis") };
    let joined = if cx.flag("new_axis", false)? {
        let axis = cx.axis(axis, cx.rank(first)? + 1)?;
        let parts = items.iter().map(|&e| cx.expand_dims(e, axis, 1)).collect::<Step<Vec<_>>>()?;
        cx.concat(&parts, axis)?
    } else {
        let axis = cx.axis(axis, cx.rank(first)?)?;
        cx.concat(&items, axis)?
    };
    Ok(vec![Value::Tensor(joined)])
}

fn split_to_sequence(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", 0)?, cx.rank(x)?)?;
    let size = cx.size(x, axis)? as i64;
    let squeeze = cx.opt(1)?.is_none() && !cx.flag("keepdims", true)?;
    let parts = match cx.const_opt(1, "the sizes of the parts")? {
        None => vec![1; size as usize],
        Some(t) if t.rank() == 0 => {
            let part = cx.const_ints(1, "the size of a part")?[0];
            if part < 1 {
                return wrong("SplitToSequence needs parts of 1 or more");
            }
            (0..size.div_euclid(part) + i64::from(size % part != 0))
                .map(|i| part.min(size - i * part))
                .collect()
        }
        Some(_) => cx.const_ints(1, "the sizes of the parts")?,
    };
    let mut items: Vec<ExprId> = Vec::new();
    let mut at = 0;
    for part in parts {
        let end = at + part;
        if part < 0 || end > size {
            return wrong("the parts of SplitToSequence do not fit");
        }
        let e = cx.slice(x, &[axis], &[at], &[end], &[1])?;
        items.push(if squeeze { cx.squeeze(e, &[axis])? } else { e });
        at = end;
    }
    Ok(vec![Value::Sequence(items.into())])
}

fn sequence_map(cx: &mut Cx<'_, '_>) -> Mapped {
    let body = cx.graph("body")?;
    let length = cx.sequence(0)?.len();
    let mut lists: Vec<Vec<ExprId>> = vec![Vec::new(); body.outputs.len()];
    for i in 0..length {
        let mut args = Vec::new();
        for k in 0..cx.arity() {
            args.push(match cx.value(k) {
                Value::Sequence(items) => match items.get(i) {
                    Some(&e) => Value::Tensor(e),
                    None => return wrong("the sequences of SequenceMap differ in length"),
                },
                other => other,
            });
        }
        let (outputs, _) = cx.im.import_subgraph(body, "body", Border::Open, &args)?;
        for (list, value) in lists.iter_mut().zip(outputs) {
            match value {
                Value::Tensor(e) => list.push(e),
                Value::Sequence(_) | Value::Absent | Value::Poison => {
                    return refuse("the body of SequenceMap must give tensors");
                }
            }
        }
    }
    Ok(lists.into_iter().map(|l| Value::Sequence(l.into())).collect())
}
