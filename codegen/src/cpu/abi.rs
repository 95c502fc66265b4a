//! The frame of a tile function: its signature, where buffers lie, calls through the import table.

use std::collections::HashMap;

use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    AbiParam, InstBuilder, MemFlagsData, SigRef, Signature, StackSlotData, StackSlotKind, Type, Value,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use fermata_ir::diag::Diagnostic;
use fermata_ir::entity::SecondaryMap;
use fermata_ir::tensor::byte_len;
use fermata_ir::tir::intrin;
use fermata_ir::tir::{Block, BufferId, Expr, PrimFunc, Region, Stmt};

use super::failed;
use super::lower_stmt::{Lower, walk};
use crate::kernel::HELPER_PREFIX;

/// Buffers in scratch memory start at multiples of this.
const ALIGNMENT: usize = 64;

/// Where a buffer's elements are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Home {
    /// Nowhere: the function does not speak of it.
    #[default]
    None,
    /// At the pointer with this number.
    Param(usize),
    /// At this offset of the scratch memory.
    Scratch(usize),
    /// One element, in a register.
    Register,
    /// A few elements, in vector registers.
    Lanes,
}

/// Where all buffers of a function are.
pub(super) struct Layout {
    /// By buffer.
    pub homes: SecondaryMap<BufferId, Home>,
    /// Whether a parameter is only read.
    pub read_only: SecondaryMap<BufferId, bool>,
    /// Offset of the scratch memory of intrinsics.
    pub intrinsic_scratch: usize,
    /// Bytes of scratch memory.
    pub scratch_bytes: usize,
}

impl Layout {
    /// Lays out the buffers of a function.
    pub fn new(func: &PrimFunc) -> Result<Layout, Diagnostic> {
        let mut layout = Layout {
            homes: SecondaryMap::new(),
            read_only: SecondaryMap::new(),
            intrinsic_scratch: 0,
            scratch_bytes: 0,
        };
        for (i, &param) in func.params.iter().enumerate() {
            layout.homes[param] = Home::Param(i);
            layout.read_only[param] = i < func.params.len() - func.outputs;
        }
        let mut addressed: SecondaryMap<BufferId, bool> = SecondaryMap::new();
        let mut allocs: Vec<BufferId> = func.allocs.clone();
        for id in super::lanes::in_lanes(func)? {
            layout.homes[id] = Home::Lanes;
        }
        let mut call_bytes = 0;
        walk(func, &mut |stmt| match stmt {
            Stmt::Store { buffer, .. } => layout.read_only[*buffer] = false,
            Stmt::Intrin { name, regions, params } => {
                call_bytes = call_bytes.max(call_scratch(name, params));
                for region in regions {
                    layout.read_only[region.buffer] = false;
                    addressed[region.buffer] = true;
                }
            }
            Stmt::Block(block) => allocs.extend(&block.allocs),
            Stmt::Seq(_)
            | Stmt::For { .. }
            | Stmt::Let { .. }
            | Stmt::If { .. }
            | Stmt::Checkpoint
            | Stmt::Barrier => {}
        })?;
        for id in allocs {
            layout.place(func, id, addressed[id])?;
        }
        layout.intrinsic_scratch = layout.scratch_bytes;
        layout.scratch_bytes = layout
            .scratch_bytes
            .checked_add(call_bytes)
            .ok_or_else(|| failed(func, "its scratch memory is too large"))?;
        Ok(layout)
    }

    fn place(&mut self, func: &PrimFunc, id: BufferId, addressed: bool) -> Result<(), Diagnostic> {
        if self.homes[id] != Home::None {
            return Ok(());
        }
        let buffer = &func.buffers[id];
        if !addressed && buffer.shape.iter().all(|&n| n == 1) {
            self.homes[id] = Home::Register;
            return Ok(());
        }
        let bytes = byte_len(buffer.dtype, &buffer.shape).map_err(|e| failed(func, &e.to_string()))?;
        self.homes[id] = Home::Scratch(self.scratch_bytes);
        self.scratch_bytes = bytes
            .checked_next_multiple_of(ALIGNMENT)
            .and_then(|n| n.checked_add(self.scratch_bytes))
            .ok_or_else(|| failed(func, "its scratch memory is too large"))?;
        Ok(())
    }
}

/// Bytes of scratch memory of a call. Only sizes that are known when the code is made count.
fn call_scratch(name: &str, params: &[Expr]) -> usize {
    let known: Vec<i64> = params.iter().map(|p| p.as_int().unwrap_or(0)).collect();
    intrin::lookup(name).map_or(0, |intrinsic| (intrinsic.scratch_bytes)(&known))
}

/// The signature of [`TileFn`](crate::kernel::TileFn).
pub(super) fn tile_signature(isa: &dyn TargetIsa) -> Signature {
    let mut signature = Signature::new(isa.default_call_conv());
    signature.params.extend([AbiParam::new(I64); 4]);
    signature
}

/// The imports of a function so far.
pub(super) struct Imports {
    names: Vec<String>,
    slots: HashMap<String, usize>,
    signatures: Vec<(Type, usize, SigRef)>,
    intrinsic: Option<SigRef>,
    call_conv: CallConv,
}

impl Imports {
    /// None yet.
    pub fn new(call_conv: CallConv) -> Imports {
        Imports {
            names: Vec::new(),
            slots: HashMap::new(),
            signatures: Vec::new(),
            intrinsic: None,
            call_conv,
        }
    }

    /// Their names by slot.
    pub fn into_names(self) -> Vec<String> {
        self.names
    }

    fn slot(&mut self, name: String) -> usize {
        let next = self.names.len();
        *self.slots.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }
}

/// Memory operations of generated code never fault: every index is within bounds.
pub(super) fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_can_move()
}

impl<'f> Lower<'f, '_> {
    /// The address of a buffer's first element.
    pub(super) fn address(&mut self, buffer: BufferId) -> Value {
        match self.layout.homes[buffer] {
            Home::Param(i) => {
                let table = self.frame.buffers;
                self.b.ins().load(I64, memory().with_readonly(), table, i as i32 * 8)
            }
            Home::Scratch(offset) => {
                let scratch = self.frame.scratch;
                self.b.ins().iadd_imm_s(scratch, offset as i64)
            }
            Home::None | Home::Register | Home::Lanes => {
                unreachable!("only buffers in memory have addresses")
            }
        }
    }

    fn import(&mut self, name: String) -> Value {
        let slot = self.imports.slot(name);
        let table = self.frame.imports;
        self.b.ins().load(I64, memory().with_readonly(), table, slot as i32 * 8)
    }

    /// Calls `fermata_<operation>_<type>`; arguments and result have one type.
    pub(super) fn call_helper(&mut self, operation: &str, suffix: &str, args: &[Value]) -> Value {
        let ty = self.b.func.dfg.value_type(args[0]);
        let function = self.import(format!("{HELPER_PREFIX}{operation}_{suffix}"));
        let known = self.imports.signatures.iter().find(|(t, n, _)| (*t, *n) == (ty, args.len()));
        let signature = match known {
            Some((_, _, signature)) => *signature,
            None => {
                let mut signature = Signature::new(self.imports.call_conv);
                signature.params.resize(args.len(), AbiParam::new(ty));
                signature.returns.push(AbiParam::new(ty));
                let signature = self.b.import_signature(signature);
                self.imports.signatures.push((ty, args.len(), signature));
                signature
            }
        };
        let call = self.b.ins().call_indirect(signature, function, args);
        self.b.inst_results(call)[0]
    }

    /// Calls a tensor intrinsic.
    pub(super) fn call_intrinsic(&mut self, name: &str, regions: &'f [Region], params: &'f [Expr]) {
        let mut pointers = Vec::new();
        let mut numbers = Vec::new();
        let rows = intrin::lookup(name).map_or(&[][..], |intrinsic| intrinsic.regions);
        for (i, region) in regions.iter().enumerate() {
            let offset = self.offset(region.buffer, region.ranges.iter().map(|r| &r.min));
            let base = self.address(region.buffer);
            pointers.push(self.b.ins().iadd(base, offset));
            let strides = strides(&self.func.buffers[region.buffer].shape);
            let seen = rows.get(i).map_or(strides.len(), |row| row.rank().min(strides.len()));
            for &stride in &strides[strides.len() - seen..] {
                numbers.push(self.b.ins().iconst(I64, stride));
            }
        }
        numbers.extend(params.iter().map(|p| self.scalar(p)).collect::<Vec<_>>());
        let pointers = self.spill(&pointers);
        let numbers = self.spill(&numbers);
        let function = self.import(name.to_owned());
        let signature = *self.imports.intrinsic.get_or_insert_with(|| {
            let mut signature = Signature::new(self.imports.call_conv);
            signature.params.extend([AbiParam::new(I64); 3]);
            self.b.import_signature(signature)
        });
        let offset = self.layout.intrinsic_scratch;
        let scratch = self.b.ins().iadd_imm_s(self.frame.scratch, offset as i64);
        self.b.ins().call_indirect(signature, function, &[pointers, numbers, scratch]);
        self.cache.memory_changed();
    }

    /// Writes values to the stack and gives their address.
    fn spill(&mut self, values: &[Value]) -> Value {
        let size = (values.len().max(1) * 8) as u32;
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3));
        let address = self.b.ins().stack_addr(I64, slot, 0);
        for (i, &value) in values.iter().enumerate() {
            self.b.ins().store(memory(), value, address, i as i32 * 8);
        }
        address
    }

    /// Reserves what a block allocates: registers start at zero so that they are never undefined.
    pub(super) fn enter_allocs(&mut self, block: &Block) {
        for &id in &block.allocs {
            self.enter_alloc(id);
        }
    }

    /// Reserves one buffer.
    pub(super) fn enter_alloc(&mut self, id: BufferId) {
        if self.layout.homes[id] == Home::Register {
            let ty = super::convert::clif_type(self.func.buffers[id].dtype);
            let variable = self.b.declare_var(ty);
            let zero = self.zero(ty);
            self.b.def_var(variable, zero);
            self.registers[id] = Some(variable);
        } else if self.layout.homes[id] == Home::Lanes {
            self.enter_lanes(id);
        }
    }

    /// Zero of a scalar type.
    pub(super) fn zero(&mut self, ty: Type) -> Value {
        if ty == cranelift_codegen::ir::types::F32 {
            self.b.ins().f32const(0.0)
        } else if ty == cranelift_codegen::ir::types::F64 {
            self.b.ins().f64const(0.0)
        } else {
            debug_assert!(ty.bits() <= 64 && (ty == I32 || ty.is_int()));
            self.b.ins().iconst(ty, 0)
        }
    }
}

/// Distances in elements between neighbours along each dimension of a dense array.
pub(super) fn strides(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for d in (0..shape.len().saturating_sub(1)).rev() {
        strides[d] = strides[d + 1].saturating_mul(shape[d + 1].max(1) as i64);
    }
    strides
}
