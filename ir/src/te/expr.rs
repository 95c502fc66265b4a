//! Placeholders, computes, reductions and externs.
//!
//! A [`Graph`] is a list of stages in order; each defines one or more tensors. Bodies are
//! TIR scalar expressions whose loads name tensors of the same graph, so `create_prim_func`
//! needs to add only loops.

use std::sync::Arc;

use crate::entity::PrimaryMap;
use crate::scalar::BinaryOp;
use crate::tir::{Buffer, BufferId, Expr, ExprKind, Scope, Stmt, VarId, VarInfo};
use crate::types::{DType, TensorType};

/// A tensor of a graph. Its id is also the id of its buffer in TIR.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The id.
    pub id: BufferId,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
}

impl Tensor {
    /// The element at these indices.
    ///
    /// # Panics
    /// If the number of indices is not the rank.
    pub fn at(&self, indices: &[Expr]) -> Expr {
        assert_eq!(indices.len(), self.shape.len(), "one index a dimension");
        Expr::new(ExprKind::Load(self.id, indices.to_vec()), self.dtype)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
}

/// An axis of a compute: its variable and its extent from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The variable, of dtype `int64`.
    pub var: VarId,
    /// Number of values.
    pub extent: usize,
}

impl Axis {
    /// The variable as an expression.
    pub fn expr(&self) -> Expr {
        Expr::new(ExprKind::Var(self.var), DType::I64)
    }
}

/// How a reduction combines.
#[derive(Clone, Debug, PartialEq)]
pub enum Combiner {
    /// `acc = acc op x`, starting from the identity: Add, Mul, Min, Max, And, Or.
    Binary(BinaryOp),
    /// A tuple reduction or a user's own: accumulators `lhs`, elements `rhs`, results and identities.
    User {
        /// Variables standing for the accumulators.
        lhs: Vec<VarId>,
        /// Variables standing for the elements.
        rhs: Vec<VarId>,
        /// The new accumulators.
        result: Vec<Expr>,
    },
}

/// A reduction: its axes, how it combines, and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// The axes, outermost first.
    pub axes: Vec<Axis>,
    /// How elements combine.
    pub combiner: Combiner,
    /// The value before the first element, one a result.
    pub identity: Vec<Expr>,
}

/// Elements of the results as functions of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Compute {
    /// One a dimension of the results.
    pub axes: Vec<Axis>,
    /// The reduction at the top of the body, if there is one.
    pub reduce: Option<Reduce>,
    /// One a result; for a reduction, the elements to combine.
    pub body: Vec<Expr>,
}

/// What a stage is.
#[derive(Clone, Debug, PartialEq)]
pub enum StageKind {
    /// An argument of the graph.
    Placeholder,
    /// A compute.
    Compute(Compute),
    /// A statement that writes the results itself, in order (sorts, scans, scatters).
    /// Its outermost loop, if of kind `Parallel`, has independent iterations.
    Extern {
        /// The tensors that it reads.
        inputs: Vec<BufferId>,
        /// Scratch buffers that live in it.
        allocs: Vec<BufferId>,
        /// The statement.
        body: Stmt,
    },
}

/// The tag of a stage whose result is memory, whoever reads it.
pub const KEPT: &str = "kept";

/// A step of a graph: defines `outputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// A name for people: `conv2d`, `softmax_max`.
    pub name: Arc<str>,
    /// The tensors that it defines, all of one shape if it is a compute.
    pub outputs: Vec<BufferId>,
    /// What it does.
    pub kind: StageKind,
    /// The operator it came from and the tag that schedules look at (`"conv2d_nchw"`, `"injective"`).
    pub tag: Arc<str>,
}

/// Stages in order, with the buffers and variables they speak of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The tensors.
    pub buffers: PrimaryMap<BufferId, Buffer>,
    /// The variables of axes and combiners.
    pub vars: PrimaryMap<VarId, VarInfo>,
    /// The stages; a stage reads only tensors of earlier ones.
    pub stages: Vec<Stage>,
}

impl Graph {
    /// A graph without stages.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// A new variable.
    pub fn var(&mut self, name: &str, dtype: DType) -> VarId {
        self.vars.push(VarInfo { name: name.into(), dtype })
    }

    /// A new axis.
    pub fn axis(&mut self, name: &str, extent: usize) -> Axis {
        Axis { var: self.var(name, DType::I64), extent }
    }

    /// A new tensor without a stage; stages that are built by hand define it.
    pub fn tensor(&mut self, name: &str, shape: &[usize], dtype: DType) -> Tensor {
        let buffer = Buffer { name: name.into(), shape: shape.to_vec(), dtype, scope: Scope::Global };
        Tensor { id: self.buffers.push(buffer), shape: shape.to_vec(), dtype }
    }

    /// An argument.
    pub fn placeholder(&mut self, name: &str, shape: &[usize], dtype: DType) -> Tensor {
        let tensor = self.tensor(name, shape, dtype);
        self.push(name, "placeholder", &[tensor.id], StageKind::Placeholder);
        tensor
    }

    /// `out[axes] = f(axes)`.
    pub fn compute(
        &mut self,
        name: &str,
        tag: &str,
        out: &TensorType,
        f: impl FnOnce(&[Expr]) -> Expr,
    ) -> Tensor {
        let shape = out.static_shape().expect("Tensor Expressions have static shapes");
        let axes = self.spatial_axes(&shape);
        let indices: Vec<Expr> = axes.iter().map(Axis::expr).collect();
        let body = f(&indices);
        debug_assert_eq!(body.dtype(), out.dtype, "stage {name}");
        self.push_compute(name, tag, &shape, out.dtype, Compute { axes, reduce: None, body: vec![body] })
    }

    /// `out[axes] = reduce over `extents` of f(axes, reduce axes)`, from the combiner's identity.
    #[allow(clippy::too_many_arguments, reason = "each is a part of the one declaration")]
    pub fn reduce(
        &mut self,
        name: &str,
        tag: &str,
        out: &TensorType,
        extents: &[usize],
        op: BinaryOp,
        identity: Expr,
        f: impl FnOnce(&[Expr], &[Expr]) -> Expr,
    ) -> Tensor {
        let shape = out.static_shape().expect("Tensor Expressions have static shapes");
        let axes = self.spatial_axes(&shape);
        let raxes: Vec<Axis> =
            extents.iter().enumerate().map(|(i, &n)| self.axis(&format!("k{i}"), n)).collect();
        let indices: Vec<Expr> = axes.iter().map(Axis::expr).collect();
        let rindices: Vec<Expr> = raxes.iter().map(Axis::expr).collect();
        let body = f(&indices, &rindices);
        let reduce = Reduce { axes: raxes, combiner: Combiner::Binary(op), identity: vec![identity] };
        self.push_compute(
            name,
            tag,
            &shape,
            out.dtype,
            Compute { axes, reduce: Some(reduce), body: vec![body] },
        )
    }

    /// Axes `i0, i1, ..` over a shape.
    pub fn spatial_axes(&mut self, shape: &[usize]) -> Vec<Axis> {
        shape.iter().enumerate().map(|(i, &n)| self.axis(&format!("i{i}"), n)).collect()
    }

    /// Adds a compute with one result.
    pub fn push_compute(
        &mut self,
        name: &str,
        tag: &str,
        shape: &[usize],
        dtype: DType,
        compute: Compute,
    ) -> Tensor {
        let tensor = self.tensor(name, shape, dtype);
        self.push(name, tag, &[tensor.id], StageKind::Compute(compute));
        tensor
    }

    /// Adds a stage.
    pub fn push(&mut self, name: &str, tag: &str, outputs: &[BufferId], kind: StageKind) {
        self.stages.push(Stage { name: name.into(), outputs: outputs.to_vec(), kind, tag: tag.into() });
    }
}
