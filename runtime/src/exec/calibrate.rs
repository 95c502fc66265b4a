//! Calibration: how long the tiles of each kernel take on this machine.
//!
//! The program runs some times on one thread, tile by tile with a look at the clock before and
//! after. Of the same tile of the same launch the shortest time counts, so that what else the
//! machine does is left out; of all tiles of a kernel the longest.

use std::collections::BTreeMap;
use std::time::Instant;

use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::diag::Diagnostic;
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::{KernelId, Program};
use fermata_passes::target::CpuFeatures;

use super::instance::Instance;
use super::walk::Next;

/// Launches of a run whose times are kept apart; later ones count as repetitions.
const MAX_LAUNCHES: usize = 1 << 12;

/// Nanoseconds of the longest tile of each kernel, by its number; none for a kernel that no run
/// launched.
///
/// # Errors
/// If the plan is broken, the machine gives no executable memory, or an input does not fit.
pub fn longest_tiles(
    program: Program,
    kernels: &[CompiledKernel],
    inputs: &[Tensor],
    features: CpuFeatures,
    runs: usize,
) -> Result<Vec<Option<u64>>, Diagnostic> {
    let mut longest = vec![None; program.kernels.len()];
    let mut instance = Instance::new(program, kernels, 1, features)?;
    let entry = instance.entry();
    let sizes: Vec<usize> = entry.outputs.iter().map(|p| entry.buffers[p.buffer].bytes()).collect();
    let mut times = BTreeMap::new();
    for _ in 0..runs.max(1) {
        let mut results: Vec<Vec<u64>> = sizes.iter().map(|n| vec![0; n.div_ceil(8)]).collect();
        let words = results.iter_mut().zip(&sizes);
        let mut outputs: Vec<&mut [u8]> = words.map(|(w, &n)| &mut super::as_bytes(w)[..n]).collect();
        run(&mut instance, inputs, &mut outputs, &mut times)?;
    }
    for ((_, kernel), tiles) in times {
        let slot: &mut Option<u64> = &mut longest[kernel];
        *slot = (*slot).max(tiles.into_iter().max());
    }
    Ok(longest)
}

/// One run; the shortest times so far are by launch, kernel and tile.
fn run(
    instance: &mut Instance,
    inputs: &[Tensor],
    outputs: &mut [&mut [u8]],
    times: &mut BTreeMap<(usize, usize), Vec<u64>>,
) -> Result<(), Diagnostic> {
    let mut arguments = Vec::new();
    let mut walk = instance.start(inputs, outputs)?;
    let mut launches = 0;
    loop {
        match instance.advance(&mut walk, &mut arguments)? {
            Next::Launch(kernel) => {
                let key = (launches % MAX_LAUNCHES, kernel.index());
                launches += 1;
                time(instance, kernel, &arguments, times.entry(key).or_default());
            }
            // SAFETY: both buffers have this many bytes, which was checked; they may overlap.
            Next::Copy { from, to, bytes } => unsafe { std::ptr::copy(from, to, bytes) },
            Next::End => {
                instance.finish(walk, outputs);
                return Ok(());
            }
        }
    }
}

/// Runs the tiles of a launch and keeps the shorter times.
fn time(instance: &Instance, kernel: KernelId, arguments: &[*mut u8], best: &mut Vec<u64>) {
    let launch = instance.launch(kernel, arguments);
    best.resize(launch.kernel.tiles as usize, u64::MAX);
    for (tile, best) in best.iter_mut().enumerate() {
        let start = Instant::now();
        // SAFETY: the plan was checked: arguments are buffers of the sizes that the kernel was
        // compiled for, and this thread alone runs the launch.
        unsafe { launch.run_tile(0, tile as u64) };
        *best = (*best).min(start.elapsed().as_nanos() as u64);
    }
}
