//! What a ring is made of: the atomics of the machine, or those of a model checker.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::Launch;

/// How often a waiting thread looks before it lets others have the core.
const SPINS_YIELD: u32 = 4_000;

/// A kind of atomics.
pub trait Atomics {
    /// An atomic number.
    type Number: Number;
    /// A place for a launch.
    type Place: Place;

    /// A fence that all threads see in one order with their other such fences.
    fn fence();

    /// Waits a moment for another thread.
    fn pause(spins: &mut u32);
}

/// An atomic `u64`.
pub trait Number {
    /// With a value.
    fn new(value: u64) -> Self;

    /// Reads it.
    fn load(&self, order: Ordering) -> u64;

    /// Writes it.
    fn store(&self, value: u64, order: Ordering);

    /// Adds to it and gives what it was.
    fn add(&self, n: u64, order: Ordering) -> u64;

    /// Replaces it by what `f` makes of it, with acquire and release.
    fn update(&self, f: impl Fn(u64) -> u64);
}

/// Where a launch lies that one thread writes and others read, never at the same time.
pub trait Place {
    /// With no launch.
    fn new() -> Self;

    /// Reads it.
    ///
    /// # Safety
    /// It was written, and nobody writes meanwhile.
    unsafe fn get(&self) -> Launch;

    /// Writes it.
    ///
    /// # Safety
    /// Nobody reads or writes meanwhile.
    unsafe fn set(&self, launch: Launch);
}

/// The atomics of the machine.
pub struct Native;

impl Atomics for Native {
    type Number = AtomicU64;
    type Place = UnsafeCell<Option<Launch>>;

    #[inline(always)]
    fn fence() {
        fence(Ordering::SeqCst);
    }

    fn pause(spins: &mut u32) {
        pause(spins);
    }
}

impl Number for AtomicU64 {
    fn new(value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }

    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline(always)]
    fn add(&self, n: u64, order: Ordering) -> u64 {
        self.fetch_add(n, order)
    }

    fn update(&self, f: impl Fn(u64) -> u64) {
        let _ = self.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |value| Some(f(value)));
    }
}

impl Place for UnsafeCell<Option<Launch>> {
    fn new() -> Self {
        UnsafeCell::new(None)
    }

    #[inline(always)]
    unsafe fn get(&self) -> Launch {
        // SAFETY: nobody writes meanwhile, by the contract.
        let launch = unsafe { *UnsafeCell::get(self) };
        launch.expect("a launch is written before it is read")
    }

    unsafe fn set(&self, launch: Launch) {
        // SAFETY: nobody reads or writes meanwhile, by the contract.
        unsafe { *UnsafeCell::get(self) = Some(launch) };
    }
}

/// Waits a moment; lets others have the core from time to time.
pub fn pause(spins: &mut u32) {
    std::hint::spin_loop();
    *spins += 1;
    if spins.is_multiple_of(SPINS_YIELD) {
        std::thread::yield_now();
    }
}
