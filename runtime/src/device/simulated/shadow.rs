//! Shadow memory of a launch: which tile wrote each byte of the results.
//!
//! What a tile wrote is taken out of the memory at once and poison left in its place, until the
//! launch is over. So a tile that reads what another wrote computes from poison, which shows in
//! the results; and a tile that writes there too, or outside of the segment that the compiler
//! derived for it, is caught when it ends. Results that lie in no input's memory begin as a
//! pattern, so that a byte counts as written whatever it was before.

use fermata_ir::tir::segments::{Segments, segments};
use fermata_ir::tir::{BufferId, PrimFunc};

use super::super::Launch;
use super::model::{Check, Violation, violation};

/// What a byte is after a tile has written it: in every float dtype a NaN.
const POISON: u8 = 0xff;

/// What a byte of a result is before.
const PATTERN: u8 = 0xa5;

/// No tile.
const NOBODY: u32 = u32::MAX;

/// Bytes that are compared at once.
const CHUNK: usize = 64;

/// What is known of a kernel's memory.
#[derive(Clone, Debug)]
pub struct Watched {
    name: String,
    /// Bytes of each parameter.
    sizes: Vec<usize>,
    outputs: usize,
    /// For each output and tile the bytes of its segment: first, and the one after the last.
    segments: Vec<Vec<(usize, usize)>>,
}

/// The results of a launch.
#[derive(Debug)]
pub struct Shadow {
    name: String,
    results: Vec<Written>,
}

/// A result: its memory, and what is known of each byte.
#[derive(Debug)]
struct Written {
    memory: *mut u8,
    /// What lies in the memory between tiles.
    now: Vec<u8>,
    /// What tiles wrote.
    values: Vec<u8>,
    writer: Vec<u32>,
    segments: Vec<(usize, usize)>,
}

impl Watched {
    /// What the function's text says.
    pub fn new(func: &PrimFunc) -> Watched {
        let bytes = |b: &BufferId| {
            let buffer = &func.buffers[*b];
            buffer.shape.iter().product::<usize>() * buffer.dtype.bytes()
        };
        let known = segments(func);
        Watched {
            name: func.name.to_string(),
            sizes: func.params.iter().map(bytes).collect(),
            outputs: func.outputs,
            segments: func.output_params().iter().map(|&b| of_tiles(func, known.as_ref(), b)).collect(),
        }
    }

    /// Shadow memory of a launch that has not begun.
    ///
    /// # Safety
    /// The launch's buffers are those of the kernel, and nothing else uses its results while the
    /// shadow is alive.
    pub unsafe fn shadow(&self, launch: &Launch) -> Shadow {
        let inputs = self.sizes.len() - self.outputs;
        // SAFETY: the kernel has as many parameters.
        let buffers = unsafe { std::slice::from_raw_parts(launch.buffers, self.sizes.len()) };
        let meets_input = |start: usize, len: usize| {
            let mut ranges = buffers[..inputs].iter().map(|b| *b as usize).zip(&self.sizes);
            ranges.any(|(from, &n)| start < from + n && from < start + len)
        };
        let results = (inputs..buffers.len()).map(|i| {
            let (memory, len) = (buffers[i], self.sizes[i]);
            if !meets_input(memory as usize, len) {
                // SAFETY: a result of so many bytes, which nobody reads before it is written.
                unsafe { std::ptr::write_bytes(memory, PATTERN, len) };
            }
            // SAFETY: as above; the memory is initialised.
            let now = unsafe { std::slice::from_raw_parts(memory, len) }.to_vec();
            let segments = self.segments[i - inputs].clone();
            Written { memory, values: now.clone(), writer: vec![NOBODY; len], now, segments }
        });
        Shadow { name: self.name.clone(), results: results.collect() }
    }
}

/// For each tile the bytes of an output's segment; nothing if segments are not known.
fn of_tiles(func: &PrimFunc, known: Option<&Segments>, output: BufferId) -> Vec<(usize, usize)> {
    let size = func.buffers[output].dtype.bytes();
    let Some(known) = known else { return Vec::new() };
    let of = |tile| match known.of_tile(func, output, true, tile) {
        Some((first, last)) => (first as usize * size, (last as usize + 1) * size),
        None => (0, 0),
    };
    (0..func.tiles().unwrap_or(0)).map(of).collect()
}

impl Shadow {
    /// A tile has run: takes out what it wrote.
    ///
    /// # Errors
    /// If another tile wrote there too, or the compiler's segment does not say so.
    pub fn ran(&mut self, tile: u64) -> Result<(), Violation> {
        let name = &self.name;
        let mut found = Ok(());
        for (i, result) in self.results.iter_mut().enumerate() {
            result.take(tile as u32, &mut |byte, why| {
                if found.is_ok() {
                    let message = format!("tile {tile} of `{name}` writes byte {byte} of result {i}, {why}");
                    found = Err(violation(Check::Overlap, message));
                }
            });
        }
        found
    }
}

impl Written {
    /// Takes what changed out of the memory, and tells which bytes should not have.
    fn take(&mut self, tile: u32, wrong: &mut dyn FnMut(usize, String)) {
        // SAFETY: the result has so many bytes and is used by nobody else, as `Watched::shadow` asks.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.memory, self.now.len()) };
        let segment = self.segments.get(tile as usize).copied();
        for start in (0..memory.len()).step_by(CHUNK) {
            let end = memory.len().min(start + CHUNK);
            if memory[start..end] == self.now[start..end] {
                continue;
            }
            for (i, byte) in memory[start..end].iter_mut().enumerate() {
                let at = start + i;
                if *byte == self.now[at] {
                    continue;
                }
                if self.writer[at] != NOBODY {
                    wrong(at, format!("which tile {} wrote", self.writer[at]));
                }
                if segment.is_some_and(|(first, end)| !(first..end).contains(&at)) {
                    wrong(at, "which is not in its segment".into());
                }
                self.writer[at] = tile;
                self.values[at] = std::mem::replace(byte, POISON);
                self.now[at] = POISON;
            }
        }
    }
}

impl Drop for Shadow {
    /// The launch is over: what tiles wrote goes back.
    fn drop(&mut self) {
        for result in &mut self.results {
            // SAFETY: as in `Written::take`.
            let memory = unsafe { std::slice::from_raw_parts_mut(result.memory, result.now.len()) };
            for ((byte, value), writer) in memory.iter_mut().zip(&result.values).zip(&result.writer) {
                if *writer != NOBODY {
                    *byte = *value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fermata_ir::tir::parse::parse;

    use super::*;
    use crate::device::BoundKernel;
    use fermata_ir::entity::EntityRef;
    use fermata_passes::lower::plan::KernelId;

    /// Two tiles of four bytes.
    const COPY: &str = "\
@T.prim_func
def copy(X: T.Buffer((8,), \"uint8\"), Y: T.Buffer((8,), \"uint8\")):
    for t in T.tiles(2):
        for i in range(4):
            Y[t * 4 + i] = X[t * 4 + i]
";

    /// A tile function that is never called: the tests write as tiles would.
    unsafe extern "C" fn nothing(_: *const *mut u8, _: *mut u8, _: *const *const (), _: u64) {}

    /// Calls `f` with the shadow of a launch and the memory of its result, and gives what lies there after.
    fn launched(in_place: bool, f: impl FnOnce(&mut Shadow, *mut u8)) -> [u8; 8] {
        let func = parse("shadow.tir", COPY).expect("it parses").pop().expect("a function");
        let (mut x, mut y) = ([7u8; 8], [0u8; 8]);
        let result = if in_place { x.as_mut_ptr() } else { y.as_mut_ptr() };
        let buffers = [x.as_mut_ptr(), result];
        let kernel =
            BoundKernel { id: KernelId::new(0), function: nothing, tiles: 2, imports: std::ptr::null() };
        let scratch = std::ptr::null_mut();
        let launch = Launch { kernel, buffers: buffers.as_ptr(), scratch, scratch_stride: 0 };
        // SAFETY: the buffers have 8 bytes each, as the kernel's parameters.
        let mut shadow = unsafe { Watched::new(&func).shadow(&launch) };
        f(&mut shadow, result);
        drop(shadow);
        if in_place { x } else { y }
    }

    /// Writes a byte as a tile would.
    fn write(memory: *mut u8, at: usize, value: u8) {
        // SAFETY: within the 8 bytes of a result.
        unsafe { *memory.add(at) = value };
    }

    fn read(memory: *mut u8, at: usize) -> u8 {
        // SAFETY: as for writes.
        unsafe { *memory.add(at) }
    }

    #[test]
    fn what_a_tile_wrote_is_poison_for_others_and_is_there_at_the_end() {
        for in_place in [false, true] {
            let found = launched(in_place, |shadow, memory| {
                assert_eq!(read(memory, 5), if in_place { 7 } else { PATTERN });
                (4..8).for_each(|at| write(memory, at, at as u8));
                assert_eq!(shadow.ran(1), Ok(()));
                assert_eq!(read(memory, 5), POISON);
                (0..4).for_each(|at| write(memory, at, at as u8));
                assert_eq!(shadow.ran(0), Ok(()));
            });
            assert_eq!(found, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }

    #[test]
    fn a_tile_that_writes_where_another_did_is_caught() {
        launched(false, |shadow, memory| {
            (4..8).for_each(|at| write(memory, at, 1));
            assert_eq!(shadow.ran(1), Ok(()));
            write(memory, 4, 1);
            let violation = shadow.ran(0).expect_err("two tiles wrote");
            assert_eq!(violation.check, Check::Overlap);
            let why = "tile 0 of `copy` writes byte 4 of result 0, which tile 1 wrote";
            assert_eq!(violation.message, why);
        });
    }

    #[test]
    fn a_tile_that_writes_outside_of_its_segment_is_caught() {
        launched(false, |shadow, memory| {
            write(memory, 3, 1);
            let violation = shadow.ran(1).expect_err("the segment is 4..8");
            let why = "tile 1 of `copy` writes byte 3 of result 0, which is not in its segment";
            assert_eq!(violation.message, why);
        });
    }
}
