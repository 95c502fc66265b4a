//! Names in expressions, calls of operators and constructors, and attributes.

use super::super::literal::{self, AttrNumber};
use super::super::tree::{Name, Node, NodeId, Place};
use super::Resolver;
use super::expr::trim_zeros;
use crate::diag::{Code, Diagnostic, nearest};
use crate::expr::{Args, Call, Callee, CtorRef, Expr, ExprId};
use crate::op::{AttrValue, Attrs, Op};

impl<'t> Resolver<'_, 't> {
    /// A use of a local variable.
    pub(super) fn local(&mut self, name: Name<'t>) -> ExprId {
        let text = self.name(name);
        if let Some(var) = self.locals.get(&text) {
            return self.add(name.place, Expr::Var(var));
        }
        let near = nearest(&text, self.locals.names().take(10_000)).map(str::to_owned);
        let diagnostic = Diagnostic::error(Code::TEXT_NAME, format!("no variable `%{text}` in scope"));
        self.report(
            name.place,
            match near {
                Some(near) => diagnostic.help(format!("did you mean `%{near}`?")),
                None if text.ends_with('/') => {
                    diagnostic.help("`/` is a name character; write spaces around it to divide")
                }
                None => diagnostic,
            },
        );
        self.broken(name.place)
    }

    /// A use of a graph number: the very expression it was given for.
    pub(super) fn graph_node(&mut self, number: &'t str, place: Place) -> ExprId {
        if let Some(&id) = self.graph.get(trim_zeros(number)) {
            return id;
        }
        let message = format!("graph number `%{number}` is not defined before this place in this function");
        self.error(place, Code::TEXT_NAME, message);
        self.broken(place)
    }

    /// A use of a global as a value.
    pub(super) fn global(&mut self, name: Name<'t>) -> ExprId {
        let text = self.name(name);
        if let Some(&id) = self.globals.get(&text) {
            return self.add(name.place, Expr::Global(id));
        }
        let names: Vec<_> = self.module.globals.values().map(|g| g.name.clone()).collect();
        let known = names.iter().map(|n| &**n);
        self.unknown(name.place, format!("no global `@{text}`"), &text, known, |n| format!("@{n}"));
        self.broken(name.place)
    }

    /// A word that is not called: an operator or constructor as a value.
    pub(super) fn word(&mut self, name: &'t str, place: Place) -> ExprId {
        if let Some(op) = self.options.ops.get(name) {
            return self.add(place, Expr::Op(op));
        }
        let Some(&ctor) = self.ctors.get(name) else {
            self.unknown_op(name, place);
            return self.broken(place);
        };
        let fields = self.module.adts[ctor.adt].ctors[ctor.index as usize].fields.len();
        if fields > 0 {
            return self.add(place, Expr::Ctor(ctor));
        }
        // A constructor without fields is a value already.
        let call = Call { callee: Callee::Ctor(ctor), args: Args::new(), attrs: Attrs::NONE };
        self.add(place, Expr::Call(call))
    }

    /// A constructor with this many fields.
    pub(super) fn constructor(&mut self, name: Name<'t>, given: usize) -> Option<CtorRef> {
        let text = self.name(name);
        let Some(&ctor) = self.ctors.get(&text) else {
            let names: Vec<_> = self.ctor_names();
            let known = names.iter().map(|n| &**n);
            self.unknown(name.place, format!("no constructor `{text}`"), &text, known, str::to_owned);
            return None;
        };
        let wanted = self.module.adts[ctor.adt].ctors[ctor.index as usize].fields.len();
        if wanted != given {
            let message = format!("constructor `{text}` has {wanted} fields, not {given}");
            self.error(name.place, Code::TEXT_NAME, message);
            return None;
        }
        Some(ctor)
    }

    /// A call of a word: an operator, or a constructor.
    pub(super) fn op_call(
        &mut self,
        name: &'t str,
        args: Args,
        attrs: &[(Name<'t>, NodeId)],
        name_place: Place,
        place: Place,
    ) -> ExprId {
        let Some(op) = self.options.ops.get(name) else {
            if !self.ctors.contains_key(name) {
                self.unknown_op(name, name_place);
                return self.broken(place);
            }
            self.no_attrs(attrs);
            return match self.constructor(Name { text: name, place: name_place }, args.len()) {
                Some(ctor) => {
                    self.add(place, Expr::Call(Call { callee: Callee::Ctor(ctor), args, attrs: Attrs::NONE }))
                }
                None => self.broken(place),
            };
        };
        let most = op.args.len();
        let least = most.saturating_sub(op.optional);
        if !(least..=most).contains(&args.len()) {
            let wanted = if least == most { most.to_string() } else { format!("{least} to {most}") };
            let plural = if most == 1 { "" } else { "s" };
            let message = format!("operator `{op}` takes {wanted} argument{plural}, not {}", args.len());
            let list = format!("its arguments are ({})", op.args.join(", "));
            self.report(place, Diagnostic::error(Code::OP_ARGS, message).note(list));
        }
        let attrs = self.op_attrs(op, attrs, name_place);
        self.add(place, Expr::Call(Call { callee: Callee::Op(op), args, attrs }))
    }

    /// Attributes in the order of the operator's schema, with the defaults filled in.
    fn op_attrs(&mut self, op: Op, given: &[(Name<'t>, NodeId)], place: Place) -> Attrs {
        let mut values: Vec<Option<AttrValue>> = vec![None; op.attrs.len()];
        for &(name, node) in given {
            let key = self.name(name);
            let Some(index) = op.attrs.iter().position(|a| *a.name == *key) else {
                let message = format!("operator `{op}` has no attribute `{key}`");
                let known: Vec<&str> = op.attrs.iter().map(|a| a.name).collect();
                let diagnostic = Diagnostic::error(Code::OP_ARGS, message);
                let diagnostic = match nearest(&key, known.iter().copied()) {
                    Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                    None if known.is_empty() => diagnostic.note("it has none at all"),
                    None => diagnostic.note(format!("its attributes are {}", known.join(", "))),
                };
                self.report(name.place, diagnostic);
                continue;
            };
            if values[index].is_some() {
                self.error(name.place, Code::OP_ARGS, format!("attribute `{key}` is given twice"));
            }
            let value = self.attr_value(node);
            let coerced = op.attrs[index].kind.coerce(&value);
            if coerced.is_none() {
                let message = format!("attribute `{key}` of `{op}` takes {}", op.attrs[index].kind);
                let diagnostic = Diagnostic::error(Code::OP_ARGS, message).note(op.attrs[index].doc.trim());
                self.report(self.tree.place(node), diagnostic);
            }
            values[index] = coerced.or(Some(AttrValue::None));
        }
        let schema = op.attrs.iter().zip(values);
        let filled = schema.map(|(attr, value)| match value.or_else(attr.default) {
            Some(value) => value,
            None => {
                let message = format!("operator `{op}` needs the attribute `{}`, {}", attr.name, attr.kind);
                self.report(place, Diagnostic::error(Code::OP_ARGS, message).note(attr.doc.trim()));
                AttrValue::None
            }
        });
        Attrs::new(filled.collect())
    }

    /// Refuses attributes where there can be none.
    pub(super) fn no_attrs(&mut self, attrs: &[(Name<'t>, NodeId)]) {
        if let Some((name, _)) = attrs.first() {
            self.error(name.place, Code::OP_ARGS, "only calls of operators have attributes");
        }
    }

    /// The value of an attribute. Lists nest at most as deep as the tree allows.
    pub(super) fn attr_value(&mut self, id: NodeId) -> AttrValue {
        let tree = self.tree;
        let place = tree.place(id);
        match tree.node(id) {
            Node::Number { text, negative } => match literal::attr(text, *negative) {
                Ok(AttrNumber::Int(n)) => AttrValue::Int(n),
                Ok(AttrNumber::Float(x)) => AttrValue::Float(x),
                Err(message) => {
                    self.error(place, Code::TEXT_TOKEN, message);
                    AttrValue::None
                }
            },
            Node::Bool(b) => AttrValue::Bool(*b),
            Node::Str(text) => AttrValue::Str(self.string(text, place).into()),
            Node::List(items, _) => AttrValue::List(items.iter().map(|&i| self.attr_value(i)).collect()),
            Node::Ident("None" | "nullptr") => AttrValue::None,
            // A dtype needs no quotes.
            Node::Ident(word) if crate::types::DType::from_name(word).is_some() => {
                AttrValue::Str((*word).into())
            }
            _ => {
                self.error(place, Code::TEXT_SYNTAX, "this is no value of an attribute");
                AttrValue::None
            }
        }
    }

    fn unknown_op(&mut self, name: &'t str, place: Place) {
        let ctors = self.ctor_names();
        let ops: Vec<&str> = self.options.ops.iter().map(Op::name).collect();
        let known = ops.into_iter().chain(ctors.iter().map(|n| &**n));
        let message = format!("no operator or constructor `{name}`");
        self.unknown(place, message, name, known, str::to_owned);
    }

    fn ctor_names(&self) -> Vec<std::sync::Arc<str>> {
        self.module.adts.values().flat_map(|a| a.ctors.iter().map(|c| c.name.clone())).collect()
    }
}
