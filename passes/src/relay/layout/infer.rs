//! Layout inference: how operators take operands that lie otherwise, and how their results lie then.

use fermata_ir::expr::Call;
use fermata_ir::op::nn::{BIAS_ADD, DROPOUT, LOG_SOFTMAX, PAD, PRELU, SOFTMAX};
use fermata_ir::op::norm::{BATCH_NORM, GROUP_NORM, INSTANCE_NORM, LAYER_NORM, LRN, RMS_NORM};
use fermata_ir::op::quant::{DEQUANTIZE, QUANTIZE, REQUANTIZE};
use fermata_ir::op::transform::{CONCATENATE, SPLIT, TRANSPOSE, TRILU};
use fermata_ir::op::{AttrValue, Attrs, FusePattern, Op};
use fermata_ir::types::{Dim, TensorType, Type};

use super::form::{self, Form, Part};

/// How an operand of a call is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// As the program had it.
    Plain,
    /// In this form.
    Laid(Form),
    /// In the form of a tensor of higher rank that it broadcasts to.
    Broadcast(Form),
    /// Each tensor of a tuple in this form.
    Each(Form),
}

/// How a call takes operands that lie otherwise.
pub struct Transfer {
    /// The operands.
    pub args: Vec<Wanted>,
    /// The attributes.
    pub attrs: Attrs,
    /// The forms of the result, of each field if it is a tuple; `None` for what lies as ever.
    pub results: Vec<Option<Form>>,
    /// True if the call is nothing but its first operand.
    pub vanishes: bool,
}

/// What is known of a call.
pub struct Site<'a> {
    /// The operator.
    pub op: Op,
    /// The call, as the program had it.
    pub call: &'a Call,
    /// The types of its operands there.
    pub types: Vec<&'a Type>,
    /// The type of its result there.
    pub result: &'a Type,
    /// How the first tensor of each operand lies.
    pub forms: Vec<Option<Form>>,
}

/// The value of an attribute.
pub fn attr<'a>(op: Op, attrs: &'a Attrs, name: &str) -> Option<&'a AttrValue> {
    let place = op.attrs.iter().position(|a| a.name == name)?;
    attrs.values().get(place)
}

/// The text of an attribute.
pub fn text_attr<'a>(op: Op, attrs: &'a Attrs, name: &str) -> Option<&'a str> {
    match attr(op, attrs, name)? {
        AttrValue::Str(text) => Some(text),
        _ => None,
    }
}

/// The attributes with other values for some.
pub fn with_attrs(op: Op, attrs: &Attrs, changes: &[(&str, AttrValue)]) -> Attrs {
    let mut values = attrs.values().to_vec();
    for (name, value) in changes {
        if let Some(place) = op.attrs.iter().position(|a| a.name == *name) {
            values[place] = value.clone();
        }
    }
    Attrs::new(values)
}

/// The axis of the data that each axis of a transposition is.
pub fn order(op: Op, call: &Call, rank: usize) -> Option<Vec<usize>> {
    match attr(op, &call.attrs, "axes")? {
        AttrValue::List(axes) => axes.iter().map(|a| normal(as_int(a)?, rank)).collect(),
        _ => Some((0..rank).rev().collect()),
    }
}

/// An axis counted from the front.
fn normal(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

impl Site<'_> {
    /// How the call takes its operands, at least one of which lies otherwise; `None` if it is not known how.
    pub fn transfer(&self) -> Option<Transfer> {
        let op = self.op;
        let is = |defs: &[&'static fermata_ir::op::OpDef]| defs.iter().any(|def| op.is(def));
        if is(&[&TRANSPOSE]) {
            return self.transpose();
        }
        if is(&[&CONCATENATE, &SPLIT]) {
            return self.joined();
        }
        if is(&[&PAD]) {
            return self.pad();
        }
        if is(&[&BATCH_NORM, &LAYER_NORM, &RMS_NORM, &LRN, &BIAS_ADD, &PRELU, &SOFTMAX, &LOG_SOFTMAX]) {
            return self.along_axis();
        }
        if is(&[&INSTANCE_NORM, &GROUP_NORM]) {
            let batch = self.data()?.0.place(0) == Some(0);
            return if batch { self.along_axis() } else { None };
        }
        if is(&[&QUANTIZE, &DEQUANTIZE, &REQUANTIZE]) {
            return self.quantised();
        }
        if is(&[&DROPOUT]) {
            let form = self.data()?.0.clone();
            let attrs = self.call.attrs.clone();
            return Some(self.through(form.clone(), attrs, vec![Some(form.clone()), Some(form)]));
        }
        if text_attr(op, &self.call.attrs, "layout").is_some() {
            return self.named_layout();
        }
        match op.pattern {
            FusePattern::CommReduce => self.reduce(),
            FusePattern::Elemwise if self.call.args.len() == 1 && !op.is(&TRILU) => {
                let form = self.data()?.0.clone();
                self.fits(&form)?;
                Some(self.through(form.clone(), self.call.attrs.clone(), vec![Some(form)]))
            }
            FusePattern::Elemwise | FusePattern::Broadcast if op.attrs.is_empty() => self.broadcast(),
            FusePattern::Elemwise
            | FusePattern::Broadcast
            | FusePattern::Injective
            | FusePattern::OutElemwiseFusable
            | FusePattern::Tuple
            | FusePattern::Opaque => None,
        }
    }

    /// The form and the type of the first operand, which lies otherwise.
    fn data(&self) -> Option<(&Form, &TensorType)> {
        Some((self.forms.first()?.as_ref()?, self.types[0].as_tensor()?))
    }

    /// `None` unless the result has the first operand's shape.
    fn fits(&self, form: &Form) -> Option<()> {
        let result = self.result.as_tensor()?;
        (result.shape == self.types[0].as_tensor()?.shape && result.rank() == form.rank()).then_some(())
    }

    /// The first operand in a form, the others as ever.
    fn through(&self, form: Form, attrs: Attrs, results: Vec<Option<Form>>) -> Transfer {
        let mut args = vec![Wanted::Plain; self.call.args.len()];
        args[0] = Wanted::Laid(form);
        Transfer { args, attrs, results, vanishes: false }
    }

    fn with(&self, name: &str, value: AttrValue) -> Attrs {
        with_attrs(self.op, &self.call.attrs, &[(name, value)])
    }

    /// A transposition is another view of what lies there.
    fn transpose(&self) -> Option<Transfer> {
        let (form, data) = self.data()?;
        let order = order(self.op, self.call, data.rank())?;
        let seen = form.transposed(&order)?;
        let mut transfer = self.through(form.clone(), self.call.attrs.clone(), vec![Some(seen)]);
        transfer.vanishes = true;
        Some(transfer)
    }

    /// One axis that the operator works along, in one part.
    fn along_axis(&self) -> Option<Transfer> {
        let (form, data) = self.data()?;
        let axis = normal(as_int(attr(self.op, &self.call.attrs, "axis")?)?, data.rank())?;
        let attrs = self.with("axis", AttrValue::Int(form.place(axis)? as i64));
        // Of a tuple, only the first field has the data's shape.
        let mut results = vec![Some(form.clone())];
        results.resize(self.result.as_tuple().map_or(1, <[Type]>::len), None);
        Some(self.through(form.clone(), attrs, results))
    }

    /// Parameters along an axis in one part, or one for all.
    fn quantised(&self) -> Option<Transfer> {
        let (form, data) = self.data()?;
        let axis = normal(as_int(attr(self.op, &self.call.attrs, "axis")?)?, data.rank())?;
        let single = self.types[1..].iter().all(|t| t.as_tensor().is_some_and(|t| t.elements() == Some(1)));
        let place = match form.place(axis) {
            Some(place) => place,
            None if single => 0,
            None => return None,
        };
        let attrs = self.with("axis", AttrValue::Int(place as i64));
        Some(self.through(form.clone(), attrs, vec![Some(form.clone())]))
    }

    /// Joining along an axis, or taking apart: outer parts follow each other as whole axes do.
    fn joined(&self) -> Option<Transfer> {
        let form = self.forms.first()?.as_ref()?;
        let axis = normal(as_int(attr(self.op, &self.call.attrs, "axis")?)?, form.rank())?;
        let place = match form.place(axis) {
            Some(place) => place,
            // Where pieces of a split begin is said in elements.
            None if self.op.is(&SPLIT) => return None,
            None => form.0.iter().position(|p| *p == Part { axis, size: None })?,
        };
        let attrs = self.with("axis", AttrValue::Int(place as i64));
        if self.op.is(&CONCATENATE) {
            let mut transfer = self.through(form.clone(), attrs, vec![Some(form.clone())]);
            transfer.args[0] = Wanted::Each(form.clone());
            return Some(transfer);
        }
        let results = vec![Some(form.clone()); self.result.as_tuple()?.len()];
        Some(self.through(form.clone(), attrs, results))
    }

    fn pad(&self) -> Option<Transfer> {
        let (form, _) = self.data()?;
        let AttrValue::List(widths) = attr(self.op, &self.call.attrs, "pad_width")? else { return None };
        let none = AttrValue::List([AttrValue::Int(0), AttrValue::Int(0)].into());
        let mut moved = Vec::new();
        for part in &form.0 {
            let own = widths.get(part.axis)?;
            if form.place(part.axis).is_none() && *own != none {
                return None;
            }
            moved.push(own.clone());
        }
        let attrs = self.with("pad_width", AttrValue::List(moved.into()));
        Some(self.through(form.clone(), attrs, vec![Some(form.clone())]))
    }

    /// A pooling or resizing: it says in letters how its data lies.
    fn named_layout(&self) -> Option<Transfer> {
        let (form, data) = self.data()?;
        let letters = form::read(text_attr(self.op, &self.call.attrs, "layout")?)?;
        if letters.len() != data.rank()
            || !text_attr(self.op, &self.call.attrs, "out_layout").is_none_or(str::is_empty)
        {
            return None;
        }
        let letters: Vec<char> = letters.into_iter().map(|(letter, _)| letter).collect();
        let attrs = self.with("layout", AttrValue::Str(form.text(&letters).into()));
        Some(self.through(form.clone(), attrs, vec![Some(form.clone())]))
    }

    fn reduce(&self) -> Option<Transfer> {
        let (form, data) = self.data()?;
        let attrs = &self.call.attrs;
        let flag = |name: &str| match attr(self.op, attrs, name) {
            Some(AttrValue::Bool(b)) => Some(*b),
            None => Some(false),
            Some(_) => None,
        };
        let listed: Option<Vec<usize>> = match attr(self.op, attrs, "axis")? {
            AttrValue::None => None,
            AttrValue::List(axes) => {
                Some(axes.iter().map(|a| normal(as_int(a)?, data.rank())).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        let all = 0..data.rank();
        let reduced: Vec<usize> = match (listed, flag("exclude")?) {
            (None, _) => all.collect(),
            (Some(axes), exclude) => all.filter(|a| axes.contains(a) != exclude).collect(),
        };
        let places: Vec<usize> = (0..form.0.len()).filter(|&p| reduced.contains(&form.0[p].axis)).collect();
        // The place of an extremum is counted along one axis.
        let counts = self.op.name().starts_with("arg");
        if counts && !(reduced.len() == 1 && places.len() == 1) {
            return None;
        }
        let keepdims = flag("keepdims")?;
        let list = places.iter().map(|&p| AttrValue::Int(p as i64)).collect::<Vec<_>>();
        let changes = [("axis", AttrValue::List(list.into())), ("exclude", AttrValue::Bool(false))];
        let attrs = with_attrs(self.op, attrs, &changes);
        let result = match keepdims {
            true => {
                let one = |p: &Part| reduced.contains(&p.axis);
                let part = |p: &Part| Part { size: p.size.map(|n| if one(p) { 1 } else { n }), ..*p };
                Form(form.0.iter().map(part).collect())
            }
            false => form.without(&reduced),
        };
        // Parameters beside the data, such as the mean of a variance, have the data's form too.
        if self.call.args.len() > 1 {
            return None;
        }
        Some(self.through(form.clone(), attrs, vec![Some(result)]))
    }

    /// Operands that broadcast to a result that lies as one of the operands does.
    fn broadcast(&self) -> Option<Transfer> {
        let result = self.result.as_tensor()?;
        let rank = result.rank();
        let of_result = |i: &usize| {
            self.forms[*i].as_ref().is_some_and(|f| f.rank() == rank)
                && self.types[*i].as_tensor().is_some_and(|t| t.shape == result.shape)
        };
        let form = self.forms[(0..self.forms.len()).find(of_result)?].clone()?;
        let arg = |ty: &&Type| {
            let t = ty.as_tensor()?;
            let ones = t.shape.iter().all(|d| *d == Dim::Static(1));
            Some(match t.rank() == rank && t.shape == result.shape {
                true => Wanted::Laid(form.clone()),
                false if ones => Wanted::Plain,
                false => Wanted::Broadcast(form.clone()),
            })
        };
        let args = self.types.iter().map(arg).collect::<Option<_>>()?;
        Some(Transfer { args, attrs: self.call.attrs.clone(), results: vec![Some(form)], vanishes: false })
    }
}

fn as_int(value: &AttrValue) -> Option<i64> {
    match value {
        AttrValue::Int(n) => Some(*n),
        _ => None,
    }
}
