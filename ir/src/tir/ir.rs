//! Loops, blocks, buffers and scalar expressions.
//!
//! A [`PrimFunc`] is one kernel or, before scheduling, a chain of stages. Buffers and loop
//! variables are ids into its tables; scalar expressions are shared trees. All index
//! arithmetic is `int64`. A scheduled kernel has exactly one loop of kind
//! [`LoopKind::Tiles`], outermost, of constant extent: its body is the tile function
//! (see [`super::protocol`]).

use std::sync::Arc;

use indexmap::IndexMap;
use smallvec::{SmallVec, smallvec};

use crate::entity::PrimaryMap;
use crate::entity_id;
use crate::op::AttrValue;
use crate::scalar::{BinaryOp, CmpOp, Scalar, UnaryOp};
use crate::types::DType;

/// How deep statements may nest. Whatever handles a function may recurse on statements.
pub const MAX_NESTING: usize = 128;

/// How many nodes an expression may have on the longest way down ([`Expr::depth`]).
pub const MAX_EXPR_DEPTH: u32 = 1024;

/// How many nodes an expression may have as a tree ([`Expr::size`]): its text is that long.
pub const MAX_EXPR_SIZE: u64 = 1 << 20;

entity_id!(/// A buffer of a function.
    BufferId, "b");
entity_id!(/// A loop or let variable of a function.
    VarId, "i");

/// A scalar expression: a shared, immutable tree (a DAG where it was built so).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr(Arc<Node>);

#[derive(Debug, PartialEq, Eq)]
struct Node {
    kind: ExprKind,
    dtype: DType,
    depth: u32,
    size: u64,
}

/// What a scalar expression is made of. Both operands of a binary operation have one dtype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExprKind {
    /// A literal.
    Const(Scalar),
    /// A loop or let variable.
    Var(VarId),
    /// Conversion to the expression's dtype (saturating from float to integer).
    Cast(Expr),
    /// The same bits as another dtype of equal width.
    Reinterpret(Expr),
    /// A function of one scalar.
    Unary(UnaryOp, Expr),
    /// A function of two scalars.
    Binary(BinaryOp, Expr, Expr),
    /// A comparison; gives bool.
    Cmp(CmpOp, Expr, Expr),
    /// `a * b + c`, rounded once.
    Fma(Expr, Expr, Expr),
    /// `if c then a else b`; only the chosen side is evaluated, so it may guard a load.
    Select(Expr, Expr, Expr),
    /// An element of a buffer; one index a dimension, each within bounds.
    Load(BufferId, Vec<Expr>),
}

impl Expr {
    /// An expression of a given dtype. The kind must be well formed for it.
    pub fn new(kind: ExprKind, dtype: DType) -> Expr {
        let (mut depth, mut size) = (0, 0u64);
        for child in kind.children() {
            depth = depth.max(child.depth());
            size = size.saturating_add(child.size());
        }
        Expr(Arc::new(Node { kind, dtype, depth: depth + 1, size: size.saturating_add(1) }))
    }

    /// What it is made of.
    pub fn kind(&self) -> &ExprKind {
        &self.0.kind
    }

    /// Its dtype.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The number of nodes on the longest way down; 1 for a leaf.
    pub fn depth(&self) -> u32 {
        self.0.depth
    }

    /// The number of nodes as a tree: what is shared counts as often as it is used.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The identity of the shared node, for tables keyed by it while the tree is alive.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// An `int64` literal.
    pub fn int(value: i64) -> Expr {
        Expr::constant(Scalar::from_i64(DType::I64, value))
    }

    /// A literal.
    pub fn constant(value: Scalar) -> Expr {
        Expr::new(ExprKind::Const(value), value.dtype())
    }

    /// The value of an integer literal.
    pub fn as_int(&self) -> Option<i64> {
        match self.kind() {
            ExprKind::Const(s) if !self.dtype().is_float() => Some(s.as_i64()),
            _ => None,
        }
    }
}

impl ExprKind {
    /// The operands, in order of evaluation.
    pub fn children(&self) -> SmallVec<[&Expr; 4]> {
        match self {
            ExprKind::Const(_) | ExprKind::Var(_) => SmallVec::new(),
            ExprKind::Cast(a) | ExprKind::Reinterpret(a) | ExprKind::Unary(_, a) => smallvec![a],
            ExprKind::Binary(_, a, b) | ExprKind::Cmp(_, a, b) => smallvec![a, b],
            ExprKind::Fma(a, b, c) | ExprKind::Select(a, b, c) => smallvec![a, b, c],
            ExprKind::Load(_, indices) => indices.iter().collect(),
        }
    }
}

/// Where a buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Device memory: parameters and what passes between kernels.
    Global,
    /// Scratch of one tile (on a GPU: of a block).
    Shared,
    /// Scratch of one thread or small enough for registers.
    Local,
}

/// A buffer: a dense row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// The name, unique in its function.
    pub name: Arc<str>,
    /// Sizes; rank 0 has one element.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// Where it lives.
    pub scope: Scope,
}

/// A loop or let variable.
#[derive(Clone, Debug, PartialEq)]
pub struct VarInfo {
    /// The name; printing makes it unique.
    pub name: Arc<str>,
    /// Its dtype; `int64` for loop variables.
    pub dtype: DType,
}

/// How a loop runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LoopKind {
    /// In order.
    Serial,
    /// In any order.
    Parallel,
    /// As lanes of vectors.
    Vectorized,
    /// Written out.
    Unrolled,
    /// One iteration a GPU thread or block: `threadIdx.x`, `blockIdx.x`.
    ThreadBinding(Arc<str>),
    /// The tile axis: one iteration a claimed tile, in any order, on any worker.
    Tiles,
}

/// What kind of axis a block variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IterKind {
    /// Data-parallel.
    Spatial,
    /// Of a commuting reduction.
    Reduce,
    /// In order.
    Scan,
    /// Anything else.
    Opaque,
}

/// A block variable: its domain `0..extent` and the loop expression it is bound to.
#[derive(Clone, Debug, PartialEq)]
pub struct IterVar {
    /// The variable.
    pub var: VarId,
    /// Size of the domain.
    pub extent: i64,
    /// Kind of axis.
    pub kind: IterKind,
    /// Its value in terms of enclosing loops.
    pub binding: Expr,
}

/// `min .. min + extent` along one dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// First index.
    pub min: Expr,
    /// Number of indices.
    pub extent: Expr,
}

/// A box of a buffer, one range a dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The buffer.
    pub buffer: BufferId,
    /// One range a dimension.
    pub ranges: Vec<Range>,
}

/// A computation on a box of its output: the unit that schedules move.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The name, unique in its function.
    pub name: Arc<str>,
    /// Its variables.
    pub iters: Vec<IterVar>,
    /// The block runs only where this holds.
    pub predicate: Option<Expr>,
    /// What it reads.
    pub reads: Vec<Region>,
    /// What it writes.
    pub writes: Vec<Region>,
    /// Annotations.
    pub attrs: IndexMap<Arc<str>, AttrValue>,
    /// Buffers that live in it.
    pub allocs: Vec<BufferId>,
    /// Runs before the first iteration of the reduce axes.
    pub init: Option<Box<Stmt>>,
    /// The computation.
    pub body: Box<Stmt>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// In order; empty does nothing.
    Seq(Vec<Stmt>),
    /// A loop from 0.
    For {
        /// The loop variable.
        var: VarId,
        /// Number of iterations.
        extent: Expr,
        /// How it runs.
        kind: LoopKind,
        /// The body.
        body: Box<Stmt>,
    },
    /// A block.
    Block(Box<Block>),
    /// Binds a variable for the rest of the enclosing [`Stmt::Seq`].
    Let {
        /// The variable.
        var: VarId,
        /// Its value.
        value: Expr,
    },
    /// A conditional.
    If {
        /// A bool.
        cond: Expr,
        /// Runs if it is true.
        then: Box<Stmt>,
        /// Runs if it is false.
        els: Option<Box<Stmt>>,
    },
    /// `buffer[indices] = value`.
    Store {
        /// The buffer.
        buffer: BufferId,
        /// One index a dimension.
        indices: Vec<Expr>,
        /// A value of the buffer's dtype.
        value: Expr,
    },
    /// A tensor intrinsic of the catalogue: `T.tensor_intrin("name", regions.., scalars..)`.
    Intrin {
        /// The name in the catalogue.
        name: Arc<str>,
        /// The regions it works on, outputs first, as the catalogue says.
        regions: Vec<Region>,
        /// `int64` parameters.
        params: Vec<Expr>,
    },
    /// The place where a worker looks at the word; put in by InsertCheckpoints.
    Checkpoint,
    /// Every GPU thread of the block comes here before any goes on; what was stored to shared
    /// and global memory before it is seen after it: `T.tvm_storage_sync("shared")`.
    Barrier,
}

impl Stmt {
    /// A statement that does nothing.
    pub fn nop() -> Stmt {
        Stmt::Seq(Vec::new())
    }
}

/// A function over buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimFunc {
    /// The name.
    pub name: Arc<str>,
    /// Parameters: inputs, then outputs.
    pub params: Vec<BufferId>,
    /// How many of the parameters, at the end, are outputs.
    pub outputs: usize,
    /// All buffers.
    pub buffers: PrimaryMap<BufferId, Buffer>,
    /// All variables.
    pub vars: PrimaryMap<VarId, VarInfo>,
    /// Buffers allocated for the whole function (before scheduling: between stages).
    pub allocs: Vec<BufferId>,
    /// The body.
    pub body: Stmt,
    /// Attributes: provenance (`"relay"`), schedule, certificate.
    pub attrs: IndexMap<Arc<str>, AttrValue>,
}

impl PrimFunc {
    /// A function without parameters or body.
    pub fn new(name: impl Into<Arc<str>>) -> PrimFunc {
        PrimFunc {
            name: name.into(),
            params: Vec::new(),
            outputs: 0,
            buffers: PrimaryMap::new(),
            vars: PrimaryMap::new(),
            allocs: Vec::new(),
            body: Stmt::nop(),
            attrs: IndexMap::new(),
        }
    }

    /// The input parameters.
    pub fn inputs(&self) -> &[BufferId] {
        &self.params[..self.params.len() - self.outputs]
    }

    /// The output parameters.
    pub fn output_params(&self) -> &[BufferId] {
        &self.params[self.params.len() - self.outputs..]
    }

    /// The number of tiles, if the function is scheduled: the extent of its outermost tile loop.
    pub fn tiles(&self) -> Option<i64> {
        match &self.body {
            Stmt::For { extent, kind: LoopKind::Tiles, .. } => extent.as_int(),
            _ => None,
        }
    }
}
