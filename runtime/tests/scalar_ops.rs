//! Every scalar operation on every dtype, compiled scalar and in vectors, against its meaning.

use fermata_codegen::cpu::compile;
use fermata_codegen::exec_memory::ExecMemory;
use fermata_ir::scalar::{self, BinaryOp, CmpOp, Scalar, UnaryOp};
use fermata_ir::tir::{Buffer, BufferId, Expr, ExprKind, LoopKind, PrimFunc, Scope, Stmt, VarId, VarInfo};
use fermata_ir::types::DType;
use fermata_passes::target::{CpuFeatures, CpuTarget};
use fermata_runtime::{detect, microkernel};

const UNARY: &[UnaryOp] = {
    use UnaryOp::*;
    &[
        Neg, Abs, Sign, Floor, Ceil, Round, Trunc, Sqrt, Rsqrt, Exp, Log, Log2, Log10, Sin, Cos, Tan, Asin,
        Acos, Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh, Erf, Sigmoid, Not, IsNan, IsInf, IsFinite,
    ]
};
const BINARY: &[BinaryOp] = {
    use BinaryOp::*;
    &[Add, Sub, Mul, Div, FloorDiv, Mod, FloorMod, Min, Max, Pow, Atan2, And, Or, Xor, Shl, Shr]
};
const COMPARE: &[CmpOp] = &[CmpOp::Eq, CmpOp::Ne, CmpOp::Lt, CmpOp::Le, CmpOp::Gt, CmpOp::Ge];

/// A kernel `out[j][i] = f_j(x[i], y[i])`.
struct Kernel {
    func: PrimFunc,
    i: VarId,
    n: usize,
}

impl Kernel {
    fn new(inputs: &[DType], n: usize) -> Kernel {
        let mut func = PrimFunc::new("k");
        let i = func.vars.push(VarInfo { name: "i".into(), dtype: DType::I64 });
        let mut kernel = Kernel { func, i, n };
        for &dtype in inputs {
            kernel.param(dtype);
        }
        kernel
    }

    fn param(&mut self, dtype: DType) -> BufferId {
        let name = format!("p{}", self.func.params.len());
        let buffer = Buffer { name: name.into(), shape: vec![self.n], dtype, scope: Scope::Global };
        let id = self.func.buffers.push(buffer);
        self.func.params.push(id);
        id
    }

    fn load(&self, param: usize) -> Expr {
        let id = self.func.params[param];
        let i = Expr::new(ExprKind::Var(self.i), DType::I64);
        Expr::new(ExprKind::Load(id, vec![i]), self.func.buffers[id].dtype)
    }

    /// Runs the kernel that stores these values, scalar or vectorised: the outputs' bytes.
    fn run(
        mut self,
        values: Vec<Expr>,
        vectors: bool,
        features: CpuFeatures,
        inputs: &[&[Scalar]],
    ) -> Vec<Vec<Scalar>> {
        let mut stores = Vec::new();
        for value in values {
            let buffer = self.param(value.dtype());
            let i = Expr::new(ExprKind::Var(self.i), DType::I64);
            stores.push(Stmt::Store { buffer, indices: vec![i], value });
        }
        self.func.outputs = stores.len();
        let kind = if vectors { LoopKind::Vectorized } else { LoopKind::Serial };
        let body = Box::new(Stmt::Seq(stores));
        self.func.body = Stmt::For { var: self.i, extent: Expr::int(self.n as i64), kind, body };
        run(&self.func, features, inputs)
    }
}

fn run(func: &PrimFunc, features: CpuFeatures, inputs: &[&[Scalar]]) -> Vec<Vec<Scalar>> {
    let target = CpuTarget { features, ..CpuTarget::default() };
    let kernel = compile(func, &target).expect("it compiles");
    let memory = ExecMemory::new(std::slice::from_ref(&kernel)).expect("executable memory");
    let mut buffers: Vec<Vec<u64>> = Vec::new();
    for (at, &param) in func.params.iter().enumerate() {
        let buffer = &func.buffers[param];
        let len = buffer.shape.iter().product::<usize>();
        let mut bytes = vec![0u8; len * buffer.dtype.bytes()];
        if let Some(values) = inputs.get(at) {
            for (value, chunk) in values.iter().zip(bytes.chunks_mut(buffer.dtype.bytes())) {
                chunk.copy_from_slice(&value.bits().to_le_bytes()[..chunk.len()]);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        buffers
            .push(bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect());
    }
    let pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
    let imports: Vec<*const ()> =
        kernel.imports.iter().map(|name| microkernel::resolve(name, features).expect(name)).collect();
    let mut scratch = vec![0u64; kernel.scratch_bytes / 8 + 1];
    for tile in 0..kernel.tiles {
        // SAFETY: buffers, scratch memory and imports are what the kernel asked for.
        unsafe { memory.function(0)(pointers.as_ptr(), scratch.as_mut_ptr().cast(), imports.as_ptr(), tile) };
    }
    let outputs = &func.params[func.params.len() - func.outputs..];
    outputs
        .iter()
        .zip(&buffers[func.params.len() - func.outputs..])
        .map(|(&id, data)| {
            let (dtype, len) = (func.buffers[id].dtype, func.buffers[id].shape.iter().product());
            let bytes: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes
                .chunks(dtype.bytes())
                .take(len)
                .map(|c| {
                    let mut word = [0u8; 8];
                    word[..c.len()].copy_from_slice(c);
                    Scalar::from_bits(dtype, u64::from_le_bytes(word))
                })
                .collect()
        })
        .collect()
}

/// Extremes, special values and random bits of a dtype.
fn samples(dtype: DType, count: usize, seed: u64) -> Vec<Scalar> {
    let mut values: Vec<Scalar> =
        [0.0, 1.0, -1.0, 2.0, 3.0, -7.0, 0.5, -0.5, 1.5, 2.5, 127.0, 255.0, 1e4, 70000.0, -0.0]
            .iter()
            .map(|&v| Scalar::from_f64(dtype, v))
            .collect();
    values.extend([i64::MIN, i64::MAX, -2, 63, 31].map(|v| Scalar::from_i64(dtype, v)));
    if dtype.is_float() {
        values.extend(
            [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                1e-40,
                -1e-310,
                3e38,
                1e300,
                6e-8,
                1e-5,
                65519.9,
                0.9999999,
                88.8,
                -87.5,
                -104.0,
            ]
            .map(|v| Scalar::from_f64(dtype, v)),
        );
    } else {
        let width = dtype.bits() as u32;
        values.extend(
            [1u64 << (width - 1), (1 << (width - 1)) - 1, u64::MAX].map(|v| Scalar::from_bits(dtype, v)),
        );
    }
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while values.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let wild = state.is_multiple_of(3);
        let value = if dtype.is_float() && !wild {
            Scalar::from_f64(dtype, ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 40.0)
        } else {
            Scalar::from_bits(dtype, state >> 3)
        };
        values.push(value);
    }
    // Not in the order of lists, so that special values meet in every lane.
    for k in (1..values.len()).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        values.swap(k, (state >> 33) as usize % (k + 1));
    }
    values
}

/// How many representable numbers lie between two floats.
fn ulps(a: Scalar, b: Scalar) -> u64 {
    if a == b || (a.as_f64().is_nan() && b.as_f64().is_nan()) {
        return 0;
    }
    if a.as_f64().is_nan() || b.as_f64().is_nan() || !a.dtype().is_float() {
        return u64::MAX;
    }
    let sign = 1u64 << (a.dtype().bits() - 1);
    let order =
        |s: Scalar| if s.bits() & sign != 0 { -((s.bits() & !sign) as i128) } else { s.bits() as i128 };
    (order(a) - order(b)).unsigned_abs().try_into().unwrap_or(u64::MAX)
}

fn check(what: &str, inputs: &[Scalar], got: Scalar, want: Scalar, bound: u64) {
    assert!(
        ulps(got, want) <= bound,
        "{what}({inputs:?}) = {got:?} {:#x}, not {want:?} {:#x}",
        got.bits(),
        want.bits()
    );
}

/// The stated error bounds of inline functions; all else is exact.
fn bound(op: UnaryOp, dtype: DType) -> u64 {
    match (op, dtype) {
        (UnaryOp::Exp | UnaryOp::Log | UnaryOp::Tanh | UnaryOp::Erf, DType::F32) => 3,
        (UnaryOp::Sigmoid, DType::F32) => 4,
        (
            UnaryOp::Exp | UnaryOp::Log | UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sigmoid,
            DType::F16 | DType::BF16,
        ) => 1,
        _ => 0,
    }
}

/// All features, and none.
fn variants() -> impl Iterator<Item = (bool, CpuFeatures)> {
    [true, false].into_iter().flat_map(|v| [detect::features(), CpuFeatures::default()].map(|f| (v, f)))
}

#[test]
fn unary_operations() {
    for dtype in DType::ALL {
        let x = samples(dtype, 203, 1);
        for (vectors, features) in variants() {
            let kernel = Kernel::new(&[dtype], x.len());
            let values = UNARY.iter().map(|&op| kernel.load(0).unary(op)).collect();
            let got = kernel.run(values, vectors, features, &[&x]);
            for (&op, got) in UNARY.iter().zip(&got) {
                for (&x, &got) in x.iter().zip(got) {
                    check(
                        &format!("{op:?} {dtype} vectors={vectors}"),
                        &[x],
                        got,
                        scalar::unary(op, x),
                        bound(op, dtype),
                    );
                }
            }
        }
    }
}

#[test]
fn binary_operations() {
    for dtype in DType::ALL {
        let (x, y) = (samples(dtype, 403, 2), samples(dtype, 403, 3));
        for (vectors, features) in variants() {
            let kernel = Kernel::new(&[dtype, dtype], x.len());
            let values = BINARY.iter().map(|&op| kernel.load(0).binary(op, kernel.load(1))).collect();
            let got = kernel.run(values, vectors, features, &[&x, &y]);
            for (&op, got) in BINARY.iter().zip(&got) {
                for ((&x, &y), &got) in x.iter().zip(&y).zip(got) {
                    check(
                        &format!("{op:?} {dtype} vectors={vectors}"),
                        &[x, y],
                        got,
                        scalar::binary(op, x, y),
                        0,
                    );
                }
            }
        }
    }
}

#[test]
fn comparisons_selects_and_fused_multiply_add() {
    for dtype in DType::ALL {
        let (x, y) = (samples(dtype, 203, 4), samples(dtype, 203, 5));
        for (vectors, features) in variants() {
            let kernel = Kernel::new(&[dtype, dtype], x.len());
            let (a, b) = (kernel.load(0), kernel.load(1));
            let mut values: Vec<Expr> = COMPARE.iter().map(|&op| a.clone().cmp(op, b.clone())).collect();
            values.push(a.clone().lt(&b).select(a.clone(), b.clone()));
            let got = kernel.run(values, vectors, features, &[&x, &y]);
            for (at, (&x, &y)) in x.iter().zip(&y).enumerate() {
                for (k, &op) in COMPARE.iter().enumerate() {
                    check(
                        &format!("{op:?} {dtype} vectors={vectors}"),
                        &[x, y],
                        got[k][at],
                        scalar::compare(op, x, y),
                        0,
                    );
                }
                let less = scalar::compare(CmpOp::Lt, x, y).bits() != 0;
                check("select", &[x, y], got[6][at], if less { x } else { y }, 0);
            }
        }
    }
    let (x, y) = (samples(DType::F32, 203, 6), samples(DType::F32, 203, 7));
    for (vectors, features) in variants() {
        let kernel = Kernel::new(&[DType::F32, DType::F32], x.len());
        let values = vec![kernel.load(0).fma(kernel.load(1), kernel.load(0))];
        let got = kernel.run(values, vectors, features, &[&x, &y]);
        for ((&x, &y), &got) in x.iter().zip(&y).zip(&got[0]) {
            let (a, b) = (x.get::<f32>().expect("f32"), y.get::<f32>().expect("f32"));
            check("fma", &[x, y], got, Scalar::of(a.mul_add(b, a)), 0);
        }
    }
}

#[test]
fn conversions() {
    for from in DType::ALL {
        let x = samples(from, 403, 8);
        for (vectors, features) in variants() {
            for to in DType::ALL {
                let kernel = Kernel::new(&[from], x.len());
                let values = vec![kernel.load(0).cast(to)];
                let got = kernel.run(values, vectors, features, &[&x]);
                for (&x, &got) in x.iter().zip(&got[0]) {
                    check(&format!("{from} to {to} vectors={vectors}"), &[x], got, scalar::cast(x, to), 0);
                }
            }
        }
    }
}

#[test]
fn sixteen_bit_floats_round_trip() {
    for dtype in [DType::F16, DType::BF16] {
        let x: Vec<Scalar> = (0..1 << 16).map(|bits| Scalar::from_bits(dtype, bits)).collect();
        for vectors in [true, false] {
            let kernel = Kernel::new(&[dtype], x.len());
            let values = vec![kernel.load(0).cast(DType::F32).cast(dtype), kernel.load(0)];
            let got = kernel.run(values, vectors, detect::features(), &[&x]);
            for (&x, &y) in x.iter().zip(&got[0]) {
                check(&format!("{dtype} by way of f32"), &[x], y, x, 0);
            }
            assert!(x == got[1], "a copy keeps every bit");
        }
    }
}

#[test]
fn inline_functions_keep_their_bounds() {
    for op in [UnaryOp::Exp, UnaryOp::Log, UnaryOp::Tanh, UnaryOp::Erf, UnaryOp::Sigmoid] {
        // Every 4001st number of both signs.
        let x: Vec<Scalar> =
            (0..u32::MAX / 4001).map(|k| Scalar::from_bits(DType::F32, k as u64 * 4001)).collect();
        for (vectors, features) in variants() {
            let kernel = Kernel::new(&[DType::F32], x.len());
            let values = vec![kernel.load(0).unary(op)];
            let got = kernel.run(values, vectors, features, &[&x]);
            let mut worst = (0, x[0]);
            for (&x, &got) in x.iter().zip(&got[0]) {
                let wide = scalar::unary(op, Scalar::of(x.as_f64()));
                let error = ulps(got, scalar::cast(wide, DType::F32));
                worst = worst.max_by_error(error, x);
            }
            println!("{op:?} vectors={vectors} avx2={}: {} ulp at {:?}", features.avx2, worst.0, worst.1);
            assert!(worst.0 <= bound(op, DType::F32), "{op:?} is {} ulp off at {:?}", worst.0, worst.1);
        }
    }
}

trait MaxByError {
    fn max_by_error(self, error: u64, at: Scalar) -> Self;
}

impl MaxByError for (u64, Scalar) {
    fn max_by_error(self, error: u64, at: Scalar) -> Self {
        if error > self.0 { (error, at) } else { self }
    }
}
