//! Equality of functions up to names, ids and sharing.
//!
//! [`key`] encodes a function as bytes that two functions have in common exactly if they
//! compute the same in the same way: buffers are numbered by the parameter list and then
//! by first use, variables by first use, equal sub-expressions once, sequences flattened.
//! Names of functions, buffers, variables and blocks and the attributes of the function
//! have no part in it.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::ir::{Block, BufferId, Expr, ExprKind, LoopKind, PrimFunc, Region, Stmt, VarId};
use super::print::attr_text;
use super::visit::{NodeMap, post_order};
use crate::entity::SecondaryMap;

/// Bytes that are equal exactly for functions that are equal up to names.
pub fn key(func: &PrimFunc) -> Vec<u8> {
    let mut key = Key {
        func,
        out: Vec::new(),
        buffers: SecondaryMap::new(),
        vars: SecondaryMap::new(),
        used_buffers: 0,
        used_vars: 0,
        nodes: HashMap::new(),
        exprs: NodeMap::default(),
    };
    key.number(func.params.len());
    key.number(func.outputs);
    for &b in &func.params {
        key.buffer(b);
    }
    key.number(func.allocs.len());
    for &b in &func.allocs {
        key.buffer(b);
    }
    key.body(&func.body);
    key.out
}

/// True if two functions are equal up to names.
pub fn equal(a: &PrimFunc, b: &PrimFunc) -> bool {
    key(a) == key(b)
}

struct Key<'a> {
    func: &'a PrimFunc,
    out: Vec<u8>,
    /// Numbers of buffers and variables in order of first use, from 1.
    buffers: SecondaryMap<BufferId, u32>,
    vars: SecondaryMap<VarId, u32>,
    used_buffers: u32,
    used_vars: u32,
    /// Numbers of expressions by their encoding, and by node.
    nodes: HashMap<Vec<u8>, u32>,
    exprs: NodeMap<u32>,
}

impl<'a> Key<'a> {
    fn number(&mut self, n: usize) {
        self.out.extend((n as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.out.extend(text.as_bytes());
    }

    fn buffer(&mut self, b: BufferId) {
        let n = self.buffer_number(b);
        self.number(n as usize);
    }

    /// The number of a buffer; its type is written where it first appears.
    fn buffer_number(&mut self, b: BufferId) -> u32 {
        if self.buffers[b] == 0 {
            self.used_buffers += 1;
            self.buffers[b] = self.used_buffers;
            let buffer = &self.func.buffers[b];
            self.out.extend([0xff, buffer.dtype as u8, buffer.scope as u8]);
            self.number(buffer.shape.len());
            for &n in &buffer.shape {
                self.number(n);
            }
        }
        self.buffers[b]
    }

    fn var_number(&mut self, v: VarId) -> u32 {
        if self.vars[v] == 0 {
            self.used_vars += 1;
            self.vars[v] = self.used_vars;
            self.out.extend([0xfe, self.func.vars[v].dtype as u8]);
        }
        self.vars[v]
    }

    fn var(&mut self, v: VarId) {
        let n = self.var_number(v);
        self.number(n as usize);
    }

    /// Writes nodes that were not written before, and the number of the root.
    fn expr(&mut self, root: &'a Expr) {
        for e in post_order([root]) {
            if self.exprs.contains_key(&e.key()) {
                continue;
            }
            let encoded = self.node(e);
            let next = self.nodes.len() as u32;
            let number = match self.nodes.get(&encoded) {
                Some(&n) => n,
                None => {
                    self.out.extend(&encoded);
                    self.nodes.insert(encoded, next);
                    next
                }
            };
            self.exprs.insert(e.key(), number);
        }
        let number = self.exprs[&root.key()];
        self.out.push(0xfd);
        self.number(number as usize);
    }

    fn node(&mut self, e: &Expr) -> Vec<u8> {
        let (tag, operation, payload) = match e.kind() {
            ExprKind::Const(s) => (0, 0, s.bits()),
            ExprKind::Var(v) => (1, 0, u64::from(self.var_number(*v))),
            ExprKind::Cast(_) => (2, 0, 0),
            ExprKind::Reinterpret(_) => (3, 0, 0),
            ExprKind::Unary(op, _) => (4, *op as u8, 0),
            ExprKind::Binary(op, ..) => (5, *op as u8, 0),
            ExprKind::Cmp(op, ..) => (6, *op as u8, 0),
            ExprKind::Fma(..) => (7, 0, 0),
            ExprKind::Select(..) => (8, 0, 0),
            ExprKind::Load(b, _) => (9, 0, u64::from(self.buffer_number(*b))),
        };
        let mut bytes = vec![tag, operation, e.dtype() as u8];
        bytes.extend(payload.to_le_bytes());
        let children = e.kind().children();
        bytes.extend((children.len() as u32).to_le_bytes());
        for child in children {
            bytes.extend(self.exprs[&child.key()].to_le_bytes());
        }
        bytes
    }

    fn exprs(&mut self, exprs: &'a [Expr]) {
        self.number(exprs.len());
        exprs.iter().for_each(|e| self.expr(e));
    }

    fn regions(&mut self, regions: &'a [Region]) {
        self.number(regions.len());
        for r in regions {
            self.buffer(r.buffer);
            self.number(r.ranges.len());
            for range in &r.ranges {
                self.expr(&range.min);
                self.expr(&range.extent);
            }
        }
    }

    fn body(&mut self, body: &'a Stmt) {
        let stmts = body.flatten();
        self.number(stmts.len());
        stmts.into_iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, s: &'a Stmt) {
        match s {
            Stmt::Seq(_) => self.body(s),
            Stmt::For { var, extent, kind, body } => {
                self.out.push(1);
                self.loop_kind(kind);
                self.expr(extent);
                self.var(*var);
                self.body(body);
            }
            Stmt::Block(block) => self.block(block),
            Stmt::Let { var, value } => {
                self.out.push(3);
                self.expr(value);
                self.var(*var);
            }
            Stmt::If { cond, then, els } => {
                self.out.extend([4, els.is_some() as u8]);
                self.expr(cond);
                self.body(then);
                if let Some(els) = els {
                    self.body(els);
                }
            }
            Stmt::Store { buffer, indices, value } => {
                self.out.push(5);
                self.buffer(*buffer);
                self.exprs(indices);
                self.expr(value);
            }
            Stmt::Intrin { name, regions, params } => {
                self.out.push(6);
                self.text(name);
                self.regions(regions);
                self.exprs(params);
            }
            Stmt::Checkpoint => self.out.push(7),
            Stmt::Barrier => self.out.push(8),
        }
    }

    fn loop_kind(&mut self, kind: &LoopKind) {
        let tag = match kind {
            LoopKind::Serial => 0,
            LoopKind::Parallel => 1,
            LoopKind::Vectorized => 2,
            LoopKind::Unrolled => 3,
            LoopKind::ThreadBinding(_) => 4,
            LoopKind::Tiles => 5,
        };
        self.out.push(tag);
        if let LoopKind::ThreadBinding(axis) = kind {
            self.text(axis);
        }
    }

    fn block(&mut self, block: &'a Block) {
        self.out.push(2);
        self.number(block.iters.len());
        for it in &block.iters {
            self.expr(&it.binding);
            self.var(it.var);
            self.out.push(it.kind as u8);
            self.number(it.extent as usize);
        }
        self.out.push(block.predicate.is_some() as u8);
        block.predicate.iter().for_each(|p| self.expr(p));
        self.regions(&block.reads);
        self.regions(&block.writes);
        self.attrs(&block.attrs);
        self.number(block.allocs.len());
        for &b in &block.allocs {
            self.buffer(b);
        }
        self.out.push(block.init.is_some() as u8);
        block.init.iter().for_each(|s| self.body(s));
        self.body(&block.body);
    }

    fn attrs(&mut self, attrs: &IndexMap<std::sync::Arc<str>, crate::op::AttrValue>) {
        self.number(attrs.len());
        for (name, value) in attrs {
            self.text(name);
            self.text(&attr_text(value));
        }
    }
}
