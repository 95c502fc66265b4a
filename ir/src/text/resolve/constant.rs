//! Constants: literals, `const(..)`, the weights file, and TVM's metadata.

use super::super::literal;
use super::super::tree::{Node, NodeId, Place, TypeId};
use super::Resolver;
use crate::diag::{Code, Diagnostic, nearest};
use crate::expr::{ConstId, Constant, Expr, ExprId};
use crate::scalar::Scalar;
use crate::tensor::{Bool8, Tensor};
use crate::text::metadata;
use crate::types::DType;

/// The entries of the `#[metadata]` section.
#[derive(Default)]
pub(super) struct Metadata {
    entries: metadata::Entries,
    /// Constants that were used, so that an entry is one constant.
    used: std::collections::BTreeMap<usize, ConstId>,
}

impl Metadata {
    /// Reads the JSON after `#[metadata]`.
    pub fn read(json: &str) -> Result<Metadata, String> {
        metadata::read(json).map(|entries| Metadata { entries, used: Default::default() })
    }
}

impl<'t> Resolver<'_, 't> {
    /// A rank-0 constant.
    pub(super) fn scalar(&mut self, place: Place, value: Scalar) -> ExprId {
        let bytes = value.bits().to_le_bytes();
        let bytes = &bytes[..value.dtype().bytes()];
        let tensor = Tensor::from_bytes(value.dtype(), &[], bytes).expect("a scalar is within every limit");
        self.tensor(place, tensor)
    }

    /// A constant of its own.
    fn tensor(&mut self, place: Place, tensor: Tensor) -> ExprId {
        let id = self.module.consts.push(Constant { tensor, name: None });
        self.constant(place, id)
    }

    /// A use of a constant.
    fn constant(&mut self, place: Place, id: ConstId) -> ExprId {
        let ty = self.module.consts[id].tensor.ty();
        let expr = self.add(place, Expr::Const(id));
        self.module.types[expr] = ty;
        expr
    }

    /// `elided`
    pub(super) fn elided(&mut self, place: Place) -> ExprId {
        let message = "this constant was elided when the text was printed";
        let help = "print with `--elide-constants` off, or with a weights file beside the text";
        self.report(place, Diagnostic::error(Code::TEXT_SYNTAX, message).help(help));
        self.broken(place)
    }

    /// `weights["name"]`
    pub(super) fn weight(&mut self, text: &'t str, place: Place) -> ExprId {
        let name = self.string(text, place);
        if let Some(&id) = self.weights.get(&name) {
            return self.constant(place, id);
        }
        let Some(weights) = self.options.weights else {
            let message = format!("the text refers to `weights[\"{name}\"]`, but there is no weights file");
            let help = "give it with `--weights FILE.safetensors`";
            self.report(place, Diagnostic::error(Code::WEIGHTS, message).help(help));
            return self.broken(place);
        };
        let Some(tensor) = weights.get(&name) else {
            let diagnostic =
                Diagnostic::error(Code::WEIGHTS, format!("the weights file has no tensor `{name}`"));
            let near = nearest(&name, weights.iter().map(|(n, _)| &**n));
            let help = near.map(|n| format!("did you mean `weights[\"{n}\"]`?"));
            self.report(place, Diagnostic { help, ..diagnostic });
            return self.broken(place);
        };
        let constant = Constant { tensor: tensor.clone(), name: Some(name.as_ref().into()) };
        let id = self.module.consts.push(constant);
        self.weights.insert(name, id);
        self.constant(place, id)
    }

    /// `meta[relay.Constant][0]`
    pub(super) fn meta_constant(&mut self, key: &str, index: &str, place: Place) -> ExprId {
        let Some(index) = literal::index(index) else {
            self.error(place, Code::TEXT_SYNTAX, format!("`{index}` is no index"));
            return self.broken(place);
        };
        if let Some(&id) = self.metadata.used.get(&index).filter(|_| key == metadata::CONSTANT) {
            return self.constant(place, id);
        }
        let tensor = match self.metadata.entries.counts.get(key) {
            None => Err(format!("the metadata has no key `{key}`")),
            Some(&n) if index >= n => {
                Err(format!("the metadata has {n} entries of `{key}`, so there is no {index}"))
            }
            Some(_) if key != metadata::CONSTANT => Err(format!("metadata of `{key}` is no expression")),
            Some(_) => self.metadata.entries.constants[index].clone(),
        };
        match tensor {
            Ok(tensor) => {
                let id = self.module.consts.push(Constant { tensor, name: None });
                self.metadata.used.insert(index, id);
                self.constant(place, id)
            }
            Err(message) => {
                self.error(place, Code::TEXT_NAME, message);
                self.broken(place)
            }
        }
    }

    /// `const(Tensor[(2), float32], [1, 2])`
    pub(super) fn const_tensor(&mut self, ty: TypeId, values: NodeId, place: Place) -> ExprId {
        let type_place = self.tree.ty(ty).1;
        let ty = self.ty(ty);
        let shape = ty.as_tensor().and_then(|t| Some((t.dtype, t.static_shape()?)));
        let Some((dtype, shape)) = shape else {
            self.error(type_place, Code::TEXT_SYNTAX, "a constant has a tensor type with known dimensions");
            return self.broken(place);
        };
        let mut bytes = Vec::new();
        let tensor = self.elements(dtype, values, &mut bytes).and_then(|()| {
            self.nesting(&shape, values)?;
            Tensor::from_bytes(dtype, &shape, &bytes).map_err(|_| {
                let (wanted, found) = (shape.iter().product::<usize>(), bytes.len() / dtype.bytes());
                (self.tree.place(values), format!("the type has {wanted} elements, the list has {found}"))
            })
        });
        match tensor {
            Ok(tensor) => self.tensor(place, tensor),
            Err((place, message)) => {
                self.error(place, Code::TEXT_SYNTAX, message);
                self.broken(place)
            }
        }
    }

    /// Appends the elements of a list, however nested; lists nest at most as deep as the tree allows.
    fn elements(&self, dtype: DType, node: NodeId, out: &mut Vec<u8>) -> Result<(), (Place, String)> {
        let place = self.tree.place(node);
        let scalar = match self.tree.node(node) {
            Node::List(items, _) => return items.iter().try_for_each(|&i| self.elements(dtype, i, out)),
            Node::Number { text, negative } => {
                literal::element(dtype, text, *negative).map_err(|m| (place, m))?
            }
            Node::Bool(b) if dtype == DType::Bool => Scalar::of(Bool8::from(*b)),
            _ => return Err((place, format!("this is no {dtype}"))),
        };
        out.extend_from_slice(&scalar.bits().to_le_bytes()[..dtype.bytes()]);
        Ok(())
    }

    /// Checks that a list is flat or nests as the shape says.
    fn nesting(&self, shape: &[usize], list: NodeId) -> Result<(), (Place, String)> {
        let nested = |id: &NodeId| matches!(self.tree.node(*id), Node::List(..));
        let Node::List(items, _) = self.tree.node(list) else { return Ok(()) };
        if !items.iter().any(nested) {
            return Ok(());
        }
        let mut level = vec![list];
        for (axis, &size) in shape.iter().enumerate() {
            let mut below = Vec::new();
            for id in level {
                match self.tree.node(id) {
                    Node::List(items, _) if items.len() == size => below.extend_from_slice(items),
                    _ => {
                        let message = format!("axis {axis} of the type has size {size}; this does not");
                        return Err((self.tree.place(id), message));
                    }
                }
            }
            level = below;
        }
        match level.iter().find(|id| nested(id)) {
            Some(&id) => Err((self.tree.place(id), "the list nests deeper than the type".to_owned())),
            None => Ok(()),
        }
    }
}
