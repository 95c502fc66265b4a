//! Other layouts for operators, and for all that follows them: what ConvertLayout and AlterOpLayout share.
//!
//! A forward rewrite: where an operator shall have its data in another layout, its operands are
//! transformed, and its result stays in that layout. What reads the result takes it as it lies, if
//! [layout inference](infer) says how, and what does not gets it transformed back. Each tensor is
//! transformed to each form once.

pub mod form;
mod infer;

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Args, Call, Callee, Expr, ExprId, Function, Module};
use fermata_ir::op::transform::{
    EXPAND_DIMS, ExpandDimsAttrs, LAYOUT_TRANSFORM, LayoutTransformAttrs, TRANSPOSE,
};
use fermata_ir::op::{AttrValue, Attrs, Op, OpAttrs};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::rewrite::{marked_bodies, owned_functions};
use super::sparse::Sparse;
use crate::pass::{Outcome, PassContext};
use form::Form;
pub(super) use infer::with_attrs;
use infer::{Site, Wanted, text_attr};

/// The layouts that an operator shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layouts {
    /// Of the data and the result: `NHWC`.
    pub data: String,
    /// Of the weight: `HWIO`; empty where there is none.
    pub kernel: String,
}

/// The layout of a weight that goes with one of data, where it is a usual one.
pub fn kernel_for(data: &str) -> Option<String> {
    Some(match data {
        "NCHW" => "OIHW".into(),
        "NHWC" => "HWIO".into(),
        "NCW" => "OIW".into(),
        "NWC" => "WIO".into(),
        "NCDHW" => "OIDHW".into(),
        "NDHWC" => "DHWIO".into(),
        blocked => {
            let size = blocked.strip_prefix("NCHW")?.strip_suffix('c')?;
            size.parse::<usize>().ok().filter(|&n| n > 0)?;
            format!("OIHW{size}i{size}o")
        }
    })
}

/// Whether an operator has a layout that can be asked for, and whether it has a weight with one.
pub fn has_layout(op: Op) -> Option<bool> {
    let has = |name: &str| op.attrs.iter().any(|a| a.name == name);
    match (has("data_layout") && has("kernel_layout"), has("layout")) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Gives operators the layouts that `wanted` says, and those of what follows.
///
/// # Errors
/// If the program is not well typed.
pub fn convert(
    module: &mut Module,
    wanted: &dyn Fn(&Module, Op, &Call) -> Option<Layouts>,
    rule: &'static str,
    context: &mut PassContext,
) -> Result<Outcome, Diagnostics> {
    let mut outcome = Outcome::Unchanged;
    for (global, func) in owned_functions(module) {
        let mut rewrite = Rewrite {
            module: &mut *module,
            context: &mut *context,
            wanted,
            rule,
            laid: Sparse::default(),
            transformed: BTreeMap::new(),
        };
        let body = rewrite.run(func.body)?;
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    Ok(outcome)
}

/// What stands for an expression.
#[derive(Clone, Debug)]
struct Laid {
    expr: ExprId,
    /// How it lies, if otherwise than it did; one a field if it is a tuple.
    forms: Vec<Option<Form>>,
    /// What its axes are called in a layout, where that is known.
    letters: Option<Vec<char>>,
}

impl Laid {
    /// As ever.
    fn plain(expr: ExprId) -> Laid {
        Laid { expr, forms: Vec::new(), letters: None }
    }
}

/// What the axes of a layout without parts are called.
fn letters_of(layout: &str) -> Option<Vec<char>> {
    Some(form::read(layout)?.into_iter().map(|(letter, _)| letter).collect())
}

struct Rewrite<'a> {
    module: &'a mut Module,
    context: &'a mut PassContext,
    wanted: &'a dyn Fn(&Module, Op, &Call) -> Option<Layouts>,
    rule: &'static str,
    /// By the old expression.
    laid: Sparse<Option<Laid>>,
    /// Transformed tensors, by the tensor, its form before and its form after.
    transformed: BTreeMap<(ExprId, Form, Form), ExprId>,
}

/// A plain tensor's form.
fn plain_form(rank: usize) -> Form {
    Form((0..rank).map(|axis| form::Part { axis, size: None }).collect())
}

impl Rewrite<'_> {
    fn run(&mut self, root: ExprId) -> Result<ExprId, Diagnostics> {
        let order = walk::post_order(self.module, &[root]);
        let marked = marked_bodies(self.module, &order);
        for old in order {
            if marked.contains(&old) {
                self.laid[old] = Some(Laid::plain(old));
                continue;
            }
            let laid = match self.module.exprs[old].clone() {
                Expr::Call(call) => match call.callee {
                    Callee::Op(op) => self.call(old, op, &call)?,
                    Callee::Expr(_) | Callee::Ctor(_) => self.plain_copy(old)?,
                },
                Expr::Proj { tuple, index } => self.field(old, tuple, index)?,
                _ => self.plain_copy(old)?,
            };
            self.laid[old] = Some(laid);
        }
        self.plain(root)
    }

    fn laid(&self, old: ExprId) -> Laid {
        self.laid[old].clone().unwrap_or(Laid::plain(old))
    }

    /// What stands for an expression, as it lay.
    fn plain(&mut self, old: ExprId) -> Result<ExprId, Diagnostics> {
        let Laid { expr, forms, letters } = self.laid(old);
        match (&forms[..], &self.module.types[old]) {
            (forms, _) if forms.iter().all(Option::is_none) => Ok(expr),
            ([Some(form)], Type::Tensor(t)) => {
                let plain = plain_form(t.rank());
                self.transform(expr, form.clone(), plain, letters)
            }
            _ => {
                let mut fields = Vec::new();
                for (index, form) in forms.into_iter().enumerate() {
                    let field = Builder::new(self.module).proj(expr, index as u32)?;
                    let rank = form.as_ref().map_or(0, Form::rank);
                    fields.push(match form {
                        Some(form) => self.transform(field, form, plain_form(rank), letters.clone())?,
                        None => field,
                    });
                }
                Ok(Builder::new(self.module).tuple(&fields)?)
            }
        }
    }

    /// The expression with its operands as they lay.
    fn plain_copy(&mut self, old: ExprId) -> Result<Laid, Diagnostics> {
        let mut operands = Args::new();
        for child in walk::children(&self.module.exprs[old]) {
            operands.push(self.plain(child)?);
        }
        let mut next = operands.into_iter();
        let copied = walk::map_children(&self.module.exprs[old], |c| next.next().unwrap_or(c));
        let expr = match copied {
            Some(expr) => {
                let ty = self.module.types[old].clone();
                let id = self.module.add_like(expr, old);
                self.module.types[id] = ty;
                id
            }
            None => old,
        };
        Ok(Laid::plain(expr))
    }

    fn field(&mut self, old: ExprId, tuple: ExprId, index: u32) -> Result<Laid, Diagnostics> {
        let Laid { expr, forms, letters } = self.laid(tuple);
        match forms.get(index as usize) {
            Some(form @ Some(_)) => {
                let field = Builder::new(self.module).proj(expr, index)?;
                self.module.spans[field] = self.module.spans[old].clone();
                Ok(Laid { expr: field, forms: vec![form.clone()], letters })
            }
            Some(None) | None if forms.iter().any(Option::is_some) => {
                Ok(Laid::plain(Builder::new(self.module).proj(expr, index)?))
            }
            Some(None) | None => self.plain_copy(old),
        }
    }

    fn call(&mut self, old: ExprId, op: Op, call: &Call) -> Result<Laid, Diagnostics> {
        if let Some(layouts) = (self.wanted)(self.module, op, call) {
            match self.convert(old, op, call, &layouts)? {
                Ok(Some(laid)) => return Ok(laid),
                Ok(None) => {}
                Err(why) => {
                    let message = || format!("`{op}` keeps its layout: {why}");
                    self.context.remark(self.module, old, message);
                }
            }
        }
        let forms: Vec<Option<Form>> = call.args.iter().map(|&a| self.form_of(a)).collect();
        if forms.iter().all(Option::is_none) {
            return self.plain_copy(old);
        }
        if let Some(laid) = self.follow(old, op, call, forms)? {
            return Ok(laid);
        }
        let message = || format!("`{op}` gets its operands in the layout that they had");
        self.context.remark(self.module, old, message);
        self.plain_copy(old)
    }

    /// How an operand lies; of a tuple that is written there, how its first field does that lies otherwise.
    fn form_of(&self, old: ExprId) -> Option<Form> {
        match &self.module.exprs[old] {
            Expr::Tuple(fields) => fields.iter().find_map(|&f| self.laid(f).forms.first().cloned().flatten()),
            _ if self.module.types[old].as_tensor().is_some() => {
                self.laid(old).forms.first().cloned().flatten()
            }
            _ => None,
        }
    }

    /// The call in other layouts, `None` if it has them already.
    fn convert(
        &mut self,
        old: ExprId,
        op: Op,
        call: &Call,
        layouts: &Layouts,
    ) -> Result<Result<Option<Laid>, String>, Diagnostics> {
        let text = |name: &str| text_attr(op, &call.attrs, name).unwrap_or_default().to_owned();
        let weighted = has_layout(op) == Some(true);
        let name = if weighted { "data_layout" } else { "layout" };
        let (data, kernel) = (text(name), text("kernel_layout"));
        let out = if text("out_layout").is_empty() { data.clone() } else { text("out_layout") };
        if data == layouts.data && out == layouts.data && (!weighted || kernel == layouts.kernel) {
            return Ok(Ok(None));
        }
        let between = |from: &str, to: &str| {
            Form::between(from, to).ok_or_else(|| format!("\"{from}\" cannot become \"{to}\""))
        };
        let value = |layout: &str| AttrValue::Str(layout.into());
        let mut changes = vec![(name, value(&layouts.data)), ("out_layout", value(""))];
        let forms = between(&data, &layouts.data).and_then(|d| Ok((d, between(&out, &layouts.data)?)));
        let (mut wanted, result) = match forms {
            Ok((data, result)) => (vec![Wanted::Laid(data)], result),
            Err(why) => return Ok(Err(why)),
        };
        if weighted {
            match between(&kernel, &layouts.kernel) {
                Ok(kernel) => wanted.push(Wanted::Laid(kernel)),
                Err(why) => return Ok(Err(why)),
            }
            changes.push(("kernel_layout", value(&layouts.kernel)));
        }
        wanted.resize(call.args.len(), Wanted::Plain);
        for (wanted, &arg) in wanted.iter().zip(&call.args) {
            if let (Wanted::Laid(form), Some(t)) = (wanted, self.module.types[arg].as_tensor())
                && form.dims(&t.shape).is_none()
            {
                let ty = &self.module.types[arg];
                return Ok(Err(format!(
                    "a tensor of type {ty} has no layout \"{}\"",
                    form.text(&form::letters(t.rank()))
                )));
            }
        }
        let result = Some(result).filter(|r| !r.is_plain());
        let attrs = with_attrs(op, &call.attrs, &changes);
        let names = [letters_of(&data), letters_of(&kernel)];
        for ((wanted, &arg), letters) in wanted.iter().zip(&call.args).zip(names) {
            if let Wanted::Laid(form) = wanted {
                self.in_form(arg, form, letters)?;
            }
        }
        let Some(laid) = self.build(old, op, call, &wanted, attrs, vec![result])? else {
            return Ok(Err("the operator does not take the other".into()));
        };
        if !self.context.fire(self.rule, self.module, old) {
            return Ok(Ok(None));
        }
        Ok(Ok(Some(Laid { letters: letters_of(&out), ..laid })))
    }

    /// The call on operands that lie otherwise, if it is known how it takes them.
    fn follow(
        &mut self,
        old: ExprId,
        op: Op,
        call: &Call,
        forms: Vec<Option<Form>>,
    ) -> Result<Option<Laid>, Diagnostics> {
        let types = call.args.iter().map(|&a| &self.module.types[a]).collect();
        let site = Site { op, call, types, result: &self.module.types[old], forms };
        let Some(transfer) = site.transfer() else { return Ok(None) };
        let results: Vec<Option<Form>> =
            transfer.results.into_iter().map(|form| form.filter(|f| !f.is_plain())).collect();
        if transfer.vanishes {
            let expr = self.laid(call.args[0]).expr;
            return Ok(Some(Laid { expr, forms: results, letters: None }));
        }
        let rank = |forms: &[Option<Form>]| forms.first().and_then(|f| Some(f.as_ref()?.rank()));
        let (named, first) = (self.letters(call), rank(&results));
        let letters = named.filter(|l| Some(l.len()) == first);
        let laid = self.build(old, op, call, &transfer.args, transfer.attrs, results)?;
        Ok(laid.map(|laid| Laid { letters, ..laid }))
    }

    /// A call with operands in these forms; `None` if it is not what the forms say.
    fn build(
        &mut self,
        old: ExprId,
        op: Op,
        call: &Call,
        wanted: &[Wanted],
        attrs: Attrs,
        results: Vec<Option<Form>>,
    ) -> Result<Option<Laid>, Diagnostics> {
        let mut args = Args::new();
        for (&arg, wanted) in call.args.iter().zip(wanted) {
            let Some(arg) = self.operand(arg, wanted)? else { return Ok(None) };
            args.push(arg);
        }
        let span = self.module.spans[old].clone();
        let mut build = Builder::new(self.module);
        build.with_span(span);
        let Ok(expr) = build.call(op.0, &args, attrs) else { return Ok(None) };
        let (new, ty) = (&self.module.types[expr], &self.module.types[old]);
        let fields = |ty: &Type| ty.as_tuple().map_or_else(|| vec![ty.clone()], <[Type]>::to_vec);
        let fits = fields(new).iter().zip(fields(ty)).zip(&results).all(|((new, old), form)| {
            let (Some(new), Some(old)) = (new.as_tensor(), old.as_tensor()) else { return form.is_none() };
            let dims = form.as_ref().map_or_else(|| Some(old.shape.clone()), |f| f.dims(&old.shape));
            new.dtype == old.dtype && dims.is_some_and(|dims| dims == new.shape)
        });
        Ok(fits.then_some(Laid { expr, forms: results, letters: None }))
    }

    /// An operand as it is wanted; `None` if it cannot lie so.
    fn operand(&mut self, old: ExprId, wanted: &Wanted) -> Result<Option<ExprId>, Diagnostics> {
        match wanted {
            Wanted::Plain => Ok(Some(self.plain(old)?)),
            Wanted::Laid(form) => self.in_form(old, form, None),
            Wanted::Each(form) => {
                let Expr::Tuple(fields) = self.module.exprs[old].clone() else { return Ok(None) };
                let mut laid = Vec::new();
                for field in fields {
                    match self.in_form(field, form, None)? {
                        Some(field) => laid.push(field),
                        None => return Ok(None),
                    }
                }
                Ok(Some(Builder::new(self.module).tuple(&laid)?))
            }
            Wanted::Broadcast(form) => {
                let Some(t) = self.module.types[old].as_tensor().cloned() else { return Ok(None) };
                let missing = form.rank() - t.rank();
                let mut dims = vec![1.into(); missing];
                dims.extend(t.shape.iter().cloned());
                let own = form.for_dims(&dims);
                if missing == 0 {
                    return self.in_form(old, &own, None);
                }
                if own.dims(&dims).is_none() {
                    return Ok(None);
                }
                let plain = self.plain(old)?;
                let attrs = ExpandDimsAttrs { axis: 0, num_newaxis: missing as i64 }.attrs();
                let wide = Builder::new(self.module).call(&EXPAND_DIMS, &[plain], attrs)?;
                Ok(Some(self.transform(wide, plain_form(form.rank()), own, None)?))
            }
        }
    }

    /// A tensor in a form.
    fn in_form(
        &mut self,
        old: ExprId,
        form: &Form,
        names: Option<Vec<char>>,
    ) -> Result<Option<ExprId>, Diagnostics> {
        let Some(t) = self.module.types[old].as_tensor().cloned() else { return Ok(None) };
        if t.rank() != form.rank() || form.dims(&t.shape).is_none() {
            return Ok(None);
        }
        let Laid { expr, forms, letters } = self.laid(old);
        let from = forms.first().cloned().flatten().unwrap_or_else(|| plain_form(t.rank()));
        Ok(Some(self.transform(expr, from, form.clone(), names.or(letters))?))
    }

    /// What a plain tensor was before it was transposed, and how a form of it is one of that.
    fn before_transposes(&self, expr: ExprId, form: Form) -> (ExprId, Form) {
        let (mut at, mut seen) = (expr, form);
        while let Some((op, call)) = self.module.as_op_call(at)
            && op.is(&TRANSPOSE)
            && let Some(order) = infer::order(op, call, seen.rank())
        {
            seen.0.iter_mut().for_each(|part| part.axis = order[part.axis]);
            at = call.args[0];
        }
        (at, seen)
    }

    /// What the axes of the first operand that lies otherwise are called.
    fn letters(&self, call: &Call) -> Option<Vec<char>> {
        let of = |&arg: &ExprId| match &self.module.exprs[arg] {
            Expr::Tuple(fields) => fields.iter().find_map(|&f| self.laid(f).letters),
            _ => self.laid(arg).letters,
        };
        call.args.iter().find_map(of)
    }

    /// A tensor brought from one form to another, both of one plain tensor; each is made once.
    fn transform(
        &mut self,
        expr: ExprId,
        from: Form,
        to: Form,
        letters: Option<Vec<char>>,
    ) -> Result<ExprId, Diagnostics> {
        let (expr, to) = match from.is_plain() {
            true => self.before_transposes(expr, to),
            false => (expr, to),
        };
        if from == to {
            return Ok(expr);
        }
        let key = (expr, from, to);
        if let Some(&known) = self.transformed.get(&key) {
            return Ok(known);
        }
        let (_, from, to) = &key;
        let span = self.module.spans[expr].clone();
        let mut build = Builder::new(self.module);
        build.with_span(span);
        let letters = letters.unwrap_or_else(|| form::letters(from.rank()));
        let (src_layout, dst_layout) = (from.text(&letters).into(), to.text(&letters).into());
        let attrs = LayoutTransformAttrs { src_layout, dst_layout }.attrs();
        let moved = build.call(&LAYOUT_TRANSFORM, &[expr], attrs)?;
        self.transformed.insert(key, moved);
        Ok(moved)
    }
}
