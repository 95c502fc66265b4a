//! The walk: every untyped expression once, in order of evaluation.

use std::collections::HashMap;
use std::sync::Arc;

use super::relate::{Satisfied, is_known, within_limits};
use super::terms::{POISON, Term, Terms, Ty, Unresolved};
use crate::diag::{Code, Diagnostic, Span};
use crate::expr::{CtorRef, Expr, ExprId, Function, GlobalId, MatchPattern, Module, VarId};
use crate::types::{FuncType, Type};
use crate::walk;

/// After so many errors the rest would not help anybody.
const MAX_ERRORS: usize = 64;

/// What is left to do, on the walk's stack.
enum Step {
    /// Infer an expression, its operands first.
    Enter(ExprId),
    /// The value of a let is inferred: give its type to the variable.
    BindLet(ExprId),
    /// The value of a match is inferred: give types to the patterns' variables.
    BindPatterns(ExprId),
    /// The operands are inferred: infer the expression itself.
    Exit(ExprId),
    /// The body of a global function is inferred.
    ExitGlobal(GlobalId),
}

/// One run of inference over a module.
pub(super) struct Infer<'m> {
    pub(super) module: &'m mut Module,
    pub(super) terms: Terms,
    /// The expressions whose type is not known yet or is poison, in the order of the walk.
    pub(super) exprs: HashMap<ExprId, Ty>,
    pub(super) open_exprs: Vec<ExprId>,
    /// The variables whose type is not known yet, and the expression that binds each.
    pub(super) vars: HashMap<VarId, Ty>,
    pub(super) open_vars: Vec<(VarId, ExprId)>,
    /// The result types of functions and globals that do not declare one.
    pub(super) rets: HashMap<ExprId, Ty>,
    pub(super) global_rets: HashMap<GlobalId, Ty>,
    pub(super) started: HashMap<GlobalId, Type>,
    /// Types without unknown parts.
    pub(super) known: Satisfied,
    steps: Vec<Step>,
    pub(super) errors: Vec<Diagnostic>,
}

impl<'m> Infer<'m> {
    pub(super) fn new(module: &'m mut Module) -> Infer<'m> {
        Infer {
            module,
            terms: Terms::default(),
            exprs: HashMap::new(),
            open_exprs: Vec::new(),
            vars: HashMap::new(),
            open_vars: Vec::new(),
            rets: HashMap::new(),
            global_rets: HashMap::new(),
            started: HashMap::new(),
            known: Satisfied::default(),
            steps: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Infers every live global function.
    pub(super) fn globals(&mut self) {
        let globals: Vec<GlobalId> = self.module.functions().iter().map(|&(id, _)| id).collect();
        for global in globals {
            self.enter_global(global);
            self.run();
        }
    }

    /// Infers one expression.
    pub(super) fn expr(&mut self, expr: ExprId) {
        self.steps.push(Step::Enter(expr));
        self.run();
    }

    fn run(&mut self) {
        while let Some(step) = self.steps.pop() {
            if self.errors.len() >= MAX_ERRORS {
                self.steps.clear();
                return;
            }
            match step {
                Step::Enter(id) => self.enter(id),
                Step::BindLet(id) => self.bind_let(id),
                Step::BindPatterns(id) => self.bind_patterns(id),
                Step::Exit(id) => {
                    let ty = self.exit(id);
                    self.set(id, ty);
                }
                Step::ExitGlobal(global) => self.exit_global(global),
            }
            while let Some(id) = self.terms.next_woken() {
                self.retry(id);
            }
        }
    }

    /// Tries again what waited for a hole.
    fn retry(&mut self, id: ExprId) {
        let found = self.exit(id);
        let hole = self.ty(id);
        if self.terms.unify(&hole, &found).is_err() {
            self.mismatch(id, &hole, &found, "the context needs another type here");
        }
    }

    fn is_inferred(&self, id: ExprId) -> bool {
        self.module.types[id] != Type::Unknown || self.exprs.contains_key(&id)
    }

    /// The type of an expression that has been visited.
    pub(super) fn ty(&mut self, id: ExprId) -> Ty {
        if self.module.types[id] != Type::Unknown {
            return Ty::Known(self.module.types[id].clone());
        }
        self.exprs.get(&id).cloned().unwrap_or(POISON)
    }

    fn set(&mut self, id: ExprId, ty: Ty) {
        match ty {
            Ty::Known(ty) if self.known.holds(&ty, is_known) => self.module.types[id] = ty,
            ty => {
                self.open_exprs.push(id);
                self.exprs.insert(id, ty);
            }
        }
    }

    fn enter(&mut self, id: ExprId) {
        if self.is_inferred(id) {
            return;
        }
        match &self.module.exprs[id] {
            Expr::Let { var, value, body } => {
                let (var, value, body) = (*var, *value, *body);
                if self.module.vars[var].ty == Type::Unknown
                    && let Expr::Func(func) = &self.module.exprs[value]
                {
                    let func = (**func).clone();
                    let signature = self.signature(value, &func);
                    self.set_var(var, id, signature);
                }
                let steps = [Step::Exit(id), Step::Enter(body), Step::BindLet(id), Step::Enter(value)];
                self.steps.extend(steps);
            }
            Expr::Match { value, clauses, .. } => {
                let value = *value;
                let bodies: Vec<ExprId> = clauses.iter().map(|c| c.body).collect();
                self.steps.push(Step::Exit(id));
                self.steps.extend(bodies.into_iter().rev().map(Step::Enter));
                self.steps.extend([Step::BindPatterns(id), Step::Enter(value)]);
            }
            Expr::Func(func) => {
                let func = (**func).clone();
                self.signature(id, &func);
                self.steps.extend([Step::Exit(id), Step::Enter(func.body)]);
            }
            Expr::Global(global) => {
                let global = *global;
                self.steps.push(Step::Exit(id));
                self.enter_global(global);
            }
            expr => {
                let children = walk::children(expr);
                self.steps.push(Step::Exit(id));
                self.steps.extend(children.into_iter().rev().map(Step::Enter));
            }
        }
    }

    /// Starts a global function, unless it has been started.
    fn enter_global(&mut self, global: GlobalId) {
        if self.started.contains_key(&global) {
            return;
        }
        let Some(func) = self.module.globals.get(global).and_then(|g| g.func.clone()) else {
            return;
        };
        self.started.insert(global, Type::Unknown);
        for &param in &func.params {
            self.declare_var(param, func.body);
        }
        if !is_known(&func.ret) {
            let ret = self.terms.open(&func.ret);
            self.global_rets.insert(global, ret);
        }
        self.steps.extend([Step::ExitGlobal(global), Step::Enter(func.body)]);
    }

    fn exit_global(&mut self, global: GlobalId) {
        let Some(func) = self.module.globals[global].func.clone() else {
            return;
        };
        let declared = self.global_rets.get(&global).cloned().unwrap_or(Ty::Known(func.ret));
        let body = self.ty(func.body);
        if self.terms.unify(&declared, &body).is_err() {
            self.mismatch(func.body, &declared, &body, "the function's declared result type is another");
        }
    }

    /// The type of a function value before its body is known; declares its parameters.
    fn signature(&mut self, id: ExprId, func: &Function) -> Ty {
        for &param in &func.params {
            self.declare_var(param, id);
        }
        if !is_known(&func.ret) && !self.rets.contains_key(&id) {
            let ret = self.terms.open(&func.ret);
            self.rets.insert(id, ret);
        }
        let ret = self.rets.get(&id).cloned().unwrap_or(Ty::Known(func.ret.clone()));
        self.func_ty(func, ret)
    }

    pub(super) fn func_ty(&mut self, func: &Function, ret: Ty) -> Ty {
        let params: Vec<Ty> = func.params.iter().map(|&p| self.var_ty(p)).collect();
        let known = params.iter().map(|p| self.terms.resolve(p)).collect::<Result<Vec<_>, _>>();
        match (known, self.terms.resolve(&ret)) {
            (Ok(params), Ok(ret)) => {
                let type_params = func.type_params.clone();
                Ty::Known(Type::Func(Arc::new(FuncType { type_params, params, ret })))
            }
            _ => self.terms.add(Term::Func(params, ret)),
        }
    }

    /// Makes a variable known to the walk before its type is.
    fn declare_var(&mut self, var: VarId, binder: ExprId) {
        if !is_known(&self.module.vars[var].ty) && !self.vars.contains_key(&var) {
            let ty = self.module.vars[var].ty.clone();
            let ty = self.terms.open(&ty);
            self.vars.insert(var, ty);
            self.open_vars.push((var, binder));
        }
    }

    pub(super) fn var_ty(&mut self, var: VarId) -> Ty {
        match self.vars.get(&var) {
            Some(ty) => ty.clone(),
            None => Ty::Known(self.module.vars[var].ty.clone()),
        }
    }

    /// Gives an unannotated variable its type.
    fn set_var(&mut self, var: VarId, binder: ExprId, ty: Ty) {
        match ty {
            Ty::Known(ty) if self.known.holds(&ty, is_known) => self.module.vars[var].ty = ty,
            ty => {
                self.vars.insert(var, ty);
                self.open_vars.push((var, binder));
            }
        }
    }

    fn bind_let(&mut self, id: ExprId) {
        let Expr::Let { var, value, .. } = self.module.exprs[id] else { return };
        let ty = self.ty(value);
        if self.module.vars[var].ty == Type::Unknown && !self.vars.contains_key(&var) {
            self.set_var(var, id, ty);
            return;
        }
        self.declare_var(var, id);
        let annotated = self.var_ty(var);
        if self.terms.unify(&annotated, &ty).is_err() {
            let name = self.module.vars[var].name.clone();
            self.mismatch(value, &annotated, &ty, &format!("`%{name}` is declared with another type"));
        }
    }

    fn bind_patterns(&mut self, id: ExprId) {
        let Expr::Match { value, clauses, .. } = &self.module.exprs[id] else { return };
        let value = *value;
        let patterns: Vec<MatchPattern> = clauses.iter().map(|c| c.pattern.clone()).collect();
        let ty = self.ty(value);
        for pattern in &patterns {
            self.bind_pattern(id, pattern, &ty);
        }
    }

    fn bind_pattern(&mut self, id: ExprId, pattern: &MatchPattern, ty: &Ty) {
        let mut stack = vec![(pattern, ty.clone())];
        while let Some((pattern, ty)) = stack.pop() {
            let (shape, fields, patterns) = match pattern {
                MatchPattern::Wildcard => continue,
                MatchPattern::Var(var) => {
                    self.declare_var(*var, id);
                    let var = self.var_ty(*var);
                    if self.terms.unify(&var, &ty).is_err() {
                        self.mismatch(id, &var, &ty, "a variable of a pattern has another type");
                    }
                    continue;
                }
                MatchPattern::Tuple(patterns) => {
                    let fields: Vec<Ty> = patterns.iter().map(|_| self.terms.hole()).collect();
                    (self.terms.add(Term::Tuple(fields.clone())), fields, patterns)
                }
                MatchPattern::Ctor(ctor, patterns) => {
                    let Some((fields, shape)) = self.ctor_signature(*ctor) else { continue };
                    (shape, fields, patterns)
                }
            };
            if fields.len() != patterns.len() || self.terms.unify(&ty, &shape).is_err() {
                self.mismatch(id, &shape, &ty, "a pattern cannot fit the value");
            }
            stack.extend(patterns.iter().zip(fields));
        }
    }

    /// The field types and the data type of a constructor, with holes for type parameters.
    pub(super) fn ctor_signature(&mut self, ctor: CtorRef) -> Option<(Vec<Ty>, Ty)> {
        let adt = self.module.adts.get(ctor.adt)?;
        let fields = adt.ctors.get(ctor.index as usize)?.fields.clone();
        let (name, names) = (adt.name.clone(), adt.params.clone());
        let params: Vec<_> = names.into_iter().map(|p| (p, self.terms.hole())).collect();
        let args: Vec<Ty> = params.iter().map(|(_, ty)| ty.clone()).collect();
        let fields = fields.iter().map(|f| self.terms.instantiate(f, &params)).collect();
        let data = match args.is_empty() {
            true => Ty::Known(Type::Adt(name, [].into())),
            false => self.terms.add(Term::Adt(name, args)),
        };
        Some((fields, data))
    }

    /// The hole that stands for an expression's type until it can be inferred.
    pub(super) fn hole_of(&mut self, id: ExprId) -> Ty {
        match self.exprs.get(&id) {
            Some(ty) => ty.clone(),
            None => self.terms.hole(),
        }
    }

    /// A compound type, known at once if its parts are; refused if it nests too deeply.
    pub(super) fn limited(&mut self, id: ExprId, term: Term) -> Ty {
        let ty = self.terms.add(term);
        match self.terms.resolve(&ty) {
            Ok(known) => self.bounded(id, Ty::Known(known)),
            Err(Unresolved::TooDeep) => self.too_deep(id),
            Err(Unresolved::Hole(_)) => ty,
        }
    }

    /// A type that was put together; refused if it is known and nests too deeply.
    pub(super) fn bounded(&mut self, id: ExprId, ty: Ty) -> Ty {
        match &ty {
            Ty::Known(known) if !within_limits(known) => self.too_deep(id),
            Ty::Known(known) if !is_known(known) => POISON,
            Ty::Known(_) | Ty::Open(_) => ty,
        }
    }

    fn too_deep(&mut self, id: ExprId) -> Ty {
        let message = format!("a type nests more than {} deep or is too large", super::MAX_TYPE_DEPTH);
        self.error(id, Code::TYPE_MISMATCH, message, None)
    }

    /// Reports an error of an expression; its type is poison.
    pub(super) fn error(&mut self, id: ExprId, code: Code, message: String, help: Option<String>) -> Ty {
        let mut diagnostic = Diagnostic::error(code, message).at(self.span(id));
        diagnostic.help = help;
        self.report(diagnostic);
        POISON
    }

    /// Reports that an expression has not the type that its place needs.
    pub(super) fn mismatch(&mut self, id: ExprId, expected: &Ty, found: &Ty, why: &str) {
        let (expected, found) = (self.terms.show(expected), self.terms.show(found));
        let diagnostic =
            Diagnostic::error(Code::TYPE_MISMATCH, format!("expected {expected}, found {found}"))
                .at(self.span(id))
                .label(why);
        self.report(diagnostic);
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(diagnostic);
        }
    }

    pub(super) fn span(&self, id: ExprId) -> Span {
        self.module.spans[id].clone()
    }
}
