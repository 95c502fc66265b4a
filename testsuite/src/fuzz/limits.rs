//! Bounds of memory: an allocator that counts.
//!
//! A program that wants the bounds makes [`Counting`] its global allocator. Counting goes on in
//! all threads, because readers use several.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most bytes that may be allocated at a time; more is not given, which ends the process.
const MAX_BYTES: usize = 6 << 30;

/// What reading may take whatever the size of the input.
const FREE_BYTES: usize = 512 << 20;

/// What reading may take for each byte of the input, besides.
const BYTES_PER_BYTE: usize = 1 << 10;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a count of the bytes that are allocated.
pub struct Counting;

fn take(bytes: usize) -> bool {
    let live = LIVE.fetch_add(bytes, Relaxed).saturating_add(bytes);
    if live > MAX_BYTES {
        LIVE.fetch_sub(bytes, Relaxed);
        return false;
    }
    PEAK.fetch_max(live, Relaxed);
    true
}

fn give(bytes: usize) {
    LIVE.fetch_sub(bytes, Relaxed);
}

// SAFETY: everything is the system allocator's but the refusal of what is too much, which is a
// null pointer, as the contract has it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        give(layout.size());
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Calls `f`; gives the most bytes that were allocated meanwhile beyond those before. Without
/// [`Counting`] as the allocator that is 0.
pub fn peak_bytes<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    (result, PEAK.load(Relaxed).saturating_sub(before))
}

/// What a reader may allocate for an input of so many bytes.
pub fn allowed(input: usize) -> usize {
    (FREE_BYTES + input.saturating_mul(BYTES_PER_BYTE)).min(1 << 30)
}
