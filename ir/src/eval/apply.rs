//! What the machine does with operands: calls, projections, branches, patterns, cells.

use std::rc::Rc;

use super::machine::{Machine, Task};
use super::{AdtValue, Value};
use crate::diag::{Code, Diagnostic};
use crate::expr::{Call, CtorRef, Expr, ExprId, MatchPattern, VarId};
use crate::infer::{infer_op, op_diagnostic};
use crate::op::{Op, OpError};
use crate::tensor::{Bool8, byte_len};
use crate::types::Type;

impl Machine<'_> {
    pub(super) fn op_call(&mut self, id: ExprId, op: Op, call: &Call) -> Result<(), Diagnostic> {
        let args = self.pop_many(call.args.len());
        let value = self.apply_op(op, call, &args).map_err(|error| {
            let types: Vec<Type> = args.iter().map(Value::ty).collect();
            op_diagnostic(self.module, id, Code::EVAL, op, call, &types, error)
        })?;
        // The arguments end here, so that at most operands and result are alive together.
        drop(args);
        self.push(id, value);
        Ok(())
    }

    fn apply_op(&self, op: Op, call: &Call, args: &[Value]) -> Result<Value, OpError> {
        let types: Vec<Type> = args.iter().map(Value::ty).collect();
        let ty = infer_op(op, &types, &call.attrs)?;
        check_size(&ty, self.options.max_bytes)?;
        (op.eval)(args, &call.attrs, &ty)
    }

    pub(super) fn function_call(&mut self, id: ExprId, args: usize) -> Result<(), Diagnostic> {
        let args = self.pop_many(args);
        let callee = self.pop();
        // The result of a call is told of and kept like any other value; only where nobody
        // needs that may the call be a tail call.
        if self.is_watched(id) {
            self.tasks.push(Task::Keep(id));
        }
        match callee {
            Value::Closure(closure) => {
                let Expr::Func(func) = &self.module.exprs[closure.func] else {
                    return Err(self.error(id, "a value that is no function is called"));
                };
                self.check_count(id, func.params.len(), args.len())?;
                let itself = closure.itself.map(|var| (var, Value::Closure(closure.clone())));
                let captured = closure.captured.iter().cloned();
                let params = func.params.iter().copied().zip(args);
                self.enter(id, func.body, params.chain(captured).chain(itself))
            }
            Value::Global(global) => {
                let Some(func) = self.module.globals[global].func.as_ref() else {
                    return Err(self.error(id, "a removed function is called"));
                };
                self.check_count(id, func.params.len(), args.len())?;
                self.enter(id, func.body, func.params.iter().copied().zip(args))
            }
            Value::Ctor(ctor) => {
                self.construct(id, ctor, args);
                Ok(())
            }
            Value::Tensor(_) | Value::Tuple(_) | Value::Op(_) | Value::Adt(_) | Value::Ref(_) => {
                Err(self.error(id, "a value that is no function is called"))
            }
        }
    }

    fn check_count(&self, id: ExprId, params: usize, args: usize) -> Result<(), Diagnostic> {
        if params == args {
            return Ok(());
        }
        Err(self.error(id, format!("{args} arguments are given to a function of {params}")))
    }

    pub(super) fn construct(&mut self, id: ExprId, ctor: CtorRef, fields: Vec<Value>) {
        self.push(id, Value::Adt(Rc::new(AdtValue { ctor, fields })));
    }

    pub(super) fn proj(&mut self, id: ExprId, index: usize) -> Result<(), Diagnostic> {
        let tuple = self.pop();
        let field = tuple.as_tuple().and_then(|fields| fields.get(index)).cloned();
        let field = field.ok_or_else(|| self.error(id, format!("the value has no field {index}")))?;
        self.push(id, field);
        Ok(())
    }

    pub(super) fn branch(&mut self, id: ExprId) -> Result<(), Diagnostic> {
        let cond = self.pop();
        let truth = cond.as_tensor().and_then(|t| t.as_slice::<Bool8>()?.first().copied());
        let truth = truth.ok_or_else(|| self.error(id, "the condition is no bool scalar"))?;
        if let Expr::If { then, els, .. } = self.module.exprs[id] {
            self.tasks.push(Task::Eval(if truth.into() { then } else { els }));
        }
        Ok(())
    }

    pub(super) fn arm(&mut self, id: ExprId) -> Result<(), Diagnostic> {
        let value = self.pop();
        let module = self.module;
        if let Expr::Match { clauses, .. } = &module.exprs[id] {
            for clause in clauses {
                if let Some(bound) = fit(&clause.pattern, &value) {
                    bound.into_iter().for_each(|(var, value)| self.bind(var, value));
                    self.tasks.push(Task::Eval(clause.body));
                    return Ok(());
                }
            }
        }
        Err(self.error(id, "no arm of the match fits the value").help("add an arm with the pattern `_`"))
    }

    pub(super) fn ref_read(&mut self, id: ExprId) -> Result<(), Diagnostic> {
        let Value::Ref(cell) = self.pop() else {
            return Err(self.error(id, "a value that is no reference cell is read"));
        };
        let content = cell.borrow().clone();
        self.push(id, content);
        Ok(())
    }

    pub(super) fn ref_write(&mut self, id: ExprId) -> Result<(), Diagnostic> {
        let value = self.pop();
        let Value::Ref(cell) = self.pop() else {
            return Err(self.error(id, "a value that is no reference cell is written"));
        };
        cell.replace(value);
        self.push(id, Value::unit());
        Ok(())
    }
}

/// Refuses results of known shape that are larger than the evaluator may make.
fn check_size(ty: &Type, max_bytes: usize) -> Result<(), OpError> {
    let mut stack = vec![ty];
    while let Some(ty) = stack.pop() {
        match ty {
            Type::Tensor(tensor) => {
                let Some(shape) = tensor.static_shape() else { continue };
                let bytes = byte_len(tensor.dtype, &shape).map_err(|e| OpError::new(e.to_string()))?;
                if bytes > max_bytes {
                    let message = format!("the result of {bytes} bytes is past the limit of {max_bytes}");
                    return Err(OpError::new(message));
                }
            }
            Type::Tuple(fields) => stack.extend(fields.iter()),
            Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => {}
        }
    }
    Ok(())
}

/// What a pattern binds, if it fits the value.
fn fit(pattern: &MatchPattern, value: &Value) -> Option<Vec<(VarId, Value)>> {
    let mut bound = Vec::new();
    let mut stack = vec![(pattern, value.clone())];
    while let Some((pattern, value)) = stack.pop() {
        match (pattern, value) {
            (MatchPattern::Wildcard, _) => {}
            (MatchPattern::Var(var), value) => bound.push((*var, value)),
            (MatchPattern::Tuple(patterns), Value::Tuple(fields)) if patterns.len() == fields.len() => {
                stack.extend(patterns.iter().zip(fields.iter().cloned()));
            }
            (MatchPattern::Ctor(ctor, patterns), Value::Adt(adt))
                if *ctor == adt.ctor && patterns.len() == adt.fields.len() =>
            {
                stack.extend(patterns.iter().zip(adt.fields.iter().cloned()));
            }
            (MatchPattern::Tuple(_) | MatchPattern::Ctor(..), _) => return None,
        }
    }
    Some(bound)
}
