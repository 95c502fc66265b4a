//! Attributes as text.

use std::fmt::{self, Display, Write};

use super::super::literal::{print_f64, quote};
use crate::op::AttrValue;

/// Attributes print as the text format spells them, a dtype as a string.
impl Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrValue::Int(n) => write!(f, "{n}"),
            AttrValue::Float(x) if x.is_nan() => f.write_str("nanf"),
            AttrValue::Float(x) => write!(f, "{}f", print_f64(*x)),
            AttrValue::Bool(b) => f.write_str(if *b { "True" } else { "False" }),
            AttrValue::Str(s) => f.write_str(&quote(s)),
            AttrValue::DType(d) => write!(f, "\"{d}\""),
            AttrValue::List(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_char(']')
            }
            AttrValue::None => f.write_str("None"),
        }
    }
}
