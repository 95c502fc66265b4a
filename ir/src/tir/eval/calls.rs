//! Calls of tensor intrinsics: by one thread, by the threads of a warp together, and
//! asynchronous copies, which end when they are waited for.

use std::collections::VecDeque;

use super::Program;
use super::inst::{Call, Inst};
use super::run::State;
use super::threads::{Shadow, Thread};
use crate::diag::Diagnostic;
use crate::entity::EntityRef;
use crate::tir::intrin::{self, Access, Execution};

/// A region of a call.
struct Placed {
    buffer: u32,
    /// The offset of the first element.
    start: usize,
    /// Strides of the dimensions that the intrinsic sees.
    strides: Vec<usize>,
    /// Number of elements.
    count: usize,
}

/// The arguments of a call: where its regions lie, and its parameters.
struct Arguments {
    regions: Vec<Placed>,
    params: Vec<i64>,
}

/// What a copy writes once it is waited for.
struct Landing {
    buffer: u32,
    start: usize,
    count: usize,
    bytes: Vec<u8>,
}

/// The asynchronous copies of a thread that are under way.
#[derive(Default)]
pub struct Copies {
    open: Vec<Landing>,
    groups: VecDeque<Vec<Landing>>,
}

impl Copies {
    /// Forgets them all.
    pub fn clear(&mut self) {
        self.open.clear();
        self.groups.clear();
    }

    /// True if none is under way.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.groups.iter().all(Vec::is_empty)
    }
}

impl Arguments {
    fn new(state: &State<'_>, program: &Program, call: &Call) -> Result<Arguments, Diagnostic> {
        let def = call.def;
        let fail = |why: String| program.error(format!("in a call of `{}`: {why}", def.name));
        let params: Vec<i64> = call.params.iter().map(|&r| state.get(r) as i64).collect();
        let wanted = def.check(&params).map_err(fail)?;
        let mut regions = Vec::with_capacity(wanted.len());
        for ((buffer, ranges), wanted) in call.regions.iter().zip(&wanted) {
            let info = &program.buffers[*buffer as usize];
            let ranges: Vec<(i64, i64)> =
                ranges.iter().map(|&(min, n)| (state.get(min) as i64, state.get(n) as i64)).collect();
            let (start, strides) = place_region(&info.shape, &ranges, wanted)
                .map_err(|why| fail(format!("region of `{}`: {why}", info.name)))?;
            let count = wanted.iter().map(|&n| n.max(0) as usize).product();
            let shared = def.execution != Execution::Worker && program.private_index(*buffer).is_none();
            if shared && count > 0 && start % count != 0 {
                return Err(fail(format!("region of `{}`: {start} is no multiple of its size", info.name)));
            }
            regions.push(Placed { buffer: *buffer, start, strides, count });
        }
        Ok(Arguments { regions, params })
    }

    /// Says of every element that the running thread accesses it now; of what a copy writes, that it
    /// will.
    fn touch(&self, program: &Program, call: &Call, shadow: &mut Shadow) -> Result<(), Diagnostic> {
        for (region, def) in self.regions.iter().zip(call.def.regions) {
            if !program.watched[region.buffer as usize] {
                continue;
            }
            let begins = call.def.execution == Execution::Copy && def.access == Access::Write;
            for at in region.start..region.start + region.count {
                let seen = match begins {
                    true => shadow.begin_copy(region.buffer, at),
                    false => shadow.access(region.buffer, at, def.access != Access::Read),
                };
                seen.map_err(|race| race.describe(program, region.buffer, at))?;
            }
        }
        Ok(())
    }
}

impl State<'_> {
    /// A call by one thread.
    pub fn call(
        &mut self,
        program: &Program,
        call: &Call,
        memory: &mut [Vec<u64>],
        shadow: &mut Shadow,
    ) -> Result<(), Diagnostic> {
        let arguments = Arguments::new(self, program, call)?;
        arguments.touch(program, call, shadow)?;
        match call.def.execution {
            Execution::Worker | Execution::Thread => alone(program, call, &arguments, memory),
            Execution::Copy => {
                let to = &arguments.regions[0];
                let element = program.buffers[to.buffer as usize].dtype.bytes();
                let mut words = vec![0u64; (to.count * element).div_ceil(8)];
                let from = &arguments.regions[1];
                let output =
                    intrin::ViewMut { bytes: bytemuck::cast_slice_mut(&mut words), strides: vec![1] };
                let source = &memory[from.buffer as usize];
                let input = intrin::View { bytes: tail(source, from.start * element), strides: vec![1] };
                let params = &arguments.params;
                (call.def.meaning)(&mut intrin::Call { outputs: vec![output], inputs: vec![input], params });
                let bytes = bytemuck::cast_slice(&words)[..to.count * element].to_vec();
                let landing = Landing { buffer: to.buffer, start: to.start, count: to.count, bytes };
                self.copies.open.push(landing);
            }
            Execution::Commit => {
                let group = std::mem::take(&mut self.copies.open);
                self.copies.groups.push_back(group);
            }
            Execution::Wait => {
                let newest = arguments.params[0] as usize;
                while self.copies.groups.len() > newest {
                    let group = self.copies.groups.pop_front().unwrap_or_default();
                    group.iter().try_for_each(|landing| land(program, landing, memory, shadow))?;
                }
            }
            Execution::Warp => unreachable!("a warp's calls are made once all of it has come"),
        }
        Ok(())
    }
}

/// Ends a copy: what it wrote is there, as if the thread that waits had written it now.
fn land(
    program: &Program,
    landing: &Landing,
    memory: &mut [Vec<u64>],
    shadow: &mut Shadow,
) -> Result<(), Diagnostic> {
    let Landing { buffer, start, count, bytes } = landing;
    if program.watched[*buffer as usize] {
        for at in *start..start + count {
            shadow.end_copy(*buffer, at).map_err(|race| race.describe(program, *buffer, at))?;
        }
    }
    let element = bytes.len() / (*count).max(1);
    tail_mut(&mut memory[*buffer as usize], start * element)[..bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// A call on memory as it is.
fn alone(program: &Program, call: &Call, arguments: &Arguments, memory: &mut [Vec<u64>]) {
    let outputs = call.def.outputs();
    let regions = &arguments.regions;
    let start = |r: &Placed| r.start * program.buffers[r.buffer as usize].dtype.bytes();
    let mut taken: Vec<Vec<u64>> =
        regions[..outputs].iter().map(|r| std::mem::take(&mut memory[r.buffer as usize])).collect();
    let views = taken
        .iter_mut()
        .zip(regions)
        .map(|(words, r)| intrin::ViewMut { bytes: tail_mut(words, start(r)), strides: r.strides.clone() });
    let inputs = regions[outputs..].iter().map(|r| intrin::View {
        bytes: tail(&memory[r.buffer as usize], start(r)),
        strides: r.strides.clone(),
    });
    let mut all =
        intrin::Call { outputs: views.collect(), inputs: inputs.collect(), params: &arguments.params };
    // A region without elements has nothing to compute, and no first element either.
    if regions[..outputs].iter().all(|r| r.count > 0) {
        (call.def.meaning)(&mut all);
    }
    for (r, words) in regions.iter().zip(taken) {
        memory[r.buffer as usize] = words;
    }
}

/// Makes the call before a place for the threads of a warp, the first of which has the number
/// `first`. Its regions are copied: those of the outputs, lane by lane, and those of the inputs.
pub fn by_warp<'t, 'p: 't>(
    program: &Program,
    place: usize,
    mut lanes: Vec<&'t mut Thread<'p>>,
    first: usize,
    memory: &mut [Vec<u64>],
    shadow: &mut Shadow,
) -> Result<(), Diagnostic> {
    let Inst::Intrin { call } = program.code[place - 1] else { unreachable!("a warp waits after its call") };
    let call = &program.calls[call as usize];
    if lanes.len() != intrin::WARP {
        let (name, got) = (call.def.name, lanes.len());
        return Err(
            program.error(format!("`{name}` needs a whole warp, but the block's last has {got} threads"))
        );
    }
    let mut arguments = Vec::with_capacity(lanes.len());
    for (i, lane) in lanes.iter().enumerate() {
        shadow.thread = (first + i) as u32;
        let own = Arguments::new(&lane.state, program, call)?;
        own.touch(program, call, shadow)?;
        arguments.push(own);
    }
    let outputs = call.def.outputs();
    let copy = |lane: &Thread<'_>, r: &Placed, memory: &[Vec<u64>]| {
        let element = program.buffers[r.buffer as usize].dtype.bytes();
        let bytes = r.count * element;
        let mut words = vec![0u64; bytes.div_ceil(8)];
        let home = program.private_index(r.buffer).map_or(&memory[r.buffer as usize], |i| &lane.private[i]);
        let from = &tail(home, r.start * element)[..bytes];
        bytemuck::cast_slice_mut(&mut words)[..bytes].copy_from_slice(from);
        words
    };
    let all = |range: std::ops::Range<usize>| {
        let lanes = lanes.iter().zip(&arguments);
        let regions = lanes.flat_map(|(lane, a)| a.regions[range.clone()].iter().map(move |r| (lane, r)));
        regions.map(|(lane, r)| copy(lane, r, memory)).collect::<Vec<_>>()
    };
    let (mut written, read) = (all(0..outputs), all(outputs..call.def.regions.len()));
    let views = written
        .iter_mut()
        .map(|words| intrin::ViewMut { bytes: bytemuck::cast_slice_mut(words), strides: vec![1] });
    let inputs =
        read.iter().map(|words| intrin::View { bytes: bytemuck::cast_slice(words), strides: vec![1] });
    let params = &arguments[0].params;
    (call.def.meaning)(&mut intrin::Call { outputs: views.collect(), inputs: inputs.collect(), params });
    let mut results = written.iter();
    for (lane, own) in lanes.iter_mut().zip(&arguments) {
        for (r, words) in own.regions[..outputs].iter().zip(&mut results) {
            let element = program.buffers[r.buffer as usize].dtype.bytes();
            let home = match program.private_index(r.buffer) {
                Some(i) => &mut lane.private[i],
                None => &mut memory[r.buffer as usize],
            };
            let bytes = r.count * element;
            tail_mut(home, r.start * element)[..bytes].copy_from_slice(&bytemuck::cast_slice(words)[..bytes]);
        }
    }
    Ok(())
}

impl Program {
    /// Where a thread keeps a buffer that is its own.
    fn private_index(&self, buffer: u32) -> Option<usize> {
        self.private.iter().position(|b| b.index() == buffer as usize)
    }
}

fn tail(words: &[u64], start: usize) -> &[u8] {
    bytemuck::cast_slice::<u64, u8>(words).get(start..).unwrap_or(&[])
}

fn tail_mut(words: &mut [u64], start: usize) -> &mut [u8] {
    bytemuck::cast_slice_mut::<u64, u8>(words).get_mut(start..).unwrap_or(&mut [])
}

/// The element offset of a region and the strides of its last dimensions, if it lies in the
/// buffer and has the extents that the intrinsic calls for.
fn place_region(
    shape: &[usize],
    ranges: &[(i64, i64)],
    wanted: &[i64],
) -> Result<(usize, Vec<usize>), String> {
    let outer = ranges.len().checked_sub(wanted.len()).ok_or("too few dimensions")?;
    let mut strides = vec![1usize; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d];
    }
    let mut start = 0;
    for (d, (&(min, extent), &n)) in ranges.iter().zip(shape).enumerate() {
        let want = if d < outer { 1 } else { wanted[d - outer] };
        if extent != want {
            return Err(format!("dimension {d} has extent {extent}, but {want} is called for"));
        }
        if min < 0 || min.checked_add(extent).is_none_or(|end| end > n as i64) {
            return Err(format!("{min}:{min} + {extent} of dimension {d} is not in 0:{n}"));
        }
        start += min as usize * strides[d];
    }
    Ok((start, strides.split_off(outer)))
}

#[cfg(test)]
mod tests;
