//! Several results of one kernel: what others need too of what a kernel computes on its way.
//!
//! A kernel is emitted for one stage, its root. Besides, it may write *companions*, which are
//! tensors of the root's shape that the root is computed from, and the root's rows as int8 numbers
//! with a scale each. A tile writes its own part of all of them, once.

use std::collections::BTreeSet;
use std::time::Duration;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::op::quant::QUANTIZE_PER_TOKEN;
use fermata_ir::te::{Graph, Stage, StageKind};
use fermata_ir::tir::verify::verify;
use fermata_ir::tir::{Buffer, BufferId, Expr, Region, Stmt};
use fermata_ir::types::DType;

use super::checkpoint::{Goal, fit, independent};
use super::rules_cpu::Scheduled;
use super::tensorize::{Origins, quantize_i8};
use crate::target::CpuTarget;

/// What a kernel writes besides its root.
#[derive(Clone, Debug, Default)]
pub struct Joint {
    /// Tensors of the root's shape that the root is computed from, in the order of the graph.
    pub companions: Vec<BufferId>,
    /// The int8 numbers of the root's rows, and their scales.
    pub quantised: Option<[BufferId; 2]>,
}

/// Nothing besides the root.
pub static ALONE: Joint = Joint { companions: Vec::new(), quantised: None };

impl Joint {
    /// True if the kernel writes its root and nothing else.
    pub fn is_alone(&self) -> bool {
        self.companions.is_empty() && self.quantised.is_none()
    }

    /// Everything that the kernel writes.
    pub fn outputs(&self, root: &[BufferId]) -> Vec<BufferId> {
        self.companions.iter().chain(root).chain(self.quantised.iter().flatten()).copied().collect()
    }

    /// Sees all that is written as what the root is seen as: a matrix, or several.
    pub fn see_as(&self, buffers: &mut PrimaryMap<BufferId, Buffer>, root: BufferId, matrix: &[usize]) {
        let numbers = self.quantised.map(|[numbers, _]| numbers);
        for &buffer in self.companions.iter().chain([&root]).chain(&numbers) {
            buffers[buffer].shape = matrix.to_vec();
        }
        if let (Some([_, scales]), Some((_, rows))) = (self.quantised, matrix.split_last()) {
            buffers[scales].shape = rows.to_vec();
        }
    }

    /// The quantisation of a row of `k` elements of the root at a place of its leading axes.
    pub fn quantise_row(&self, root: BufferId, place: &[Expr], k: usize) -> Option<Stmt> {
        let [numbers, scales] = self.quantised?;
        let leading = || place.iter().map(|i| super::tensorize::range(i.clone(), 1i64));
        let row = |buffer| {
            let ranges = leading().chain([super::tensorize::range(0i64, k)]).collect();
            Region { buffer, ranges }
        };
        let scale = Region { buffer: scales, ranges: leading().collect() };
        let sizes = vec![Expr::int(1), k.into()];
        Some(super::tensorize::intrin("quantize_i8", vec![row(numbers), scale, row(root)], sizes))
    }
}

/// A way to emit the kernel of a stage with something besides; or the tensor that is in the way.
pub type Emit<'a> = dyn Fn(&Stage, &Joint, &Goal<'_>) -> Result<Scheduled, BufferId> + 'a;

/// What is known when kernels are joined.
pub struct Joining<'a> {
    /// The stages.
    pub graph: &'a Graph,
    /// What made their tensors.
    pub origins: &'a Origins,
    /// The results of the whole graph.
    pub outputs: &'a [BufferId],
    /// What the kernels are for.
    pub target: &'a CpuTarget,
    /// The bound on the time of their tiles.
    pub bound: Option<Duration>,
}

impl Joining<'_> {
    /// The kernel that quantises rows where it computes them, if `numbers` are those of a tensor
    /// that the graph computes, with everything else that it can write.
    pub fn quantising(
        &self,
        numbers: BufferId,
        emit: &Emit<'_>,
        written: &BTreeSet<BufferId>,
    ) -> Option<Scheduled> {
        let origin = self.origins.get(&numbers).filter(|o| o.op.is(&QUANTIZE_PER_TOKEN))?;
        let data = &origin.args[0];
        let (&k, _) = data.shape.split_last()?;
        let fits = data.dtype == DType::F32
            && data.shape.iter().all(|&n| n > 0)
            && k <= quantize_i8::MAX_SIZE
            && !written.contains(&data.id);
        let root = self.computed(data.id).filter(|_| fits)?;
        let scales =
            self.graph.stages.iter().find(|s| &*s.name == "quantize_scale" && self.reads(numbers, s))?;
        let joint = Joint { companions: Vec::new(), quantised: Some([numbers, scales.outputs[0]]) };
        let kernel = self.attempt(root, &joint, emit)?;
        Some(self.with_companions(root, kernel, joint, emit, written))
    }

    /// The kernel of a root with as many of the graph's results as it can write besides, of those
    /// that it would read otherwise and that are not `written` yet.
    pub fn with_companions(
        &self,
        root: &Stage,
        mut kernel: Scheduled,
        mut joint: Joint,
        emit: &Emit<'_>,
        written: &BTreeSet<BufferId>,
    ) -> Scheduled {
        let mut refused = BTreeSet::new();
        loop {
            let candidate = kernel.inputs.iter().rev().copied().find(|&b| {
                self.outputs.contains(&b)
                    && !written.contains(&b)
                    && !refused.contains(&b)
                    && self.is_beside(b, root)
            });
            let Some(candidate) = candidate else { return kernel };
            let mut more = joint.clone();
            more.companions.push(candidate);
            let place = |b: &BufferId| self.graph.stages.iter().position(|s| s.outputs.contains(b));
            more.companions.sort_by_key(place);
            match self.attempt(root, &more, emit) {
                Some(found) => (kernel, joint) = (found, more),
                None => {
                    refused.insert(candidate);
                }
            }
        }
    }

    /// A kernel with something besides its root, if there is one and its tiles are independent.
    fn attempt(&self, root: &Stage, joint: &Joint, emit: &Emit<'_>) -> Option<Scheduled> {
        let kernel = fit(self.target, self.bound, &mut |goal| emit(root, joint, &goal)).ok()?;
        let sound = verify(&kernel.func).is_ok() && independent(&kernel.func).is_ok();
        sound.then_some(kernel)
    }

    /// The compute that makes a tensor.
    fn computed(&self, tensor: BufferId) -> Option<&Stage> {
        self.graph.stages.iter().find(|s| s.outputs == [tensor] && matches!(s.kind, StageKind::Compute(_)))
    }

    /// True if a tensor is computed alone, and has the root's shape.
    fn is_beside(&self, tensor: BufferId, root: &Stage) -> bool {
        let shape = |b: BufferId| &self.graph.buffers[b].shape;
        self.computed(tensor).is_some() && shape(tensor) == shape(root.outputs[0])
    }

    /// True if the stage of a tensor reads what another stage makes.
    fn reads(&self, tensor: BufferId, of: &Stage) -> bool {
        self.computed(tensor).is_some_and(|s| match &s.kind {
            StageKind::Compute(c) => super::rules_cpu::loaded(c).contains(&of.outputs[0]),
            StageKind::Placeholder | StageKind::Extern { .. } => false,
        })
    }
}
