//! A group of operators as one Tensor Expression graph.

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Module};
use fermata_ir::op::{Lower, OpError};
use fermata_ir::te::{Graph, Tensor};
use fermata_ir::tensor::Tensor as HostTensor;
use fermata_ir::tir::BufferId;
use fermata_ir::types::{TensorType, Type};
use fermata_ir::walk;
use std::collections::BTreeMap;

use crate::relay::elements::scalars;
use crate::tir::tensorize::{Origin, Origins};

/// A group as stages.
pub struct GroupTe {
    /// The stages.
    pub graph: Graph,
    /// The function's parameters, tuples flattened, then the constants.
    pub inputs: Vec<BufferId>,
    /// Constants that are not scalars.
    pub constants: Vec<HostTensor>,
    /// The results, tuples flattened.
    pub outputs: Vec<BufferId>,
    /// The operators that made the tensors.
    pub origins: Origins,
    /// `fused_dense_add_relu`.
    pub name: String,
}

/// The longest name of a kernel; longer ones are cut.
const MAX_NAME: usize = 80;

/// The stages of a primitive function, whose types are all static.
///
/// # Errors
/// If an operator has no Tensor Expression, or a type is not static.
pub fn group_to_te(module: &Module, func: &Function) -> Result<GroupTe, Diagnostic> {
    let mut build = Builder {
        module,
        te: GroupTe {
            graph: Graph::new(),
            inputs: Vec::new(),
            constants: Vec::new(),
            outputs: Vec::new(),
            origins: Origins::new(),
            name: "fused".into(),
        },
        values: BTreeMap::new(),
        constant_inputs: Vec::new(),
    };
    let mut params = BTreeMap::new();
    for &param in &func.params {
        let var = &module.vars[param];
        let tensors = build.placeholders(&var.name, &var.ty, func.body)?;
        params.insert(param, tensors);
    }
    for expr in walk::post_order(module, &[func.body]) {
        let value = match &module.exprs[expr] {
            Expr::Var(v) => params.get(v).cloned().ok_or_else(|| build.refuse(expr, "a free variable"))?,
            _ => build.expr(expr)?,
        };
        build.values.insert(expr, value);
    }
    let mut te = build.te;
    te.outputs = build.values[&func.body].iter().map(|t| t.id).collect();
    te.inputs.extend(build.constant_inputs);
    te.name.truncate(MAX_NAME);
    Ok(te)
}

struct Builder<'a> {
    module: &'a Module,
    te: GroupTe,
    values: BTreeMap<ExprId, Vec<Tensor>>,
    constant_inputs: Vec<BufferId>,
}

impl Builder<'_> {
    fn refuse(&self, expr: ExprId, what: &str) -> Diagnostic {
        Diagnostic::error(Code::LOWER, format!("{what} cannot stand in a kernel"))
            .at(self.module.spans[expr].clone())
    }

    fn placeholders(&mut self, name: &str, ty: &Type, at: ExprId) -> Result<Vec<Tensor>, Diagnostic> {
        let flat = flatten(ty).ok_or_else(|| self.refuse(at, "a value that is no tensor"))?;
        let single = flat.len() == 1;
        let mut tensors = Vec::new();
        for (i, t) in flat.iter().enumerate() {
            let shape = t.static_shape().ok_or_else(|| unbound(self.module, at, t))?;
            let name = if single { name.to_string() } else { format!("{name}_{i}") };
            let tensor = self.te.graph.placeholder(&name, &shape, t.dtype);
            self.te.inputs.push(tensor.id);
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn expr(&mut self, expr: ExprId) -> Result<Vec<Tensor>, Diagnostic> {
        match &self.module.exprs[expr] {
            Expr::Const(c) => Ok(vec![self.constant(&self.module.consts[*c].tensor)]),
            Expr::Tuple(fields) => Ok(fields.iter().flat_map(|f| self.values[f].clone()).collect()),
            Expr::Proj { tuple, index } => {
                let fields = self.module.types[*tuple].as_tuple().unwrap_or(&[]);
                let widths: Vec<usize> = fields.iter().map(|f| flatten(f).map_or(0, |t| t.len())).collect();
                let first: usize = widths.iter().take(*index as usize).sum();
                let count = widths.get(*index as usize).copied().unwrap_or(0);
                Ok(self.values[tuple][first..first + count].to_vec())
            }
            Expr::Call(call) => match call.callee {
                Callee::Op(_) => self.op_call(expr),
                Callee::Expr(_) | Callee::Ctor(_) => Err(self.refuse(expr, "a call of a function")),
            },
            Expr::Var(_)
            | Expr::Global(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => Err(self.refuse(expr, "this expression")),
        }
    }

    /// A scalar becomes a literal, anything larger another input.
    fn constant(&mut self, tensor: &HostTensor) -> Tensor {
        if let Some(value) = scalars(tensor).next().filter(|_| tensor.rank() == 0) {
            let value = fermata_ir::tir::Expr::constant(value);
            return self.te.graph.compute("scalar", "elemwise", &tensor.tensor_type(), |_| value);
        }
        let name = format!("c{}", self.te.constants.len());
        let placeholder = self.te.graph.placeholder(&name, tensor.shape(), tensor.dtype());
        self.te.constants.push(tensor.clone());
        self.constant_inputs.push(placeholder.id);
        placeholder
    }

    fn op_call(&mut self, expr: ExprId) -> Result<Vec<Tensor>, Diagnostic> {
        let (op, call) = self.module.as_op_call(expr).expect("a call of an operator");
        let at = || self.module.spans[expr].clone();
        let te = match &op.lower {
            Lower::Te(te) => te,
            Lower::None(reason) => {
                let message = format!("`{op}` has no code for this target: {reason}");
                return Err(Diagnostic::error(Code::LOWER, message).at(at()));
            }
        };
        let ty = &self.module.types[expr];
        let outs: Vec<TensorType> =
            flatten(ty).ok_or_else(|| self.refuse(expr, "a value that is no tensor"))?;
        if let Some(t) = outs.iter().find(|t| t.static_shape().is_none()) {
            return Err(unbound(self.module, expr, t));
        }
        let args: Vec<Tensor> = call.args.iter().flat_map(|a| self.values[a].clone()).collect();
        let lowered = te(&mut self.te.graph, &args, &call.attrs, &outs);
        self.te.name.push('_');
        self.te.name.push_str(&op.name().replace('.', "_"));
        if let Ok([output, ..]) = lowered.as_deref() {
            let origin = Origin { op, attrs: call.attrs.clone(), args };
            self.te.origins.insert(output.id, origin);
        }
        lowered.map_err(|e: OpError| {
            let d =
                Diagnostic::error(Code::LOWER, format!("`{op}` cannot be lowered: {}", e.message)).at(at());
            match e.help {
                Some(help) => d.help(help),
                None => d,
            }
        })
    }
}

/// The tensors of a type, tuples flattened; `None` if there is anything else in it.
pub fn flatten(ty: &Type) -> Option<Vec<TensorType>> {
    let mut flat = Vec::new();
    let mut stack = vec![ty];
    while let Some(ty) = stack.pop() {
        match ty {
            Type::Tensor(t) => flat.push(TensorType::clone(t)),
            Type::Tuple(fields) => stack.extend(fields.iter().rev()),
            Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => return None,
        }
    }
    Some(flat)
}

/// The error for a type that is not static.
pub fn unbound(module: &Module, expr: ExprId, ty: &TensorType) -> Diagnostic {
    let named: Vec<String> = ty
        .shape
        .iter()
        .filter_map(|d| match d {
            fermata_ir::types::Dim::Sym(name) => Some(format!("--dim {name}=N")),
            fermata_ir::types::Dim::Static(_) | fermata_ir::types::Dim::Any => None,
        })
        .collect();
    let d = Diagnostic::error(Code::DIM_UNBOUND, "a dimension is not known when compiling")
        .at(module.spans[expr].clone())
        .label(format!("this has {} dimensions, not all of them known", ty.shape.len()));
    if named.is_empty() {
        d.help("a size that depends on values has no kernel; `fermata run --device interp` runs the program")
    } else {
        d.help(format!("give {}", named.join(" ")))
    }
}
