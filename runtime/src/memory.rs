//! Memory of the runtime's own: zeroed, 64-byte aligned, of fixed size.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// What every allocation is aligned to: a cache line and the widest vector.
pub const ALIGNMENT: usize = 64;

/// A block of bytes.
#[derive(Debug)]
pub struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
}

impl AlignedBytes {
    /// A block of zeros.
    pub fn zeroed(bytes: usize) -> AlignedBytes {
        let size = bytes.max(1).next_multiple_of(ALIGNMENT);
        let layout = Layout::from_size_align(size, ALIGNMENT).expect("sizes are below the address space's");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        AlignedBytes { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    /// A block with these bytes at its start.
    pub fn copy_of(bytes: &[u8]) -> AlignedBytes {
        let mut block = AlignedBytes::zeroed(bytes.len());
        block.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        block
    }

    /// The address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Number of bytes; at least what was asked for.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// Never true: the smallest block has one line.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// All bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the block is initialised, of this size, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: the block is owned, as a `Vec` owns its elements.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared references give only the address.
unsafe impl Sync for AlignedBytes {}
