//! Vectors of f32, so that one generic loop serves every instruction set.
//!
//! The methods are inlined into their callers. A loop over a machine's vectors must be inlined
//! into a function that enables its instruction set, or every operation becomes a call.

/// A vector of f32 of one instruction set.
pub(super) trait Vector: Copy {
    /// Number of lanes.
    const LANES: usize;

    /// Which lanes an access touches.
    type Mask: Copy;

    /// The lanes from `start` up to `end`, both at most [`Self::LANES`].
    fn mask(start: usize, end: usize) -> Self::Mask;

    /// Every lane the same.
    fn splat(value: f32) -> Self;

    /// Neighbouring elements.
    ///
    /// # Safety
    /// All lanes can be read.
    unsafe fn load(from: *const f32) -> Self;

    /// Neighbouring elements; zero where the mask is not set.
    ///
    /// # Safety
    /// The lanes of the mask can be read.
    unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self;

    /// Every other element.
    ///
    /// # Safety
    /// `2 * LANES - 1` elements can be read.
    unsafe fn load_even(from: *const f32) -> Self;

    /// Writes all lanes.
    ///
    /// # Safety
    /// All lanes can be written.
    unsafe fn store(self, to: *mut f32);

    /// Writes the first `lanes`.
    ///
    /// # Safety
    /// They can be written.
    unsafe fn store_first(self, to: *mut f32, lanes: usize);

    /// Lanes of two vectors that are zero where the other's are not.
    fn merge(self, other: Self) -> Self;

    /// `self * factor + sum`; where the instruction set has it, rounded once.
    fn multiply_add(self, factor: Self, sum: Self) -> Self;

    /// Sums of lanes.
    fn add(self, other: Self) -> Self;

    /// Quotients of lanes.
    fn divide(self, by: Self) -> Self;

    /// The larger of two lanes, NaN if one is.
    fn max(self, other: Self) -> Self;
}

/// A vector in plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

impl Vector for Plain {
    const LANES: usize = 8;

    type Mask = (usize, usize);

    #[inline(always)]
    fn mask(start: usize, end: usize) -> Self::Mask {
        (start, end.max(start))
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Plain([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the contract of this function.
        Plain(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_masked(from: *const f32, (start, end): Self::Mask) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(end).skip(start) {
            // SAFETY: lane i is one of the mask.
            *lane = unsafe { *from.wrapping_add(i) };
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn load_even(from: *const f32) -> Self {
        // SAFETY: the last index is 2 * LANES - 2.
        Plain(std::array::from_fn(|i| unsafe { *from.add(2 * i) }))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the contract of this function.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize) {
        // SAFETY: by the contract; there are no more than eight lanes.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, lanes.min(8)) };
    }

    #[inline(always)]
    fn merge(self, other: Self) -> Self {
        Plain(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits() | other.0[i].to_bits())))
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] * factor.0[i] + sum.0[i]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    fn divide(self, by: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] / by.0[i]))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
        Plain(std::array::from_fn(|i| larger(self.0[i], other.0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Wide, Widest};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// 256 bits. Its methods need AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub struct Wide(__m256);

    /// Ones in the middle: eight lanes from any place are a mask.
    static RAMP: [i32; 24] = {
        let mut ramp = [0; 24];
        let mut i = 8;
        while i < 16 {
            ramp[i] = -1;
            i += 1;
        }
        ramp
    };

    /// Even elements of sixteen, given as the first eight and those from the eighth on.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn even(low: __m256, high: __m256) -> Wide {
        // SAFETY: by the contract.
        unsafe {
            let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_10_00>(low, high));
            Wide(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(mixed)))
        }
    }

    impl Vector for Wide {
        const LANES: usize = 8;

        type Mask = __m256i;

        #[inline(always)]
        fn mask(start: usize, end: usize) -> Self::Mask {
            let (start, end) = (start.min(8), end.min(8));
            // SAFETY: both reads are of eight elements from one of the first seventeen, and whoever
            // uses the type has the instruction set.
            unsafe {
                let at = |i: usize| _mm256_loadu_si256(RAMP.as_ptr().add(i).cast());
                _mm256_and_si256(at(8 - start), at(16 - end))
            }
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Wide(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the contract of this function.
            Wide(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self {
            // SAFETY: the contract of this function.
            Wide(unsafe { _mm256_maskload_ps(from, mask) })
        }

        #[inline(always)]
        unsafe fn load_even(from: *const f32) -> Self {
            // SAFETY: elements 0 to 7 and 7 to 14; those wanted are even in the first and odd in the second.
            unsafe { even(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(7))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the contract of this function.
            unsafe { _mm256_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, lanes: usize) {
            // Masked stores are slow on some machines.
            let mut whole = [0f32; 8];
            // SAFETY: the array has eight elements; by the contract, so many can be written.
            unsafe {
                match lanes {
                    8.. => return self.store(to),
                    _ => _mm256_storeu_ps(whole.as_mut_ptr(), self.0),
                }
            }
            for (i, lane) in whole.into_iter().enumerate().take(lanes) {
                // SAFETY: by the contract.
                unsafe { *to.wrapping_add(i) = lane };
            }
        }

        #[inline(always)]
        fn merge(self, other: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Wide(unsafe { _mm256_or_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn multiply_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Wide(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Wide(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn divide(self, by: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Wide(unsafe { _mm256_div_ps(self.0, by.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // The instruction gives the second operand if either is NaN.
            // SAFETY: whoever uses the type has the instruction set.
            unsafe {
                let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
                Wide(_mm256_blendv_ps(_mm256_max_ps(self.0, other.0), self.0, nan))
            }
        }
    }

    /// 512 bits. Its methods need AVX-512 F.
    #[derive(Clone, Copy)]
    pub struct Widest(__m512);

    /// Even elements of 32, given as the first sixteen and those from the sixteenth on.
    ///
    /// # Safety
    /// The machine has AVX-512 F.
    #[inline(always)]
    unsafe fn even_of_32(low: __m512, high: __m512) -> Widest {
        // SAFETY: by the contract.
        unsafe {
            let places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
            Widest(_mm512_permutex2var_ps(low, places, high))
        }
    }

    impl Vector for Widest {
        const LANES: usize = 16;

        type Mask = __mmask16;

        #[inline(always)]
        fn mask(start: usize, end: usize) -> Self::Mask {
            let below = |n: usize| ((1u32 << n.min(16)) - 1) as __mmask16;
            below(end) & !below(start)
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Widest(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the contract of this function.
            Widest(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self {
            // SAFETY: the contract of this function.
            Widest(unsafe { _mm512_maskz_loadu_ps(mask, from) })
        }

        #[inline(always)]
        unsafe fn load_even(from: *const f32) -> Self {
            // SAFETY: elements 0 to 15 and 15 to 30; those wanted are even in the first and odd in the second.
            unsafe { even_of_32(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(15))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the contract of this function.
            unsafe { _mm512_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, lanes: usize) {
            // SAFETY: the contract of this function.
            unsafe { _mm512_mask_storeu_ps(to, Self::mask(0, lanes), self.0) };
        }

        #[inline(always)]
        fn merge(self, other: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            unsafe {
                let (a, b) = (_mm512_castps_si512(self.0), _mm512_castps_si512(other.0));
                Widest(_mm512_castsi512_ps(_mm512_or_si512(a, b)))
            }
        }

        #[inline(always)]
        fn multiply_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Widest(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Widest(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn divide(self, by: Self) -> Self {
            // SAFETY: whoever uses the type has the instruction set.
            Widest(unsafe { _mm512_div_ps(self.0, by.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // The instruction gives the second operand if either is NaN.
            // SAFETY: whoever uses the type has the instruction set.
            unsafe {
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                Widest(_mm512_mask_mov_ps(_mm512_max_ps(self.0, other.0), nan, self.0))
            }
        }
    }
}
