//! Syntax to programs: names, operators, attributes, types and constants.
//!
//! All definitions are announced before any body is read, so order does not matter.
//! Errors are collected; an expression that has one is replaced by `()`, and the program is
//! handed out only if there were none. Types are not inferred here.

mod call;
mod constant;
mod expr;
mod scope;
mod types;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::ParseOptions;
use super::literal;
use super::tree::{Func, Name, NodeId, Place, Tree, TypeDef, TypeId};
use crate::diag::{Code, Diagnostic, SourceId, Span, nearest};
use crate::expr::{Adt, AdtId, ConstId, Ctor, CtorRef, Expr, ExprId, Global, GlobalId, Module, VarId};
use crate::types::Type;

use constant::Metadata;
use scope::Scope;

/// After so many errors the rest of the text is not looked at.
const MAX_ERRORS: usize = 100;

/// What is known while a text is resolved.
pub(super) struct Resolver<'a, 't> {
    tree: &'a Tree<'t>,
    options: &'a ParseOptions<'a>,
    source: SourceId,
    module: Module,
    errors: Vec<Diagnostic>,
    globals: HashMap<Cow<'t, str>, GlobalId>,
    adts: HashMap<Cow<'t, str>, AdtId>,
    ctors: HashMap<Cow<'t, str>, CtorRef>,
    /// Local variables in scope.
    locals: Scope<'t, VarId>,
    /// Type variables in scope.
    type_vars: Scope<'t, ()>,
    /// Graph numbers of the current global function, without leading zeros.
    graph: HashMap<&'t str, ExprId>,
    /// Constants of the weights file that were used, so that a name is one constant.
    weights: HashMap<Cow<'t, str>, ConstId>,
    metadata: Metadata,
    /// Declared with `free_var`.
    free_vars: Vec<VarId>,
}

impl<'a, 't> Resolver<'a, 't> {
    pub fn new(tree: &'a Tree<'t>, options: &'a ParseOptions<'a>, module: Module, source: SourceId) -> Self {
        Resolver {
            tree,
            options,
            source,
            module,
            errors: Vec::new(),
            globals: HashMap::new(),
            adts: HashMap::new(),
            ctors: HashMap::new(),
            locals: Scope::default(),
            type_vars: Scope::default(),
            graph: HashMap::new(),
            weights: HashMap::new(),
            metadata: Metadata::default(),
            free_vars: Vec::new(),
        }
    }

    /// Resolves a whole module.
    pub fn module(mut self) -> Result<Module, Vec<Diagnostic>> {
        self.definitions();
        for (name, func) in &self.tree.defs {
            if self.full() {
                break;
            }
            let func = self.global_function(func);
            // A duplicate was refused when it was announced; its first definition stays.
            let name = self.name(*name);
            if let Some(&id) = self.globals.get(&name) {
                self.module.globals[id].func.get_or_insert(func);
            }
        }
        if self.errors.is_empty() { Ok(self.module) } else { Err(self.errors) }
    }

    /// Resolves a lone expression; also gives its free variables.
    pub fn expr(mut self, value: NodeId) -> Result<(Module, ExprId, Vec<VarId>), Vec<Diagnostic>> {
        self.definitions();
        let id = self.expression(value);
        if self.errors.is_empty() { Ok((self.module, id, self.free_vars)) } else { Err(self.errors) }
    }

    /// Resolves a lone type.
    pub fn lone_type(mut self, ty: TypeId) -> Result<Type, Vec<Diagnostic>> {
        let ty = self.ty(ty);
        if self.errors.is_empty() { Ok(ty) } else { Err(self.errors) }
    }

    /// Reads the metadata and announces types, constructors and globals.
    fn definitions(&mut self) {
        if let Some(json) = self.tree.metadata {
            match Metadata::read(json.text) {
                Ok(metadata) => self.metadata = metadata,
                Err(message) => self.error(json.place, Code::TEXT_SYNTAX, message),
            }
        }
        for def in &self.tree.typedefs {
            let name = self.name(def.name);
            if self.adts.contains_key(&name) {
                self.error(def.name.place, Code::TEXT_NAME, format!("type `{name}` is defined twice"));
                continue;
            }
            let params = def.params.iter().map(|p| self.name(*p).into()).collect();
            let adt = Adt { name: name.as_ref().into(), params, ctors: Vec::new(), is_extern: def.is_extern };
            let id = self.module.adts.push(adt);
            self.adts.insert(name, id);
        }
        for def in &self.tree.typedefs {
            self.constructors(def);
        }
        for (name, _) in &self.tree.defs {
            let text = self.name(*name);
            if self.globals.contains_key(&text) {
                self.error(name.place, Code::TEXT_NAME, format!("global `@{text}` is defined twice"));
                continue;
            }
            let id = self.module.globals.push(Global { name: text.as_ref().into(), func: None });
            self.globals.insert(text, id);
        }
    }

    /// Adds the constructors of a type.
    fn constructors(&mut self, def: &TypeDef<'t>) {
        let name = self.name(def.name);
        let Some(&adt) = self.adts.get(&name) else { return };
        if def.is_extern && !def.ctors.is_empty() {
            self.error(def.name.place, Code::TEXT_SYNTAX, "an extern type has no constructors");
        }
        let mark = self.type_vars.mark();
        self.type_params(&def.params);
        for (name, fields) in &def.ctors {
            let text = self.name(*name);
            if self.ctors.contains_key(&text) {
                self.error(name.place, Code::TEXT_NAME, format!("constructor `{text}` is defined twice"));
                continue;
            }
            let fields = fields.iter().map(|&f| self.ty(f)).collect();
            let index = self.module.adts[adt].ctors.len() as u32;
            self.module.adts[adt].ctors.push(Ctor { name: text.as_ref().into(), fields });
            self.ctors.insert(text, CtorRef { adt, index });
        }
        self.type_vars.restore(mark);
    }

    /// Resolves a global function; nothing local is in scope before or after it.
    fn global_function(&mut self, func: &Func<'t>) -> crate::expr::Function {
        self.graph.clear();
        let open = self.open_function(func);
        let body = self.expression(func.body);
        self.close_function(open, body)
    }

    /// Declares type parameters and gives their names.
    fn type_params(&mut self, params: &[Name<'t>]) -> Vec<Arc<str>> {
        let mark = self.type_vars.mark();
        let mut names = Vec::new();
        for &param in params {
            let name = self.name(param);
            if self.type_vars.declared_since(mark, &name) {
                self.error(param.place, Code::TEXT_NAME, format!("type parameter `{name}` is listed twice"));
            }
            names.push(name.as_ref().into());
            self.type_vars.declare(name, ());
        }
        names
    }

    /// A name without quotes and escapes.
    fn name(&mut self, name: Name<'t>) -> Cow<'t, str> {
        self.string(name.text, name.place)
    }

    /// A string without quotes and escapes.
    fn string(&mut self, text: &'t str, place: Place) -> Cow<'t, str> {
        literal::unquote(text).unwrap_or_else(|message| {
            self.error(place, Code::TEXT_TOKEN, message);
            Cow::Borrowed(text)
        })
    }

    /// Adds an expression with its place.
    fn add(&mut self, place: Place, expr: Expr) -> ExprId {
        let id = self.module.add(expr);
        self.module.spans[id] = self.span(place);
        id
    }

    fn span(&self, (start, end): Place) -> Span {
        Span::Text { source: self.source, range: start as usize..end as usize }
    }

    fn error(&mut self, place: Place, code: Code, message: impl Into<String>) {
        let diagnostic = Diagnostic::error(code, message);
        self.report(place, diagnostic);
    }

    fn report(&mut self, place: Place, diagnostic: Diagnostic) {
        if !self.full() {
            let span = self.span(place);
            self.errors.push(diagnostic.at(span));
        }
    }

    /// Reports an unknown name, with the nearest of the known ones.
    fn unknown<'n>(
        &mut self,
        place: Place,
        message: String,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
        spell: impl Fn(&str) -> String,
    ) {
        let diagnostic = Diagnostic::error(Code::TEXT_NAME, message);
        let diagnostic = match nearest(name, known) {
            Some(near) => diagnostic.help(format!("did you mean `{}`?", spell(near))),
            None => diagnostic,
        };
        self.report(place, diagnostic);
    }

    /// True once there are enough errors to stop.
    fn full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }
}
