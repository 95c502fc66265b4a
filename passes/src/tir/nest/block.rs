//! Reductions that the threads of a GPU block share.

use fermata_ir::te::{Axis, Combiner, Compute, Reduce};
use fermata_ir::tir::{Expr, ExprKind, LoopKind, Scope, Stmt, VarId};
use fermata_ir::types::DType;

use super::{BlockThreads, Nest, Refusal};
use crate::tir::inline::Env;

fn var(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

impl Nest<'_> {
    /// Opens the threads of a block inside the tile loop; from here on values stand inside it.
    pub fn open_threads(&mut self, count: usize) -> BlockThreads {
        let index = self.var("tx", DType::I64);
        self.open(index, count.into(), LoopKind::ThreadBinding("threadIdx.x".into()));
        self.floor = self.frames.len() - 1;
        self.lanes = false;
        BlockThreads { index, count }
    }

    /// Has these threads share every reduction that is placed at the floor.
    pub fn share_reductions(&mut self, block: BlockThreads) {
        self.block = Some(block);
    }

    /// Binds axes, inside the innermost frame, to the parts of a flat index, the last fastest.
    pub fn bind_axes(&mut self, axes: &[Axis], flat: &Expr) {
        let mut stride: usize = axes.iter().map(|a| a.extent).product();
        for (i, axis) in axes.iter().enumerate() {
            stride /= axis.extent;
            let index = flat.clone().floor_div(stride);
            let index = if i == 0 { index } else { index.floor_mod(axis.extent) };
            self.bind(axis.var, index);
        }
    }

    /// Opens what gives each thread its share of `0..count`: every `block.count`-th index. Gives
    /// the index and the number of frames that were opened.
    pub fn open_share(&mut self, block: BlockThreads, count: usize) -> (Expr, usize) {
        let mut opened = 0;
        let mut at = var(block.index);
        if count > block.count {
            let i = self.var("i", DType::I64);
            self.open(i, count.div_ceil(block.count).into(), LoopKind::Serial);
            at = var(i) * block.count + at;
            opened += 1;
        }
        let at = self.bind_fresh_named("e", at);
        if !count.is_multiple_of(block.count) {
            self.open_guard(at.clone().lt(count));
            opened += 1;
        }
        (at, opened)
    }

    /// A reduction by all threads: each combines its share, and a tree in shared memory combines
    /// those, in an order that does not change from run to run.
    pub(super) fn accumulate_block(
        &mut self,
        block: BlockThreads,
        compute: &Compute,
        reduce: &Reduce,
        mut env: Env,
    ) -> Result<Vec<Expr>, Refusal> {
        let (Combiner::Binary(op), [body]) = (&reduce.combiner, &compute.body[..]) else {
            unreachable!("the rules share only reductions of one value")
        };
        let identity = reduce.identity[0].clone();
        let acc = self.local("acc", &[1], body.dtype());
        let zero = Expr::int(0);
        self.store_element(acc, zero.clone(), identity);
        let axes = self.fresh_axes(&reduce.axes, &mut env);
        let (k, opened) = self.open_share(block, axes.iter().map(|a| a.extent).product());
        self.bind_axes(&axes, &k);
        let element = self.inliner.instantiate(body, &env);
        let placed = self.place(&element);
        if let Ok(element) = &placed {
            let sum = self.element(acc, zero.clone()).binary(*op, element.clone());
            self.store_element(acc, zero.clone(), sum);
        }
        (0..opened).for_each(|_| self.close());
        placed?;
        let partial = self.scratch_buffer("partial", &[block.count], body.dtype(), Scope::Shared);
        let own = self.element(acc, zero.clone());
        self.store_element(partial, var(block.index), own);
        self.push(Stmt::Barrier);
        let mut half = block.count / 2;
        while half > 0 {
            self.open_guard(var(block.index).lt(half));
            let other = self.element(partial, var(block.index) + half);
            let sum = self.element(partial, var(block.index)).binary(*op, other);
            self.store_element(partial, var(block.index), sum);
            self.close();
            self.push(Stmt::Barrier);
            half /= 2;
        }
        Ok(vec![self.element(partial, zero)])
    }
}
