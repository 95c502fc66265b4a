//! `fermata list`: operators, passes, intrinsics, ONNX operators, targets.

use fermata_ir::front::onnx;
use fermata_ir::op::{Lower, Op};
use fermata_ir::tir::intrin::CATALOGUE;
use fermata_ir::types::DType;
use fermata_passes::pass::{FloatClass, MAX_LEVEL};
use fermata_passes::target::{CUDA_SMS, CudaTarget};
use fermata_runtime::detect;

use crate::args::{ListArgs, Listing};
use crate::{Driver, Failure, Streams};

/// `fermata list`.
pub(crate) fn command(driver: &Driver, args: &ListArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    match args.what {
        Listing::Ops => ops(driver, args.markdown, streams),
        Listing::Passes => passes(driver, args.markdown, streams),
        Listing::Intrinsics => {
            let rows = CATALOGUE.iter().map(|i| vec![i.name.to_string(), i.doc.to_string()]).collect();
            table(&["intrinsic", "meaning"], rows, args.markdown, streams)
        }
        Listing::Onnx => {
            let name = |(domain, name): (&str, &str)| match domain {
                "" => name.to_string(),
                domain => format!("{domain}.{name}"),
            };
            let mut names: Vec<String> = onnx::supported().map(name).collect();
            names.sort();
            names.dedup();
            table(&["operator"], names.into_iter().map(|n| vec![n]).collect(), args.markdown, streams)
        }
        Listing::Targets => {
            let host = detect::host();
            let mut rows = vec![vec![
                "cpu".into(),
                host.features.to_string(),
                format!("{} kB L1, {} kB L2", host.l1_bytes >> 10, host.l2_bytes >> 10),
            ]];
            rows.extend(CUDA_SMS.iter().map(|&sm| {
                let target = CudaTarget { sm };
                vec![target.to_string(), format!("kernels for {}", target.arch()), String::new()]
            }));
            table(&["target", "features", "caches"], rows, args.markdown, streams)
        }
    }
}

/// The operators: their dtypes, and whether the CPU has code for them.
fn ops(driver: &Driver, markdown: bool, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let cpu = |op: &Op| match op.0.lower {
        Lower::Te(_) => "yes".to_string(),
        Lower::None(reason) => format!("no: {reason}"),
    };
    let rows = driver.ops.iter().map(|op| {
        let dtypes = dtypes_text(op.0.dtypes);
        vec![op.name().to_string(), dtypes, "yes".into(), cpu(&op), op.0.doc.trim_end_matches('.').into()]
    });
    table(&["operator", "dtypes", "evaluator", "CPU", "what"], rows.collect(), markdown, streams)
}

/// `all`, `floats`, or the short names.
fn dtypes_text(dtypes: &[DType]) -> String {
    if dtypes.len() == DType::ALL.len() {
        return "all".into();
    }
    let has = |keep: fn(&DType) -> bool| DType::ALL.iter().filter(|d| keep(d)).all(|d| dtypes.contains(d));
    type Group = (&'static str, fn(&DType) -> bool);
    let groups: [Group; 3] = [
        ("floats", |d| d.is_float()),
        ("signed", |d| d.is_signed_int()),
        ("unsigned", |d| d.is_unsigned_int()),
    ];
    let mut words: Vec<String> = Vec::new();
    let mut rest: Vec<DType> = dtypes.to_vec();
    for (name, keep) in groups {
        if has(keep) {
            words.push(name.into());
            rest.retain(|d| !keep(d));
        }
    }
    words.extend(rest.iter().map(|d| d.name().to_string()));
    words.join(", ")
}

/// The passes.
///
/// # Errors
/// If standard output cannot be written.
pub fn passes(driver: &Driver, markdown: bool, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let class = |c: FloatClass| match c {
        FloatClass::Exact => "exact",
        FloatClass::Algebraic => "algebraic",
        FloatClass::Approximate => "approximate",
    };
    let rows = driver.passes.iter().map(|p| {
        let options: Vec<&str> = p.options.iter().map(|o| o.name).collect();
        vec![
            p.name.to_string(),
            p.relay_name.to_string(),
            if p.level > MAX_LEVEL { "a flag".into() } else { format!("-O{}", p.level) },
            class(p.float).to_string(),
            options.join(" "),
            p.doc.to_string(),
        ]
    });
    table(&["pass", "in Relay", "from", "floats", "options", "what"], rows.collect(), markdown, streams)
}

/// Prints a table, in Markdown or in columns.
fn table(
    head: &[&str],
    rows: Vec<Vec<String>>,
    markdown: bool,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    if markdown {
        writeln!(streams.stdout, "| {} |", head.join(" | "))?;
        writeln!(streams.stdout, "|{}", "---|".repeat(head.len()))?;
        for row in rows {
            let cells: Vec<String> = row.iter().map(|c| c.replace('|', "\\|")).collect();
            writeln!(streams.stdout, "| {} |", cells.join(" | "))?;
        }
        return Ok(0);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head.to_vec());
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    for line in table.lines() {
        writeln!(streams.stdout, "{}", line.trim_end())?;
    }
    Ok(0)
}
