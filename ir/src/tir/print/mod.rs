//! TIR as TVMScript of the classic dialect.
//!
//! The text parses back ([`super::parse`]) to the same function, up to ids, sharing inside
//! expressions and the nesting of sequences. What differs from TVM: plain integers are
//! `int64`; `T.tiles(n)` is the tile axis, `T.checkpoint()` the place where a worker looks at
//! the control word, `T.tensor_intrin(..)` a call of the catalogue; parameters after the first
//! that is written, and only these, are outputs unless the attribute `num_outputs` says so.

pub mod expr;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;

use super::ir::{
    Block, Buffer, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Region, Scope, Stmt,
    VarId,
};
use super::names::Unique;
use super::visit::vars;
use crate::entity::SecondaryMap;
use crate::op::AttrValue;
use crate::types::DType;
use expr::{Names, expr_text, prec, write_expr};

/// The first line of every text.
pub const HEADER: &str = "# from tvm.script import tir as T\n";

/// The attribute that says how many parameters are outputs, where the body does not show it.
pub const NUM_OUTPUTS: &str = "num_outputs";

/// One function as text, with the header.
pub fn print(func: &PrimFunc) -> String {
    print_all([func])
}

/// Some functions as one text.
pub fn print_all<'a>(funcs: impl IntoIterator<Item = &'a PrimFunc>) -> String {
    let mut out = HEADER.to_string();
    for func in funcs {
        out.push('\n');
        Printer::new(func).function(&mut out);
    }
    out
}

/// How many parameters at the end of the list the body writes.
pub fn written_suffix(func: &PrimFunc) -> usize {
    let mut written = vec![false; func.params.len()];
    let mut mark = |b: BufferId| {
        if let Some(i) = func.params.iter().position(|p| *p == b) {
            written[i] = true;
        }
    };
    func.body.walk(&mut |s| match s {
        Stmt::Store { buffer, .. } => mark(*buffer),
        Stmt::Intrin { name, regions, .. } => {
            let outputs = super::intrin::lookup(name).map_or(0, |i| i.outputs());
            regions.iter().take(outputs).for_each(|r| mark(r.buffer));
        }
        Stmt::Block(b) => b.writes.iter().for_each(|r| mark(r.buffer)),
        Stmt::Seq(_)
        | Stmt::For { .. }
        | Stmt::Let { .. }
        | Stmt::If { .. }
        | Stmt::Checkpoint
        | Stmt::Barrier => {}
    });
    written.iter().rev().take_while(|w| **w).count()
}

/// Writes one function; also what prints the statements inside a Tensor Expression.
pub(crate) struct Printer<'a> {
    func: &'a PrimFunc,
    /// Constant extents of loops.
    extents: BTreeMap<VarId, i64>,
    unique: Unique,
    block_names: Unique,
    buffers: SecondaryMap<BufferId, String>,
    vars: SecondaryMap<VarId, String>,
    indent: usize,
}

impl Names for Printer<'_> {
    fn buffer(&self, buffer: BufferId) -> &str {
        &self.buffers[buffer]
    }

    fn var(&self, var: VarId) -> &str {
        &self.vars[var]
    }
}

impl<'a> Printer<'a> {
    pub(crate) fn new(func: &'a PrimFunc) -> Printer<'a> {
        let mut printer = Printer {
            func,
            extents: BTreeMap::new(),
            unique: Unique::default(),
            block_names: Unique::default(),
            buffers: SecondaryMap::new(),
            vars: SecondaryMap::new(),
            indent: 0,
        };
        for &b in func.params.iter().chain(&func.allocs) {
            printer.name_buffer(b);
        }
        func.body.walk(&mut |s| {
            if let Stmt::Block(block) = s {
                block.allocs.iter().for_each(|&b| printer.name_buffer(b));
            } else if let Stmt::For { var, extent, .. } = s
                && let Some(n) = extent.as_int()
            {
                printer.extents.insert(*var, n);
            }
        });
        // Buffers that are declared nowhere, and variables, get names too: a broken function prints.
        func.buffers.keys().for_each(|b| printer.name_buffer(b));
        func.vars.keys().for_each(|v| printer.vars[v] = format!("{v}?"));
        printer
    }

    fn name_buffer(&mut self, buffer: BufferId) {
        if self.buffers[buffer].is_empty() {
            self.buffers[buffer] = self.unique.take(&self.func.buffers[buffer].name);
        }
    }

    pub(crate) fn bind(&mut self, var: VarId) {
        self.vars[var] = self.unique.take(&self.func.vars[var].name);
    }

    pub(crate) fn release(&mut self, vars: &[VarId]) {
        for &v in vars.iter().rev() {
            self.unique.release(&self.vars[v]);
        }
    }

    fn line(&self, out: &mut String, text: &str) {
        for _ in 0..self.indent {
            out.push_str("    ");
        }
        out.push_str(text);
        out.push('\n');
    }

    fn text(&self, e: &Expr) -> String {
        expr_text(e, self)
    }

    fn function(&mut self, out: &mut String) {
        let params: Vec<String> = self.func.params.iter().map(|&b| self.param(b)).collect();
        let name = Unique::default().take(&self.func.name);
        let _ = writeln!(out, "@T.prim_func\ndef {name}({}):", params.join(", "));
        self.indent = 1;
        let mut attrs = self.func.attrs.clone();
        if written_suffix(self.func) != self.func.outputs {
            attrs.insert(NUM_OUTPUTS.into(), AttrValue::Int(self.func.outputs as i64));
        }
        if !attrs.is_empty() {
            self.line(out, &format!("T.func_attr({})", dict(&attrs)));
        }
        self.line(out, "# with T.block(\"root\"):");
        self.allocs(out, &self.func.allocs);
        let start = out.len();
        self.body(out, &self.func.body);
        if out.len() == start {
            self.line(out, "T.evaluate(0)");
        }
    }

    fn param(&self, b: BufferId) -> String {
        let Buffer { shape, dtype, scope, .. } = &self.func.buffers[b];
        let scope = scope_argument(*scope);
        format!("{}: T.Buffer({}, \"{}\"{scope})", self.buffers[b], tuple(shape), dtype.name())
    }

    fn allocs(&self, out: &mut String, allocs: &[BufferId]) {
        for &b in allocs {
            let Buffer { shape, dtype, scope, .. } = &self.func.buffers[b];
            let dtype = if *dtype == DType::F32 { String::new() } else { format!(", \"{}\"", dtype.name()) };
            let scope = scope_argument(*scope);
            self.line(out, &format!("{} = T.alloc_buffer({}{dtype}{scope})", self.buffers[b], tuple(shape)));
        }
    }

    /// Statements of a scope: a variable that one of them binds is known to the end.
    fn body(&mut self, out: &mut String, body: &Stmt) {
        let mut bound = Vec::new();
        for s in body.flatten() {
            if let Stmt::Let { var, .. } = s {
                bound.push(*var);
            }
            self.statement(out, s);
        }
        self.release(&bound);
    }

    /// The statements one level deeper.
    pub(crate) fn inside(&mut self, out: &mut String, body: &Stmt) {
        self.indent += 1;
        let start = out.len();
        self.body(out, body);
        if out.len() == start {
            self.line(out, "T.evaluate(0)");
        }
        self.indent -= 1;
    }

    fn statement(&mut self, out: &mut String, s: &Stmt) {
        match s {
            Stmt::Seq(_) => self.body(out, s),
            Stmt::For { .. } => self.loops(out, s),
            Stmt::Block(block) => self.block(out, block),
            Stmt::Let { var, value } => {
                let value = self.text(value);
                self.bind(*var);
                let dtype = self.func.vars[*var].dtype.name();
                self.line(out, &format!("{}: T.{dtype} = {value}", self.vars[*var]));
            }
            Stmt::If { cond, then, els } => {
                self.line(out, &format!("if {}:", self.text(cond)));
                self.inside(out, then);
                if let Some(els) = els {
                    self.line(out, "else:");
                    self.inside(out, els);
                }
            }
            Stmt::Store { buffer, indices, value } => {
                let indices: Vec<String> = indices.iter().map(|e| self.text(e)).collect();
                let indices = if indices.is_empty() { "()".to_string() } else { indices.join(", ") };
                self.line(out, &format!("{}[{indices}] = {}", self.buffers[*buffer], self.text(value)));
            }
            Stmt::Intrin { name, regions, params } => {
                let mut args = vec![quote(name)];
                args.extend(regions.iter().map(|r| self.region(r)));
                args.extend(params.iter().map(|p| self.param_text(p)));
                self.line(out, &format!("T.tensor_intrin({})", args.join(", ")));
            }
            Stmt::Checkpoint => self.line(out, "T.checkpoint()"),
            Stmt::Barrier => self.line(out, "T.tvm_storage_sync(\"shared\")"),
        }
    }

    /// A parameter of an intrinsic: a bare load stands in parentheses, as it would be a region.
    fn param_text(&self, e: &Expr) -> String {
        let text = self.text(e);
        if matches!(e.kind(), ExprKind::Load(..)) { format!("({text})") } else { text }
    }

    /// A loop, with the serial loops directly inside it whose extents do not depend on it.
    fn loops(&mut self, out: &mut String, first: &Stmt) {
        let Stmt::For { var, extent, kind, body } = first else { return };
        let mut bound = vec![*var];
        let mut extents = vec![self.text(extent)];
        let mut inner: &Stmt = body;
        if *kind == LoopKind::Serial {
            while let Stmt::For { var, extent, kind: LoopKind::Serial, body } = single(inner) {
                if vars([extent]).iter().any(|v| bound.contains(v)) {
                    break;
                }
                bound.push(*var);
                extents.push(self.text(extent));
                inner = body;
            }
        }
        bound.iter().for_each(|&v| self.bind(v));
        let names: Vec<&str> = bound.iter().map(|&v| self.vars[v].as_str()).collect();
        let n = extents.join(", ");
        let domain = match kind {
            LoopKind::Serial if bound.len() > 1 => format!("T.grid({n})"),
            LoopKind::Serial => format!("range({n})"),
            LoopKind::Parallel => format!("T.parallel({n})"),
            LoopKind::Vectorized => format!("T.vectorized({n})"),
            LoopKind::Unrolled => format!("T.unroll({n})"),
            LoopKind::ThreadBinding(axis) => format!("T.thread_binding({n}, thread={})", quote(axis)),
            LoopKind::Tiles => format!("T.tiles({n})"),
        };
        self.line(out, &format!("for {} in {domain}:", names.join(", ")));
        self.inside(out, inner);
        self.release(&bound);
    }

    fn block(&mut self, out: &mut String, block: &Block) {
        let name = self.block_names.take(&block.name);
        self.line(out, &format!("with T.block({}):", quote(&name)));
        self.indent += 1;
        let bindings: Vec<String> = block.iters.iter().map(|it| self.text(&it.binding)).collect();
        block.iters.iter().for_each(|it| self.bind(it.var));
        self.axes(out, &block.iters, &bindings);
        if let Some(predicate) = &block.predicate {
            self.line(out, &format!("T.where({})", self.text(predicate)));
        }
        self.line(out, &format!("T.reads({})", self.regions(&block.reads)));
        self.line(out, &format!("T.writes({})", self.regions(&block.writes)));
        if !block.attrs.is_empty() {
            self.line(out, &format!("T.block_attr({})", dict(&block.attrs)));
        }
        self.allocs(out, &block.allocs);
        if let Some(init) = &block.init {
            self.line(out, "with T.init():");
            self.inside(out, init);
        }
        self.indent -= 1;
        let start = out.len();
        self.inside(out, &block.body);
        debug_assert!(out.len() > start, "a block has a body");
        let bound: Vec<VarId> = block.iters.iter().map(|it| it.var).collect();
        self.release(&bound);
    }

    /// Consecutive axes bound directly to variables share a line.
    fn axes(&self, out: &mut String, iters: &[IterVar], bindings: &[String]) {
        let mut i = 0;
        while i < iters.len() {
            let run = iters[i..].iter().take_while(|it| self.remaps(it)).count();
            if run >= 2 {
                let names: Vec<&str> =
                    iters[i..i + run].iter().map(|it| self.vars[it.var].as_str()).collect();
                let kinds: String = iters[i..i + run]
                    .iter()
                    .map(|it| if it.kind == IterKind::Spatial { 'S' } else { 'R' })
                    .collect();
                let from = bindings[i..i + run].join(", ");
                self.line(out, &format!("{} = T.axis.remap(\"{kinds}\", [{from}])", names.join(", ")));
                i += run;
            } else {
                let IterVar { var, extent, kind, .. } = &iters[i];
                let kind = match kind {
                    IterKind::Spatial => "spatial",
                    IterKind::Reduce => "reduce",
                    IterKind::Scan => "scan",
                    IterKind::Opaque => "opaque",
                };
                self.line(out, &format!("{} = T.axis.{kind}({extent}, {})", self.vars[*var], bindings[i]));
                i += 1;
            }
        }
    }

    /// True if the axis is spatial or reduce and bound to a loop of its own extent.
    fn remaps(&self, it: &IterVar) -> bool {
        let ExprKind::Var(v) = it.binding.kind() else { return false };
        let plain = matches!(it.kind, IterKind::Spatial | IterKind::Reduce);
        plain && self.extents.get(v) == Some(&it.extent)
    }

    fn regions(&self, regions: &[Region]) -> String {
        regions.iter().map(|r| self.region(r)).collect::<Vec<_>>().join(", ")
    }

    /// `A[i, 0:16]`: one index where the extent is 1.
    fn region(&self, region: &Region) -> String {
        let dims: Vec<String> = region
            .ranges
            .iter()
            .map(|r| {
                let min = self.text(&r.min);
                if r.extent.as_int() == Some(1) {
                    return min;
                }
                let end = match (r.min.as_int(), r.extent.as_int()) {
                    (Some(min), Some(extent)) if min.checked_add(extent).is_some() => {
                        (min + extent).to_string()
                    }
                    (Some(0), None) => self.text(&r.extent),
                    _ => {
                        let mut end = String::new();
                        write_expr(&mut end, &r.min, prec::SUM, self);
                        end.push_str(" + ");
                        write_expr(&mut end, &r.extent, prec::PRODUCT, self);
                        end
                    }
                };
                format!("{min}:{end}")
            })
            .collect();
        let dims = if dims.is_empty() { "()".to_string() } else { dims.join(", ") };
        format!("{}[{dims}]", self.buffers[region.buffer])
    }
}

/// The only statement of a sequence of one.
fn single(stmt: &Stmt) -> &Stmt {
    let mut s = stmt;
    while let Stmt::Seq(stmts) = s
        && let [only] = stmts.as_slice()
    {
        s = only;
    }
    s
}

fn scope_argument(scope: Scope) -> &'static str {
    match scope {
        Scope::Global => "",
        Scope::Shared => ", scope=\"shared\"",
        Scope::Local => ", scope=\"local\"",
    }
}

fn tuple(shape: &[usize]) -> String {
    match shape {
        [n] => format!("({n},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn dict(attrs: &IndexMap<std::sync::Arc<str>, AttrValue>) -> String {
    let items: Vec<String> = attrs.iter().map(|(k, v)| format!("{}: {}", quote(k), attr_text(v))).collect();
    format!("{{{}}}", items.join(", "))
}

/// An attribute's value as text.
pub fn attr_text(value: &AttrValue) -> String {
    match value {
        AttrValue::Int(n) => n.to_string(),
        AttrValue::Float(x) => expr::literal(crate::scalar::Scalar::of(*x)),
        AttrValue::Bool(b) => format!("T.bool({})", if *b { "True" } else { "False" }),
        AttrValue::Str(s) => quote(s),
        AttrValue::DType(d) => format!("T.dtype(\"{}\")", d.name()),
        AttrValue::List(items) => {
            format!("[{}]", items.iter().map(attr_text).collect::<Vec<_>>().join(", "))
        }
        AttrValue::None => "None".to_string(),
    }
}

/// A string literal.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
