//! A compiled kernel: its tile function as position-independent code.
//!
//! Generated code calls nothing by address. What it needs from outside (tensor intrinsics and
//! functions of numbers) it finds in a table of addresses that the caller passes, in the order
//! of [`CompiledKernel::imports`]. A name of the catalogue of tensor intrinsics stands for an
//! [`IntrinsicFn`]; a name that starts with [`HELPER_PREFIX`] for a function of numbers in the
//! C calling convention, `fermata_<operation>_<type>`, whose parameters and result all have
//! that type: `fermata_sin_f32(f32) -> f32`, `fermata_pow_i64(i64, i64) -> i64`.

use std::sync::Arc;

/// The signature of a compiled tile function.
///
/// `buffers` are the kernel's parameters in order, `scratch` is the worker's scratch memory
/// (at least [`CompiledKernel::scratch_bytes`], 64-byte aligned), `intrinsics` holds the
/// addresses of the tensor intrinsics and helper functions in the order of
/// [`CompiledKernel::imports`], and `tile` is the tile to run.
pub type TileFn =
    unsafe extern "C" fn(buffers: *const *mut u8, scratch: *mut u8, intrinsics: *const *const (), tile: u64);

/// The signature of every imported tensor intrinsic; [`fermata_ir::tir::intrin`] says what it is given.
///
/// `regions` are pointers to the first element of each region, `params` the strides of the
/// regions and then the parameters, `scratch` is memory for the call alone.
pub type IntrinsicFn = unsafe extern "C" fn(regions: *const *mut u8, params: *const i64, scratch: *mut u8);

/// What the names of imported functions of numbers start with.
pub const HELPER_PREFIX: &str = "fermata_";

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
    /// Offsets into the code, in order, and the part of the program that starts there.
    pub provenance: Vec<(u32, Arc<str>)>,
}
