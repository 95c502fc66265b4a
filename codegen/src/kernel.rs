//! A compiled kernel: its tile function as position-independent code.

/// The signature of a compiled tile function.
///
/// `buffers` are the kernel's parameters in order, `scratch` is the worker's scratch memory
/// (at least [`CompiledKernel::scratch_bytes`], 64-byte aligned), `intrinsics` holds the
/// addresses of the tensor intrinsics and helper functions in the order of
/// [`CompiledKernel::imports`], and `tile` is the tile to run.
pub type TileFn =
    unsafe extern "C" fn(buffers: *const *mut u8, scratch: *mut u8, intrinsics: *const *const (), tile: u64);

/// The signature of every imported function: pointers to its regions' first elements and
/// an array of `int64` parameters (region strides first, as the catalogue says).
pub type IntrinsicFn = unsafe extern "C" fn(regions: *const *mut u8, params: *const i64, scratch: *mut u8);

/// Machine code of one kernel, with what it needs to run. Holds no addresses.
#[derive(Clone, Debug)]
pub struct CompiledKernel {
    /// The kernel's name.
    pub name: String,
    /// Number of tiles.
    pub tiles: u64,
    /// Position-independent machine code of a [`TileFn`]; it starts at offset 0.
    pub code: Vec<u8>,
    /// Bytes of scratch that one worker needs.
    pub scratch_bytes: usize,
    /// Names of the functions that it calls, by slot.
    pub imports: Vec<String>,
}
