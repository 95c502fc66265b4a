//! From a program to its picture.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fermata_ir::diag::Span;
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Call, Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::front::output_names;
use fermata_ir::op::Op;
use fermata_ir::types::{TensorType, Type};
use fermata_ir::walk;
use fermata_passes::fuse::is_primitive;

use super::{Family, Graph, Group, Node, Picture};

/// Fields up to which a result has a node each.
const MAX_RESULTS: usize = 16;

/// Fields of a tuple that its only reader takes apart.
const MAX_FIELDS: usize = 64;

/// The picture of a program.
pub(crate) fn build(module: &Module) -> Picture {
    let mut functions = Vec::new();
    for (id, func) in module.functions() {
        let name = module.globals[id].name.to_string();
        functions.push(Builder::new(module, func).function(name, func));
    }
    functions.sort_by_key(|graph| graph.name != "main");
    Picture { functions }
}

/// What stands for an expression.
#[derive(Clone)]
enum Value {
    /// Nothing that is drawn: a constant.
    Nothing,
    /// A node.
    Node(usize),
    /// The fields of a tuple.
    Fields(Rc<[Value]>),
}

struct Builder<'a> {
    module: &'a Module,
    graph: Graph,
    values: BTreeMap<ExprId, Value>,
    /// Parameters.
    vars: BTreeMap<VarId, Value>,
    /// What lets bind; a value stands before the scope of its variable.
    lets: BTreeMap<VarId, ExprId>,
    edges: BTreeSet<(usize, usize)>,
    uses: SecondaryMap<ExprId, u32>,
    /// Inside primitive functions.
    inner: BTreeSet<ExprId>,
}

impl<'a> Builder<'a> {
    fn new(module: &'a Module, func: &Function) -> Builder<'a> {
        Builder {
            module,
            graph: Graph::default(),
            values: BTreeMap::new(),
            vars: BTreeMap::new(),
            lets: BTreeMap::new(),
            edges: BTreeSet::new(),
            uses: walk::use_counts(module, &[func.body]),
            inner: BTreeSet::new(),
        }
    }

    fn function(mut self, name: String, func: &Function) -> Graph {
        self.graph.name = name;
        for &param in &func.params {
            self.param(param);
        }
        let order = walk::post_order(self.module, &[func.body]);
        for &id in &order {
            let expr = &self.module.exprs[id];
            if let Expr::Func(f) = expr
                && is_primitive(f)
            {
                self.inner.extend(walk::post_order(self.module, &[f.body]));
            } else if let Expr::Let { var, value, .. } = expr {
                self.lets.insert(*var, *value);
            } else {
                // Parameters of closures and patterns stand before what reads them.
                walk::bound_vars(expr).into_iter().for_each(|var| self.param(var));
            }
        }
        for id in order {
            if !self.inner.contains(&id) {
                let value = self.expr(id, None);
                self.values.insert(id, value);
            }
        }
        self.results(func);
        self.graph.edges = self.edges.into_iter().collect();
        self.graph
    }

    fn node(
        &mut self,
        title: impl Into<String>,
        id: Option<ExprId>,
        family: Family,
        group: Option<usize>,
    ) -> usize {
        let ty = id.map_or(&Type::Unknown, |id| &self.module.types[id]);
        let mut facts = ty.to_string();
        if let Some(id) = id {
            facts.push_str(&self.more_facts(id));
        }
        let (title, detail) = (title.into(), short_type(ty));
        self.graph.nodes.push(Node { title, detail, facts, family, group });
        self.graph.nodes.len() - 1
    }

    /// Attributes, constants and origin of a call.
    fn more_facts(&self, id: ExprId) -> String {
        let mut text = String::new();
        if let Some((op, call)) = self.module.as_op_call(id) {
            for (def, value) in op.attrs.iter().zip(call.attrs.values()) {
                if (def.default)().as_ref() != Some(value) {
                    text.push_str(&format!("\n{} = {value}", def.name));
                }
            }
            for (place, &arg) in call.args.iter().enumerate() {
                if let Some(tensor) = self.module.as_const(arg) {
                    let name = op.args.get(place).copied().unwrap_or("constant");
                    text.push_str(&format!("\n{name}: {}", tensor.ty()));
                }
            }
        }
        match &self.module.spans[id] {
            Span::Node { path, .. } => text.push_str(&format!("\nfrom {path}")),
            Span::Text { .. } | Span::None => {}
        }
        text
    }

    fn param(&mut self, var: VarId) {
        let info = &self.module.vars[var];
        let (title, detail) = (info.name.to_string(), short_type(&info.ty));
        let facts = info.ty.to_string();
        self.graph.nodes.push(Node { title, detail, facts, family: Family::Port, group: None });
        self.vars.insert(var, Value::Node(self.graph.nodes.len() - 1));
    }

    /// Connects the nodes of a value to a reader.
    fn connect(&mut self, value: &Value, to: usize) {
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            match value {
                Value::Nothing => {}
                Value::Node(from) if *from != to => drop(self.edges.insert((*from, to))),
                Value::Node(_) => {}
                Value::Fields(fields) => stack.extend(fields.iter()),
            }
        }
    }

    fn value(&self, id: ExprId) -> Value {
        self.values.get(&id).cloned().unwrap_or(Value::Nothing)
    }

    /// A node that reads all operands.
    fn reader(&mut self, title: &str, id: ExprId, family: Family, group: Option<usize>) -> Value {
        let node = self.node(title, Some(id), family, group);
        for child in walk::children(&self.module.exprs[id]) {
            let value = self.value(child);
            self.connect(&value, node);
        }
        Value::Node(node)
    }

    fn expr(&mut self, id: ExprId, group: Option<usize>) -> Value {
        match &self.module.exprs[id] {
            Expr::Var(var) => match self.lets.get(var) {
                Some(&value) => self.value(value),
                None => self.vars.get(var).cloned().unwrap_or(Value::Nothing),
            },
            Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) | Expr::Global(_) => Value::Nothing,
            Expr::Call(call) => match call.callee {
                Callee::Op(op) => self.reader(op.name(), id, Family::of(op), group),
                Callee::Ctor(_) => self.reader("constructor", id, Family::Other, group),
                Callee::Expr(callee) => self.call(id, call, callee),
            },
            Expr::Func(func) if is_primitive(func) => Value::Nothing,
            Expr::Func(_) => self.reader("fn", id, Family::Other, group),
            Expr::Let { body, .. } => self.value(*body),
            Expr::Tuple(fields) if self.uses[id] <= 1 && fields.len() <= MAX_FIELDS => {
                Value::Fields(fields.iter().map(|&f| self.value(f)).collect())
            }
            Expr::Tuple(_) => self.reader("tuple", id, Family::Other, group),
            Expr::Proj { tuple, index } => match self.value(*tuple) {
                Value::Fields(fields) => fields.get(*index as usize).cloned().unwrap_or(Value::Nothing),
                whole => whole,
            },
            Expr::If { .. } => self.reader("if", id, Family::Other, group),
            Expr::Match { .. } => self.reader("match", id, Family::Other, group),
            Expr::Ref(_) => self.reader("ref", id, Family::Other, group),
            Expr::RefRead(_) => self.reader("ref_read", id, Family::Other, group),
            Expr::RefWrite { .. } => self.reader("ref_write", id, Family::Other, group),
        }
    }

    fn call(&mut self, id: ExprId, call: &Call, callee: ExprId) -> Value {
        match &self.module.exprs[callee] {
            Expr::Func(func) if is_primitive(func) => self.group(call, func),
            Expr::Global(global) => {
                let name = format!("@{}", self.module.globals[*global].name);
                self.reader(&name, id, Family::Other, None)
            }
            _ => self.reader("call", id, Family::Other, None),
        }
    }

    /// The operators of a primitive function, with the arguments of a call in place of its parameters.
    fn group(&mut self, call: &Call, func: &Function) -> Value {
        let order = walk::post_order(self.module, &[func.body]);
        let ops: Vec<Op> =
            order.iter().filter_map(|&e| self.module.as_op_call(e).map(|(op, _)| op)).collect();
        let group = (ops.len() > 1).then(|| {
            self.graph.groups.push(Group { title: group_title(&ops) });
            self.graph.groups.len() - 1
        });
        for (&param, &arg) in func.params.iter().zip(&call.args) {
            let value = self.value(arg);
            self.vars.insert(param, value);
        }
        for id in order {
            let value = self.expr(id, group);
            self.values.insert(id, value);
        }
        self.value(func.body)
    }

    fn results(&mut self, func: &Function) {
        let names = output_names(func);
        let whole = self.value(func.body);
        let fields = match &whole {
            Value::Fields(fields) if fields.len() <= MAX_RESULTS => fields.to_vec(),
            Value::Fields(_) | Value::Node(_) | Value::Nothing => vec![whole.clone()],
        };
        let types = self.module.types[func.body].as_tuple().filter(|t| t.len() == fields.len());
        for (place, value) in fields.iter().enumerate() {
            let ty = types.map_or(&self.module.types[func.body], |t| &t[place]);
            let title =
                names.get(place).filter(|n| !n.is_empty()).cloned().unwrap_or_else(|| "result".into());
            let (detail, facts) = (short_type(ty), ty.to_string());
            self.graph.nodes.push(Node { title, detail, facts, family: Family::Port, group: None });
            self.connect(value, self.graph.nodes.len() - 1);
        }
    }
}

/// `conv2d, add, relu`: what is in a group, without repetitions.
fn group_title(ops: &[Op]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for op in ops {
        let name = op.name().rsplit('.').next().unwrap_or(op.name());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// `1×64×56×56 f32`; of a tuple, how many fields it has.
pub(crate) fn short_type(ty: &Type) -> String {
    let tensor = |t: &TensorType| {
        let dims: Vec<String> = t.shape.iter().map(ToString::to_string).collect();
        let dtype = t.dtype.name().replace("bfloat", "bf").replace("float", "f").replace("uint", "u");
        let dtype = dtype.replace("int", "i");
        if dims.is_empty() { dtype } else { format!("{} {dtype}", dims.join("×")) }
    };
    match ty {
        Type::Tensor(t) => tensor(t),
        Type::Tuple(fields) => format!("{} values", fields.len()),
        Type::Func(_) => "a function".into(),
        Type::Ref(_) => "a reference".into(),
        Type::Adt(name, _) => name.to_string(),
        Type::Var(_) | Type::Unknown => String::new(),
    }
}
