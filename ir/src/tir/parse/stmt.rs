//! Statements: one line each, with the lines indented below it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::cursor::{Cursor, Named, Scope};
use super::token::Token;
use super::{Reader, alloc, expr::expr};
use crate::diag::Diagnostic;
use crate::scalar::BinaryOp;
use crate::tir::ir::MAX_NESTING;
use crate::tir::linear::difference;
use crate::tir::{
    Block, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Range, Region, Stmt, VarId,
    VarInfo,
};
use crate::types::DType;

/// The function that is being read.
pub struct Body {
    /// What there is of it.
    pub func: PrimFunc,
    /// Names that are known here.
    pub scope: Scope,
    /// Constant extents of loops, for axes that take theirs from them.
    pub extents: BTreeMap<VarId, i64>,
}

impl Body {
    fn expr(&self, cursor: &mut Cursor<'_, '_>) -> Result<Expr, Diagnostic> {
        expr(cursor, &self.scope, &self.func.buffers)
    }

    /// An expression of a dtype.
    fn expr_of(&self, cursor: &mut Cursor<'_, '_>, dtype: DType) -> Result<Expr, Diagnostic> {
        let start = cursor.span();
        let e = self.expr(cursor)?;
        if e.dtype() == dtype {
            Ok(e)
        } else {
            Err(cursor.error(format!("this is {}, but should be {dtype}", e.dtype())).at(start))
        }
    }

    fn define(&mut self, name: &str, dtype: DType) -> VarId {
        let var = self.func.vars.push(VarInfo { name: name.into(), dtype });
        self.scope.define(name, Named::Var(var, dtype));
        var
    }

    fn buffer(&self, cursor: &mut Cursor<'_, '_>) -> Result<BufferId, Diagnostic> {
        let name = cursor.expect(Token::Name, "a buffer")?;
        match self.scope.get(name) {
            Some(Named::Buffer(b)) => Ok(b),
            Some(Named::Var(..)) => Err(cursor.error_before(format!("`{name}` is no buffer"))),
            None => Err(cursor.error_before(format!("`{name}` is not defined here"))),
        }
    }

    /// `A[i, 0:16]`.
    fn region(&self, cursor: &mut Cursor<'_, '_>) -> Result<Region, Diagnostic> {
        let start = cursor.span();
        let buffer = self.buffer(cursor)?;
        cursor.expect(Token::OpenSquare, "`[`")?;
        let mut ranges = Vec::new();
        if cursor.peek() == Some(Token::Open) && cursor.peek_at(1) == Some(Token::Close) {
            cursor.bump();
            cursor.bump();
        } else {
            loop {
                let min = self.expr_of(cursor, DType::I64)?;
                let extent = if cursor.eat(Token::Colon) {
                    extent(&min, &self.expr_of(cursor, DType::I64)?)
                } else {
                    Expr::int(1)
                };
                ranges.push(Range { min, extent });
                if !cursor.eat(Token::Comma) {
                    break;
                }
            }
        }
        cursor.expect(Token::CloseSquare, "`]`")?;
        let rank = self.func.buffers[buffer].shape.len();
        if ranges.len() == rank {
            Ok(Region { buffer, ranges })
        } else {
            let given = ranges.len();
            Err(cursor.error(format!("the buffer has {rank} dimensions, but {given} indices")).at(start))
        }
    }

    /// Regions to the closing parenthesis.
    fn regions(&self, cursor: &mut Cursor<'_, '_>) -> Result<Vec<Region>, Diagnostic> {
        let mut regions = Vec::new();
        while cursor.peek() != Some(Token::Close) {
            regions.push(self.region(cursor)?);
            if !cursor.eat(Token::Comma) {
                break;
            }
        }
        cursor.close()?;
        Ok(regions)
    }
}

/// The extent of `min:end`, undoing what the printer did.
fn extent(min: &Expr, end: &Expr) -> Expr {
    if min.as_int() == Some(0) {
        return end.clone();
    }
    if let (Some(min), Some(end)) = (min.as_int(), end.as_int()) {
        return Expr::int(end.wrapping_sub(min));
    }
    match end.kind() {
        ExprKind::Binary(BinaryOp::Add, a, b) if a == min => b.clone(),
        _ => difference(end, min).map_or_else(|| end.clone() - min.clone(), |d| d.to_expr()),
    }
}

impl<'a, 't> Reader<'a, 't> {
    /// The statements at this indentation.
    pub fn statements(&mut self, body: &mut Body, indent: usize, depth: usize) -> Result<Stmt, Diagnostic> {
        let mark = body.scope.enter();
        let mut stmts = Vec::new();
        while let Some(line) = self.line_inside(indent) {
            let mut cursor = self.cursor(line);
            if line.indent != indent {
                return Err(cursor.error("unexpected indentation"));
            }
            if depth > MAX_NESTING {
                return Err(cursor.error("statements nest too deeply"));
            }
            self.next += 1;
            stmts.extend(self.statement(&mut cursor, body, indent, depth)?);
        }
        body.scope.leave(mark);
        Ok(match stmts.as_slice() {
            [Stmt::Let { .. }] => Stmt::Seq(stmts),
            [_] => stmts.remove(0),
            _ => Stmt::Seq(stmts),
        })
    }

    /// The lines below a line that ended in a colon.
    fn inside(&mut self, body: &mut Body, indent: usize, depth: usize) -> Result<Stmt, Diagnostic> {
        match self.line() {
            Some(line) if line.indent > indent => self.statements(body, line.indent, depth + 1),
            Some(line) => Err(self.cursor(line).error("expected an indented statement")),
            None => Err(self.end_error("expected an indented statement")),
        }
    }

    fn statement(
        &mut self,
        cursor: &mut Cursor<'a, 't>,
        body: &mut Body,
        indent: usize,
        depth: usize,
    ) -> Result<Option<Stmt>, Diagnostic> {
        if cursor.eat_word("for") {
            return self.for_loop(cursor, body, indent, depth).map(Some);
        }
        if cursor.eat_word("with") {
            return self.block(cursor, body, indent, depth).map(Some);
        }
        if cursor.eat_word("if") {
            let cond = body.expr_of(cursor, DType::Bool)?;
            cursor.expect(Token::Colon, "`:`")?;
            cursor.end()?;
            let then = Box::new(self.inside(body, indent, depth)?);
            let els = match self.line_inside(indent) {
                Some(line) if line.indent == indent && self.cursor(line).eat_word("else") => {
                    self.next += 1;
                    let mut cursor = self.cursor(line);
                    cursor.bump();
                    cursor.expect(Token::Colon, "`:`")?;
                    cursor.end()?;
                    Some(Box::new(self.inside(body, indent, depth)?))
                }
                _ => None,
            };
            return Ok(Some(Stmt::If { cond, then, els }));
        }
        if cursor.eat_call("checkpoint") {
            cursor.close()?;
            return Ok(Some(Stmt::Checkpoint));
        }
        if cursor.eat_call("tvm_storage_sync") {
            let scope = cursor.string()?;
            cursor.close()?;
            if scope != "shared" {
                return Err(cursor.error_before("only the scope \"shared\" has a barrier"));
            }
            return Ok(Some(Stmt::Barrier));
        }
        if cursor.eat_call("evaluate") {
            cursor.integer()?;
            cursor.close()?;
            return Ok(None);
        }
        if cursor.eat_call("tensor_intrin") {
            return intrinsic(cursor, body).map(Some);
        }
        if cursor.peek() == Some(Token::Name) && cursor.peek_at(1) == Some(Token::Colon) {
            return binding(cursor, body).map(Some);
        }
        if cursor.peek() == Some(Token::Name) && cursor.peek_at(1) == Some(Token::OpenSquare) {
            return store(cursor, body).map(Some);
        }
        let found = cursor.text_at(0);
        Err(cursor.error(format!("expected a statement, found `{found}`")))
    }

    /// `for i, j in T.grid(4, 8):` and the like.
    fn for_loop(
        &mut self,
        cursor: &mut Cursor<'a, 't>,
        body: &mut Body,
        indent: usize,
        depth: usize,
    ) -> Result<Stmt, Diagnostic> {
        let mut names = vec![cursor.expect(Token::Name, "a loop variable")?];
        while cursor.eat(Token::Comma) {
            names.push(cursor.expect(Token::Name, "a loop variable")?);
        }
        if !cursor.eat_word("in") {
            return Err(cursor.error("expected `in`"));
        }
        let (mut kind, is_grid) = domain(cursor)?;
        let mut extents = vec![body.expr_of(cursor, DType::I64)?];
        while cursor.eat(Token::Comma) {
            if matches!(kind, LoopKind::ThreadBinding(_)) && cursor.eat_word("thread") {
                cursor.expect(Token::Assign, "`=`")?;
                kind = LoopKind::ThreadBinding(cursor.string()?.into());
            } else {
                extents.push(body.expr_of(cursor, DType::I64)?);
            }
        }
        cursor.expect(Token::Close, "`)`")?;
        cursor.expect(Token::Colon, "`:`")?;
        cursor.end()?;
        if extents.len() != names.len() || (!is_grid && names.len() > 1) {
            let (n, m) = (names.len(), extents.len());
            return Err(cursor.error_before(format!("{n} loop variables, but {m} extents")));
        }
        let mark = body.scope.enter();
        let vars: Vec<VarId> = names.iter().map(|n| body.define(n, DType::I64)).collect();
        for (&var, extent) in vars.iter().zip(&extents) {
            body.extents.extend(extent.as_int().map(|n| (var, n)));
        }
        let inner = self.inside(body, indent, depth + vars.len() - 1)?;
        body.scope.leave(mark);
        let nest = |body: Stmt, (var, extent): (VarId, Expr)| {
            let kind = if is_grid { LoopKind::Serial } else { kind.clone() };
            Stmt::For { var, extent, kind, body: Box::new(body) }
        };
        Ok(vars.into_iter().zip(extents).rev().fold(inner, nest))
    }

    /// `with T.block("name"):`, whose first lines are its axes and declarations.
    fn block(
        &mut self,
        cursor: &mut Cursor<'a, 't>,
        body: &mut Body,
        indent: usize,
        depth: usize,
    ) -> Result<Stmt, Diagnostic> {
        if !cursor.eat_call("block") {
            return Err(cursor.error("expected `T.block(\"name\")`"));
        }
        let mut block = Block {
            name: cursor.string()?.into(),
            iters: Vec::new(),
            predicate: None,
            reads: Vec::new(),
            writes: Vec::new(),
            attrs: IndexMap::new(),
            allocs: Vec::new(),
            init: None,
            body: Box::new(Stmt::nop()),
        };
        cursor.expect(Token::Close, "`)`")?;
        cursor.expect(Token::Colon, "`:`")?;
        cursor.end()?;
        let inner = match self.line_inside(indent + 1) {
            Some(line) => line.indent,
            None => return self.inside(body, indent, depth),
        };
        let mark = body.scope.enter();
        while let Some(line) = self.line_inside(inner) {
            let mut cursor = self.cursor(line);
            if !self.declaration(&mut cursor, body, &mut block, inner, depth)? {
                break;
            }
        }
        *block.body = self.statements(body, inner, depth + 1)?;
        body.scope.leave(mark);
        Ok(Stmt::Block(Box::new(block)))
    }

    /// One declaration of a block; false if the line is none.
    fn declaration(
        &mut self,
        cursor: &mut Cursor<'a, 't>,
        body: &mut Body,
        block: &mut Block,
        indent: usize,
        depth: usize,
    ) -> Result<bool, Diagnostic> {
        let mut ahead = cursor.clone();
        if ahead.eat_word("with") && ahead.at_path("init") {
            self.next += 1;
            ahead.eat_call("init");
            ahead.expect(Token::Close, "`)`")?;
            ahead.expect(Token::Colon, "`:`")?;
            ahead.end()?;
            block.init = Some(Box::new(self.inside(body, indent, depth + 1)?));
            return Ok(true);
        }
        if cursor.eat_call("where") {
            block.predicate = Some(body.expr_of(cursor, DType::Bool)?);
            cursor.close()?;
        } else if cursor.eat_call("reads") {
            block.reads = body.regions(cursor)?;
        } else if cursor.eat_call("writes") {
            block.writes = body.regions(cursor)?;
        } else if cursor.eat_call("block_attr") {
            block.attrs.extend(cursor.attrs()?);
            cursor.close()?;
        } else if let Some(buffer) = alloc(cursor, body)? {
            block.allocs.push(buffer);
        } else if !axes(cursor, body, block)? {
            return Ok(false);
        }
        self.next += 1;
        Ok(true)
    }
}

/// What a loop runs over, to the opening parenthesis; and whether it may be several loops.
fn domain(cursor: &mut Cursor<'_, '_>) -> Result<(LoopKind, bool), Diagnostic> {
    if cursor.eat_word("range") {
        cursor.expect(Token::Open, "`(`")?;
        return Ok((LoopKind::Serial, false));
    }
    let domains = [
        ("grid", LoopKind::Serial),
        ("serial", LoopKind::Serial),
        ("parallel", LoopKind::Parallel),
        ("vectorized", LoopKind::Vectorized),
        ("unroll", LoopKind::Unrolled),
        ("thread_binding", LoopKind::ThreadBinding("threadIdx.x".into())),
        ("tiles", LoopKind::Tiles),
    ];
    for (name, kind) in domains {
        if cursor.eat_call(name) {
            return Ok((kind, name == "grid"));
        }
    }
    Err(cursor.error("expected `range(n)`, `T.grid(..)`, `T.parallel(n)`, `T.tiles(n)` or the like"))
}

/// `v_i, v_k = T.axis.remap("SR", [i, k])` or `v_i = T.axis.spatial(8, i)`; false if it is neither.
fn axes(cursor: &mut Cursor<'_, '_>, body: &mut Body, block: &mut Block) -> Result<bool, Diagnostic> {
    let mut ahead = cursor.clone();
    let mut names = Vec::new();
    while ahead.peek() == Some(Token::Name) {
        names.push(ahead.bump().map_or("", |t| t.text));
        if !ahead.eat(Token::Comma) {
            break;
        }
    }
    if names.is_empty() || !ahead.eat(Token::Assign) || !ahead.at_path("axis") {
        return Ok(false);
    }
    *cursor = ahead;
    if cursor.eat_call("axis.remap") {
        remap(cursor, body, block, &names)?;
        return Ok(true);
    }
    let kinds = [
        ("axis.spatial", IterKind::Spatial),
        ("axis.reduce", IterKind::Reduce),
        ("axis.scan", IterKind::Scan),
        ("axis.opaque", IterKind::Opaque),
    ];
    let Some((_, kind)) = kinds.into_iter().find(|(path, _)| cursor.eat_call(path)) else {
        return Err(cursor.error("expected `T.axis.spatial`, `reduce`, `scan`, `opaque` or `remap`"));
    };
    let [name] = names.as_slice() else {
        return Err(cursor.error("only `T.axis.remap` defines several axes"));
    };
    let extent = cursor.integer()?;
    cursor.expect(Token::Comma, "`,`")?;
    let binding = body.expr_of(cursor, DType::I64)?;
    cursor.close()?;
    let var = body.define(name, DType::I64);
    block.iters.push(IterVar { var, extent, kind, binding });
    Ok(true)
}

fn remap(
    cursor: &mut Cursor<'_, '_>,
    body: &mut Body,
    block: &mut Block,
    names: &[&str],
) -> Result<(), Diagnostic> {
    let kinds = cursor.string()?;
    cursor.expect(Token::Comma, "`,`")?;
    cursor.expect(Token::OpenSquare, "`[`")?;
    let mut iters = Vec::new();
    for (i, kind) in kinds.chars().enumerate() {
        if i > 0 {
            cursor.expect(Token::Comma, "`,`")?;
        }
        let kind = match kind {
            'S' => IterKind::Spatial,
            'R' => IterKind::Reduce,
            other => return Err(cursor.error(format!("`{other}` is no kind of axis; there are S and R"))),
        };
        let start = cursor.span();
        let binding = body.expr_of(cursor, DType::I64)?;
        let extent = match binding.kind() {
            ExprKind::Var(v) => body.extents.get(v).copied(),
            _ => None,
        };
        let extent = extent.ok_or_else(|| cursor.error("this is no loop of constant extent").at(start))?;
        iters.push((extent, kind, binding));
    }
    cursor.expect(Token::CloseSquare, "`]`")?;
    cursor.close()?;
    if iters.len() != names.len() {
        let (n, m) = (names.len(), iters.len());
        return Err(cursor.error(format!("{n} names for {m} axes")));
    }
    for (name, (extent, kind, binding)) in names.iter().zip(iters) {
        let var = body.define(name, DType::I64);
        block.iters.push(IterVar { var, extent, kind, binding });
    }
    Ok(())
}

/// `T.tensor_intrin("name", regions.., parameters..)`.
fn intrinsic(cursor: &mut Cursor<'_, '_>, body: &mut Body) -> Result<Stmt, Diagnostic> {
    let name = cursor.string()?.into();
    let (mut regions, mut params) = (Vec::new(), Vec::new());
    while cursor.eat(Token::Comma) {
        let is_region = cursor.peek() == Some(Token::Name) && cursor.peek_at(1) == Some(Token::OpenSquare);
        // A parameter may begin with a load; what follows the bracket tells.
        let mut ahead = cursor.clone();
        if is_region
            && let Ok(region) = body.region(&mut ahead)
            && matches!(ahead.peek(), Some(Token::Comma | Token::Close))
        {
            *cursor = ahead;
            regions.push(region);
        } else {
            params.push(body.expr_of(cursor, DType::I64)?);
        }
    }
    cursor.close()?;
    Ok(Stmt::Intrin { name, regions, params })
}

/// `v: T.float32 = value`.
fn binding(cursor: &mut Cursor<'_, '_>, body: &mut Body) -> Result<Stmt, Diagnostic> {
    let name = cursor.expect(Token::Name, "a variable")?;
    cursor.expect(Token::Colon, "`:`")?;
    let dtype = DType::ALL.into_iter().find(|d| cursor.at_path(d.name()));
    let dtype = dtype.ok_or_else(|| cursor.error("expected a dtype such as `T.float32`"))?;
    (0..3).for_each(|_| {
        cursor.bump();
    });
    cursor.expect(Token::Assign, "`=`")?;
    let value = body.expr_of(cursor, dtype)?;
    cursor.end()?;
    let var = body.define(name, dtype);
    Ok(Stmt::Let { var, value })
}

/// `A[i, j] = value`.
fn store(cursor: &mut Cursor<'_, '_>, body: &mut Body) -> Result<Stmt, Diagnostic> {
    let target = body.region(cursor)?;
    cursor.expect(Token::Assign, "`=`")?;
    let value = body.expr_of(cursor, body.func.buffers[target.buffer].dtype)?;
    cursor.end()?;
    let indices = target.ranges.into_iter().map(|r| r.min).collect();
    Ok(Stmt::Store { buffer: target.buffer, indices, value })
}
