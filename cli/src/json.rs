//! JSON results: one object a line with a `reason`; the last has reason `result` and a `schema`.
//! Nothing else is on standard output then, and nothing is coloured.
//!
//! Units stand in the names of fields: `_ns`, `_bytes`. A schema's number grows when a field
//! changes its meaning or goes; new fields may come at any time. `cli/tests/driver.rs` holds the
//! shapes to these tables.
//!
//! | `fermata.bench/1` | of `bench --json` |
//! |---|---|
//! | `model` | the file as it was named |
//! | `machine`, `features` | the processor and its cores; the extensions that code was made for |
//! | `build` | the program's version and profile |
//! | `device`, `threads`, `seed` | as the flags say |
//! | `runs` | how many runs were measured |
//! | `stable` | whether the medians of the first and second half are within 5 % |
//! | `ready_ns` | from the start of reading to a session that is ready |
//! | `first_run_ns` | the first run, before the warm-up |
//! | `min_ns`, `mean_ns`, `max_ns` | of the measured runs |
//! | `percentiles` | `p50_ns` and so on, as `--percentile` asks |
//! | `peak_memory_bytes` | of the process, null where the system does not tell |
//!
//! | `fermata.inspect.program/1` | of `inspect --json` on a model |
//! |---|---|
//! | `inputs` | `name` and `type` of each |
//! | `result` | its type |
//! | `calls`, `ops` | calls in all, and by operator |
//! | `constants`, `weight_bytes` | how many, and their size |
//!
//! | `fermata.inspect.artifact/1` | of `inspect --json` on an artifact |
//! |---|---|
//! | `kernels` | `name`, `tiles`, `code_bytes` and `scratch_bytes` of each |
//! | `steps` | of the plan of the entry |
//! | `arena_bytes`, `constant_bytes` | memory for temporaries and constants |
//!
//! | `fermata.doctor/1` | of `doctor --json` |
//! |---|---|
//! | `machine`, `threads` | the processor, and how many threads it runs at once |
//! | `features` | by name, whether the processor has it |
//! | `l1_bytes`, `l2_bytes` | caches of a core |
//! | `cuda` | what there is to say of it |
//!
//! `colocate --json` prints `fermata.colocate/1`, a line with reason `policy` for each policy
//! before the result.

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
