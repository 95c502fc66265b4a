//! Targets: plain descriptions of what kernels are made for.

use std::fmt;

/// What kernels are made for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A CPU.
    Cpu(CpuTarget),
    /// A GPU that runs CUDA.
    Cuda(CudaTarget),
}

impl Default for Target {
    fn default() -> Self {
        Target::Cpu(CpuTarget::default())
    }
}

impl From<CpuTarget> for Target {
    fn from(target: CpuTarget) -> Target {
        Target::Cpu(target)
    }
}

impl From<CudaTarget> for Target {
    fn from(target: CudaTarget) -> Target {
        Target::Cuda(target)
    }
}

/// The generations of GPUs that kernels are made for: compute capabilities, ascending.
pub const CUDA_SMS: [u32; 5] = [75, 80, 86, 89, 90];

/// A GPU that kernels are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaTarget {
    /// The compute capability, one of [`CUDA_SMS`].
    pub sm: u32,
}

impl CudaTarget {
    /// The target of a text: `cuda:sm_80`.
    pub fn parse(text: &str) -> Option<CudaTarget> {
        CUDA_SMS.into_iter().map(|sm| CudaTarget { sm }).find(|t| t.to_string() == text)
    }

    /// The architecture that NVRTC is told. Hopper's tensor cores are only in the `a` variant.
    pub fn arch(&self) -> String {
        match self.sm {
            90 => "sm_90a".into(),
            sm => format!("sm_{sm}"),
        }
    }
}

impl fmt::Display for CudaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:sm_{}", self.sm)
    }
}

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

impl CpuFeatures {
    /// Every extension by its name in `--target-feature`, and whether it is on.
    pub fn named(&self) -> [(&'static str, bool); 4] {
        [
            ("avx2", self.avx2),
            ("avx512", self.avx512),
            ("avx512vnni", self.avx512vnni),
            ("amx-int8", self.amx_int8),
        ]
    }
}

/// As `--target-feature` reads it: `+avx2,-avx512,-avx512vnni,-amx-int8`.
impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, on)) in self.named().into_iter().enumerate() {
            write!(f, "{}{}{name}", if place == 0 { "" } else { "," }, if on { '+' } else { '-' })?;
        }
        Ok(())
    }
}

impl Default for CpuTarget {
    fn default() -> Self {
        CpuTarget { features: CpuFeatures::default(), l1_bytes: 32 << 10, l2_bytes: 1 << 20, threads: 1 }
    }
}

/// What one core of a CPU can do at most: what the cost model reckons with.
///
/// The figures are rounded from measurements of generations that have the extensions (AVX2: Zen 3;
/// AVX-512: Sapphire Rapids), not of the machine at hand, so that the same program always gives
/// the same kernels. `fermata inspect --kernels --measure` holds the model against a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuPeaks {
    /// Clock cycles a nanosecond.
    pub clock: f64,
    /// Lanes of the vectors that products of f32 are computed in.
    pub lanes: usize,
    /// Rows and vectors of the register tiles of f32 products.
    pub tile: [usize; 2],
    /// Int8 products and sums, two operations each, a cycle.
    pub i8_ops: f64,
    /// Bytes a nanosecond from the second-level cache.
    pub l2: f64,
    /// Bytes a nanosecond from the third-level cache.
    pub l3: f64,
    /// Bytes a nanosecond from memory.
    pub memory: f64,
    /// Bytes of third-level cache that one core can count on.
    pub l3_bytes: usize,
}

impl CpuTarget {
    /// What one core can do, by the widest extension that the target has.
    pub fn peaks(&self) -> CpuPeaks {
        let portable = CpuPeaks {
            clock: 3.0,
            lanes: 4,
            tile: [4, 4],
            i8_ops: 6.0,
            l2: 60.0,
            l3: 25.0,
            memory: 12.0,
            l3_bytes: 8 << 20,
        };
        let features = self.features;
        let avx2 = CpuPeaks { lanes: 8, tile: [4, 3], i8_ops: 54.0, ..portable };
        let avx512 = CpuPeaks { clock: 2.2, lanes: 16, tile: [8, 3], l2: 100.0, ..avx2 };
        match features {
            f if f.avx512 && f.avx512vnni => CpuPeaks { i8_ops: 300.0, ..avx512 },
            f if f.avx512 => CpuPeaks { i8_ops: 64.0, ..avx512 },
            f if f.avx2 => avx2,
            _ => portable,
        }
    }

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
