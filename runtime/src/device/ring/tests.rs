//! The ring under a model checker: every order in which its threads' accesses can be seen, weak
//! memory included, with at most three places where a thread is interrupted.
//!
//! A tile adds one to a cell that the checker watches: two tiles at a time in one cell, or a
//! consumer that has not seen what a tile wrote, are a race. Two broken kinds of atomics, one
//! without fences and one that counts tiles without release, must be caught.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fermata_ir::entity::EntityRef;
use fermata_passes::lower::plan::KernelId;
use loom::sync::atomic::{AtomicU64, fence};

use super::*;
use crate::device::BoundKernel;

/// The fewest records.
const RECORDS: u64 = 2;

/// What a broken kind of atomics leaves out.
trait Fault {
    /// Fences.
    const FENCES: bool = true;
    /// What additions order.
    const ADDITIONS: bool = true;
}

struct Sound;
struct NoFences;
struct NoRelease;

impl Fault for Sound {}

impl Fault for NoFences {
    const FENCES: bool = false;
}

impl Fault for NoRelease {
    const ADDITIONS: bool = false;
}

/// Atomics of the checker.
struct Checked<F>(PhantomData<F>);

/// A number of the checker.
struct Watched<F>(AtomicU64, PhantomData<F>);

/// A place that the checker watches.
struct Seen(loom::cell::UnsafeCell<Option<Launch>>);

impl<F: Fault> Atomics for Checked<F> {
    type Number = Watched<F>;
    type Place = Seen;

    fn fence() {
        if F::FENCES {
            fence(Ordering::SeqCst);
        }
    }

    fn pause(_: &mut u32) {
        loom::thread::yield_now();
    }
}

impl<F: Fault> Number for Watched<F> {
    fn new(value: u64) -> Self {
        Watched(AtomicU64::new(value), PhantomData)
    }

    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn add(&self, n: u64, order: Ordering) -> u64 {
        self.0.fetch_add(n, if F::ADDITIONS { order } else { Ordering::Relaxed })
    }

    fn update(&self, f: impl Fn(u64) -> u64) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |value| Some(f(value)));
    }
}

impl Place for Seen {
    fn new() -> Self {
        Seen(loom::cell::UnsafeCell::new(None))
    }

    unsafe fn get(&self) -> Launch {
        // SAFETY: nobody writes meanwhile, by the contract; the checker looks.
        self.0.with(|launch| unsafe { *launch }).expect("a launch is written before it is read")
    }

    unsafe fn set(&self, launch: Launch) {
        // SAFETY: nobody reads or writes meanwhile, by the contract; the checker looks.
        self.0.with_mut(|place| unsafe { *place = Some(launch) });
    }
}

/// A queue, and for each launch a cell for each tile.
struct World<F: Fault> {
    ring: Ring<Checked<F>>,
    cells: Vec<Vec<loom::cell::UnsafeCell<u32>>>,
}

// SAFETY: the checker looks at every access to the cells.
unsafe impl<F: Fault> Send for World<F> {}
// SAFETY: as above.
unsafe impl<F: Fault> Sync for World<F> {}

/// The tile function: adds one to the tile's cell of the launch.
unsafe extern "C" fn add_one(buffers: *const *mut u8, _: *mut u8, _: *const *const (), tile: u64) {
    // SAFETY: the launch's buffers are its cells, which are alive until the end of the test.
    let cells = unsafe { &*buffers.cast::<Vec<loom::cell::UnsafeCell<u32>>>() };
    // SAFETY: the checker looks whether anybody else is there.
    cells[tile as usize].with_mut(|cell| unsafe { *cell += 1 });
}

impl<F: Fault> World<F> {
    fn new(launches: usize, tiles: usize) -> Arc<World<F>> {
        let launch = |_| (0..tiles).map(|_| loom::cell::UnsafeCell::new(0)).collect();
        Arc::new(World { ring: Ring::with_records(2, RECORDS), cells: (0..launches).map(launch).collect() })
    }

    /// Runs every launch to its end and looks at what it gave.
    fn drive(&self) {
        for cells in &self.cells {
            let kernel = BoundKernel {
                id: KernelId::new(0),
                function: add_one,
                tiles: cells.len() as u64,
                imports: std::ptr::null(),
            };
            let buffers = std::ptr::from_ref(cells).cast();
            let scratch = std::ptr::null_mut();
            let launch = Launch { kernel, buffers, scratch, scratch_stride: 0 };
            // SAFETY: the cells outlive the launch, and this thread alone publishes.
            unsafe { self.ring.run(&launch, || ()) };
            for cell in cells {
                // SAFETY: the launch is over; the checker looks whether that was seen.
                assert_eq!(cell.with(|n| unsafe { *n }), 1, "a tile runs exactly once");
            }
        }
    }

    /// Looks for the newest launch so many times and works on it.
    fn follow(&self, visits: usize) {
        for _ in 0..visits {
            let number = self.ring.newest();
            if number > 0 {
                // SAFETY: whoever publishes waits for the last tile; this thread alone has slot 1.
                unsafe { self.ring.work(number, 1, || true) };
            }
        }
    }
}

/// Tries every order; there is more than a handful.
fn check(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        f();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > 100, "only {orders} orders were tried");
}

/// More launches than records: each record is used again.
fn used_again<F: Fault + 'static>() {
    check(|| {
        let world = World::<F>::new(3, 1);
        let other = world.clone();
        let worker = loom::thread::spawn(move || other.follow(2));
        world.drive();
        worker.join().expect("the worker comes to its end");
    });
}

/// A launch of two tiles that two workers share.
fn shared<F: Fault + 'static>() {
    check(|| {
        let world = World::<F>::new(1, 2);
        let other = world.clone();
        let worker = loom::thread::spawn(move || other.follow(2));
        world.drive();
        worker.join().expect("the worker comes to its end");
    });
}

#[test]
fn records_are_used_again_only_when_nobody_is_in_them() {
    used_again::<Sound>();
}

#[test]
fn a_consumer_sees_what_all_tiles_wrote() {
    shared::<Sound>();
}

#[test]
fn preemption_from_another_thread_is_sound() {
    check(|| {
        let world = World::<Sound>::new(1, 2);
        let other = world.clone();
        let worker = loom::thread::spawn(move || other.follow(2));
        let host = world.clone();
        let preempting = loom::thread::spawn(move || {
            host.ring.set_quota(0);
            host.ring.set_quota(2);
        });
        world.drive();
        worker.join().expect("the worker comes to its end");
        preempting.join().expect("the host comes to its end");
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_ring_without_fences_is_caught() {
    used_again::<NoFences>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_ring_that_counts_tiles_without_release_is_caught() {
    shared::<NoRelease>();
}
