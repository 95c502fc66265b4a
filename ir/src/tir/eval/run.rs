//! Running register code.

use super::Program;
use super::inst::{Call, Inst, Reg};
use super::ops;
use super::threads::Shadow;
use crate::diag::Diagnostic;
use crate::scalar::{self, Scalar};
use crate::tir::intrin;
use crate::types::DType;

/// Registers and what is known while a program runs.
pub struct State<'a> {
    program: &'a Program,
    registers: Vec<u64>,
    /// The activation in which a shared part was last evaluated.
    valid: Vec<u64>,
    activation: u64,
    returns: Vec<usize>,
    pc: usize,
}

/// Why a program stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It came to its end.
    End,
    /// It waits at the barrier before this place.
    Barrier(usize),
}

impl<'a> State<'a> {
    pub fn new(program: &'a Program) -> State<'a> {
        State {
            program,
            registers: program.registers.clone(),
            valid: vec![0; program.subs.len()],
            activation: 1,
            returns: Vec::new(),
            pc: 0,
        }
    }

    /// Sets a register.
    #[inline(always)]
    pub fn set(&mut self, reg: Reg, value: u64) {
        self.registers[reg as usize] = value;
    }

    #[inline(always)]
    fn get(&self, reg: Reg) -> u64 {
        self.registers[reg as usize]
    }

    /// Runs the code from where it stopped (first: its start) to its end or the next barrier.
    pub fn run(&mut self, memory: &mut [Vec<u64>], shadow: &mut Shadow) -> Result<Stop, Diagnostic> {
        let code = self.program.code.as_slice();
        let mut pc = std::mem::take(&mut self.pc);
        loop {
            let inst = code[pc];
            pc += 1;
            match inst {
                Inst::Binary { f, dst, a, b } => self.set(dst, f(self.get(a), self.get(b))),
                Inst::Add { dst, a, b } => self.set(dst, self.get(a).wrapping_add(self.get(b))),
                Inst::Scale { dst, a, by } => self.set(dst, self.get(a).wrapping_mul(by as u64)),
                Inst::Load { dst, buffer, at, dtype } => {
                    self.set(dst, load(&memory[buffer as usize], dtype, self.get(at) as usize));
                }
                Inst::Store { a, buffer, at, dtype } => {
                    store(&mut memory[buffer as usize], dtype, self.get(at) as usize, self.get(a));
                }
                Inst::Check { index, size, buffer, dim } => {
                    if self.get(index) >= size {
                        return Err(self.out_of_bounds(index, size, buffer, dim));
                    }
                }
                Inst::Next { var, extent, by } => {
                    let next = self.get(var) + 1;
                    self.set(var, next);
                    if (next as i64) < self.get(extent) as i64 {
                        pc = jump(pc, by);
                    }
                }
                Inst::Enter { var, extent, by } => {
                    self.set(var, 0);
                    if self.get(extent) as i64 <= 0 {
                        pc = jump(pc, by);
                    }
                }
                Inst::Watch { buffer, at, write } => {
                    let at = self.get(at) as usize;
                    let seen = shadow.access(buffer, at, write);
                    seen.map_err(|race| race.describe(self.program, buffer, at))?;
                }
                Inst::Barrier => {
                    self.pc = pc;
                    return Ok(Stop::Barrier(pc));
                }
                Inst::Jump { by } => pc = jump(pc, by),
                Inst::JumpIfNot { c, by } => {
                    if self.get(c) == 0 {
                        pc = jump(pc, by);
                    }
                }
                Inst::Forget => self.activation += 1,
                Inst::Sub { sub } => {
                    if self.valid[sub as usize] != self.activation {
                        self.returns.push(pc);
                        pc = self.program.subs[sub as usize];
                    }
                }
                Inst::Return { sub } => {
                    self.valid[sub as usize] = self.activation;
                    pc = self.returns.pop().expect("a shared part is only entered by a call");
                }
                Inst::Intrin { call } => self.intrinsic(&self.program.calls[call as usize], memory)?,
                Inst::End => return Ok(Stop::End),
                Inst::Unary { .. }
                | Inst::Cast { .. }
                | Inst::Reinterpret { .. }
                | Inst::Fma { .. }
                | Inst::Select { .. }
                | Inst::Move { .. } => self.simple(inst),
            }
        }
    }

    /// Instructions that only compute a register.
    fn simple(&mut self, inst: Inst) {
        match inst {
            Inst::Unary { op, dtype, dst, a } => {
                self.set(dst, scalar::unary(op, Scalar::from_bits(dtype, self.get(a))).bits());
            }
            Inst::Cast { from, to, dst, a } => {
                self.set(dst, scalar::cast(Scalar::from_bits(from, self.get(a)), to).bits());
            }
            Inst::Reinterpret { to, dst, a } => self.set(dst, ops::reinterpret(to, self.get(a))),
            Inst::Fma { dtype, dst, a, b, c } => {
                self.set(dst, ops::fma(dtype, self.get(a), self.get(b), self.get(c)));
            }
            Inst::Select { dst, c, a, b } => {
                self.set(dst, if self.get(c) != 0 { self.get(a) } else { self.get(b) });
            }
            Inst::Move { dst, a } => self.set(dst, self.get(a)),
            _ => unreachable!("the other instructions are handled where they are met"),
        }
    }

    fn out_of_bounds(&self, index: Reg, size: u64, buffer: u32, dim: u32) -> Diagnostic {
        let name = &self.program.buffers[buffer as usize].name;
        let index = self.get(index) as i64;
        self.program.error(format!("index {index} of dimension {dim} of `{name}` is not in 0..{size}"))
    }

    fn intrinsic(&self, call: &Call, memory: &mut [Vec<u64>]) -> Result<(), Diagnostic> {
        let def = call.def;
        let fail = |why: String| self.program.error(format!("in a call of `{}`: {why}", def.name));
        let params: Vec<i64> = call.params.iter().map(|&r| self.get(r) as i64).collect();
        let wanted = def.check(&params).map_err(fail)?;
        let mut starts = Vec::new();
        let mut strides = Vec::new();
        for ((buffer, ranges), wanted) in call.regions.iter().zip(&wanted) {
            let info = &self.program.buffers[*buffer as usize];
            let ranges: Vec<(i64, i64)> =
                ranges.iter().map(|&(min, n)| (self.get(min) as i64, self.get(n) as i64)).collect();
            let place = place_region(&info.shape, &ranges, wanted)
                .map_err(|why| fail(format!("region of `{}`: {why}", info.name)))?;
            starts.push(place.0 * info.dtype.bytes());
            strides.push(place.1);
        }
        let outputs = def.outputs();
        let index = |i: usize| call.regions[i].0 as usize;
        let mut taken: Vec<Vec<u64>> = (0..outputs).map(|i| std::mem::take(&mut memory[index(i)])).collect();
        let views = taken.iter_mut().enumerate().map(|(i, words)| intrin::ViewMut {
            bytes: tail_mut(words, starts[i]),
            strides: strides[i].clone(),
        });
        let mut arguments = intrin::Call {
            outputs: views.collect(),
            inputs: (outputs..call.regions.len())
                .map(|i| intrin::View {
                    bytes: tail(&memory[index(i)], starts[i]),
                    strides: strides[i].clone(),
                })
                .collect(),
            params: &params,
        };
        // A region without elements has nothing to compute, and no first element either.
        if wanted.iter().take(outputs).all(|extents| extents.iter().all(|&n| n > 0)) {
            (def.meaning)(&mut arguments);
        }
        for (i, words) in taken.into_iter().enumerate() {
            memory[index(i)] = words;
        }
        Ok(())
    }
}

fn tail(words: &[u64], start: usize) -> &[u8] {
    bytemuck::cast_slice::<u64, u8>(words).get(start..).unwrap_or(&[])
}

fn tail_mut(words: &mut [u64], start: usize) -> &mut [u8] {
    bytemuck::cast_slice_mut::<u64, u8>(words).get_mut(start..).unwrap_or(&mut [])
}

#[inline(always)]
fn jump(pc: usize, by: i32) -> usize {
    (pc as i64 + i64::from(by)) as usize
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

#[inline(always)]
fn load(words: &[u64], dtype: DType, at: usize) -> u64 {
    match dtype.bytes() {
        1 if dtype == DType::Bool => u64::from(bytemuck::cast_slice::<u64, u8>(words)[at] != 0),
        1 => u64::from(bytemuck::cast_slice::<u64, u8>(words)[at]),
        2 => u64::from(bytemuck::cast_slice::<u64, u16>(words)[at]),
        4 => u64::from(bytemuck::cast_slice::<u64, u32>(words)[at]),
        _ => words[at],
    }
}

#[inline(always)]
fn store(words: &mut [u64], dtype: DType, at: usize, value: u64) {
    match dtype.bytes() {
        1 => bytemuck::cast_slice_mut::<u64, u8>(words)[at] = value as u8,
        2 => bytemuck::cast_slice_mut::<u64, u16>(words)[at] = value as u16,
        4 => bytemuck::cast_slice_mut::<u64, u32>(words)[at] = value as u32,
        _ => words[at] = value,
    }
}
