//! Several results of one kernel: what others need too of what a kernel computes on its way.
//!
//! A kernel is emitted for one stage, its root. Besides, it may write *companions*, which are
//! tensors of the root's shape that the root is computed from, or that stand beside it, such as
//! another field of what was split; where schedules have a row at hand, tensors with one element a
//! row of the root; and the root's rows as int8 numbers with a scale each. A tile writes its own
//! part of all of them, once.

use std::collections::BTreeSet;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::op::quant::QUANTIZE_PER_TOKEN;
use fermata_ir::te::{Graph, Stage, StageKind};
use fermata_ir::tir::verify::verify;
use fermata_ir::tir::{Buffer, BufferId, Expr, Region, Stmt};
use fermata_ir::types::DType;

use super::checkpoint::independent;
use super::rules_cpu::Scheduled;
use super::tensorize::{Origins, quantize_i8};

/// What a kernel writes besides its root.
#[derive(Clone, Debug, Default)]
pub struct Joint {
    /// Tensors of the root's shape, in the order of the graph.
    pub companions: Vec<BufferId>,
    /// Tensors with an element for each row of the root, in the order of the graph.
    pub per_row: Vec<BufferId>,
    /// The int8 numbers of the root's rows, and their scales.
    pub quantised: Option<[BufferId; 2]>,
}

/// Nothing besides the root.
pub static ALONE: Joint = Joint { companions: Vec::new(), per_row: Vec::new(), quantised: None };

impl Joint {
    /// True if the kernel writes its root and nothing else.
    pub fn is_alone(&self) -> bool {
        self.companions.is_empty() && self.per_row.is_empty() && self.quantised.is_none()
    }

    /// Everything that the kernel writes.
    pub fn outputs(&self, root: &[BufferId]) -> Vec<BufferId> {
        let beside = self.quantised.iter().flatten().chain(&self.per_row);
        self.companions.iter().chain(root).chain(beside).copied().collect()
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

/// A way to emit the kernel of a stage that is no placeholder, with something besides.
///
/// # Errors
/// With the tensor that must be kept for it, or that is in the way of doing both in one kernel.
pub type Emit<'a> = dyn Fn(&Stage, &Joint) -> Result<Scheduled, BufferId> + 'a;

/// What is known when kernels are joined.
pub struct Joining<'a> {
    /// The stages.
    pub graph: &'a Graph,
    /// What made their tensors, where the schedules quantise rows by an intrinsic.
    pub origins: Option<&'a Origins>,
    /// The results of the whole graph.
    pub outputs: &'a [BufferId],
    /// The longest row, in elements, for which the schedules write one element besides.
    pub longest_row: usize,
}

impl Joining<'_> {
    /// One kernel for each kept tensor that is needed, or for several of them where one kernel can
    /// write them.
    ///
    /// # Errors
    /// With the tensor that must be kept besides.
    pub fn schedule(&self, emit: &Emit<'_>) -> Result<Vec<Scheduled>, BufferId> {
        let joined = self.kernels(emit, self.outputs.len() > 1)?;
        if self.is_in_order(&joined) { Ok(joined) } else { self.kernels(emit, false) }
    }

    /// The kernels of all needed tensors, last to first and then turned round.
    fn kernels(&self, emit: &Emit<'_>, join: bool) -> Result<Vec<Scheduled>, BufferId> {
        let mut needed: BTreeSet<BufferId> = self.outputs.iter().copied().collect();
        let mut written = BTreeSet::new();
        let mut kernels: Vec<Scheduled> = Vec::new();
        for stage in self.graph.stages.iter().rev() {
            let is_needed = stage.outputs.iter().any(|b| needed.contains(b) && !written.contains(b));
            if !is_needed || matches!(stage.kind, StageKind::Placeholder) {
                continue;
            }
            let quantising = || self.quantising(stage.outputs[0], emit, &written);
            let kernel = match join.then(quantising).flatten() {
                Some(kernel) => kernel,
                None => {
                    let alone = emit(stage, &ALONE)?;
                    let more = |kernel| self.with_more(stage, kernel, Joint::default(), emit, &written);
                    if join { more(alone) } else { alone }
                }
            };
            needed.extend(&kernel.inputs);
            written.extend(kernel.outputs.iter().copied());
            kernels.push(kernel);
        }
        kernels.reverse();
        Ok(kernels)
    }

    /// True if every kernel finds what it reads.
    fn is_in_order(&self, kernels: &[Scheduled]) -> bool {
        let given = self.graph.stages.iter().filter(|s| matches!(s.kind, StageKind::Placeholder));
        let mut known: BTreeSet<BufferId> = given.flat_map(|s| s.outputs.iter().copied()).collect();
        kernels.iter().all(|kernel| {
            let finds = kernel.inputs.iter().all(|b| known.contains(b));
            known.extend(&kernel.outputs);
            finds
        })
    }

    /// The kernel that quantises rows where it computes them, if `numbers` are those of a tensor
    /// that the graph computes, with everything else that it can write.
    fn quantising(
        &self,
        numbers: BufferId,
        emit: &Emit<'_>,
        written: &BTreeSet<BufferId>,
    ) -> Option<Scheduled> {
        let origin = self.origins?.get(&numbers).filter(|o| o.op.is(&QUANTIZE_PER_TOKEN))?;
        let data = &origin.args[0];
        let (&k, _) = data.shape.split_last()?;
        let fits = data.dtype == DType::F32
            && data.shape.iter().all(|&n| n > 0)
            && k <= quantize_i8::MAX_SIZE
            && !written.contains(&data.id);
        let root = self.computed(data.id).filter(|_| fits)?;
        let scales =
            self.graph.stages.iter().find(|s| &*s.name == "quantize_scale" && self.reads(numbers, s))?;
        let joint = Joint { quantised: Some([numbers, scales.outputs[0]]), ..Joint::default() };
        let kernel = self.attempt(root, &joint, emit)?;
        Some(self.with_more(root, kernel, joint, emit, written))
    }

    /// The kernel of a root with as many of the graph's results as it can write besides, of those
    /// that it would read otherwise or that nothing reads, and that are not `written` yet.
    fn with_more<'s>(
        &'s self,
        mut root: &'s Stage,
        mut kernel: Scheduled,
        mut joint: Joint,
        emit: &Emit<'_>,
        written: &BTreeSet<BufferId>,
    ) -> Scheduled {
        let mut refused = BTreeSet::new();
        loop {
            let unread = self.outputs.iter().rev().filter(|&&b| self.is_unread(b, root));
            let candidate = kernel.inputs.iter().rev().chain(unread).copied().find(|&b| {
                self.outputs.contains(&b)
                    && !kernel.outputs.contains(&b)
                    && !written.contains(&b)
                    && !refused.contains(&b)
            });
            let Some(candidate) = candidate else { return kernel };
            let found = self.beside(candidate, root, &joint).and_then(|(root, more)| {
                let kernel = self.attempt(root, &more, emit)?;
                Some((root, kernel, more))
            });
            match found {
                Some(found) => (root, kernel, joint) = found,
                None => {
                    refused.insert(candidate);
                }
            }
        }
    }

    /// The root and what is besides it of a kernel that is to write a tensor too.
    fn beside<'s>(&'s self, tensor: BufferId, root: &'s Stage, joint: &Joint) -> Option<(&'s Stage, Joint)> {
        let stage = self.computed(tensor)?;
        let &[of_root] = &root.outputs[..] else { return None };
        let shape = |b: BufferId| &self.graph.buffers[b].shape[..];
        let mut more = joint.clone();
        if shape(tensor) == shape(of_root) {
            more.companions.push(tensor);
            self.sort(&mut more.companions);
            return Some((root, more));
        }
        if joint.quantised.is_some() {
            return None;
        }
        if self.is_row_of(shape(tensor), shape(of_root)) {
            more.per_row.push(tensor);
            self.sort(&mut more.per_row);
            return Some((root, more));
        }
        // What was the root has an element for each row of the tensor.
        let turned = joint.per_row.is_empty() && self.is_row_of(shape(of_root), shape(tensor));
        let per_row = joint.outputs(&root.outputs);
        turned.then(|| (stage, Joint { per_row, ..Joint::default() }))
    }

    /// True if a tensor of a shape has an element for each row of another: but for dimensions of
    /// one, it has the leading dimensions, and a row is what is left.
    fn is_row_of(&self, few: &[usize], many: &[usize]) -> bool {
        let proper = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        let (few, many) = (proper(few), proper(many));
        let row = many.strip_prefix(&few[..]).filter(|row| !row.is_empty());
        row.is_some_and(|row| (1..=self.longest_row).contains(&row.iter().product()))
    }

    /// Tensors in the order of the graph.
    fn sort(&self, tensors: &mut [BufferId]) {
        tensors.sort_by_key(|b| self.graph.stages.iter().position(|s| s.outputs.contains(b)));
    }

    /// A kernel with something besides its root, if there is one and its tiles are independent.
    fn attempt(&self, root: &Stage, joint: &Joint, emit: &Emit<'_>) -> Option<Scheduled> {
        let kernel = emit(root, joint).ok()?;
        let sound = verify(&kernel.func).is_ok() && independent(&kernel.func).is_ok();
        sound.then_some(kernel)
    }

    /// The compute that makes a tensor, and nothing else.
    fn computed(&self, tensor: BufferId) -> Option<&Stage> {
        self.graph.stages.iter().find(|s| s.outputs == [tensor] && matches!(s.kind, StageKind::Compute(_)))
    }

    /// True if a tensor of a root's shape is a function of elements, and nothing in the graph reads it.
    fn is_unread(&self, tensor: BufferId, root: &Stage) -> bool {
        let reads = |stage: &Stage| match &stage.kind {
            StageKind::Placeholder => false,
            StageKind::Compute(c) => super::rules_cpu::loaded(c).contains(&tensor),
            StageKind::Extern { inputs, .. } => inputs.contains(&tensor),
        };
        let elementwise = |stage: &Stage| matches!(&stage.kind, StageKind::Compute(c) if c.reduce.is_none());
        let shape = |b: BufferId| &self.graph.buffers[b].shape;
        shape(tensor) == shape(root.outputs[0])
            && self.computed(tensor).is_some_and(elementwise)
            && !self.graph.stages.iter().any(reads)
    }

    /// True if the stage of a tensor reads what another stage makes.
    fn reads(&self, tensor: BufferId, of: &Stage) -> bool {
        self.computed(tensor).is_some_and(|s| match &s.kind {
            StageKind::Compute(c) => super::rules_cpu::loaded(c).contains(&of.outputs[0]),
            StageKind::Placeholder | StageKind::Extern { .. } => false,
        })
    }
}
