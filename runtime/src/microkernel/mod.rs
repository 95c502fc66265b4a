//! What generated code calls: functions of numbers, and the tensor intrinsics of the catalogue.

mod math;

use fermata_codegen::kernel::{HELPER_PREFIX, IntrinsicFn};
use fermata_passes::target::CpuFeatures;

/// The implementation of a tensor intrinsic for a machine with these features.
pub fn lookup(_name: &str, _features: CpuFeatures) -> Option<IntrinsicFn> {
    None
}

/// The address of anything that generated code imports, by the name in
/// [`CompiledKernel::imports`](fermata_codegen::kernel::CompiledKernel::imports).
pub fn resolve(name: &str, features: CpuFeatures) -> Option<*const ()> {
    match name.strip_prefix(HELPER_PREFIX) {
        Some(helper) => math::helper(helper),
        None => lookup(name, features).map(|f| f as *const ()),
    }
}
