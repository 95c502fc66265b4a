//! Checked construction: every expression is typed the moment it is made.
//!
//! Importers and passes build through [`Builder`], so that an operator which refuses its
//! arguments is reported where the call comes from, and nothing is left to infer.

use crate::diag::{Diagnostic, Span};
use crate::expr::{Args, Call, Callee, Expr, ExprId, Function, Module, VarId};
use crate::infer::infer_expr;
use crate::op::{Attrs, Op, OpDef};
use crate::tensor::Tensor;
use crate::types::Type;

/// Appends typed expressions to a module.
pub struct Builder<'m> {
    module: &'m mut Module,
    span: Span,
}

impl<'m> Builder<'m> {
    /// A builder whose expressions have no location.
    pub fn new(module: &'m mut Module) -> Builder<'m> {
        Builder { module, span: Span::None }
    }

    /// Locates what is built from now on.
    pub fn with_span(&mut self, span: Span) -> &mut Self {
        self.span = span;
        self
    }

    /// The module that is built in.
    pub fn module(&mut self) -> &mut Module {
        self.module
    }

    /// The type of something built, or of anything that has been inferred.
    pub fn ty(&self, expr: ExprId) -> &Type {
        &self.module.types[expr]
    }

    /// Adds any expression whose operands are typed.
    ///
    /// # Errors
    /// If it is not well typed.
    pub fn add(&mut self, expr: Expr) -> Result<ExprId, Diagnostic> {
        let id = self.module.add(expr);
        self.module.spans[id] = self.span.clone();
        infer_expr(self.module, id)?;
        Ok(id)
    }

    /// A call of an operator.
    ///
    /// # Errors
    /// If the operator refuses the arguments or the attributes.
    pub fn call(&mut self, op: &'static OpDef, args: &[ExprId], attrs: Attrs) -> Result<ExprId, Diagnostic> {
        let call = Call { callee: Callee::Op(Op(op)), args: Args::from_slice(args), attrs };
        self.add(Expr::Call(call))
    }

    /// A call of a function value.
    ///
    /// # Errors
    /// If it is no function or the arguments do not fit.
    pub fn call_func(&mut self, func: ExprId, args: &[ExprId]) -> Result<ExprId, Diagnostic> {
        let call = Call { callee: Callee::Expr(func), args: Args::from_slice(args), attrs: Attrs::NONE };
        self.add(Expr::Call(call))
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> ExprId {
        let id = self.module.constant(tensor);
        self.module.spans[id] = self.span.clone();
        id
    }

    /// A new variable with its type, and its use.
    pub fn param(&mut self, name: &str, ty: Type) -> (VarId, ExprId) {
        let var = self.module.var(name, ty);
        (var, self.var(var))
    }

    /// A use of a variable whose type is known.
    pub fn var(&mut self, var: VarId) -> ExprId {
        let id = self.module.add(Expr::Var(var));
        self.module.spans[id] = self.span.clone();
        self.module.types[id] = self.module.vars[var].ty.clone();
        id
    }

    /// A tuple.
    ///
    /// # Errors
    /// If its type nests too deeply.
    pub fn tuple(&mut self, fields: &[ExprId]) -> Result<ExprId, Diagnostic> {
        self.add(Expr::Tuple(Args::from_slice(fields)))
    }

    /// A field of a tuple.
    ///
    /// # Errors
    /// If there is no such field.
    pub fn proj(&mut self, tuple: ExprId, index: u32) -> Result<ExprId, Diagnostic> {
        self.add(Expr::Proj { tuple, index })
    }

    /// A conditional.
    ///
    /// # Errors
    /// If the condition is no bool scalar or the branches differ in type.
    pub fn if_(&mut self, cond: ExprId, then: ExprId, els: ExprId) -> Result<ExprId, Diagnostic> {
        self.add(Expr::If { cond, then, els })
    }

    /// `let var = value; body`.
    ///
    /// # Errors
    /// If the value has not the variable's type.
    pub fn let_(&mut self, var: VarId, value: ExprId, body: ExprId) -> Result<ExprId, Diagnostic> {
        self.add(Expr::Let { var, value, body })
    }

    /// A function value over parameters whose types are known.
    ///
    /// # Errors
    /// If the body is not well typed.
    pub fn func(&mut self, params: &[VarId], body: ExprId) -> Result<ExprId, Diagnostic> {
        let func = self.function(params, body)?;
        self.add(Expr::Func(Box::new(func)))
    }

    /// A function that is not yet part of the module, to be made a global or a value.
    ///
    /// # Errors
    /// If the body is not well typed.
    pub fn function(&mut self, params: &[VarId], body: ExprId) -> Result<Function, Diagnostic> {
        let ret = infer_expr(self.module, body)?;
        let (params, attrs) = (params.to_vec(), Default::default());
        Ok(Function { type_params: Vec::new(), params, body, ret, attrs })
    }
}
