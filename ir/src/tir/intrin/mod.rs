//! The catalogue of tensor intrinsics: what `T.tensor_intrin` may name.
//!
//! An intrinsic works on regions of buffers, outputs first, and takes `int64` parameters.
//! The catalogue says what each one means; back ends bind implementations by name.
//!
//! # Calling convention
//! An implementation gets a pointer to the first element of each region, an array of
//! `int64` and a pointer to scratch memory. The array has, for each region in order, the
//! strides of its last [`RegionDef::rank`] dimensions in elements (the outermost first,
//! the innermost, which is always 1, included), and then the parameters in order. A buffer
//! may have more dimensions than the catalogue says; the region's extent is then 1 in the
//! outer ones. Scratch memory is 64-byte aligned and has at least
//! [`Intrinsic::scratch_bytes`] bytes.
//!
//! An output never shares a buffer with another region of the call.
//!
//! The intrinsics of GPU threads have no such functions: the CUDA back end writes them as device
//! functions of the same name ([`gpu`]).

pub mod conv;
mod gemm;
mod gemm_i8;
pub mod gpu;
mod pool;
mod quantize_i8;
mod softmax;

use crate::types::DType;

pub use conv::{CONV2D_COLUMNS, CONV2D_ROWS};
pub use gemm::GEMM_PANEL;
pub use gemm_i8::{GEMM_I8_COLUMNS, GEMM_I8_DEPTH, GEMM_I8_ROWS, GEMM_I8_STRIP, widened_place, widened_row};

/// How an intrinsic uses a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every element is written; what was there is not read.
    Write,
    /// Every element is read and then written.
    Update,
    /// Read only.
    Read,
}

/// Who makes a call, and when it has its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// A worker of a CPU.
    Worker,
    /// Each GPU thread for itself.
    Thread,
    /// The [`WARP`] threads of a warp, which must all come to it. Its meaning sees the regions of
    /// all of them: the outputs of the first thread, of the second, and so on; likewise the inputs.
    Warp,
    /// Each GPU thread for itself; the output is written when the thread waits for it.
    Copy,
    /// Each GPU thread for itself: the copies it began since the last such call are a group.
    Commit,
    /// Each GPU thread for itself: all but the newest groups of its copies end.
    Wait,
}

/// Threads of a warp.
pub const WARP: usize = 32;

/// A region of an intrinsic.
#[derive(Debug)]
pub struct RegionDef {
    /// Its name in the documentation.
    pub name: &'static str,
    /// Its dtype.
    pub dtype: DType,
    /// The dimensions that the intrinsic sees, named by parameters or sums of them.
    pub dims: &'static [&'static str],
    /// How it is used.
    pub access: Access,
}

impl RegionDef {
    /// Number of dimensions that the intrinsic sees.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }
}

/// The extents of an intrinsic's regions from its parameters, or what is wrong with these.
pub type ExtentsFn = fn(&[i64]) -> Result<Vec<Vec<i64>>, String>;

/// A tensor intrinsic.
#[derive(Debug)]
pub struct Intrinsic {
    /// The name.
    pub name: &'static str,
    /// What it computes.
    pub doc: &'static str,
    /// Its regions, outputs first.
    pub regions: &'static [RegionDef],
    /// The names of its `int64` parameters.
    pub params: &'static [&'static str],
    /// Who makes a call.
    pub execution: Execution,
    /// The extents of the regions that the parameters call for, or what is wrong with the
    /// parameters; their number has been checked (see [`Intrinsic::check`]).
    pub extents: ExtentsFn,
    /// The meaning. Extents and parameters have been checked.
    pub meaning: fn(&mut Call<'_>),
    /// Bytes of scratch memory that an implementation may use.
    pub scratch_bytes: fn(&[i64]) -> usize,
}

impl Intrinsic {
    /// How many of the regions, at the front, are written.
    pub fn outputs(&self) -> usize {
        self.regions.iter().take_while(|r| r.access != Access::Read).count()
    }

    /// The extents that parameters call for, after checking how many there are.
    ///
    /// # Errors
    /// If the parameters are too few, too many or out of range.
    pub fn check(&self, params: &[i64]) -> Result<Vec<Vec<i64>>, String> {
        if params.len() != self.params.len() {
            let (want, got) = (self.params.len(), params.len());
            return Err(format!("it has {want} parameters ({}), not {got}", self.params.join(", ")));
        }
        (self.extents)(params)
    }

    /// The value of a parameter by name.
    ///
    /// # Panics
    /// If there is no parameter of this name.
    pub fn param(&self, params: &[i64], name: &str) -> i64 {
        params[self.params.iter().position(|p| *p == name).expect("a parameter of the intrinsic")]
    }

    /// Number of `int64` values before the parameters in the calling convention.
    pub fn stride_count(&self) -> usize {
        self.regions.iter().map(RegionDef::rank).sum()
    }
}

/// Every tensor intrinsic, sorted by name.
pub const CATALOGUE: &[&Intrinsic] = &[
    &pool::AVG_POOL2D_F32,
    &conv::CONV2D_F32,
    &conv::CONV2D_WINDOWS_F32,
    &gpu::COPY_16_BF16,
    &gpu::COPY_16_F16,
    &gpu::COPY_16_I8,
    &gpu::CP_ASYNC_16_BF16,
    &gpu::CP_ASYNC_16_F16,
    &gpu::CP_ASYNC_16_I8,
    &gpu::CP_ASYNC_COMMIT,
    &gpu::CP_ASYNC_WAIT,
    &conv::DEPTHWISE_CONV2D_F32,
    &gpu::DP4A_16_I8,
    &gemm::GEMM_F32,
    &gemm::GEMM_F32_NN,
    &gemm::GEMM_F32_NT,
    &gemm::GEMM_F32_PANELS,
    &gemm_i8::GEMM_I8,
    &gemm_i8::GEMM_I8_WIDENED,
    &gpu::LDMATRIX_X4_BF16,
    &gpu::LDMATRIX_X4_F16,
    &gpu::LDMATRIX_X4_I8,
    &pool::MAX_POOL2D_F32,
    &gpu::MMA_M16N8K16_BF16,
    &gpu::MMA_M16N8K16_F16,
    &gpu::MMA_M16N8K32_I8,
    &gemm::PACK_A_F32,
    &gemm::PACK_B_F32,
    &gemm::PACK_B_F32_NT,
    &quantize_i8::QUANTIZE_I8,
    &softmax::SOFTMAX_F32,
    &gpu::WARP_SUM_I32,
    &gemm_i8::WIDEN_I8,
];

/// The intrinsic of a name.
pub fn lookup(name: &str) -> Option<&'static Intrinsic> {
    CATALOGUE.iter().copied().find(|i| i.name == name)
}

/// A region as a reference implementation sees it: bytes from its first element on.
pub struct View<'a> {
    /// Bytes of the buffer from the region's first element to its end.
    pub bytes: &'a [u8],
    /// Strides in elements, outermost first.
    pub strides: Vec<usize>,
}

/// A region that is written.
pub struct ViewMut<'a> {
    /// Bytes of the buffer from the region's first element to its end.
    pub bytes: &'a mut [u8],
    /// Strides in elements, outermost first.
    pub strides: Vec<usize>,
}

/// The arguments of one call.
pub struct Call<'a> {
    /// Regions that are written.
    pub outputs: Vec<ViewMut<'a>>,
    /// Regions that are read.
    pub inputs: Vec<View<'a>>,
    /// Parameters.
    pub params: &'a [i64],
}

impl View<'_> {
    /// The element at an index, of a region of f32.
    fn f32(&self, index: &[usize]) -> f32 {
        let data: &[f32] = bytemuck::cast_slice(self.bytes);
        data[offset(&self.strides, index)]
    }

    /// A word of 32 bits of a dense region.
    fn word(&self, at: usize) -> u32 {
        bytemuck::cast_slice(self.bytes)[at]
    }

    /// The element at an index, of a region of i8.
    fn i8(&self, index: &[usize]) -> i8 {
        self.bytes[offset(&self.strides, index)] as i8
    }

    /// The element at an index, of a region of i16.
    fn i16(&self, index: &[usize]) -> i16 {
        let data: &[i16] = bytemuck::cast_slice(self.bytes);
        data[offset(&self.strides, index)]
    }
}

impl ViewMut<'_> {
    /// The element at an index, of a region of f32.
    fn f32(&self, index: &[usize]) -> f32 {
        let data: &[f32] = bytemuck::cast_slice(self.bytes);
        data[offset(&self.strides, index)]
    }

    /// Sets the element at an index, of a region of f32.
    fn set_f32(&mut self, index: &[usize], value: f32) {
        let data: &mut [f32] = bytemuck::cast_slice_mut(self.bytes);
        data[offset(&self.strides, index)] = value;
    }

    /// A word of 32 bits of a dense region.
    fn word(&self, at: usize) -> u32 {
        bytemuck::cast_slice(self.bytes)[at]
    }

    /// Sets a word of 32 bits of a dense region.
    fn set_word(&mut self, at: usize, value: u32) {
        bytemuck::cast_slice_mut(self.bytes)[at] = value;
    }

    /// Sets the element at an index, of a region of i16.
    fn set_i16(&mut self, index: &[usize], value: i16) {
        let data: &mut [i16] = bytemuck::cast_slice_mut(self.bytes);
        data[offset(&self.strides, index)] = value;
    }

    /// Sets the element at an index, of a region of i8.
    fn set_i8(&mut self, index: &[usize], value: i8) {
        self.bytes[offset(&self.strides, index)] = value as u8;
    }
}

fn offset(strides: &[usize], index: &[usize]) -> usize {
    strides.iter().zip(index).map(|(s, i)| s * i).sum()
}

impl Call<'_> {
    /// The parameters as sizes.
    fn sizes<const N: usize>(&self) -> [usize; N] {
        std::array::from_fn(|i| self.params[i] as usize)
    }
}

/// Checks that parameters are at least these values, each named.
fn at_least(params: &[i64], names: &[&str], minimum: impl Fn(&str) -> i64) -> Result<(), String> {
    let low = params.iter().zip(names).find(|(v, name)| **v < minimum(name));
    // The bound keeps every product of three sizes within `i64`.
    let high = params.iter().zip(names).find(|(v, _)| **v > 1 << 20);
    match (low, high) {
        (Some((v, name)), _) => Err(format!("{name} is {v}, but must be at least {}", minimum(name))),
        (_, Some((v, name))) => Err(format!("{name} is {v}, but must be at most {}", 1 << 20)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sorted_and_consistent() {
        assert!(CATALOGUE.is_sorted_by_key(|i| i.name));
        for i in CATALOGUE {
            let params: Vec<i64> = i.params.iter().map(|_| 1).collect();
            let extents = i.check(&params).expect("ones are valid");
            let ranks: Vec<usize> = extents.iter().map(Vec::len).collect();
            assert_eq!(ranks, i.regions.iter().map(RegionDef::rank).collect::<Vec<_>>(), "{}", i.name);
            let moves = matches!(i.execution, Execution::Commit | Execution::Wait);
            assert!(moves == (i.outputs() == 0) && lookup(i.name).is_some());
            if !params.is_empty() {
                assert!(i.check(&params.iter().map(|_| -1).collect::<Vec<_>>()).is_err());
                assert!(i.check(&[]).is_err());
            }
        }
    }
}
