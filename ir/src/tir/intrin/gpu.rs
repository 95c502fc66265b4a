//! What the threads of a GPU block do together or later: products on tensor cores, the loads of
//! their fragments, asynchronous copies, and dot products of four bytes.
//!
//! A region in shared or global memory lies at a multiple of its size. *Fragments* are registers:
//! arrays of scope `local`, 32 bits an element. In the layouts below `g = lane / 4` and
//! `t = lane % 4`, for the lane of a thread in its warp; `byte(x, b)` is byte `b` of word `x`,
//! and two bytes make an element of 16 bits.

use half::{bf16, f16};

use super::{Access, Call, Execution, Intrinsic, RegionDef, WARP};
use crate::types::DType;

const fn region(name: &'static str, dtype: DType, dims: &'static [&'static str], a: Access) -> RegionDef {
    RegionDef { name, dtype, dims, access: a }
}

/// Declares rows whose regions have fixed extents.
macro_rules! row {
    ($id:ident, $name:literal, $execution:ident, $doc:expr, [$($region:expr),*], [$($param:literal),*],
     $extents:expr, $meaning:expr) => {
        #[doc = $doc]
        pub static $id: Intrinsic = Intrinsic {
            name: $name,
            doc: $doc,
            regions: &[$($region),*],
            params: &[$($param),*],
            execution: Execution::$execution,
            extents: $extents,
            meaning: $meaning,
            scratch_bytes: |_| 0,
        };
    };
}

/// Declares the product of fragments for a dtype of the operands.
macro_rules! mma {
    ($id:ident, $name:literal, $acc:expr, $doc:expr, $meaning:expr) => {
        row!(
            $id,
            $name,
            Warp,
            $doc,
            [
                region("C", $acc, &["4"], Access::Update),
                region("A", DType::U32, &["4"], Access::Read),
                region("B", DType::U32, &["2"], Access::Read)
            ],
            [],
            |_| Ok(vec![vec![4], vec![4], vec![2]]),
            $meaning
        );
    };
}

mma!(
    MMA_M16N8K32_I8,
    "mma_m16n8k32_i8",
    DType::I32,
    "C += A * B^T of int8, by a warp: A has 16 rows and B 8, of 32 elements each. A thread holds \
     byte(A[r], b) = A[g + 8 * (r % 2), 4 * t + b + 16 * (r / 2)], byte(B[r], b) = B[g, 4 * t + b + 16 * r] \
     and C[i] = C[g + 8 * (i / 2), 2 * t + i % 2]. Sums wrap.",
    |call| mma::<i32>(call, 32, |a, b, sum| sum.wrapping_add(i32::from(a[0] as i8) * i32::from(b[0] as i8)))
);
mma!(
    MMA_M16N8K16_F16,
    "mma_m16n8k16_f16",
    DType::F32,
    "C += A * B^T of float16, summed in float32, by a warp: A has 16 rows and B 8, of 16 elements each, \
     held as the bytes of mma_m16n8k32_i8 are.",
    |call| mma::<f32>(call, 16, |a, b, sum| half_product(f16::from_le_bytes, a, b, sum))
);
mma!(
    MMA_M16N8K16_BF16,
    "mma_m16n8k16_bf16",
    DType::F32,
    "C += A * B^T of bfloat16, summed in float32, by a warp: A has 16 rows and B 8, of 16 elements each, \
     held as the bytes of mma_m16n8k32_i8 are.",
    |call| mma::<f32>(call, 16, |a, b, sum| half_product(bf16::from_le_bytes, a, b, sum))
);

/// Declares, for a dtype of `$n` elements in 16 bytes, the load of fragments and both copies.
macro_rules! sixteen_bytes {
    ($dtype:expr, $n:literal, $dims:expr, $ld:ident $ld_name:literal, $async:ident $async_name:literal,
     $copy:ident $copy_name:literal) => {
        row!(
            $ld,
            $ld_name,
            Warp,
            "Loads four matrices of 8 rows of 16 bytes, by a warp: lane 8 * j + i gives row i of matrix j as R, \
             and gets F[j] = bytes 4 * t .. 4 * t + 4 of row g of matrix j.",
            [
                region("F", DType::U32, &["4"], Access::Write),
                region("R", $dtype, $dims, Access::Read)
            ],
            [],
            |_| Ok(vec![vec![4], vec![$n]]),
            ldmatrix
        );
        row!(
            $async,
            $async_name,
            Copy,
            "Begins to copy 16 bytes: D[i] = S[i] for i in 0..valid, and 0 past them. D is in shared memory and \
             must not be touched until the thread has waited for the copy's group, and other threads have met it \
             at a barrier after that.",
            [region("D", $dtype, $dims, Access::Write), region("S", $dtype, $dims, Access::Read)],
            ["valid"],
            |p| sixteen(p, $n),
            |call| copy(call, 16 / $n)
        );
        row!(
            $copy,
            $copy_name,
            Thread,
            "Copies 16 bytes: D[i] = S[i] for i in 0..valid, and 0 past them.",
            [region("D", $dtype, $dims, Access::Write), region("S", $dtype, $dims, Access::Read)],
            ["valid"],
            |p| sixteen(p, $n),
            |call| copy(call, 16 / $n)
        );
    };
}

sixteen_bytes!(DType::I8, 16, &["16"],
    LDMATRIX_X4_I8 "ldmatrix_x4_i8", CP_ASYNC_16_I8 "cp_async_16_i8", COPY_16_I8 "copy_16_i8");
sixteen_bytes!(DType::F16, 8, &["8"],
    LDMATRIX_X4_F16 "ldmatrix_x4_f16", CP_ASYNC_16_F16 "cp_async_16_f16", COPY_16_F16 "copy_16_f16");
sixteen_bytes!(DType::BF16, 8, &["8"],
    LDMATRIX_X4_BF16 "ldmatrix_x4_bf16", CP_ASYNC_16_BF16 "cp_async_16_bf16", COPY_16_BF16 "copy_16_bf16");

row!(
    CP_ASYNC_COMMIT,
    "cp_async_commit",
    Commit,
    "Makes a group of the copies that the thread began since the last group; it may be empty.",
    [],
    [],
    |_| Ok(Vec::new()),
    |_| {}
);
row!(
    CP_ASYNC_WAIT,
    "cp_async_wait",
    Wait,
    "Waits until at most the `newest` last groups of the thread's copies are under way.",
    [],
    ["newest"],
    |p| match p {
        [0..=63] => Ok(Vec::new()),
        _ => Err("newest is not in 0..64".into()),
    },
    |_| {}
);
row!(
    DP4A_16_I8,
    "dp4a_16_i8",
    Thread,
    "C[0] += sum over i in 0..16 of A[i] * B[i]; it wraps.",
    [
        region("C", DType::I32, &["1"], Access::Update),
        region("A", DType::I8, &["16"], Access::Read),
        region("B", DType::I8, &["16"], Access::Read)
    ],
    [],
    |_| Ok(vec![vec![1], vec![16], vec![16]]),
    |call| {
        let product = |i| i32::from(call.inputs[0].i8(&[i])) * i32::from(call.inputs[1].i8(&[i]));
        let sum: i32 = (0..16).map(product).sum();
        let before = call.outputs[0].word(0) as i32;
        call.outputs[0].set_word(0, before.wrapping_add(sum) as u32);
    }
);
row!(
    WARP_SUM_I32,
    "warp_sum_i32",
    Warp,
    "C[0] = the sum of C[0] over the threads of a warp; it wraps.",
    [region("C", DType::I32, &["1"], Access::Update)],
    [],
    |_| Ok(vec![vec![1]]),
    |call| {
        let sum = call.outputs.iter().fold(0u32, |sum, lane| sum.wrapping_add(lane.word(0)));
        call.outputs.iter_mut().for_each(|lane| lane.set_word(0, sum));
    }
);

/// The extents of a copy of `n` elements.
fn sixteen(params: &[i64], n: i64) -> Result<Vec<Vec<i64>>, String> {
    match params {
        [valid] if (0..=n).contains(valid) => Ok(vec![vec![n]; 2]),
        _ => Err(format!("valid is not in 0..={n}")),
    }
}

/// Copies the valid elements, of so many bytes, and zeroes the others.
fn copy(call: &mut Call<'_>, element: usize) {
    let [valid] = call.sizes();
    let to = &mut call.outputs[0].bytes[..16];
    let bytes = valid * element;
    to[..bytes].copy_from_slice(&call.inputs[0].bytes[..bytes]);
    to[bytes..].fill(0);
}

fn ldmatrix(call: &mut Call<'_>) {
    for lane in 0..WARP {
        for j in 0..4 {
            let row = &call.inputs[8 * j + lane / 4].bytes[lane % 4 * 4..][..4];
            let word = u32::from_le_bytes([row[0], row[1], row[2], row[3]]);
            call.outputs[lane].set_word(j, word);
        }
    }
}

/// An accumulator of 32 bits.
trait Word: Copy {
    fn from_word(word: u32) -> Self;
    fn to_word(self) -> u32;
}

impl Word for i32 {
    fn from_word(word: u32) -> i32 {
        word as i32
    }

    fn to_word(self) -> u32 {
        self as u32
    }
}

impl Word for f32 {
    fn from_word(word: u32) -> f32 {
        f32::from_bits(word)
    }

    fn to_word(self) -> u32 {
        self.to_bits()
    }
}

/// Products of exact 16-bit floats are exact in float32; each sum rounds once.
fn half_product<T: Into<f32>>(read: fn([u8; 2]) -> T, a: &[u8], b: &[u8], sum: f32) -> f32 {
    let [a, b]: [f32; 2] = [a, b].map(|v| read([v[0], v[1]]).into());
    a.mul_add(b, sum)
}

/// The product of a warp's fragments, `depth` elements in the 32 bytes of a row.
fn mma<T: Word>(call: &mut Call<'_>, depth: usize, step: impl Fn(&[u8], &[u8], T) -> T) {
    let (mut a, mut b) = ([[0u8; 32]; 16], [[0u8; 32]; 8]);
    for lane in 0..WARP {
        let (g, t) = (lane / 4, lane % 4);
        for r in 0..4 {
            let word = call.inputs[2 * lane].word(r).to_le_bytes();
            a[g + 8 * (r % 2)][4 * t + 16 * (r / 2)..][..4].copy_from_slice(&word);
        }
        for r in 0..2 {
            let word = call.inputs[2 * lane + 1].word(r).to_le_bytes();
            b[g][4 * t + 16 * r..][..4].copy_from_slice(&word);
        }
    }
    let size = 32 / depth;
    for lane in 0..WARP {
        for i in 0..4 {
            let (row, column) = (&a[lane / 4 + 8 * (i / 2)], &b[2 * (lane % 4) + i % 2]);
            let pairs = row.chunks(size).zip(column.chunks(size));
            let before = T::from_word(call.outputs[lane].word(i));
            let sum = pairs.fold(before, |sum, (x, y)| step(x, y, sum));
            call.outputs[lane].set_word(i, sum.to_word());
        }
    }
}
