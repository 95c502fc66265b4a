//! Checking one call of an operator against its row.

use crate::op::{Attrs, Op, OpError};
use crate::types::Type;

/// Checks that attributes follow the operator's schema: as many, and each of its kind.
///
/// # Errors
/// Which one does not.
pub fn check_attrs(op: Op, attrs: &Attrs) -> Result<(), OpError> {
    let (schema, values) = (op.attrs, attrs.values());
    if schema.len() != values.len() {
        let message = format!("{} takes {} attributes, this call has {}", op, schema.len(), values.len());
        return Err(OpError::new(message));
    }
    for (def, value) in schema.iter().zip(values) {
        if def.kind.coerce(value).as_ref() != Some(value) && !is_nan(value) {
            let message = format!("attribute `{}` of {} must be {}", def.name, op, def.kind);
            return Err(OpError::new(message));
        }
    }
    Ok(())
}

/// A NaN does not equal itself, but it is a number like any other here.
fn is_nan(value: &crate::op::AttrValue) -> bool {
    matches!(value, crate::op::AttrValue::Float(v) if v.is_nan())
}

/// Checks the number of arguments of a call.
///
/// # Errors
/// If there are too few or too many.
fn check_arity(op: Op, found: usize) -> Result<(), OpError> {
    let most = op.args.len();
    let least = most - op.optional;
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let wanted = match (least, most) {
        (1, 1) => "1 argument".to_owned(),
        (least, most) if least == most => format!("{most} arguments"),
        (least, most) => format!("{least} to {most} arguments"),
    };
    let names = op.args.join(", ");
    Err(OpError::new(format!("{op} takes {wanted}, this call has {found}"))
        .help(format!("write {op}({names})")))
}

/// Checks what can be checked of a call without types: number of arguments and attributes.
///
/// # Errors
/// What is wrong with it.
pub fn check_call_shape(op: Op, args: usize, attrs: &Attrs) -> Result<(), OpError> {
    check_arity(op, args)?;
    check_attrs(op, attrs)
}

/// The result type of a call with these argument types, all of them known.
///
/// # Errors
/// If the number of arguments, the attributes or the types do not fit.
pub fn infer_op(op: Op, args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    check_call_shape(op, args.len(), attrs)?;
    op.result(args, attrs)
}
