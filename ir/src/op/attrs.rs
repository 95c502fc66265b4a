//! Typed attributes of operators.
//!
//! An operator declares its attributes as a struct through [`op_attrs!`]; the schema that
//! the parser, the printer and the verifier use is made from it. Programs hold
//! [`Attrs`]: values in schema order, which [`OpAttrs::read`] turns into the struct.

use std::fmt;
use std::sync::Arc;

use crate::types::DType;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrValue {
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Str(Arc<str>),
    /// An element type, written as a string.
    DType(DType),
    /// A list.
    List(Arc<[AttrValue]>),
    /// `None`.
    None,
}

/// What kind of value an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrKind {
    /// An integer.
    Int,
    /// A number.
    Float,
    /// A truth value.
    Bool,
    /// A string.
    Str,
    /// An element type.
    DType,
    /// A list of a kind.
    List(&'static AttrKind),
    /// A value of a kind, or `None`.
    Optional(&'static AttrKind),
    /// A value of either kind; the first that fits is taken.
    Either(&'static AttrKind, &'static AttrKind),
}

impl AttrKind {
    /// The value as this kind wants it (an integer where a float is wanted becomes one, a
    /// string where a dtype is wanted is looked up, a lone value where a list is wanted
    /// becomes a list of one), or `None` if it does not fit.
    pub fn coerce(&self, value: &AttrValue) -> Option<AttrValue> {
        match (self, value) {
            (AttrKind::Optional(_), AttrValue::None) => Some(AttrValue::None),
            (AttrKind::Optional(kind), v) => kind.coerce(v),
            (AttrKind::Either(a, b), v) => a.coerce(v).or_else(|| b.coerce(v)),
            (AttrKind::Int, AttrValue::Int(_))
            | (AttrKind::Float, AttrValue::Float(_))
            | (AttrKind::Bool, AttrValue::Bool(_))
            | (AttrKind::Str, AttrValue::Str(_))
            | (AttrKind::DType, AttrValue::DType(_)) => Some(value.clone()),
            (AttrKind::Int, AttrValue::Bool(b)) => Some(AttrValue::Int(*b as i64)),
            (AttrKind::Bool, AttrValue::Int(n)) => Some(AttrValue::Bool(*n != 0)),
            (AttrKind::Float, AttrValue::Int(n)) => Some(AttrValue::Float(*n as f64)),
            (AttrKind::DType, AttrValue::Str(s)) => DType::from_name(s).map(AttrValue::DType),
            (AttrKind::List(kind), AttrValue::List(items)) => items
                .iter()
                .map(|v| kind.coerce(v))
                .collect::<Option<Vec<_>>>()
                .map(|v| AttrValue::List(v.into())),
            (AttrKind::List(kind), v) => kind.coerce(v).map(|v| AttrValue::List([v].into())),
            _ => None,
        }
    }
}

impl fmt::Display for AttrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrKind::Int => f.write_str("an integer"),
            AttrKind::Float => f.write_str("a number"),
            AttrKind::Bool => f.write_str("True or False"),
            AttrKind::Str => f.write_str("a string"),
            AttrKind::DType => f.write_str("a dtype"),
            AttrKind::List(k) => write!(f, "a list of {k}"),
            AttrKind::Optional(k) => write!(f, "{k} or None"),
            AttrKind::Either(a, b) => write!(f, "{a} or {b}"),
        }
    }
}

/// One attribute of an operator's schema.
pub struct AttrDef {
    /// The name in text.
    pub name: &'static str,
    /// One line.
    pub doc: &'static str,
    /// What it takes.
    pub kind: AttrKind,
    /// The default; `None` where the attribute is required.
    pub default: fn() -> Option<AttrValue>,
}

/// The attributes of a call: values in the order of the operator's schema, shared.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Attrs(Option<Arc<[AttrValue]>>);

impl Attrs {
    /// No attributes.
    pub const NONE: Attrs = Attrs(None);

    /// These values, which must be in schema order.
    pub fn new(values: Vec<AttrValue>) -> Attrs {
        Attrs((!values.is_empty()).then(|| values.into()))
    }

    /// The values in schema order.
    pub fn values(&self) -> &[AttrValue] {
        self.0.as_deref().unwrap_or(&[])
    }

    /// The attributes as an operator's struct.
    ///
    /// # Panics
    /// If they do not follow its schema, which construction and the verifier rule out.
    pub fn read<T: OpAttrs>(&self) -> T {
        T::read(self).expect("attributes follow the operator's schema")
    }
}

/// A struct of attributes, declared with [`op_attrs!`].
pub trait OpAttrs: Sized {
    /// The schema, in field order.
    const SCHEMA: &'static [AttrDef];
    /// The struct, if the values follow the schema.
    fn read(attrs: &Attrs) -> Option<Self>;
    /// The values in schema order.
    fn attrs(&self) -> Attrs;
}

/// A Rust type that an attribute field may have.
pub trait AttrField: Sized {
    /// The kind in the schema.
    const KIND: AttrKind;
    /// Reads a value of that kind.
    fn get(value: &AttrValue) -> Option<Self>;
    /// The value.
    fn put(&self) -> AttrValue;
}

macro_rules! attr_field {
    ($t:ty, $variant:ident, $read:expr, $write:expr) => {
        impl AttrField for $t {
            const KIND: AttrKind = AttrKind::$variant;
            fn get(value: &AttrValue) -> Option<Self> {
                match value {
                    AttrValue::$variant(v) => Some(($read)(v)),
                    _ => None,
                }
            }
            fn put(&self) -> AttrValue {
                AttrValue::$variant(($write)(self))
            }
        }
    };
}
attr_field!(i64, Int, |v: &i64| *v, |v: &i64| *v);
attr_field!(f64, Float, |v: &f64| *v, |v: &f64| *v);
attr_field!(bool, Bool, |v: &bool| *v, |v: &bool| *v);
attr_field!(DType, DType, |v: &DType| *v, |v: &DType| *v);
attr_field!(Arc<str>, Str, |v: &Arc<str>| v.clone(), |v: &Arc<str>| v.clone());

impl<T: AttrField> AttrField for Vec<T> {
    const KIND: AttrKind = AttrKind::List(&T::KIND);
    fn get(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::List(items) => items.iter().map(T::get).collect(),
            _ => None,
        }
    }
    fn put(&self) -> AttrValue {
        AttrValue::List(self.iter().map(T::put).collect())
    }
}

impl<T: AttrField> AttrField for Option<T> {
    const KIND: AttrKind = AttrKind::Optional(&T::KIND);
    fn get(value: &AttrValue) -> Option<Self> {
        match value {
            AttrValue::None => Some(None),
            v => T::get(v).map(Some),
        }
    }
    fn put(&self) -> AttrValue {
        self.as_ref().map_or(AttrValue::None, T::put)
    }
}

/// Declares an operator's attributes: a struct with a schema. A field without `= default`
/// is required in text.
///
/// ```
/// fermata_ir::op_attrs! {
///     /// Attributes of `nn.softmax`.
///     pub struct SoftmaxAttrs {
///         /// The axis to normalise over.
///         axis: i64 = -1,
///     }
/// }
/// ```
#[macro_export]
macro_rules! op_attrs {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $ty:ty $(= $default:expr)?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $ty,)* }
        impl $crate::op::OpAttrs for $name {
            const SCHEMA: &'static [$crate::op::AttrDef] = &[$($crate::op::AttrDef {
                name: stringify!($field),
                doc: concat!($($doc),+),
                kind: <$ty as $crate::op::AttrField>::KIND,
                default: || $crate::op_attrs!(@default $ty $(, $default)?),
            },)*];
            fn read(attrs: &$crate::op::Attrs) -> Option<Self> {
                let mut values = attrs.values().iter();
                let read = $name { $($field: $crate::op::AttrField::get(values.next()?)?,)* };
                values.next().is_none().then_some(read)
            }
            fn attrs(&self) -> $crate::op::Attrs {
                $crate::op::Attrs::new(vec![$($crate::op::AttrField::put(&self.$field),)*])
            }
        }
    };
    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:expr) => {{
        let value: $ty = $default;
        Some($crate::op::AttrField::put(&value))
    }};
}
