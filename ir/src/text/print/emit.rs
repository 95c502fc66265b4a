//! Writing a planned function.

use std::fmt::Write;
use std::sync::Arc;

use super::constant;
use super::names::{ConstNames, VarNames, sigil};
use super::plan::{Plan, Stmt};
use super::scopes::{ROOT, ScopeId};
use super::{PrintOptions, Printed};
use crate::expr::{
    Call, Callee, CtorRef, Expr, ExprId, FuncAttrs, Function, GlobalId, MatchPattern, Module, VarId,
};
use crate::op::{Attrs, Op};
use crate::types::Type;

/// Deeper scopes are indented no further, or a deep program would be mostly blanks.
const MAX_INDENT: usize = 24;

/// What is left to write.
#[derive(Clone, Copy)]
enum Task {
    Str(&'static str),
    /// An operand: a number, or the expression itself where it is inline.
    Operand(ExprId),
    /// The expression itself.
    Expr(ExprId),
    /// The field of a projection.
    Field(u32),
    /// The attributes of an operator's call.
    Attrs(ExprId),
    /// `fn (..) -> t {` up to the brace, naming the parameters.
    Header(ExprId),
    /// Arm `1` of a match, up to its body.
    Arm(ExprId, usize),
    /// Statements of a scope from number `1`, then its value below expression `2`.
    Stmts(ScopeId, usize, ExprId),
    Newline,
    /// One more level, for names too.
    Enter,
    Leave,
    /// ` /* ty=.. */`
    Type(ExprId),
}

/// Writes functions one after the other.
pub(super) struct Emitter<'m> {
    module: &'m Module,
    options: &'m PrintOptions,
    out: String,
    plan: Plan,
    vars: VarNames,
    consts: ConstNames,
    tasks: Vec<Task>,
    /// Marks of the open scopes; their number is the level.
    scopes: Vec<usize>,
}

impl<'m> Emitter<'m> {
    pub fn new(module: &'m Module, options: &'m PrintOptions) -> Self {
        Emitter {
            module,
            options,
            out: String::new(),
            plan: Plan::new(),
            vars: VarNames::default(),
            consts: ConstNames::new(),
            tasks: Vec::new(),
            scopes: Vec::new(),
        }
    }

    pub fn text(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub fn finish(self) -> Printed {
        Printed { text: self.out, weights: self.consts.weights }
    }

    /// Writes a global function.
    pub fn global(&mut self, id: GlobalId, func: &Function) {
        self.plan.make(self.module, func.body);
        self.out.push_str("def ");
        self.out.push_str(&sigil('@', &self.module.globals[id].name));
        let mark = self.vars.mark();
        self.header(func);
        self.out.push('{');
        self.run(&[&[Task::Enter], &inner(ROOT, func.body), &[Task::Str("}\n")]]);
        self.vars.leave(self.module, mark);
    }

    /// Writes a lone expression with its free variables.
    pub fn lone(&mut self, expr: ExprId) {
        self.plan.make(self.module, expr);
        for var in crate::walk::free_vars(self.module, expr) {
            let name = self.vars.declare(self.module, var);
            self.out.push_str("\nfree_var ");
            self.declaration(&name, &self.module.vars[var].ty);
            self.out.push(';');
        }
        self.run(&[&[Task::Stmts(ROOT, 0, expr), Task::Newline]]);
        // Every line began with its line break.
        self.out.remove(0);
    }

    fn run(&mut self, tasks: &[&[Task]]) {
        self.then(tasks);
        while let Some(task) = self.tasks.pop() {
            self.step(task);
        }
    }

    /// Leaves tasks so that they run in the order given.
    fn then(&mut self, parts: &[&[Task]]) {
        self.tasks.extend(parts.iter().rev().flat_map(|tasks| tasks.iter().rev()));
    }

    fn step(&mut self, task: Task) {
        match task {
            Task::Str(text) => self.out.push_str(text),
            Task::Operand(id) => match self.plan.number(self.module, id) {
                Some(number) => self.number(number),
                None => self.expr(id),
            },
            Task::Expr(id) => self.expr(id),
            Task::Field(index) => write!(self.out, ".{index}").expect("a string takes all"),
            Task::Attrs(id) => {
                if let Expr::Call(Call { callee: Callee::Op(op), args, attrs }) = &self.module.exprs[id] {
                    self.attrs(*op, attrs, args.is_empty());
                }
            }
            Task::Header(id) => {
                if let Expr::Func(func) = &self.module.exprs[id] {
                    self.header(func);
                }
            }
            Task::Arm(id, arm) => {
                if let Expr::Match { clauses, .. } = &self.module.exprs[id] {
                    self.pattern(&clauses[arm].pattern);
                }
            }
            Task::Stmts(scope, index, root) => self.stmts(scope, index, root),
            Task::Newline => {
                self.out.push('\n');
                self.out.extend(std::iter::repeat_n("  ", self.scopes.len().min(MAX_INDENT)));
            }
            Task::Enter => self.scopes.push(self.vars.mark()),
            Task::Leave => {
                let mark = self.scopes.pop().expect("every scope was entered");
                self.vars.leave(self.module, mark);
            }
            Task::Type(id) => self.type_comment(id),
        }
    }

    /// Writes a statement and leaves the rest of its scope.
    fn stmts(&mut self, scope: ScopeId, index: usize, root: ExprId) {
        let Some(&stmt) = self.plan.stmts(scope).get(index) else {
            let value = self.plan.value(self.module, root);
            return self.then(&[&[Task::Newline, Task::Operand(value)]]);
        };
        let next = Task::Stmts(scope, index + 1, root);
        self.step(Task::Newline);
        match stmt {
            Stmt::Graph(id) => {
                let number = self.plan.number(self.module, id).expect("a graph statement has a number");
                self.number(number);
                self.then(&[&[Task::Str(" = "), Task::Expr(id), Task::Str(";"), next]]);
            }
            Stmt::Let(id) => {
                let Expr::Let { var, value, .. } = self.module.exprs[id] else { return };
                // A value that nobody names was written without a name.
                if &*self.module.vars[var].name != "_" || self.plan.is_used(var) {
                    let name = self.vars.declare(self.module, var);
                    self.out.push_str("let ");
                    self.binder(&name, var, value);
                    self.out.push_str(" = ");
                }
                self.then(&[&[Task::Operand(value), Task::Str(";"), next]]);
            }
        }
    }

    /// Writes an expression: leaves at once, anything else by tasks.
    fn expr(&mut self, id: ExprId) {
        let module = self.module;
        let scope = |i| self.plan.scope(id, i);
        match &module.exprs[id] {
            Expr::Var(var) => {
                let name = self.vars.get(module, *var);
                self.out.push_str(&sigil('%', &name));
            }
            Expr::Global(global) => self.out.push_str(&sigil('@', &module.globals[*global].name)),
            Expr::Const(constant) => {
                let text = constant::print(module, *constant, self.options, &mut self.consts);
                self.out.push_str(&text);
                self.type_comment(id);
            }
            Expr::Op(op) => self.out.push_str(op.name()),
            Expr::Ctor(ctor) => self.ctor(*ctor),
            Expr::Call(call) => self.call(id, call),
            Expr::Func(func) => self.then(&[
                &[Task::Enter, Task::Str("fn "), Task::Header(id), Task::Str("{")],
                &inner(scope(0), func.body),
                &[Task::Str("}"), Task::Type(id)],
            ]),
            Expr::Let { body, .. } => {
                self.then(&[&[Task::Str("("), Task::Enter], &inner(scope(0), *body), &[Task::Str(")")]]);
            }
            Expr::If { cond, then, els } => self.then(&[
                &[Task::Str("if ("), Task::Operand(*cond), Task::Str(") {"), Task::Enter],
                &inner(scope(0), *then),
                &[Task::Str("} else {"), Task::Enter],
                &inner(scope(1), *els),
                &[Task::Str("}"), Task::Type(id)],
            ]),
            Expr::Tuple(fields) => {
                self.list("(", fields, if fields.len() == 1 { ",)" } else { ")" }, id);
            }
            Expr::Proj { tuple, index } => {
                self.then(&[&[Task::Operand(*tuple), Task::Field(*index), Task::Type(id)]]);
            }
            Expr::Match { value, clauses, complete } => {
                let word = if *complete { "match (" } else { "match? (" };
                let arms: Vec<_> = clauses.iter().enumerate().map(|(i, c)| inner(scope(i), c.body)).collect();
                self.then(&[&[Task::Leave, Task::Newline, Task::Str("}"), Task::Type(id)]]);
                for (arm, body) in arms.iter().enumerate().rev() {
                    let head = [Task::Newline, Task::Enter, Task::Arm(id, arm), Task::Str(" => {")];
                    self.then(&[&head, body, &[Task::Str("},")]]);
                }
                self.then(&[&[Task::Str(word), Task::Operand(*value), Task::Str(") {"), Task::Enter]]);
            }
            Expr::Ref(value) => self.list("ref(", &[*value], ")", id),
            Expr::RefRead(cell) => self.list("ref_read(", &[*cell], ")", id),
            Expr::RefWrite { cell, value } => self.list("ref_write(", &[*cell, *value], ")", id),
        }
    }

    /// A call: `callee(arguments, attributes)`.
    fn call(&mut self, id: ExprId, call: &Call) {
        match call.callee {
            Callee::Op(op) => {
                self.out.push_str(op.name());
                self.arguments(&call.args, &[Task::Attrs(id), Task::Str(")"), Task::Type(id)]);
            }
            Callee::Ctor(ctor) => {
                self.ctor(ctor);
                if call.args.is_empty() {
                    return self.type_comment(id);
                }
                self.arguments(&call.args, &[Task::Str(")"), Task::Type(id)]);
            }
            Callee::Expr(callee) => {
                self.arguments(&call.args, &[Task::Str(")"), Task::Type(id)]);
                self.tasks.push(Task::Operand(callee));
            }
        }
    }

    /// Leaves `(`, operands with commas between them, and an end.
    fn arguments(&mut self, args: &[ExprId], end: &[Task]) {
        self.then(&[end]);
        for (i, &arg) in args.iter().enumerate().rev() {
            let comma = if i == 0 { "(" } else { ", " };
            self.then(&[&[Task::Str(comma), Task::Operand(arg)]]);
        }
        if args.is_empty() {
            self.tasks.push(Task::Str("("));
        }
    }

    /// Leaves a list of operands between fixed texts.
    fn list(&mut self, open: &'static str, items: &[ExprId], close: &'static str, id: ExprId) {
        // The parenthesis comes with the first argument.
        self.out.push_str(open.trim_end_matches('('));
        self.arguments(items, &[Task::Str(close), Task::Type(id)]);
    }

    /// Attributes that differ from their defaults.
    fn attrs(&mut self, op: Op, attrs: &Attrs, first: bool) {
        let mut comma = if first { "" } else { ", " };
        for (def, value) in op.attrs.iter().zip(attrs.values()) {
            if (def.default)().is_some_and(|d| crate::equal::attr_value(&d, value)) {
                continue;
            }
            write!(self.out, "{comma}{}={value}", def.name).expect("a string takes all");
            comma = ", ";
        }
    }

    /// `[A](%x: t, key=value) -> t `
    fn header(&mut self, func: &Function) {
        if !func.type_params.is_empty() {
            write!(self.out, "[{}]", func.type_params.join(", ")).expect("a string takes all");
        }
        self.out.push('(');
        for (i, &param) in func.params.iter().enumerate() {
            self.out.push_str(if i > 0 { ", " } else { "" });
            let name = self.vars.declare(self.module, param);
            self.declaration(&name, &self.module.vars[param].ty);
        }
        self.func_attrs(&func.attrs, func.params.is_empty());
        self.out.push_str(") ");
        if func.ret != Type::Unknown {
            write!(self.out, "-> {} ", func.ret).expect("a string takes all");
        }
    }

    fn func_attrs(&mut self, attrs: &FuncAttrs, first: bool) {
        let mut comma = if first { "" } else { ", " };
        for (key, value) in attrs {
            write!(self.out, "{comma}{}={value}", crate::text::word(key)).expect("a string takes all");
            comma = ", ";
        }
    }

    /// `%x: t`, without a type that is not known.
    fn declaration(&mut self, name: &Arc<str>, ty: &Type) {
        self.out.push_str(&sigil('%', name));
        if *ty != Type::Unknown {
            write!(self.out, ": {ty}").expect("a string takes all");
        }
    }

    /// The binder of a let, without a type that the value has anyway.
    fn binder(&mut self, name: &Arc<str>, var: VarId, value: ExprId) {
        let ty = &self.module.vars[var].ty;
        let inferred = *ty == self.module.types[value];
        self.declaration(name, if inferred { &Type::Unknown } else { ty });
    }

    /// A pattern; patterns nest at most as deep as the reader allows.
    fn pattern(&mut self, pattern: &MatchPattern) {
        match pattern {
            MatchPattern::Wildcard => self.out.push('_'),
            MatchPattern::Var(var) => {
                let name = self.vars.declare(self.module, *var);
                self.declaration(&name, &self.module.vars[*var].ty);
            }
            MatchPattern::Ctor(ctor, fields) => {
                self.ctor(*ctor);
                if !fields.is_empty() {
                    self.patterns(fields);
                }
            }
            MatchPattern::Tuple(fields) => self.patterns(fields),
        }
    }

    fn patterns(&mut self, patterns: &[MatchPattern]) {
        self.out.push('(');
        for (i, pattern) in patterns.iter().enumerate() {
            self.out.push_str(if i > 0 { ", " } else { "" });
            self.pattern(pattern);
        }
        self.out.push(')');
    }

    fn ctor(&mut self, ctor: CtorRef) {
        self.out.push_str(&self.module.adts[ctor.adt].ctors[ctor.index as usize].name);
    }

    fn number(&mut self, number: u32) {
        write!(self.out, "%{number}").expect("a string takes all");
    }

    fn type_comment(&mut self, id: ExprId) {
        let ty = &self.module.types[id];
        if self.options.types && *ty != Type::Unknown {
            // A quoted dimension could end the comment.
            let ty = ty.to_string().replace("*/", "* /");
            write!(self.out, " /* ty={ty} */").expect("a string takes all");
        }
    }
}

/// The inside of a scope that was entered, up to the line of its closing sign.
fn inner(scope: ScopeId, root: ExprId) -> [Task; 3] {
    [Task::Stmts(scope, 0, root), Task::Leave, Task::Newline]
}
