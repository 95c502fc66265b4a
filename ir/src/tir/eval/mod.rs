//! The meaning of TIR: runs a function on tensors.
//!
//! A function is compiled once ([`Program::compile`]) to a register code and then run any
//! number of times. Statements run in order; a loop of any kind runs its iterations in
//! order, except that the caller may choose the order of tiles. Only the chosen side of a
//! select is evaluated where it reads memory; everything else is total. Allocated buffers
//! hold bytes of ones before a function or a tile starts (NaN in floats), so that a read of
//! what was never written shows. Every access is checked against the bounds of its buffer:
//! at compile time where interval analysis can tell, else when it happens.
//!
//! A function with loops over `threadIdx` runs with the semantics of CUDA: a tile is a block,
//! every thread of it runs the whole body, a loop over threads gives it its own index, and
//! `Local` buffers are each thread's own. Threads run one after the other from barrier to
//! barrier; two accesses of different threads to one element between the same barriers, one
//! of them a write, are a race, and an error whatever the order was. A call that a warp makes
//! together waits for all its threads. What an asynchronous copy writes is there once its thread
//! has waited for it; any access before that, by whichever thread, is an error.

mod calls;
mod compile;
mod inst;
mod ops;
mod run;
mod threads;
mod worker;

#[cfg(test)]
mod tests;

use super::ir::{BufferId, PrimFunc};
use crate::diag::{Code, Diagnostic};
use crate::tensor::{Tensor, byte_len};
use inst::{BufferInfo, Call, Inst, Reg};
use threads::{Block, Shadow};

pub use worker::{Launch, run_persistent};

/// Bytes of all buffers that a run may allocate.
const MAX_BYTES: usize = 1 << 36;

/// A function, ready to run.
#[derive(Debug)]
pub struct Program {
    name: String,
    params: Vec<BufferId>,
    outputs: usize,
    buffers: Vec<BufferInfo>,
    /// Buffers that no parameter gives.
    allocs: Vec<BufferId>,
    /// Registers at the start: constants have their values.
    registers: Vec<u64>,
    code: Vec<Inst>,
    /// Where shared parts of expressions start.
    subs: Vec<usize>,
    calls: Vec<Call>,
    /// The tile variable's register and the number of tiles, if the function is scheduled.
    tiles: Option<(Reg, u64)>,
    /// Buffers of which every GPU thread has its own.
    private: Vec<BufferId>,
    /// The axes of GPU threads; none if the function has none.
    threads: Vec<ThreadAxis>,
    /// Whether accesses to a buffer are looked at for races between threads.
    watched: Vec<bool>,
}

/// An axis of GPU threads.
#[derive(Debug)]
struct ThreadAxis {
    name: Box<str>,
    /// The thread's index on it.
    reg: Reg,
    extent: u64,
}

/// Runs a function: `args` are its parameters in order; outputs are replaced.
///
/// # Errors
/// If an argument does not fit its parameter, or the function does something it must not.
pub fn run(func: &PrimFunc, args: &mut [Tensor]) -> Result<(), Diagnostic> {
    Program::compile(func)?.run(args)
}

/// Runs a scheduled function's tiles in an order.
///
/// # Errors
/// As [`run`], and if the order names a tile that there is not or not every tile once.
pub fn run_with(func: &PrimFunc, args: &mut [Tensor], order: &[u64]) -> Result<(), Diagnostic> {
    Program::compile(func)?.run_with(args, order)
}

impl Program {
    /// Compiles a function.
    ///
    /// # Errors
    /// If it breaks a rule that evaluation needs; functions that pass the verifier do not.
    pub fn compile(func: &PrimFunc) -> Result<Program, Diagnostic> {
        compile::compile(func)
    }

    /// Runs the function, tiles in ascending order.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(&self, args: &mut [Tensor]) -> Result<(), Diagnostic> {
        let order: Vec<u64> = (0..self.tiles.map_or(0, |(_, n)| n)).collect();
        self.run_with(args, &order)
    }

    /// Runs the function, tiles in this order.
    ///
    /// # Errors
    /// As [`run_with`].
    pub fn run_with(&self, args: &mut [Tensor], order: &[u64]) -> Result<(), Diagnostic> {
        self.check_order(order)?;
        let mut memory = self.memory(args)?;
        if self.threads.is_empty() {
            self.run_tiles(&mut memory, order)?;
        } else {
            let mut shadow = Shadow::new(self);
            let one = [0];
            let order = if self.tiles.is_some() { order } else { &one };
            for &tile in order {
                self.poison(&mut memory);
                Block::new(self).run(tile, &mut memory, &mut shadow)?;
            }
        }
        self.take_outputs(args, &memory)
    }

    /// Runs tiles one after the other, in one thread.
    fn run_tiles(&self, memory: &mut [Vec<u64>], order: &[u64]) -> Result<(), Diagnostic> {
        let mut state = run::State::new(self);
        let mut unwatched = Shadow::default();
        match self.tiles {
            None => {
                state.run(memory, &mut unwatched)?;
            }
            Some((reg, _)) => {
                for &tile in order {
                    self.poison(memory);
                    state.set(reg, tile);
                    state.run(memory, &mut unwatched)?;
                }
            }
        }
        Ok(())
    }

    /// Copies what was computed to the arguments.
    fn take_outputs(&self, args: &mut [Tensor], memory: &[Vec<u64>]) -> Result<(), Diagnostic> {
        let inputs = self.params.len() - self.outputs;
        for (arg, b) in args[inputs..].iter_mut().zip(&self.params[inputs..]) {
            let bytes = &bytemuck::cast_slice(&memory[b.as_u32() as usize])[..arg.bytes().len()];
            *arg =
                Tensor::from_bytes(arg.dtype(), arg.shape(), bytes).map_err(|e| self.error(e.to_string()))?;
        }
        Ok(())
    }

    fn check_order(&self, order: &[u64]) -> Result<(), Diagnostic> {
        let tiles = self.tiles.map_or(0, |(_, n)| n);
        let mut seen = vec![false; tiles as usize];
        for &t in order {
            match seen.get_mut(t as usize) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(self.error(format!("tile {t} comes twice in the order"))),
                None => return Err(self.error(format!("there is no tile {t} of {tiles}"))),
            }
        }
        match seen.iter().position(|s| !s) {
            Some(t) => Err(self.error(format!("tile {t} does not come in the order"))),
            None => Ok(()),
        }
    }

    /// Memory of every buffer: arguments copied, allocations poisoned.
    fn memory(&self, args: &[Tensor]) -> Result<Vec<Vec<u64>>, Diagnostic> {
        if args.len() != self.params.len() {
            let (want, got) = (self.params.len(), args.len());
            return Err(self.error(format!("the function has {want} parameters, not {got}")));
        }
        let mut memory: Vec<Vec<u64>> = self.buffers.iter().map(|_| Vec::new()).collect();
        for (arg, &b) in args.iter().zip(&self.params) {
            let info = self.buffer(b);
            if arg.dtype() != info.dtype || arg.shape() != info.shape {
                return Err(self.error(format!(
                    "parameter `{}` has type {} {:?}, but the argument is {} {:?}",
                    info.name,
                    info.dtype,
                    info.shape,
                    arg.dtype(),
                    arg.shape()
                )));
            }
            let mut words = vec![0u64; arg.bytes().len().div_ceil(8)];
            bytemuck::cast_slice_mut(&mut words)[..arg.bytes().len()].copy_from_slice(arg.bytes());
            memory[b.as_u32() as usize] = words;
        }
        let mut total = 0usize;
        for &b in &self.allocs {
            let info = self.buffer(b);
            let bytes = byte_len(info.dtype, &info.shape).map_err(|e| self.error(e.to_string()))?;
            total = total.saturating_add(bytes);
            if total > MAX_BYTES {
                return Err(self.error("the function allocates more memory than evaluation allows"));
            }
            memory[b.as_u32() as usize] = vec![u64::MAX; bytes.div_ceil(8)];
        }
        Ok(memory)
    }

    fn poison(&self, memory: &mut [Vec<u64>]) {
        for b in &self.allocs {
            memory[b.as_u32() as usize].fill(u64::MAX);
        }
    }

    fn buffer(&self, b: BufferId) -> &BufferInfo {
        &self.buffers[b.as_u32() as usize]
    }

    fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::EVAL, message).note(format!("in the TIR function `{}`", self.name))
    }
}
