//! A graph of nodes to expressions: names, scopes, inputs, outputs, and what is refused.
//!
//! Values that depend on constants alone are folded as the graph is walked, so that the
//! subgraphs by which exporters compute shapes are gone once the dimensions are known. A
//! node that is refused poisons its results; the walk goes on, so that one run of the
//! importer tells everything that is wrong.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::fold::Folder;
use super::node::Cx;
use super::ops;
use super::order::order;
use super::proto::{Attribute, Function as FunctionProto, Graph, Node, OpsetId};
use super::tensor::Files;
use super::{ImportOptions, SOURCE};
use crate::diag::{Code, Diagnostic, SourceId, Span, nearest};
use crate::entity::EntityRef;
use crate::expr::{Expr, ExprId, Module, VarId};
use crate::types::Type;

/// How deeply functions and control flow may nest.
const MAX_DEPTH: usize = 48;

/// How many nodes a model may have once functions are inlined and loops unrolled.
const MAX_NODES: usize = 1 << 21;

/// After this many errors the walk stops.
const MAX_ERRORS: usize = 20;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A tensor.
    Tensor(ExprId),
    /// A sequence whose length is known; its elements.
    Sequence(Rc<[ExprId]>),
    /// An optional input left out, or an empty optional value.
    Absent,
    /// The result of a node that was refused.
    Poison,
}

impl From<ExprId> for Value {
    fn from(e: ExprId) -> Value {
        Value::Tensor(e)
    }
}

/// The results of a node.
pub(super) type Mapped = Result<Vec<Value>, Diagnostic>;

/// How far names are seen from inside a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Border {
    /// A branch: the names around it are seen.
    Open,
    /// The body of a loop that becomes a function: names around it are seen, their values
    /// are bound to variables once, outside.
    Closure,
    /// A function of the model: nothing around it is seen.
    Function,
}

/// The names of one graph.
pub(super) struct Scope<'a> {
    values: BTreeMap<&'a str, Value>,
    border: Border,
    /// For [`Border::Closure`]: variables with the outer expressions that they stand for.
    pub captured: Vec<(VarId, ExprId)>,
}

/// The attributes of the function call that is being inlined.
type Frame<'a> = BTreeMap<&'a str, &'a Attribute<'a>>;

/// The state of an import.
pub(super) struct Importer<'a> {
    /// The program so far.
    pub module: Module,
    /// What is known of values at compile time.
    pub folder: Folder,
    /// Where the bytes of tensors are.
    files: &'a Files,
    functions: BTreeMap<(&'a str, &'a str, &'a str), &'a FunctionProto<'a>>,
    opsets: Vec<&'a [OpsetId<'a>]>,
    scopes: Vec<Scope<'a>>,
    frames: Vec<Frame<'a>>,
    path: Vec<String>,
    nodes_left: usize,
    errors: Vec<Diagnostic>,
}

impl<'a> Importer<'a> {
    pub(super) fn new(
        name: &str,
        files: &'a Files,
        functions: &'a [FunctionProto<'a>],
        opsets: &'a [OpsetId<'a>],
    ) -> Result<Importer<'a>, Diagnostic> {
        let mut module = Module::new();
        module.sources.push(crate::diag::Source { name: name.into(), text: "".into() });
        let mut table = BTreeMap::new();
        for f in functions {
            if table.insert((ops::domain(f.domain), f.name, f.overload), f).is_some() {
                return Err(super::malformed(format!("function `{}` is defined twice", f.name), "functions"));
            }
        }
        Ok(Importer {
            module,
            folder: Folder::default(),
            files,
            functions: table,
            opsets: vec![opsets],
            scopes: Vec::new(),
            frames: Vec::new(),
            path: vec!["main".into()],
            nodes_left: MAX_NODES,
            errors: Vec::new(),
        })
    }

    /// Where the walk is.
    pub(super) fn span(&self) -> Span {
        Span::Node { source: SourceId::new(SOURCE), path: self.path.join(" > ").into() }
    }

    /// An error about the bytes, here.
    pub(super) fn malformed(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::IMPORT_FORMAT, message).at(self.span())
    }

    /// The errors so far.
    pub(super) fn take_errors(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.errors)
    }

    /// Makes the function `@main` of the model's graph.
    pub(super) fn import_main(
        &mut self,
        graph: &'a Graph<'a>,
        options: &ImportOptions,
    ) -> Result<(), Diagnostic> {
        self.push_scope(Border::Function);
        let params = super::inputs::define(self, graph, options)?;
        self.import_nodes(graph)?;
        let outputs = self.outputs(graph)?;
        self.scopes.pop();
        if outputs.iter().any(|v| matches!(v, Value::Poison)) || !self.errors.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = graph.outputs.iter().map(|o| o.name).collect();
        super::inputs::finish(self, params, &names, &outputs)
    }

    /// Opens a scope.
    pub(super) fn push_scope(&mut self, border: Border) {
        self.scopes.push(Scope { values: BTreeMap::new(), border, captured: Vec::new() });
    }

    /// Closes the innermost scope.
    pub(super) fn pop_scope(&mut self) -> Scope<'a> {
        self.scopes.pop().expect("scopes are opened and closed in pairs")
    }

    /// Gives a name of the innermost scope its value.
    pub(super) fn bind(&mut self, name: &'a str, value: Value) {
        self.scopes.last_mut().expect("a scope is open").values.insert(name, value);
    }

    /// The value of a name, seen from the innermost scope.
    pub(super) fn lookup(&mut self, name: &'a str) -> Option<Value> {
        let mut found = None;
        let mut closures = Vec::new();
        for (depth, scope) in self.scopes.iter().enumerate().rev() {
            if let Some(value) = scope.values.get(name) {
                found = Some(value.clone());
                break;
            }
            match scope.border {
                Border::Open => {}
                Border::Closure => closures.push(depth),
                Border::Function => return None,
            }
        }
        let mut value = found?;
        for depth in closures.into_iter().rev() {
            value = self.capture(depth, value);
            self.scopes[depth].values.insert(name, value.clone());
        }
        Some(value)
    }

    /// A variable for an outer value, so that a loop's body does not compute it again.
    fn capture(&mut self, depth: usize, value: Value) -> Value {
        let Value::Tensor(outer) = value else { return value };
        if matches!(self.module.exprs[outer], Expr::Const(_) | Expr::Var(_)) {
            return value;
        }
        let var = self.module.var(format!("outer{}", self.scopes[depth].captured.len()), self.ty(outer));
        let expr = self.module.add(Expr::Var(var));
        self.module.types[expr] = self.ty(outer);
        self.scopes[depth].captured.push((var, outer));
        Value::Tensor(expr)
    }

    /// The type of an expression.
    pub(super) fn ty(&self, e: ExprId) -> Type {
        self.module.types[e].clone()
    }

    /// Names that are seen here, for suggestions.
    fn visible(&self) -> Vec<&'a str> {
        let mut names = Vec::new();
        for scope in self.scopes.iter().rev() {
            names.extend(scope.values.keys().copied());
            if scope.border == Border::Function {
                break;
            }
        }
        names
    }

    fn sees(&self, name: &str) -> bool {
        for scope in self.scopes.iter().rev() {
            if scope.values.contains_key(name) {
                return true;
            }
            if scope.border == Border::Function {
                break;
            }
        }
        false
    }

    /// Binds a graph's initializers in the innermost scope.
    pub(super) fn define_initializers(&mut self, graph: &'a Graph<'a>) -> Result<(), Diagnostic> {
        if graph.sparse_initializers > 0 {
            let message = "sparse initializers are not supported";
            return Err(Diagnostic::error(Code::IMPORT_UNSUPPORTED, message).at(self.span()));
        }
        for proto in &graph.initializers {
            let place = format!("initializer `{}`", proto.name);
            let known = self.scopes.last().is_some_and(|s| s.values.contains_key(proto.name));
            if known {
                return Err(self.malformed(format!("{place} is defined twice")));
            }
            let value = match self.files.tensor(proto) {
                Ok(tensor) => {
                    let e = self.module.constant(tensor);
                    if let Expr::Const(c) = self.module.exprs[e] {
                        self.module.consts[c].name = Some(proto.name.into());
                    }
                    Value::Tensor(e)
                }
                Err(message) => {
                    self.path.push(place);
                    self.errors.push(self.malformed(message));
                    self.path.pop();
                    Value::Poison
                }
            };
            self.bind(proto.name, value);
        }
        Ok(())
    }

    /// Imports the nodes of a graph into the innermost scope.
    pub(super) fn import_nodes(&mut self, graph: &'a Graph<'a>) -> Result<(), Diagnostic> {
        self.import_node_list(&graph.nodes)
    }

    fn import_node_list(&mut self, nodes: &'a [Node<'a>]) -> Result<(), Diagnostic> {
        let sorted = match order(nodes, &|name| self.sees(name)) {
            Ok(sorted) => sorted,
            Err(e) => {
                self.path.push(node_name(&nodes[e.node], e.node));
                let near = e.missing.and_then(|name| nearest(name, self.visible()));
                let error = self.malformed(e.message);
                self.path.pop();
                return Err(match near {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error,
                });
            }
        };
        for i in sorted {
            self.path.push(node_name(&nodes[i], i));
            self.import_node(&nodes[i])?;
            self.path.pop();
        }
        Ok(())
    }

    /// Imports one node; what it refuses is noted, not returned.
    fn import_node(&mut self, node: &'a Node<'a>) -> Result<(), Diagnostic> {
        self.nodes_left = match self.nodes_left.checked_sub(1) {
            Some(left) => left,
            None => return Err(self.malformed(format!("the model unrolls to more than {MAX_NODES} nodes"))),
        };
        let args: Vec<Value> = node
            .inputs
            .iter()
            .map(|name| if name.is_empty() { Some(Value::Absent) } else { self.lookup(name) })
            .map(|v| v.unwrap_or(Value::Poison))
            .collect();
        let poisoned = args.iter().any(|v| matches!(v, Value::Poison));
        let depths = (self.path.len(), self.scopes.len(), self.frames.len(), self.opsets.len());
        let mapped = if poisoned { Ok(Vec::new()) } else { self.map_node(node, args) };
        let results = match mapped {
            Ok(results) => results,
            Err(e) => {
                self.note_error(e)?;
                // An error inside a subgraph leaves what was opened on the way to it.
                self.path.truncate(depths.0);
                self.scopes.truncate(depths.1);
                self.frames.truncate(depths.2);
                self.opsets.truncate(depths.3);
                Vec::new()
            }
        };
        for (i, name) in node.outputs.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
            self.bind(name, results.get(i).cloned().unwrap_or(Value::Poison));
        }
        Ok(())
    }

    /// Keeps an error; too many end the walk.
    fn note_error(&mut self, mut e: Diagnostic) -> Result<(), Diagnostic> {
        if e.span == Span::None {
            e.span = self.span();
        }
        if self.errors.len() + 1 >= MAX_ERRORS {
            return Err(e);
        }
        self.errors.push(e);
        Ok(())
    }

    /// The results of a node, folded where they are known.
    fn map_node(&mut self, node: &'a Node<'a>, args: Vec<Value>) -> Mapped {
        let domain = ops::domain(node.domain);
        if let Some(function) = self.functions.get(&(domain, node.op_type, node.overload)).copied() {
            return self.call_function(node, function, args);
        }
        let opset = self.opset(domain)?;
        let Some(row) = ops::find(domain, node.op_type) else {
            return Err(Diagnostic::error(
                Code::IMPORT_UNSUPPORTED,
                format!("operator `{}` is not supported", node.op_type),
            ));
        };
        let first = self.module.exprs.len();
        let attrs = self.resolve_attrs(node);
        let mut cx = Cx::new(self, node, attrs, args, opset);
        let mapped = (row.map)(&mut cx);
        let args = cx.into_args();
        let mut results = mapped.map_err(|e| self.placed(e))?;
        self.fold_results(row, node, opset, &args, &mut results);
        let span = self.span();
        for i in first..self.module.exprs.len() {
            let e = ExprId::new(i);
            if self.module.spans[e] == Span::None {
                self.module.spans[e] = span.clone();
            }
        }
        if results.len() < node.outputs.iter().rposition(|n| !n.is_empty()).map_or(0, |i| i + 1) {
            let message = format!("`{}` has only {} results here", node.op_type, results.len());
            return Err(Diagnostic::error(Code::IMPORT_UNSUPPORTED, message));
        }
        Ok(results)
    }

    /// An error of a mapping, here: what building refuses is located at its operands.
    fn placed(&self, e: Diagnostic) -> Diagnostic {
        match e.code {
            Code::IMPORT_FORMAT | Code::IMPORT_UNSUPPORTED if e.span != Span::None => e,
            _ => e.at(self.span()),
        }
    }

    fn fold_results(
        &mut self,
        row: &'static ops::Row,
        node: &'a Node<'a>,
        opset: i64,
        args: &[Value],
        results: &mut [Value],
    ) {
        // What a subgraph uses of the values around it is no argument.
        let has_subgraph = super::order::subgraphs(node).next().is_some();
        let closed = !has_subgraph && self.folder.all_closed(&self.module, args);
        for value in results.iter_mut() {
            match value {
                Value::Tensor(e) if closed => *e = self.folder.close(&mut self.module, *e),
                Value::Sequence(items) if closed => {
                    *items = items.iter().map(|&e| self.folder.close(&mut self.module, e)).collect();
                }
                Value::Tensor(_) | Value::Sequence(_) | Value::Absent | Value::Poison => {}
            }
        }
        if !closed && row.moves_data {
            super::fold::trace_extents(self, row, node, opset, args, results);
        }
    }

    /// The opset of a domain, where the walk is.
    fn opset(&self, domain: &str) -> Result<i64, Diagnostic> {
        let imports = self.opsets.last().copied().unwrap_or_default();
        let found = imports.iter().find(|o| ops::domain(o.domain) == domain).map(|o| o.version);
        match found {
            Some(version) => Ok(version),
            // Files of the first IR versions declare no opset at all.
            None if imports.is_empty() && domain.is_empty() => Ok(1),
            None => Err(self.malformed(format!("no opset is imported for domain `{domain}`"))),
        }
    }

    /// The attributes of a node; inside a function, references become the call's values.
    pub(super) fn resolve_attrs(&self, node: &'a Node<'a>) -> Vec<(&'a str, &'a Attribute<'a>)> {
        let resolve = |a: &'a Attribute<'a>| match a.reference {
            "" => Some((a.name, a)),
            outer => self.frames.last().and_then(|f| f.get(outer)).map(|&v| (a.name, v)),
        };
        node.attrs.iter().filter_map(resolve).collect()
    }

    /// Inlines a function of the model.
    fn call_function(
        &mut self,
        node: &'a Node<'a>,
        function: &'a FunctionProto<'a>,
        args: Vec<Value>,
    ) -> Mapped {
        self.check_depth()?;
        let mut frame: Frame<'a> = function.defaults.iter().map(|a| (a.name, a)).collect();
        frame.extend(self.resolve_attrs(node));
        if args.len() > function.inputs.len() {
            let message = format!("function `{}` takes {} inputs", function.name, function.inputs.len());
            return Err(self.malformed(message));
        }
        self.push_scope(Border::Function);
        for (i, name) in function.inputs.iter().enumerate() {
            self.bind(name, args.get(i).cloned().unwrap_or(Value::Absent));
        }
        self.frames.push(frame);
        self.opsets.push(&function.opset_import);
        self.import_node_list(&function.nodes)?;
        self.opsets.pop();
        self.frames.pop();
        let results = function.outputs.iter().map(|name| {
            self.lookup(name).ok_or_else(|| self.malformed(format!("function result `{name}` is not made")))
        });
        let results = results.collect();
        self.pop_scope();
        results
    }

    /// Imports a subgraph in a new scope with its inputs bound; gives its outputs.
    pub(super) fn import_subgraph(
        &mut self,
        graph: &'a Graph<'a>,
        label: &str,
        border: Border,
        args: &[Value],
    ) -> Result<(Vec<Value>, Scope<'a>), Diagnostic> {
        self.check_depth()?;
        if args.len() != graph.inputs.len() {
            let message = format!("{label} has {} inputs, it is given {}", graph.inputs.len(), args.len());
            return Err(self.malformed(message));
        }
        self.push_scope(border);
        self.path.push(label.into());
        for (input, value) in graph.inputs.iter().zip(args) {
            self.bind(input.name, value.clone());
        }
        self.define_initializers(graph)?;
        self.import_nodes(graph)?;
        let outputs = self.outputs(graph)?;
        self.path.pop();
        Ok((outputs, self.pop_scope()))
    }

    fn outputs(&mut self, graph: &'a Graph<'a>) -> Result<Vec<Value>, Diagnostic> {
        graph
            .outputs
            .iter()
            .map(|o| {
                self.lookup(o.name).ok_or_else(|| {
                    let error = self.malformed(format!("output `{}` is not made by any node", o.name));
                    match nearest(o.name, self.visible()) {
                        Some(near) => error.help(format!("did you mean `{near}`?")),
                        None => error,
                    }
                })
            })
            .collect()
    }

    fn check_depth(&self) -> Result<(), Diagnostic> {
        match self.scopes.len() < MAX_DEPTH {
            true => Ok(()),
            false => {
                Err(self.malformed(format!("functions and control flow nest more than {MAX_DEPTH} deep")))
            }
        }
    }

    /// The tensor of a `TensorProto` in an attribute.
    pub(super) fn tensor(
        &self,
        proto: &super::proto::TensorProto<'_>,
    ) -> Result<crate::tensor::Tensor, Diagnostic> {
        self.files.tensor(proto).map_err(|message| self.malformed(message))
    }
}

/// How a node is called in paths: its name, or else its operator, with its index.
fn node_name(node: &Node<'_>, index: usize) -> String {
    let name = if node.name.is_empty() { node.op_type } else { node.name };
    format!("{name} (node #{index})")
}
