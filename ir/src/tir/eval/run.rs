//! Running register code.

use super::Program;
use super::calls::Copies;
use super::inst::{Inst, Reg};
use super::ops;
use super::threads::Shadow;
use crate::diag::Diagnostic;
use crate::scalar::{self, Scalar};
use crate::tir::intrin::Execution;
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
    /// Asynchronous copies that the thread began.
    pub copies: Copies,
}

/// Why a program stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It came to its end.
    End,
    /// It waits at the barrier before this place.
    Barrier(usize),
    /// It waits for its warp to make the call before this place.
    Warp(usize),
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
            copies: Copies::default(),
        }
    }

    /// Sets a register.
    #[inline(always)]
    pub fn set(&mut self, reg: Reg, value: u64) {
        self.registers[reg as usize] = value;
    }

    /// The value of a register.
    #[inline(always)]
    pub fn get(&self, reg: Reg) -> u64 {
        self.registers[reg as usize]
    }

    /// Runs the code from where it stopped (first: its start) to its end, the next barrier or the
    /// next call that a warp makes together.
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
                Inst::Intrin { call } => {
                    let program = self.program;
                    let call = &program.calls[call as usize];
                    if call.def.execution == Execution::Warp {
                        self.pc = pc;
                        return Ok(Stop::Warp(pc));
                    }
                    self.call(program, call, memory, shadow)?;
                }
                Inst::End if self.copies.is_empty() => return Ok(Stop::End),
                Inst::End => return Err(self.program.error("a thread ends before its copies have ended")),
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
}

#[inline(always)]
fn jump(pc: usize, by: i32) -> usize {
    (pc as i64 + i64::from(by)) as usize
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
