//! Kernels of primitive functions, each lowered once however often it occurs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::entity::PrimaryMap;
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::AttrValue;
use fermata_ir::tensor::Tensor;
use fermata_ir::tir::verify::verify;
use fermata_ir::tir::{BufferId, PrimFunc, equal};
use fermata_ir::types::TensorType;
use fermata_ir::walk;

use super::group_to_te::{GroupTe, group_to_te};
use super::plan::{Kernel, KernelId};
use crate::target::Target;
use crate::tir::rules_cpu::{Scheduled, Unschedulable};
use crate::tir::tensorize::prepare;
use crate::tir::{checkpoint, rules_cpu, rules_cuda};

/// What a primitive function becomes: launches over numbered tensors.
pub struct Lowered {
    /// Types of all tensors: parameters, constants, then what is computed.
    pub tensors: Vec<TensorType>,
    /// Constants, which follow the parameters.
    pub constants: Vec<Tensor>,
    /// Launches in order.
    pub launches: Vec<Launch>,
    /// The results, by number.
    pub outputs: Vec<usize>,
}

/// A launch over numbered tensors.
pub struct Launch {
    /// The kernel.
    pub kernel: KernelId,
    /// What it reads, in the order of its parameters.
    pub inputs: Vec<usize>,
    /// What it writes.
    pub outputs: Vec<usize>,
}

/// The kernels of a program.
pub struct KernelSet {
    target: Target,
    bound: Option<Duration>,
    kernels: PrimaryMap<KernelId, Kernel>,
    by_function: BTreeMap<Vec<u8>, Arc<Lowered>>,
    by_tir: BTreeMap<Vec<u8>, KernelId>,
    names: BTreeMap<String, u32>,
}

impl KernelSet {
    /// No kernels, for a target and, if there is one, a bound on the time of their tiles.
    pub fn new(target: Target, bound: Option<Duration>) -> KernelSet {
        KernelSet {
            target,
            bound,
            kernels: PrimaryMap::new(),
            by_function: BTreeMap::new(),
            by_tir: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// The kernels so far.
    pub fn kernels(&self) -> &PrimaryMap<KernelId, Kernel> {
        &self.kernels
    }

    /// The kernels.
    pub fn into_kernels(self) -> PrimaryMap<KernelId, Kernel> {
        self.kernels
    }

    /// The launches of a primitive function.
    ///
    /// # Errors
    /// If it has an operator or a type without code.
    pub fn lower(
        &mut self,
        module: &Module,
        expr: ExprId,
        func: &Function,
    ) -> Result<Arc<Lowered>, Diagnostic> {
        let key = function_key(module, func);
        if let Some(lowered) = self.by_function.get(&key) {
            return Ok(lowered.clone());
        }
        let mut te = group_to_te(module, func)?;
        if let Target::Cpu(target) = &self.target {
            prepare(&mut te.graph, &mut te.origins, target);
        }
        let kernels = self
            .schedule(&te)
            .map_err(|e| Diagnostic::error(Code::LOWER, e.0).at(module.spans[expr].clone()))?;
        let mut numbers: BTreeMap<BufferId, usize> = BTreeMap::new();
        let mut tensors = Vec::new();
        let mut number = |b: BufferId, tensors: &mut Vec<TensorType>| {
            *numbers.entry(b).or_insert_with(|| {
                let buffer = &te.graph.buffers[b];
                tensors.push(TensorType::of(&buffer.shape, buffer.dtype));
                tensors.len() - 1
            })
        };
        te.inputs.iter().for_each(|&b| {
            number(b, &mut tensors);
        });
        let mut launches = Vec::new();
        for (mut kernel, raw) in kernels {
            let inputs = kernel.inputs.iter().map(|&b| number(b, &mut tensors)).collect();
            let outputs = kernel.outputs.iter().map(|&b| number(b, &mut tensors)).collect();
            let origin = AttrValue::Str(summary(module, func).into());
            let raw = raw.map(|mut raw| {
                raw.func.attrs.insert("relay".into(), origin.clone());
                raw.func.name = format!("{}_raw", raw.func.name).into();
                self.add(raw.func, None)
            });
            kernel.func.attrs.insert("relay".into(), origin);
            let kernel = self.add(kernel.func, raw.transpose()?)?;
            launches.push(Launch { kernel, inputs, outputs });
        }
        let outputs = te.outputs.iter().map(|&b| number(b, &mut tensors)).collect();
        let lowered = Arc::new(Lowered { tensors, constants: te.constants, launches, outputs });
        self.by_function.insert(key, lowered.clone());
        Ok(lowered)
    }

    /// Why a product in a primitive function finds an operand in memory that its tiles might compute,
    /// if it does.
    pub fn held_back(&self, module: &Module, func: &Function) -> Option<String> {
        let Target::Cpu(target) = &self.target else { return None };
        let mut te = group_to_te(module, func).ok()?;
        prepare(&mut te.graph, &mut te.origins, target);
        rules_cpu::held_back(&te.graph, &te.origins, &te.outputs, target)
    }

    /// The kernels of a graph, in order: under the bound if there is one, and then with the raw
    /// variant of each that has another.
    fn schedule(&self, te: &GroupTe) -> Result<Vec<(Scheduled, Option<Scheduled>)>, Unschedulable> {
        let alone = |kernels: Vec<Scheduled>| kernels.into_iter().map(|kernel| (kernel, None)).collect();
        let target = match &self.target {
            Target::Cpu(target) => target,
            Target::Cuda(gpu) => {
                return rules_cuda::schedule(&te.name, &te.graph, &te.outputs, *gpu).map(alone);
            }
        };
        let within =
            |bound| rules_cpu::schedule(&te.name, &te.graph, &te.origins, &te.outputs, target, bound);
        let mut kernels = within(self.bound)?;
        if self.bound.is_none() {
            return Ok(alone(kernels));
        }
        let mut raw: Vec<Option<Scheduled>> = within(None)?.into_iter().map(Some).collect();
        if raw.len() != kernels.len() {
            // A shorter tile needed what the raw schedule has inside of its tiles.
            raw = kernels.iter().map(|_| None).collect();
        }
        for (kernel, raw) in kernels.iter_mut().zip(&mut raw) {
            raw.take_if(|raw| {
                let stands_in = kernel.inputs == raw.inputs && kernel.outputs == raw.outputs;
                !stands_in || equal::equal(&kernel.func, &raw.func)
            });
            checkpoint::insert(&mut kernel.func);
        }
        Ok(kernels.into_iter().zip(raw).collect())
    }

    /// The kernel of this function, with its raw variant; equal ones are one.
    ///
    /// # Errors
    /// If it breaks a rule: a mistake of the schedule, which must not reach code.
    fn add(&mut self, mut func: PrimFunc, raw: Option<KernelId>) -> Result<KernelId, Diagnostic> {
        let key = equal::key(&func);
        if let Some(&id) = self.by_tir.get(&key) {
            return Ok(id);
        }
        verify(&func).map_err(|d| broken_kernel(&func, d))?;
        let count = self.names.entry(func.name.to_string()).or_default();
        *count += 1;
        if *count > 1 {
            func.name = format!("{}_{}", func.name, *count - 1).into();
        }
        let certificate = match &self.target {
            Target::Cpu(target) => {
                let bound = self.bound.filter(|_| checkpoint::is_inserted(&func));
                Some(checkpoint::certify(&func, target, bound))
            }
            Target::Cuda(_) => None,
        };
        let id = self.kernels.push(Kernel { certificate, raw, ..Kernel::new(func) });
        self.by_tir.insert(key, id);
        Ok(id)
    }
}

fn broken_kernel(func: &PrimFunc, violations: Diagnostics) -> Diagnostic {
    let error = Diagnostic::error(Code::LOWER, format!("the schedule of `{}` is wrong", func.name))
        .help("this is a mistake in the compiler; --disable-pass fuse_ops may avoid it");
    violations.0.into_iter().fold(error, |error, violation| error.note(violation.message))
}

/// The operators of a group, for people: `nn.conv2d, add, nn.relu`.
fn summary(module: &Module, func: &Function) -> String {
    let order = walk::post_order(module, &[func.body]);
    let names: Vec<&str> = order.iter().filter_map(|&e| Some(module.as_op_call(e)?.0.name())).collect();
    match names.len() {
        0..=12 => names.join(", "),
        n => format!("{}, ... ({n} operators)", names[..12].join(", ")),
    }
}

/// Bytes that are equal for functions that compute the same with the same operators: the
/// body in post-order with operands as distances, types and attributes.
pub fn function_key(module: &Module, func: &Function) -> Vec<u8> {
    let order = walk::post_order(module, &[func.body]);
    let place: BTreeMap<ExprId, usize> = order.iter().enumerate().map(|(i, &e)| (e, i)).collect();
    let params: BTreeMap<VarId, usize> = func.params.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let (mut text, mut constants): (String, Vec<u8>) = Default::default();
    for &param in &func.params {
        let _ = write!(text, "{:?};", module.vars[param].ty);
    }
    for (at, &expr) in order.iter().enumerate() {
        // The types of variables and fields follow from those of the parameters; a tuple's may be long.
        let _ = match &module.exprs[expr] {
            Expr::Var(v) => write!(text, "p{:?}", params.get(v)),
            Expr::Const(c) => {
                let tensor = &module.consts[*c].tensor;
                constants.extend(tensor.bytes());
                write!(text, "c{:?}", tensor.tensor_type())
            }
            Expr::Call(call) => match call.callee {
                Callee::Op(op) => write!(text, "{op}{:?}:{:?}", call.attrs, module.types[expr]),
                Callee::Expr(_) | Callee::Ctor(_) => write!(text, ":{:?}", module.types[expr]),
            },
            Expr::Proj { index, .. } => write!(text, ".{index}"),
            other => write!(text, "{:?}", std::mem::discriminant(other)),
        };
        walk::for_each_child(&module.exprs[expr], |child| {
            let _ = write!(text, ",{}", at - place[&child]);
        });
        text.push(';');
    }
    let mut key = text.into_bytes();
    // No text has this byte; what follows is as long as the types in it say.
    key.push(u8::MAX);
    key.extend(constants);
    key
}
