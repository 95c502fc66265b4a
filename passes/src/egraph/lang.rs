//! The e-graph's language: pure, typed expressions over the op table.
//!
//! A node is a head and its operands. The attributes of an operator are its last operand, a
//! leaf of their own: so a pattern binds them like any operand (`(transpose ?x ?axes)`), asks
//! for equal ones by naming them twice, and hands them on.

use egg::{FromOp, Id, Language};
use fermata_ir::expr::ExprId;
use fermata_ir::op::{Op, OpTable};
use smallvec::SmallVec;

/// What a node is, without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Head {
    /// A call of an operator; the last operand is its attributes, if it has a schema.
    Op(Op),
    /// A tuple.
    Tuple,
    /// A field of a tuple.
    Proj(u32),
    /// A constant, by its number in [`Facts`](super::facts::Knowledge::constants).
    Const(u32),
    /// Attributes, by their number in [`Knowledge`](super::facts::Knowledge::attrs).
    Attrs(u32),
    /// An expression that rules do not look into: variables, conditionals, functions and the
    /// like. Its operands are those of the expression.
    Opaque(ExprId),
}

/// A node of the e-graph, or of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// What it is.
    pub head: Head,
    /// The classes of its operands.
    pub children: SmallVec<[Id; 4]>,
}

impl Node {
    /// A node without operands.
    pub fn leaf(head: Head) -> Node {
        Node { head, children: SmallVec::new() }
    }
}

impl Language for Node {
    type Discriminant = Head;

    fn discriminant(&self) -> Head {
        self.head
    }

    fn matches(&self, other: &Node) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

impl FromOp for Node {
    type Error = String;

    /// An operator by its name in Relay text: `(nn.relu ?x)`.
    fn from_op(name: &str, children: Vec<Id>) -> Result<Node, String> {
        let op = OpTable::standard().get(name).ok_or_else(|| format!("there is no operator `{name}`"))?;
        let operands = op.args.len() + usize::from(!op.attrs.is_empty());
        let fewest = operands - op.optional;
        if !(fewest..=operands).contains(&children.len()) {
            return Err(format!(
                "`{name}` has {operands} operands, attributes counted, not {}",
                children.len()
            ));
        }
        Ok(Node { head: Head::Op(op), children: children.into() })
    }
}
