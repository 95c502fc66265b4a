//! The page: what stands where.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use fermata_passes::pass::FloatClass;

use super::parts::{count, difference, legend, picture, quantity, rules};
use super::{PassRun, Report, calls, constants, cost};
use crate::graph::{self, Family, svg};
use crate::inspect::bytes_text;
use crate::run::parameters;

/// The whole page: nothing that it needs is elsewhere.
pub(super) fn page(report: &Report) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.model) " — fermata report" }
                style { (PreEscaped(style())) }
            }
            body {
                header {
                    h1 { (report.model) }
                    p.lead { "What the passes make of it, for the target " code { (report.target) } "." }
                    nav {
                        a href="#summary" { "Summary" } a href="#passes" { "Passes" } a href="#graph" { "Graph" }
                        a href="#changes" { "Changes" } a href="#operators" { "Operators" }
                    }
                }
                main {
                    (summary(report))
                    (passes(report))
                    (graphs(report))
                    (changes(report))
                    (operators(report))
                }
                footer { "fermata " (env!("CARGO_PKG_VERSION")) ". This page needs no network." }
                script { (PreEscaped(include_str!("script.js"))) }
            }
        }
    }
    .into_string()
        + "\n"
}

fn style() -> String {
    let families = |dark: bool| {
        let color = |f: Family| if dark { f.dark() } else { f.light() };
        let rule = |f: Family| format!(".{0}.swatch,.{0}.bar{{background:{1}}}", f.class(), color(f));
        svg::style(".canvas", dark) + &Family::ALL.map(rule).concat()
    };
    let dark = format!("@media (prefers-color-scheme:dark){{{}}}", families(true));
    format!("{}{}{dark}", include_str!("style.css"), families(false))
}

fn summary(report: &Report) -> Markup {
    let (weights, bytes) = constants(&report.before);
    let (weights_after, bytes_after) = constants(&report.after);
    let time: f64 = report.passes.iter().map(|p| p.seconds).sum();
    let changed = report.passes.iter().filter(|p| p.changed).count();
    let inputs = parameters(&report.before).unwrap_or_default();
    let result = report.before.global("main").and_then(|g| report.before.globals[g].func.as_ref());
    html! {
        section #summary {
            div.tiles {
                (tile("operators", &format!("{} → {}", calls(&report.before), calls(&report.after)), "calls before and after"))
                @if let Some(plan) = &report.plan {
                    (tile("kernels", &plan.kernels.to_string(), &format!("{} launches a run", plan.launches)))
                    (tile("memory", &bytes_text(plan.arena_bytes), "for values between kernels"))
                }
                (tile("weights", &bytes_text(bytes_after), &format!("{weights_after} constants; {weights} of {} before", bytes_text(bytes))))
                (tile("passes", &format!("{changed} of {}", report.passes.len()), "changed something"))
                (tile("time", &format!("{:.1} ms", time * 1e3), "in the passes and the checks after them"))
            }
            dl.ports {
                dt { "inputs" }
                dd { @for input in &inputs { code { (input.name) ": " (fermata_ir::types::Type::from(input.ty.clone())) } " " } }
                dt { "result" }
                dd { @if let Some(func) = result { code { (report.before.types[func.body]) } } }
                dt { "pipeline" }
                dd { code.pipeline { (report.pipeline.replace(',', ", ")) } }
            }
        }
    }
}

fn tile(title: &str, value: &str, more: &str) -> Markup {
    html! { div.tile { div.title { (title) } div.value { (value) } div.more { (more) } } }
}

fn float_class(pass: &PassRun) -> &'static str {
    match pass.pass.float {
        FloatClass::Exact => "exact",
        FloatClass::Algebraic => "rounding",
        FloatClass::Approximate => "approximate",
    }
}

fn passes(report: &Report) -> Markup {
    let most = report.passes.iter().map(|p| p.seconds).fold(f64::MIN_POSITIVE, f64::max);
    let mut before = calls(&report.before);
    let rows = report.passes.iter().enumerate().map(|(n, pass)| {
        let change = pass.calls as i64 - before as i64;
        before = pass.calls;
        html! {
            tr.idle[!pass.changed] {
                td.number { (n + 1) }
                td { @if pass.changed { a href={ "#pass-" (n + 1) } { (pass.pass.name) } } @else { (pass.pass.name) } }
                td.wide { (pass.pass.doc) (rules(&pass.fired)) }
                td.number { @if pass.rewrites > 0 { (count(pass.rewrites)) } }
                td.number { @if change != 0 { (format!("{change:+}")) } }
                td { (float_class(pass)) }
                td.time {
                    span.bar style={ "width:" (format!("{:.0}", 100.0 * pass.seconds / most)) "%" } {}
                    span { (format!("{:.2} ms", pass.seconds * 1e3)) }
                }
            }
        }
    });
    html! {
        section #passes {
            h2 { "Passes" }
            div.scroll { table {
                thead { tr {
                    th { "#" } th { "pass" } th { "what it does" } th.number { "rewrites" }
                    th.number { "operators" } th { "floats" } th { "time" }
                } }
                tbody { @for row in rows { (row) } }
            } }
        }
    }
}

fn graphs(report: &Report) -> Markup {
    let (before, after) = (graph::build(&report.before), graph::build(&report.after));
    html! {
        section #graph {
            h2 { "Graph" }
            p.hint {
                "Dashed boxes are groups that become kernels together. Drag to move, turn the wheel to zoom; a click on a "
                "node shows who reads it. A dot on a node's edge is a value from far above."
            }
            div.tools {
                input #search type="search" placeholder="Search an operator" aria-label="Search an operator";
                span #found aria-live="polite" {}
                (legend())
            }
            div.pictures {
                (picture("before", "Before the passes", &before))
                (picture("after", "After the passes", &after))
            }
        }
    }
}

fn changes(report: &Report) -> Markup {
    let mut last = &report.text;
    let mut sections = Vec::new();
    for (n, pass) in report.passes.iter().enumerate() {
        let Some(text) = &pass.text else { continue };
        sections.push((n + 1, pass, difference(last, text)));
        last = text;
    }
    html! {
        section #changes {
            h2 { "Changes" }
            p.hint { "What each pass changed in the program's text. Lines that only got other numbers are not shown as changed." }
            @for (n, pass, (table, added, removed)) in &sections {
                details id={ "pass-" (n) } {
                    summary {
                        b { (pass.pass.name) } " "
                        span.added { "+" (added) } " " span.removed { "−" (removed) } " "
                        span.doc { (pass.pass.doc) }
                    }
                    (table)
                }
            }
            @if sections.is_empty() { p { "No pass changed anything." } }
        }
    }
}

fn operators(report: &Report) -> Markup {
    let rows = cost::rows(&report.before, &report.after);
    let all = rows.iter().map(|row| row.operations).sum::<u64>().max(1) as f64;
    html! {
        section #operators {
            h2 { "Operators" }
            p.hint {
                "Arithmetic is counted on the operators' definitions; functions such as exp count as one. Bytes are what the "
                "calls would read and write if each were a kernel of its own."
            }
            div.scroll { table {
                thead { tr {
                    th { "operator" } th.number { "before" } th.number { "after" } th { "results" }
                    th.number { "arithmetic" } th.number { "bytes" } th { "share of the arithmetic" }
                } }
                tbody { @for row in &rows {
                    @let share = 100.0 * row.operations as f64 / all;
                    tr.idle[row.after == 0] {
                        td { span class={ "swatch " (row.family.class()) } {} (row.op.name()) }
                        td.number { (row.before) }
                        td.number { (row.after) }
                        td.wide {
                            (row.shapes.join(", "))
                            @if row.more_shapes > 0 { " and " (row.more_shapes) " more" }
                        }
                        td.number { (quantity(row.operations)) }
                        td.number { (quantity(row.bytes)) }
                        td.time {
                            span class={ "bar " (row.family.class()) } style={ "width:" (format!("{share:.0}")) "%" } {}
                            span { @if row.operations > 0 { (format!("{share:.1} %")) } }
                        }
                    }
                } }
            } }
        }
    }
}
