//! JSON results: one object a line with a `reason`; the last has reason `result` and a `schema`.
//!
//! | schema | printed by |
//! |---|---|
//! | `fermata.bench/1` | `bench --json` |
//! | `fermata.inspect.program/1`, `fermata.inspect.artifact/1` | `inspect --json` |
//! | `fermata.colocate/1` | `colocate --json`, a line with reason `policy` for each before it |
//! | `fermata.doctor/1` | `doctor --json` |
//!
//! Units stand in the names of fields: `_ns`, `_bytes`. A schema's number grows when a field
//! changes its meaning or goes; new fields may come at any time.

use serde_json::Value;

use crate::{Failure, Streams};

/// Prints one object; gives exit code 0.
///
/// # Errors
/// If standard output cannot be written.
pub fn line(value: &Value, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    writeln!(streams.stdout, "{value}")?;
    Ok(0)
}
