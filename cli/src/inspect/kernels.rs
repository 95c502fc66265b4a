//! The kernels of a compiled program: tiles, segments and certificates.

use fermata_ir::entity::EntityRef;
use fermata_ir::op::AttrValue;
use fermata_ir::tir::segments::{Segments, TilesIndependent, segments};
use fermata_ir::tir::{BufferId, PrimFunc};
use fermata_passes::lower::plan::{Kernel, KernelId, Program};
use serde_json::{Value, json};

use super::bytes_text;
use crate::bound::{ns_text, time_text};
use crate::compile::Compiled;
use crate::{Failure, Streams};

/// Tiles of a kernel whose segments are looked at.
const SAMPLED: i64 = 512;

/// What a tile touches of a parameter.
struct Touched {
    name: String,
    write: bool,
    /// Elements of the parameter.
    elements: i64,
    /// The most elements between the first and the last that one tile touches.
    most: i64,
    /// The first of them in tile 0, and in the last tile.
    first: [i64; 2],
    /// How far they move from tile to tile, where they move evenly.
    step: Option<i64>,
}

/// A kernel with all there is to say of it.
struct Listed<'p> {
    kernel: &'p Kernel,
    raw: Option<&'p Kernel>,
    launches: usize,
    code_bytes: usize,
    scratch_bytes: usize,
    measured_ns: Option<u64>,
    touched: Vec<Touched>,
    dependent: Option<String>,
}

/// The kernels that a program launches, in order; `measured` has the longest tile of each.
fn list<'p>(compiled: &'p Compiled, measured: Option<&[Option<u64>]>) -> Vec<Listed<'p>> {
    let program = &compiled.program;
    let launches = program.launches();
    let launched = program.kernels.iter().filter(|(id, _)| launches[id.index()] > 0);
    let describe = |(id, kernel): (KernelId, &'p Kernel)| {
        let code = compiled.kernels.get(id.index());
        let found = segments(&kernel.func);
        let dependent = match found.as_ref().map(|s| s.independent(&kernel.func)) {
            Some(TilesIndependent::Unproved(why)) => Some(why),
            Some(TilesIndependent::Proved) | None => None,
        };
        Listed {
            kernel,
            raw: kernel.raw.map(|raw| &program.kernels[raw]),
            launches: launches[id.index()],
            code_bytes: code.map_or(0, |c| c.code.len()),
            scratch_bytes: code.map_or(0, |c| c.scratch_bytes),
            measured_ns: measured.and_then(|m| m[id.index()]),
            touched: found.map_or(Vec::new(), |s| all_touched(&kernel.func, &s)),
            dependent,
        }
    };
    launched.map(describe).collect()
}

/// What tiles touch of each parameter, inputs first.
fn all_touched(func: &PrimFunc, segments: &Segments) -> Vec<Touched> {
    let access = |write| func.params.iter().filter_map(move |&b| touched(func, segments, b, write));
    access(false).chain(access(true)).collect()
}

fn touched(func: &PrimFunc, segments: &Segments, buffer: BufferId, write: bool) -> Option<Touched> {
    let tiles = func.tiles()?;
    let last = tiles.checked_sub(1).filter(|&t| t >= 0)?;
    let mut at: Vec<i64> = (0..tiles.min(SAMPLED)).collect();
    if tiles > SAMPLED {
        at.push(last);
    }
    let found: Vec<(i64, i64)> =
        at.iter().map(|&t| segments.of_tile(func, buffer, write, t)).collect::<Option<_>>()?;
    let starts: Vec<i64> = found.iter().map(|(lo, _)| *lo).collect();
    let step = starts.get(1).map_or(0, |second| second - starts[0]);
    let even = at.iter().zip(&starts).all(|(t, start)| *start == starts[0] + t * step);
    Some(Touched {
        name: func.buffers[buffer].name.to_string(),
        write,
        elements: func.buffers[buffer].shape.iter().product::<usize>() as i64,
        most: found.iter().map(|(lo, hi)| hi - lo + 1).max().unwrap_or(0),
        first: [starts[0], starts[starts.len() - 1]],
        step: even.then_some(step),
    })
}

impl Touched {
    /// `448 of 100352, from 448 * t`.
    fn text(&self) -> String {
        let &Touched { elements, most, first: [first, last], step, .. } = self;
        let place = match step {
            Some(0) if most == elements => return format!("all {elements}"),
            Some(0) => format!("from {first}"),
            Some(step) if first == 0 => format!("from {step} * t"),
            Some(step) => format!("from {first} + {step} * t"),
            None => format!("from {first} in the first tile to {last} in the last, by rows and columns"),
        };
        format!("{most} of {elements}, {place}")
    }

    fn json(&self) -> Value {
        json!({"parameter": self.name, "elements": self.elements, "most_of_a_tile": self.most,
               "first_of_first_tile": self.first[0], "first_of_last_tile": self.first[1], "step": self.step})
    }
}

impl Listed<'_> {
    fn json(&self) -> Value {
        let side = |write: bool| {
            self.touched.iter().filter(|t| t.write == write).map(Touched::json).collect::<Vec<_>>()
        };
        let raw = self
            .raw
            .map(|raw| json!({"tiles": raw.tiles, "tile_ns": raw.certificate.as_ref().map(|c| c.tile_ns)}));
        json!({
            "name": &*self.kernel.func.name,
            "launches": self.launches,
            "tiles": self.kernel.tiles,
            "code_bytes": self.code_bytes,
            "scratch_bytes": self.scratch_bytes,
            "reads": side(false),
            "writes": side(true),
            "tiles_are_independent": self.dependent.is_none(),
            "certificate": certificate_json(self.kernel),
            "measured_ns": self.measured_ns,
            "raw": raw,
        })
    }

    /// Whether the bound is kept: by the model, and where it was measured, on this machine.
    fn verdict(&self) -> &'static str {
        let Some(certificate) = &self.kernel.certificate else { return "-" };
        let Some(bound) = certificate.bound_ns else { return "-" };
        match (certificate.holds(), self.measured_ns) {
            (false, _) => "no",
            (true, Some(measured)) if measured > bound => "broken",
            (true, _) => "kept",
        }
    }
}

fn certificate_json(kernel: &Kernel) -> Value {
    kernel.certificate.as_ref().map_or(Value::Null, |c| {
        json!({"tile_ns": c.tile_ns, "lookahead_tiles": c.lookahead, "exit_ns": c.exit_ns(),
               "bound_ns": c.bound_ns, "holds": c.holds(), "obstacle": c.obstacle.as_deref()})
    })
}

/// The kernels as values of JSON.
pub(super) fn json(compiled: &Compiled, measured: Option<&[Option<u64>]>) -> Vec<Value> {
    list(compiled, measured).iter().map(Listed::json).collect()
}

/// Prints the kernels as a table, and what each reads and writes.
pub(super) fn print(
    compiled: &Compiled,
    measured: Option<&[Option<u64>]>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let listed = list(compiled, measured);
    let rows = table(&compiled.program, &listed, measured.is_some());
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    writeln!(streams.stdout)?;
    for row in &rows {
        let (name, numbers) = row.split_last().expect("a row ends with the kernel's name");
        let cells: Vec<String> =
            numbers.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        writeln!(streams.stdout, "  {}  {name}", cells.join("  "))?;
    }
    writeln!(streams.stdout, "\nelements that tile t reads and writes, from the first to the last")?;
    for kernel in &listed {
        details(kernel, streams)?;
    }
    Ok(())
}

/// The rows of the table, the heading first: numbers, then the name.
fn table(program: &Program, listed: &[Listed<'_>], measured: bool) -> Vec<Vec<String>> {
    let mut heading = vec!["launches", "tiles", "code", "predicted"];
    if measured {
        heading.push("measured");
    }
    let bound = program.bound.map(|bound| format!("under {}", time_text(bound)));
    if bound.is_some() {
        heading.insert(2, "unbounded");
    }
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows[0].extend(bound);
    rows[0].push("kernel".into());
    for kernel in listed {
        let predicted = kernel.kernel.certificate.as_ref().map_or("-".into(), |c| ns_text(c.exit_ns()));
        let mut row = vec![kernel.launches.to_string(), kernel.kernel.tiles.to_string()];
        if program.bound.is_some() {
            row.push(kernel.raw.unwrap_or(kernel.kernel).tiles.to_string());
        }
        row.extend([bytes_text(kernel.code_bytes), predicted]);
        if measured {
            row.push(kernel.measured_ns.map_or("-".into(), ns_text));
        }
        if program.bound.is_some() {
            row.push(kernel.verdict().into());
        }
        row.push(kernel.kernel.func.name.to_string());
        rows.push(row);
    }
    rows
}

/// What a kernel computes, reads and writes, and why it does not keep its bound.
fn details(listed: &Listed<'_>, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let func = &listed.kernel.func;
    writeln!(streams.stdout, "  {}", func.name)?;
    if let Some(AttrValue::Str(ops)) = func.attrs.get("relay") {
        lines("ops", ops, streams)?;
    }
    let width = listed.touched.iter().map(|t| t.name.len()).max().unwrap_or(0);
    for touched in &listed.touched {
        let verb = if touched.write { "writes" } else { "reads" };
        writeln!(streams.stdout, "    {verb:<6}  {:<width$}  {}", touched.name, touched.text())?;
    }
    if let Some(why) = &listed.dependent {
        lines("tiles", &format!("not proved to be independent: {why}"), streams)?;
    }
    let obstacle = listed.kernel.certificate.as_ref().and_then(|c| c.obstacle.as_deref());
    match obstacle {
        Some(why) => lines("bound", &format!("not kept: {why}"), streams),
        None => Ok(()),
    }
}

/// Columns that a line of text has at most.
const WIDTH: usize = 84;

/// A text under a heading, broken into lines.
fn lines(heading: &str, text: &str, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let mut line = String::new();
    let mut heading = heading;
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(streams.stdout, "    {heading:<6}  {line}")?;
            (heading, line) = ("", String::new());
        }
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(word);
    }
    writeln!(streams.stdout, "    {heading:<6}  {line}")?;
    Ok(())
}
