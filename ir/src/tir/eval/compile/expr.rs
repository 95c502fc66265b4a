//! Scalar expressions.

use super::{Compiler, Statement, operation};
use crate::diag::Diagnostic;
use crate::entity::EntityRef;
use crate::scalar::{BinaryOp, CmpOp, Scalar};
use crate::tir::eval::inst::{Inst, Reg};
use crate::tir::eval::ops;
use crate::tir::interval::Interval;
use crate::tir::ir::{BufferId, Expr, ExprKind};
use crate::tir::visit::post_order;
use crate::types::DType;

impl Compiler<'_> {
    /// Prepares for the expressions of a statement.
    pub(super) fn begin<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        let mut new =
            Statement { scopes: vec![Default::default()], level: self.top(), ..Statement::default() };
        let mut lazy = false;
        for e in post_order(exprs) {
            let children = e.kind().children();
            let impure = |c: &Expr| new.impure[&c.key()];
            let reads = matches!(e.kind(), ExprKind::Load(..)) || children.iter().any(|c| impure(c));
            if let ExprKind::Select(_, a, b) = e.kind() {
                lazy |= impure(a) || impure(b);
            }
            new.impure.insert(e.key(), reads);
            for c in children {
                *new.uses.entry(c.key()).or_insert(0) += 1;
            }
        }
        self.statement = new;
        if lazy {
            self.emit(Inst::Forget);
        }
    }

    pub(super) fn expr(&mut self, e: &Expr) -> Result<Reg, Diagnostic> {
        let key = e.key();
        if let Some(&reg) = self.statement.scopes.iter().rev().find_map(|scope| scope.get(&key)) {
            return Ok(reg);
        }
        let conditional = self.statement.scopes.len() > 1;
        let shared = self.statement.uses.get(&key).is_some_and(|n| *n > 1);
        let reg = if conditional && shared && self.statement.impure[&key] {
            self.subroutine(e)?
        } else {
            self.node(e)?
        };
        // What lies outside the statement's branches is known in all of them.
        let everywhere = self.levels[reg as usize] <= self.statement.level;
        let scopes = &mut self.statement.scopes;
        let scope = if everywhere { scopes.first_mut() } else { scopes.last_mut() };
        scope.expect("a statement has a scope").insert(key, reg);
        Ok(reg)
    }

    /// Calls the subroutine of a shared node; the first caller has it written.
    fn subroutine(&mut self, e: &Expr) -> Result<Reg, Diagnostic> {
        let (sub, result) = match self.statement.subs.get(&e.key()) {
            Some(&known) => known,
            None => {
                let open = self.statement.scopes.split_off(1);
                self.statement.scopes.push(Default::default());
                let mut result = 0;
                let code = self.framed(|c| {
                    result = c.node(e)?;
                    Ok(())
                })?;
                self.statement.scopes.truncate(1);
                self.statement.scopes.extend(open);
                let sub = self.subs.len() as u32;
                self.subs.push(code);
                self.statement.subs.insert(e.key(), (sub, result));
                (sub, result)
            }
        };
        self.emit(Inst::Sub { sub });
        let dst = self.register(self.top());
        self.emit(Inst::Move { dst, a: result });
        Ok(dst)
    }

    fn node(&mut self, e: &Expr) -> Result<Reg, Diagnostic> {
        let dtype = e.dtype();
        Ok(match e.kind() {
            ExprKind::Const(s) => self.constant(*s),
            ExprKind::Var(v) => {
                let name = &self.func.vars[*v].name;
                self.vars[*v].ok_or_else(|| self.error(format!("the variable `{name}` is not bound here")))?
            }
            ExprKind::Cast(x) => {
                let (from, a) = (x.dtype(), self.expr(x)?);
                let key = operation(2, from as u8, dtype, [a, 0, 0]);
                self.pure(key, &[a], |dst| Inst::Cast { from, to: dtype, dst, a })
            }
            ExprKind::Reinterpret(x) => {
                let a = self.expr(x)?;
                let key = operation(3, 0, dtype, [a, 0, 0]);
                self.pure(key, &[a], |dst| Inst::Reinterpret { to: dtype, dst, a })
            }
            ExprKind::Unary(op, x) => {
                let (op, of, a) = (*op, x.dtype(), self.expr(x)?);
                let key = operation(4, op as u8, of, [a, 0, 0]);
                self.pure(key, &[a], |dst| Inst::Unary { op, dtype: of, dst, a })
            }
            ExprKind::Binary(op, x, y) => {
                let (a, b) = (self.expr(x)?, self.expr(y)?);
                self.binary(*op, x.dtype(), a, b)
            }
            ExprKind::Cmp(op, x, y) => {
                let (a, b) = (self.expr(x)?, self.expr(y)?);
                self.compare(*op, x.dtype(), a, b)
            }
            ExprKind::Fma(x, y, z) => {
                let (a, b, c) = (self.expr(x)?, self.expr(y)?, self.expr(z)?);
                let key = operation(7, 0, dtype, [a, b, c]);
                self.pure(key, &[a, b, c], |dst| Inst::Fma { dtype, dst, a, b, c })
            }
            ExprKind::Select(c, x, y) => self.select(c, x, y)?,
            ExprKind::Load(buffer, indices) => {
                let at = self.element(*buffer, indices)?;
                let dst = self.register(self.top());
                let dtype = self.func.buffers[*buffer].dtype;
                self.watch(*buffer, at, false);
                self.emit(Inst::Load { dst, buffer: buffer.as_u32(), at, dtype });
                dst
            }
        })
    }

    pub(super) fn binary(&mut self, op: BinaryOp, dtype: DType, a: Reg, b: Reg) -> Reg {
        if (op, dtype) == (BinaryOp::Add, DType::I64) {
            return self.add(a, b);
        }
        let f = ops::binary(op, dtype);
        self.pure(operation(5, op as u8, dtype, [a, b, 0]), &[a, b], |dst| Inst::Binary { f, dst, a, b })
    }

    pub(super) fn compare(&mut self, op: CmpOp, dtype: DType, a: Reg, b: Reg) -> Reg {
        let f = ops::compare(op, dtype);
        self.pure(operation(6, op as u8, dtype, [a, b, 0]), &[a, b], |dst| Inst::Binary { f, dst, a, b })
    }

    /// Both sides and a choice if neither reads memory; else only the side that is chosen.
    fn select(&mut self, c: &Expr, x: &Expr, y: &Expr) -> Result<Reg, Diagnostic> {
        let c = self.expr(c)?;
        if !self.statement.impure[&x.key()] && !self.statement.impure[&y.key()] {
            let (a, b) = (self.expr(x)?, self.expr(y)?);
            let key = operation(8, 0, DType::Bool, [c, a, b]);
            return Ok(self.pure(key, &[c, a, b], |dst| Inst::Select { dst, c, a, b }));
        }
        let dst = self.register(self.top());
        let then = self.side(x, dst)?;
        let els = self.side(y, dst)?;
        self.emit_either(c, then, els);
        Ok(dst)
    }

    fn side(&mut self, e: &Expr, dst: Reg) -> Result<Vec<Inst>, Diagnostic> {
        self.statement.scopes.push(Default::default());
        let code = self.framed(|s| {
            let a = s.expr(e)?;
            s.emit(Inst::Move { dst, a });
            Ok(())
        });
        self.statement.scopes.pop();
        code
    }

    pub(super) fn declared(&self, buffer: BufferId, rank: usize) -> Result<(), Diagnostic> {
        let info = &self.func.buffers[buffer];
        if !self.declared[buffer.index()] {
            return Err(
                self.error(format!("the buffer `{}` is neither a parameter nor allocated", info.name))
            );
        }
        if info.shape.len() != rank {
            let want = info.shape.len();
            return Err(self.error(format!("`{}` has {want} dimensions, but {rank} indices", info.name)));
        }
        Ok(())
    }

    /// The position of an element; indices that analysis cannot place are checked.
    pub(super) fn element(&mut self, buffer: BufferId, indices: &[Expr]) -> Result<Reg, Diagnostic> {
        self.declared(buffer, indices.len())?;
        let func = self.func;
        let shape = &func.buffers[buffer].shape;
        let mut stride = shape.iter().product::<usize>() as i64;
        let mut sum: Option<Reg> = None;
        for (dim, (index, &n)) in indices.iter().zip(shape).enumerate() {
            let reg = self.expr(index)?;
            if !self.bounds.of(index).within(Interval::below(n as i64)) {
                let (buffer, dim) = (buffer.as_u32(), dim as u32);
                self.emit(Inst::Check { index: reg, size: n as u64, buffer, dim });
            }
            stride = stride.checked_div(n as i64).unwrap_or(0);
            let term = self.scale(reg, stride);
            sum = Some(match sum {
                Some(sum) => self.add(sum, term),
                None => term,
            });
        }
        Ok(match sum {
            Some(sum) => sum,
            None => self.constant(Scalar::from_i64(DType::I64, 0)),
        })
    }
}
