//! The syntax of a text as an arena: what the grammar builds and resolution reads.
//!
//! Nodes refer to each other by index, so a deep program needs no recursion to read and
//! none to drop. Only types, patterns and attribute lists become nested values later;
//! their depth is bounded here, while they are built.

use std::ops::Range;

/// The deepest nesting of types, of patterns and of attribute lists.
pub(super) const MAX_NESTING: u16 = 64;

/// Index of a [`Node`].
pub(super) type NodeId = u32;
/// Index of a [`TypeNode`].
pub(super) type TypeId = u32;
/// Index of a [`Pattern`].
pub(super) type PatternId = u32;
/// Byte range of a text, which is shorter than 4 GiB.
pub(super) type Place = (u32, u32);

/// A name as written, quotes included, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'t> {
    pub text: &'t str,
    pub place: Place,
}

/// An expression or an attribute value.
#[derive(Debug)]
pub(super) enum Node<'t> {
    Number {
        text: &'t str,
        negative: bool,
    },
    Bool(bool),
    Local(Name<'t>),
    Graph(&'t str),
    Global(Name<'t>),
    /// An operator, a constructor, or a word such as `None` in an attribute.
    Ident(&'t str),
    /// `meta[key][index]`
    Meta {
        key: &'t str,
        index: &'t str,
    },
    /// `weights["name"]`
    Weights(&'t str),
    /// `const(type, list)`
    Const {
        ty: TypeId,
        values: NodeId,
    },
    Elided,
    Func(Box<Func<'t>>),
    If {
        cond: NodeId,
        then: NodeId,
        els: NodeId,
    },
    Ref(NodeId),
    RefRead(NodeId),
    RefWrite {
        cell: NodeId,
        value: NodeId,
    },
    Tuple(Vec<NodeId>),
    /// Statements, the last of which gives the value.
    Block(Vec<Stmt<'t>>),
    /// `tuple.0`, or `tuple.0.1` where the lexer took the indices for one number.
    Proj {
        tuple: NodeId,
        indices: &'t str,
    },
    Call {
        callee: NodeId,
        args: Vec<NodeId>,
        attrs: Vec<(Name<'t>, NodeId)>,
    },
    /// An operator sign, by the name of the operator it stands for.
    Binary {
        op: &'static str,
        lhs: NodeId,
        rhs: NodeId,
    },
    Match {
        value: NodeId,
        arms: Vec<(PatternId, NodeId)>,
        complete: bool,
    },
    /// A string (attributes only).
    Str(&'t str),
    /// A list or tuple (attributes only), with its depth.
    List(Vec<NodeId>, u16),
}

/// One statement of a block.
#[derive(Debug)]
pub(super) enum Stmt<'t> {
    Expr(NodeId),
    Let { name: Name<'t>, ty: Option<TypeId>, value: NodeId },
    Graph { number: Name<'t>, value: NodeId },
    FreeVar { name: Name<'t>, ty: Option<TypeId> },
}

/// A function without its name.
#[derive(Debug)]
pub(super) struct Func<'t> {
    pub type_params: Vec<Name<'t>>,
    pub params: Vec<Param<'t>>,
    pub ret: Option<TypeId>,
    pub body: NodeId,
}

/// A parameter, or an attribute after them.
#[derive(Debug)]
pub(super) enum Param<'t> {
    Var(Name<'t>, Option<TypeId>),
    Attr(Name<'t>, NodeId),
}

/// An argument of a call, or an attribute after them.
pub(super) enum Arg<'t> {
    Expr(NodeId),
    Attr(Name<'t>, NodeId),
}

/// A type.
#[derive(Debug)]
pub(super) enum TypeNode<'t> {
    Tensor {
        dims: Vec<DimNode<'t>>,
        dtype: Name<'t>,
    },
    /// A dtype, a type variable or a user type without arguments; or one with arguments.
    Named(Name<'t>, Vec<TypeId>),
    Tuple(Vec<TypeId>),
    Func {
        type_params: Vec<Name<'t>>,
        params: Vec<TypeId>,
        ret: TypeId,
    },
    Ref(TypeId),
    Unknown,
}

/// A dimension.
#[derive(Debug)]
pub(super) enum DimNode<'t> {
    Number(Name<'t>),
    Symbol(Name<'t>),
    Any,
}

/// A pattern of a match.
#[derive(Debug)]
pub(super) enum Pattern<'t> {
    Wildcard,
    Var(Name<'t>, Option<TypeId>),
    Ctor(Name<'t>, Vec<PatternId>),
    Tuple(Vec<PatternId>),
}

/// A `type` definition.
#[derive(Debug)]
pub(super) struct TypeDef<'t> {
    pub name: Name<'t>,
    pub params: Vec<Name<'t>>,
    pub ctors: Vec<(Name<'t>, Vec<TypeId>)>,
    pub is_extern: bool,
}

/// The syntax of one text.
#[derive(Debug, Default)]
pub(super) struct Tree<'t> {
    nodes: Vec<(Node<'t>, Place)>,
    types: Vec<(TypeNode<'t>, Place, u16)>,
    patterns: Vec<(Pattern<'t>, Place, u16)>,
    /// `def`s in order.
    pub defs: Vec<(Name<'t>, Func<'t>)>,
    /// `type`s in order.
    pub typedefs: Vec<TypeDef<'t>>,
    /// The version pragma: its word and its string.
    pub version: Option<(Name<'t>, &'t str)>,
    /// The JSON after `#[metadata]`.
    pub metadata: Option<Name<'t>>,
    /// The value of a lone expression.
    pub value: Option<NodeId>,
    /// A lone type.
    pub lone_type: Option<TypeId>,
    /// The first place that nests deeper than [`MAX_NESTING`].
    pub too_deep: Option<Place>,
    /// The first block that ends in a statement without a value.
    pub valueless: Option<Place>,
}

/// A byte range from the parser's locations.
pub(super) fn place(start: usize, end: usize) -> Place {
    // Texts of 4 GiB and more are refused before they are lexed.
    (start as u32, end as u32)
}

impl<'t> Tree<'t> {
    pub fn node(&self, id: NodeId) -> &Node<'t> {
        &self.nodes[id as usize].0
    }

    pub fn place(&self, id: NodeId) -> Place {
        self.nodes[id as usize].1
    }

    pub fn ty(&self, id: TypeId) -> (&TypeNode<'t>, Place) {
        let (node, place, _) = &self.types[id as usize];
        (node, *place)
    }

    pub fn pattern(&self, id: PatternId) -> (&Pattern<'t>, Place) {
        let (node, place, _) = &self.patterns[id as usize];
        (node, *place)
    }

    pub fn add(&mut self, range: Range<usize>, node: Node<'t>) -> NodeId {
        self.nodes.push((node, place(range.start, range.end)));
        (self.nodes.len() - 1) as NodeId
    }

    pub fn add_list(&mut self, range: Range<usize>, items: Vec<NodeId>) -> NodeId {
        let depth = items.iter().map(|&i| match self.node(i) {
            Node::List(_, depth) => *depth,
            _ => 0,
        });
        let depth = self.deeper(depth.max(), &range);
        self.add(range, Node::List(items, depth))
    }

    pub fn add_type(&mut self, range: Range<usize>, node: TypeNode<'t>) -> TypeId {
        let depth = |ids: &[TypeId]| ids.iter().map(|&i| self.types[i as usize].2).max();
        let depth = match &node {
            TypeNode::Tensor { .. } | TypeNode::Unknown => None,
            TypeNode::Named(_, ids) | TypeNode::Tuple(ids) => depth(ids),
            TypeNode::Func { params, ret, .. } => depth(params).max(depth(&[*ret])),
            TypeNode::Ref(id) => depth(&[*id]),
        };
        let depth = self.deeper(depth, &range);
        self.types.push((node, place(range.start, range.end), depth));
        (self.types.len() - 1) as TypeId
    }

    pub fn add_pattern(&mut self, range: Range<usize>, node: Pattern<'t>) -> PatternId {
        let depth = match &node {
            Pattern::Wildcard | Pattern::Var(..) => None,
            Pattern::Ctor(_, ids) | Pattern::Tuple(ids) => {
                ids.iter().map(|&i| self.patterns[i as usize].2).max()
            }
        };
        let depth = self.deeper(depth, &range);
        self.patterns.push((node, place(range.start, range.end), depth));
        (self.patterns.len() - 1) as PatternId
    }

    /// A block, or its only expression.
    pub fn block(&mut self, range: Range<usize>, stmts: Vec<Stmt<'t>>) -> NodeId {
        match stmts[..] {
            [Stmt::Expr(id)] => return id,
            [.., Stmt::Expr(_)] => {}
            _ => {
                self.valueless.get_or_insert(place(range.end, range.end));
            }
        }
        self.add(range, Node::Block(stmts))
    }

    /// A binary operator.
    pub fn binary(&mut self, op: &'static str, lhs: NodeId, rhs: NodeId) -> NodeId {
        let range = self.place(lhs).0 as usize..self.place(rhs).1 as usize;
        self.add(range, Node::Binary { op, lhs, rhs })
    }

    /// A call from its mixed list of arguments; an argument after an attribute is kept in
    /// order with the others and refused later.
    pub fn call(&mut self, range: Range<usize>, callee: NodeId, list: Vec<Arg<'t>>) -> NodeId {
        let (mut args, mut attrs) = (Vec::new(), Vec::new());
        for arg in list {
            match arg {
                Arg::Expr(id) => args.push(id),
                Arg::Attr(name, value) => attrs.push((name, value)),
            }
        }
        self.add(range, Node::Call { callee, args, attrs })
    }

    /// One more than the deepest child, noting when that is too deep.
    fn deeper(&mut self, deepest: Option<u16>, range: &Range<usize>) -> u16 {
        let depth = deepest.map_or(0, |d| d.saturating_add(1));
        if depth > MAX_NESTING && self.too_deep.is_none() {
            self.too_deep = Some(place(range.start, range.end));
        }
        depth
    }
}
