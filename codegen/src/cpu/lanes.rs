//! Small buffers in vector registers: the partial results of reductions.
//!
//! A buffer qualifies if every access says at compile time which element it means: at a
//! constant, or at the variable of a vectorised loop of constant length, which is then
//! written out vector by vector. In memory, each step would wait for the last one's store.

use std::collections::BTreeMap;

use cranelift_codegen::ir::types::F32X4;
use cranelift_codegen::ir::{InstBuilder, Value};
use fermata_ir::diag::Diagnostic;
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, PrimFunc, Scope, Stmt, VarId};
use fermata_ir::types::DType;

use super::abi::Home;
use super::analysis::loads;
use super::lower_expr::Mode;
use super::lower_stmt::{Lower, walk};

/// Elements of a vector.
const VECTOR: usize = 4;

/// The most elements that a buffer in registers has: four of sixteen vector registers.
const MAX_LANES: usize = 16;

/// The buffers of a function that can be held in vector registers.
///
/// # Errors
/// If statements nest too deeply for code to be made of them.
pub(super) fn in_lanes(func: &PrimFunc) -> Result<Vec<BufferId>, Diagnostic> {
    let small = |id: BufferId| {
        let buffer = &func.buffers[id];
        let fits = matches!(buffer.shape[..], [n] if n <= MAX_LANES && n > 1 && n.is_multiple_of(VECTOR));
        fits && buffer.dtype == DType::F32 && buffer.scope == Scope::Local
    };
    // The number of elements, as long as every access is of one that is known.
    let mut found: BTreeMap<BufferId, Option<usize>> = BTreeMap::new();
    let mut lengths: BTreeMap<VarId, i64> = BTreeMap::new();
    walk(func, &mut |stmt| {
        if let Stmt::For { var, extent, kind: LoopKind::Vectorized, .. } = stmt
            && let Some(n) = extent.as_int()
        {
            lengths.insert(*var, n);
        }
        let mut access = |buffer: BufferId, indices: &[Expr]| {
            if small(buffer) {
                let size = func.buffers[buffer].shape[0];
                let known = found.entry(buffer).or_insert(Some(size));
                *known = known.filter(|&size| is_known(indices, size, &lengths));
            }
        };
        match stmt {
            Stmt::Store { buffer, indices, .. } => access(*buffer, indices),
            Stmt::Intrin { regions, .. } => regions.iter().for_each(|r| access(r.buffer, &[])),
            _ => {}
        }
        stmt.exprs().into_iter().for_each(|e| loads(e, &mut |buffer, indices| access(buffer, indices)));
    })?;
    Ok(found.into_iter().filter_map(|(id, known)| known.map(|_| id)).collect())
}

/// True if an index names its element when code is made.
fn is_known(indices: &[Expr], size: usize, lengths: &BTreeMap<VarId, i64>) -> bool {
    let [index] = indices else { return false };
    match index.kind() {
        ExprKind::Const(_) => index.as_int().is_some_and(|i| (0..size as i64).contains(&i)),
        ExprKind::Var(v) => lengths.get(v).is_some_and(|&n| n <= size as i64 && n % VECTOR as i64 == 0),
        _ => false,
    }
}

impl<'f> Lower<'f, '_> {
    /// Reserves the registers of a buffer.
    pub(super) fn enter_lanes(&mut self, id: BufferId) {
        let count = self.func.buffers[id].shape[0] / VECTOR;
        let zero = self.float_const(F32X4, 0.0);
        let variables = (0..count).map(|_| {
            let variable = self.b.declare_var(F32X4);
            self.b.def_var(variable, zero);
            variable
        });
        self.lanes[id] = variables.collect();
    }

    /// Whether a statement speaks of elements in registers by this variable.
    pub(super) fn indexes_lanes(&self, var: VarId, stmt: &'f Stmt) -> bool {
        let mut found = false;
        let mut access = |buffer: BufferId, indices: &[Expr]| {
            let by_var = matches!(indices, [i] if matches!(i.kind(), ExprKind::Var(v) if *v == var));
            found |= by_var && self.layout.homes[buffer] == Home::Lanes;
        };
        stmt.walk(&mut |s| {
            if let Stmt::Store { buffer, indices, .. } = s {
                access(*buffer, indices);
            }
            s.exprs().into_iter().for_each(|e| loads(e, &mut access));
        });
        found
    }

    /// The number of an element, that of the first lane in a vectorised loop.
    fn number(&self, indices: &[Expr]) -> usize {
        let number = match indices[0].kind() {
            ExprKind::Var(v) => {
                let lane = self.vector_loop.filter(|l| l.var == *v).and(self.lane).unwrap_or(0);
                self.known[*v].map(|first| first + lane as i64)
            }
            _ => indices[0].as_int(),
        };
        number.expect("the buffer is held in lanes because all its elements are known") as usize
    }

    /// A vector of elements.
    pub(super) fn vector_of_lanes(&mut self, buffer: BufferId, indices: &[Expr]) -> Value {
        let variable = self.lanes[buffer][self.number(indices) / VECTOR];
        self.b.use_var(variable)
    }

    /// One element.
    pub(super) fn element_of_lanes(&mut self, buffer: BufferId, indices: &[Expr]) -> Value {
        let number = self.number(indices);
        let variable = self.lanes[buffer][number / VECTOR];
        let vector = self.b.use_var(variable);
        self.b.ins().extractlane(vector, (number % VECTOR) as u8)
    }

    /// Stores a vector, or outside of vectorised loops one element.
    pub(super) fn store_in_lanes(&mut self, buffer: BufferId, indices: &'f [Expr], value: &'f Expr) {
        let number = self.number(indices);
        let variable = self.lanes[buffer][number / VECTOR];
        if self.analysis.lanes > 1 && self.lane.is_none() {
            let value = self.evaluate(value, Mode::Vector);
            self.b.def_var(variable, value);
            return;
        }
        let value = self.scalar(value);
        let vector = self.b.use_var(variable);
        let changed = self.b.ins().insertlane(vector, value, (number % VECTOR) as u8);
        self.b.def_var(variable, changed);
    }
}
