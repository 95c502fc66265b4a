//! Statements as C.
//!
//! Loops over GPU threads become definitions of the thread's index, the tile loop the
//! parameter `tile` of the function; all others stay loops.

use std::fmt::Write as _;

use fermata_ir::diag::Diagnostic;
use fermata_ir::tir::interval::Interval;
use fermata_ir::tir::{Block, BufferId, Expr, IterKind, LoopKind, PrimFunc, Region, Scope, Stmt, VarId};
use fermata_ir::types::DType;

use super::expr::{Exprs, Text, bare};
use super::failed;
use super::helpers::{Helpers, c_type};
use super::intrin;
use super::names::Names;

/// The element type of a buffer in memory: bools are bytes.
pub fn memory_type(dtype: DType) -> &'static str {
    if dtype == DType::Bool { "unsigned char" } else { c_type(dtype) }
}

/// A tile function in the making.
pub struct Body<'a> {
    exprs: Exprs<'a>,
    text: String,
    indent: usize,
    shared_bytes: usize,
}

/// A tile function's body, with what goes around it.
pub struct Written {
    /// The statements.
    pub text: String,
    /// Names of the parameters.
    pub params: Vec<String>,
    /// Device functions that it calls.
    pub helpers: Helpers,
    /// Bytes of shared memory.
    pub shared_bytes: usize,
}

/// Writes the body of the tile function, with names that are free. The function has passed the
/// verifier.
///
/// # Errors
/// If it has something that no CUDA kernel can have.
pub fn write(func: &PrimFunc, names: Names) -> Result<Written, Diagnostic> {
    let mut body = Body { exprs: Exprs::new(func, names), text: String::new(), indent: 1, shared_bytes: 0 };
    let params = func.params.iter().map(|&b| body.name_buffer(b)).collect();
    for &b in &func.allocs {
        body.alloc(b)?;
    }
    match &func.body {
        Stmt::For { var, extent, kind: LoopKind::Tiles, body: inner } => {
            let last = extent.as_int().unwrap_or(1) - 1;
            body.define(*var, "(int)tile", true, Interval::new(0, last));
            body.stmt(inner)?;
        }
        other => body.stmt(other)?,
    }
    let Body { exprs, text, shared_bytes, .. } = body;
    Ok(Written { text, params, helpers: exprs.helpers, shared_bytes })
}

impl Body<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{:1$}{text}", "", 4 * self.indent);
    }

    /// The definitions that a statement needs before it.
    fn flush(&mut self) {
        for text in std::mem::take(&mut self.exprs.pending) {
            self.line(&text);
        }
    }

    fn name_buffer(&mut self, b: BufferId) -> String {
        let name = self.exprs.names.take(&self.exprs.func.buffers[b].name);
        self.exprs.buffers[b] = name.clone();
        name
    }

    fn name_var(&mut self, v: VarId, narrow: bool, bounds: Interval) -> String {
        let code = self.exprs.names.take(&self.exprs.func.vars[v].name);
        self.exprs.bounds.set(v, bounds);
        self.exprs.vars[v] = Some(Text { code: code.clone(), narrow });
        code
    }

    /// Defines a variable of dtype `int64`.
    fn define(&mut self, v: VarId, value: &str, narrow: bool, bounds: Interval) {
        let name = self.name_var(v, narrow, bounds);
        let ty = if narrow { "int" } else { "long long" };
        self.line(&format!("const {ty} {name} = {value};"));
    }

    fn alloc(&mut self, b: BufferId) -> Result<(), Diagnostic> {
        let buffer = &self.exprs.func.buffers[b];
        let (count, ty) = (buffer.shape.iter().product::<usize>().max(1), memory_type(buffer.dtype));
        let scope = buffer.scope;
        let name = self.name_buffer(b);
        match scope {
            Scope::Local => self.line(&format!("{ty} {name}[{count}];")),
            Scope::Shared => {
                self.shared_bytes += count * self.exprs.func.buffers[b].dtype.bytes();
                // Vectors are copied to and from rows of narrow numbers.
                let narrow = self.exprs.func.buffers[b].dtype.bytes() < 4;
                let align = if narrow { "__align__(16) " } else { "" };
                self.line(&format!("__shared__ {align}{ty} {name}[{count}];"));
            }
            Scope::Global => {
                return Err(failed(self.exprs.func, "it allocates global memory, which only the host can")
                    .help("give the buffer the scope \"local\" or \"shared\", or make it a parameter"));
            }
        }
        Ok(())
    }

    /// Statements nest only as deep as the verifier allows, so that recursion is bounded.
    fn stmt(&mut self, s: &Stmt) -> Result<(), Diagnostic> {
        match s {
            Stmt::Seq(list) => list.iter().try_for_each(|s| self.stmt(s)),
            Stmt::For { var, extent, kind, body } => self.loop_stmt(*var, extent, kind, body),
            Stmt::Block(block) => self.block(block),
            Stmt::Let { var, value } => {
                self.exprs.begin([value]);
                self.bind(*var, value);
                Ok(())
            }
            Stmt::If { cond, then, els } => {
                self.exprs.begin([cond]);
                let cond = self.exprs.bare(cond);
                self.flush();
                self.line(&format!("if ({cond}) {{"));
                self.inside(then)?;
                if let Some(els) = els {
                    self.line("} else {");
                    self.inside(els)?;
                }
                self.line("}");
                Ok(())
            }
            Stmt::Store { buffer, indices, value } => {
                self.exprs.begin(indices.iter().chain([value]));
                let place = self.exprs.element(*buffer, indices);
                let value = self.exprs.bare(value);
                self.flush();
                self.line(&format!("{place} = {value};"));
                Ok(())
            }
            Stmt::Barrier => {
                self.line("__syncthreads();");
                Ok(())
            }
            // A block looks at the word between tiles.
            Stmt::Checkpoint => Ok(()),
            Stmt::Intrin { name, regions, params } => self.intrinsic(name, regions, params),
        }
    }

    /// The call of a device function on the addresses of the regions.
    fn intrinsic(&mut self, name: &str, regions: &[Region], params: &[Expr]) -> Result<(), Diagnostic> {
        let mins = regions.iter().flat_map(|r| r.ranges.iter().map(|range| &range.min));
        self.exprs.begin(mins.chain(params));
        let place = |body: &mut Self, r: &Region| {
            let indices: Vec<Expr> = r.ranges.iter().map(|range| range.min.clone()).collect();
            format!("&{}", body.exprs.element(r.buffer, &indices))
        };
        let regions: Vec<String> = regions.iter().map(|r| place(self, r)).collect();
        let params = intrin::parameters(params, &mut |p| self.exprs.expr(p).code);
        let called = intrin::call(&mut self.exprs.helpers, name, &regions, &params);
        let called = called.unwrap_or_else(|| Err("it has no CUDA code".into()));
        let called =
            called.map_err(|why| failed(self.exprs.func, &format!("in a call of `{name}`: {why}")))?;
        self.flush();
        self.line(&called);
        Ok(())
    }

    fn inside(&mut self, s: &Stmt) -> Result<(), Diagnostic> {
        self.indent += 1;
        let done = self.stmt(s);
        self.indent -= 1;
        done
    }

    /// Binds a variable to a value of any dtype.
    fn bind(&mut self, var: VarId, value: &Expr) {
        let text = self.exprs.expr(value);
        self.flush();
        if value.dtype() == DType::I64 {
            let bounds = self.exprs.bounds.of(value);
            return self.define(var, bare(&text.code), text.narrow, bounds);
        }
        let name = self.name_var(var, false, Interval::ALL);
        self.line(&format!("const {} {name} = {};", c_type(value.dtype()), bare(&text.code)));
    }

    fn loop_stmt(
        &mut self,
        var: VarId,
        extent: &Expr,
        kind: &LoopKind,
        body: &Stmt,
    ) -> Result<(), Diagnostic> {
        match kind {
            LoopKind::ThreadBinding(axis) if axis.starts_with("threadIdx.") => {
                let last = extent.as_int().unwrap_or(1) - 1;
                self.define(var, &format!("(int){axis}"), true, Interval::new(0, last));
                return self.stmt(body);
            }
            LoopKind::ThreadBinding(axis) => {
                return Err(failed(self.exprs.func, &format!("it has a loop over `{axis}`"))
                    .help("blocks are the iterations of the tile loop, `T.tiles(n)`"));
            }
            LoopKind::Tiles => return Err(failed(self.exprs.func, "its tile loop is not outermost")),
            LoopKind::Unrolled | LoopKind::Vectorized => self.line("#pragma unroll"),
            LoopKind::Serial | LoopKind::Parallel => {}
        }
        self.exprs.begin([extent]);
        let count = self.exprs.expr(extent);
        let last = self.exprs.bounds.of(extent).hi.saturating_sub(1);
        self.flush();
        let ty = if count.narrow { "int" } else { "long long" };
        let i = self.name_var(var, count.narrow, Interval::new(0, last));
        if extent.as_int().is_some() {
            self.line(&format!("for ({ty} {i} = 0; {i} < {}; ++{i}) {{", count.code));
        } else {
            let end = self.exprs.names.take(&format!("{i}_end"));
            let count = bare(&count.code);
            self.line(&format!("for ({ty} {i} = 0, {end} = {count}; {i} < {end}; ++{i}) {{"));
        }
        self.inside(body)?;
        self.line("}");
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), Diagnostic> {
        self.line(&format!("// {}", comment(&block.name)));
        block.allocs.iter().try_for_each(|&b| self.alloc(b))?;
        for it in &block.iters {
            self.exprs.begin([&it.binding]);
            self.bind(it.var, &it.binding);
        }
        let Some(predicate) = &block.predicate else { return self.block_body(block) };
        self.exprs.begin([predicate]);
        let predicate = self.exprs.bare(predicate);
        self.flush();
        self.line(&format!("if ({predicate}) {{"));
        self.indent += 1;
        let done = self.block_body(block);
        self.indent -= 1;
        self.line("}");
        done
    }

    /// The init where every reduce axis is at its start, and the body.
    fn block_body(&mut self, block: &Block) -> Result<(), Diagnostic> {
        if let Some(init) = &block.init {
            let reduce = block.iters.iter().filter(|it| it.kind == IterKind::Reduce);
            let starts: Vec<String> = reduce
                .filter_map(|it| self.exprs.vars[it.var].as_ref().map(|text| format!("{} == 0", text.code)))
                .collect();
            self.line(&format!("if ({}) {{", starts.join(" && ")));
            self.inside(init)?;
            self.line("}");
        }
        self.stmt(&block.body)
    }
}

/// Text that can stand in a comment of one line.
pub fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '\\' { ' ' } else { c }).collect()
}
