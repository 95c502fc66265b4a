//! How far rounding alone may move a result.
//!
//! Every value of the program that an operator rounds, and every value that one reads, is moved
//! by a few units in its last place, each element at random, and the program is evaluated again,
//! several times. What the results then differ by is what a compiler that rounds elsewhere may
//! differ by: little for a sum, anything for a comparison of two numbers that are nearly equal.
//! (The idea is that of CADNA's stochastic arithmetic; Vignes, 1993.)

use fermata_ir::compare::Tolerance;
use fermata_ir::dispatch;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::infer::infer_module;
use fermata_ir::op::{Attrs, FusePattern, Op, OpTable};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;
use fermata_ir::walk;

use super::agree::evaluate;
use super::{Program, Rng};

/// How often the program is evaluated with other rounding.
const RUNS: u64 = 6;

/// How many times what was seen is believed possible.
const MARGIN: f64 = 8.0;

/// The results of a program under different rounding.
pub(super) struct Spread {
    runs: Vec<Vec<Tensor>>,
}

impl Spread {
    pub fn new(program: &Program) -> Spread {
        let one = |seed| {
            let moved = perturbed(&program.module, &mut Rng::new(seed))?;
            evaluate(&moved, &program.inputs).ok()
        };
        Spread { runs: (0..RUNS).filter_map(one).collect() }
    }

    /// Whether rounding explains what differs in a result. If no run with other rounding ends,
    /// the program is not sure of anything.
    pub fn explains(&self, place: usize, found: &Tensor, expected: &Tensor) -> bool {
        let runs: Vec<Vec<f64>> = self.runs.iter().map(|run| numbers(&run[place])).collect();
        let tolerance = Tolerance::of(expected.dtype());
        let pairs = numbers(found).into_iter().zip(numbers(expected)).enumerate();
        runs.is_empty()
            || pairs.into_iter().all(|(i, (found, expected))| {
                let spread = runs.iter().map(|run| distance(run[i], expected)).fold(0.0, f64::max);
                let allowed = tolerance.atol + tolerance.rtol * expected.abs() + MARGIN * spread;
                let distance = distance(found, expected);
                distance == 0.0 || distance <= allowed || spread.is_infinite()
            })
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    dispatch!(tensor.dtype(), T => {
        tensor.as_slice::<T>().into_iter().flatten().map(|&x| Scalar::of(x).as_f64()).collect()
    })
}

/// `|a - b|`, infinite if just one of the two is a number or finite.
fn distance(a: f64, b: f64) -> f64 {
    match (a - b).abs() {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        d if d.is_nan() => f64::INFINITY,
        d => d,
    }
}

/// The program with every rounded value multiplied by a number near 1.
fn perturbed(module: &Module, rng: &mut Rng) -> Option<Module> {
    let mut moved = module.clone();
    let multiply = OpTable::standard().get("multiply")?;
    walk::rewrite_module(&mut moved, &mut |m, id| {
        let ty = m.types[id].as_tensor().filter(|t| t.dtype.is_float() && rounds(m, id))?.clone();
        let factor = near_one(rng, ty.dtype, &ty.static_shape()?)?;
        let factor = m.constant(factor);
        let product = m.call_op(multiply, &[id, factor], Attrs::NONE);
        m.types[product] = ty.into();
        Some(product)
    });
    infer_module(&mut moved).ok()?;
    Some(moved)
}

/// Whether a value is read or computed, not just moved.
fn rounds(module: &Module, id: ExprId) -> bool {
    let moves = |op: Op| op.pattern == FusePattern::Injective;
    match &module.exprs[id] {
        Expr::Var(_) | Expr::Const(_) | Expr::Proj { .. } => true,
        Expr::Call(_) => module.as_op_call(id).is_some_and(|(op, _)| !moves(op)),
        Expr::Global(_) | Expr::Op(_) | Expr::Ctor(_) | Expr::Func(_) => false,
        Expr::Let { .. } | Expr::If { .. } | Expr::Tuple(_) | Expr::Match { .. } => false,
        Expr::Ref(_) | Expr::RefRead(_) | Expr::RefWrite { .. } => false,
    }
}

/// A tensor of numbers a few units in the last place from 1.
fn near_one(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Option<Tensor> {
    let unit = match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-22),
        _ => 2f64.powi(-50),
    };
    let count: usize = shape.iter().product();
    let element = |_| Scalar::from_f64(dtype, 1.0 + unit * rng.between(-1, 1) as f64).bits().to_le_bytes();
    let bytes: Vec<u8> = (0..count).map(element).flat_map(|b| b.into_iter().take(dtype.bytes())).collect();
    Tensor::from_bytes(dtype, shape, &bytes).ok()
}
