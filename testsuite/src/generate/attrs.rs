//! Random attributes that have a chance of fitting.

use fermata_ir::op::{AttrDef, AttrKind, AttrValue, Attrs};
use fermata_ir::types::DType;

use super::Rng;

/// Words that some operator knows: layouts, modes, reductions.
const WORDS: &[&str] = &[
    "NCHW",
    "NHWC",
    "NCW",
    "NCDHW",
    "OIHW",
    "HWIO",
    "NCHW4c",
    "constant",
    "edge",
    "reflect",
    "nearest",
    "linear",
    "nearest_neighbor",
    "align_corners",
    "asymmetric",
    "half_pixel",
    "clip",
    "wrap",
    "add",
    "update",
    "mul",
    "min",
    "max",
    "both",
    "indices",
    "values",
    "lower",
    "upper",
    "end",
    "size",
    "DCR",
    "CRD",
    "none",
    "tanh",
];

/// Attributes of a schema, for a call whose first tensor argument has this shape.
pub(super) fn attrs(rng: &mut Rng, schema: &[AttrDef], shape: &[usize]) -> Attrs {
    // With many attributes, few random ones fit together: often most are the defaults.
    let defaults = *rng.pick(&[2, 6, 8]);
    Attrs::new(schema.iter().map(|def| attr(rng, def, shape, defaults)).collect())
}

/// A value, which is the default in so many of eight cases.
fn attr(rng: &mut Rng, def: &AttrDef, shape: &[usize], defaults: usize) -> AttrValue {
    match (def.default)() {
        Some(default) if rng.chance(defaults, 8) => default,
        _ => value(rng, &def.kind, shape),
    }
}

fn value(rng: &mut Rng, kind: &AttrKind, shape: &[usize]) -> AttrValue {
    match kind {
        AttrKind::Int => AttrValue::Int(int(rng, shape)),
        AttrKind::Float => AttrValue::Float(*rng.pick(&[0.0, 1.0, -1.0, 0.5, 2.0, 1e-5, 6.0, 0.01])),
        AttrKind::Bool => AttrValue::Bool(rng.chance(1, 2)),
        AttrKind::Str => AttrValue::Str((*rng.pick(WORDS)).into()),
        AttrKind::DType => AttrValue::DType(*rng.pick(&DType::ALL)),
        AttrKind::List(item) if **item == AttrKind::Int => {
            AttrValue::List(ints(rng, shape).into_iter().map(AttrValue::Int).collect())
        }
        AttrKind::List(item) => {
            let len = if rng.chance(1, 2) { shape.len() } else { rng.below(4) };
            AttrValue::List((0..len).map(|_| value(rng, item, shape)).collect())
        }
        AttrKind::Optional(_) if rng.chance(1, 2) => AttrValue::None,
        AttrKind::Optional(kind) => value(rng, kind, shape),
        AttrKind::Either(a, b) => {
            let kind = if rng.chance(1, 2) { a } else { b };
            value(rng, kind, shape)
        }
    }
}

/// An axis, a small count, or a size of the shape.
fn int(rng: &mut Rng, shape: &[usize]) -> i64 {
    let rank = shape.len() as i64;
    match rng.below(4) {
        0 if rank > 0 => rng.between(-rank, rank - 1),
        1 if rank > 0 => *rng.pick(shape) as i64,
        2 => rng.between(0, 3),
        _ => rng.between(-1, 2),
    }
}

/// A list of integers: an order of the axes, some of the axes, a shape, pads, strides.
fn ints(rng: &mut Rng, shape: &[usize]) -> Vec<i64> {
    let rank = shape.len();
    match rng.below(8) {
        0 => {
            let mut order: Vec<i64> = (0..rank as i64).collect();
            rng.shuffle(&mut order);
            order
        }
        1 => (0..rank as i64).filter(|_| rng.chance(1, 2)).collect(),
        2 => shape.iter().map(|&n| n as i64).collect(),
        3 => reshaped(rng, shape),
        4 => {
            // A larger shape to broadcast to.
            let mut out: Vec<i64> = (0..rng.below(3)).map(|_| rng.between(1, 3)).collect();
            out.extend(shape.iter().map(|&n| if n == 1 { rng.between(1, 3) } else { n as i64 }));
            out
        }
        5 => (0..rank).map(|_| rng.between(1, 3)).collect(),
        6 => (0..rng.below(5)).map(|_| rng.between(0, 2)).collect(),
        _ => (0..1 + rng.below(3)).map(|_| int(rng, shape)).collect(),
    }
}

/// A shape of as many elements.
fn reshaped(rng: &mut Rng, shape: &[usize]) -> Vec<i64> {
    let mut out: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    for _ in 0..1 + rng.below(2) {
        let at = rng.below(out.len() + 1);
        match rng.below(3) {
            0 => out.insert(at, 1),
            1 if at + 1 < out.len() => {
                let next = out.remove(at + 1);
                out[at] *= next;
            }
            _ => {
                if let Some(n) = out.get(at).copied().filter(|n| n % 2 == 0 && *n > 0) {
                    out[at] = 2;
                    out.insert(at + 1, n / 2);
                }
            }
        }
    }
    if rng.chance(1, 4) && !out.is_empty() {
        let at = rng.below(out.len());
        out[at] = -1;
    }
    out
}
