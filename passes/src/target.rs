//! Targets: plain descriptions of what kernels are made for.

/// A CPU that kernels are made for.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuTarget {
    /// Vector extensions for hand-written micro-kernels.
    pub features: CpuFeatures,
    /// Bytes of first-level data cache of one core.
    pub l1_bytes: usize,
    /// Bytes of second-level cache of one core.
    pub l2_bytes: usize,
    /// Worker threads.
    pub threads: usize,
}

/// Extensions of the instruction set that micro-kernels use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// AVX2 and FMA.
    pub avx2: bool,
    /// AVX-512 F, BW, DQ and VL.
    pub avx512: bool,
    /// AVX-512 VNNI.
    pub avx512vnni: bool,
    /// AMX int8 tiles.
    pub amx_int8: bool,
}

impl Default for CpuTarget {
    fn default() -> Self {
        CpuTarget { features: CpuFeatures::default(), l1_bytes: 32 << 10, l2_bytes: 1 << 20, threads: 1 }
    }
}

impl CpuTarget {
    /// Columns in a panel of a packed right operand of a matrix product: what the widest
    /// register tiles take, and every narrower one divides.
    pub fn gemm_panel(&self) -> usize {
        48
    }

    /// Output channels in a panel of a packed convolution weight, likewise.
    pub fn conv_panel(&self) -> usize {
        8
    }
}
