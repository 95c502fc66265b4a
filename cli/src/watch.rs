//! What the flags show of the passes at work: programs around passes, differences, times, counts,
//! remarks, and a reproducer of a pass that fails.

use std::path::Path;
use std::time::Instant;

use fermata_ir::diag::Diagnostic;
use fermata_ir::expr::Module;
use fermata_ir::walk;
use fermata_passes::manager::Instrument;
use fermata_passes::pass::{Outcome, PassContext, PassDef};
use fermata_passes::pipeline::Pipeline;

use crate::args::{PrintArgs, WatchArgs};
use crate::crash;
use crate::{Failure, Streams, diff, output};

/// What one pass did.
struct Done {
    name: &'static str,
    seconds: f64,
    outcome: Outcome,
    rewrites: u64,
    /// Expressions after it.
    nodes: usize,
}

/// Watches a pipeline.
pub(crate) struct Watch<'a> {
    args: &'a WatchArgs,
    print: &'a PrintArgs,
    pipeline: &'a Pipeline,
    /// Steps of the pipeline that are done; passes that others require are no steps.
    step: usize,
    /// What is printed, in order.
    text: String,
    /// Files of the dump: name and content.
    files: Vec<(String, String)>,
    /// The program as text before the pass that runs, where a flag needs it.
    before: Option<String>,
    /// Expressions before the first pass.
    nodes: usize,
    started: Option<Instant>,
    /// The pass that runs.
    running: Option<&'static str>,
    done: Vec<Done>,
    remarks: Vec<Diagnostic>,
}

impl<'a> Watch<'a> {
    /// Watches as the flags say.
    pub(crate) fn new(args: &'a WatchArgs, print: &'a PrintArgs, pipeline: &'a Pipeline) -> Watch<'a> {
        Watch {
            args,
            print,
            pipeline,
            step: 0,
            text: String::new(),
            files: Vec::new(),
            before: None,
            nodes: 0,
            started: None,
            running: None,
            done: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn dump(&mut self, when: &str, pass: &str, module: &Module) {
        let program = only_funcs(&output::module_text(module, self.print, false), &self.args.filter_funcs);
        self.text.push_str(&format!("// ----- {when} {pass} -----\n{program}"));
    }

    /// Whether the text of the program before each pass is needed.
    fn keeps_text(&self) -> bool {
        self.args.print_changed.is_some()
    }

    fn diff(&mut self, pass: &str, after: &str) {
        let before = self.before.take().unwrap_or_default();
        let funcs = &self.args.filter_funcs;
        let (before, after) = (only_funcs(&before, funcs), only_funcs(after, funcs));
        let shown = diff::unified(&before, &after);
        self.text.push_str(&format!("// ----- {pass} -----\n{shown}"));
    }

    /// Prints and writes what was seen up to the program that the passes left, one of them
    /// perhaps by failing.
    ///
    /// # Errors
    /// If a file of the dump cannot be written.
    pub(crate) fn finish(mut self, module: &Module, streams: &mut Streams<'_>) -> Result<(), Failure> {
        crash::enter("");
        if let (Some(pass), true) = (self.running, self.args.print_ir_after_failure) {
            self.dump("after failed", pass, module);
        }
        // Where standard error is closed there is nobody to tell.
        let _ = streams.stderr.write_all(self.text.as_bytes());
        streams.warn(&self.remarks, &module.sources);
        if let Some(folder) = &self.args.dump_ir_dir {
            write_dump(folder, &self.files, streams)?;
        }
        if self.args.timing {
            self.print_times(streams);
        }
        if self.args.stats {
            self.print_counts(streams);
        }
        Ok(())
    }

    fn print_times(&self, streams: &mut Streams<'_>) {
        for done in &self.done {
            let changed = if done.outcome == Outcome::Changed { "  changed" } else { "" };
            let line = format!("{:>10.3} ms  {}{changed}", done.seconds * 1e3, done.name);
            let _ = writeln!(streams.stderr, "{line}");
        }
        let total: f64 = self.done.iter().map(|d| d.seconds).sum();
        let _ = writeln!(streams.stderr, "{:>10.3} ms  in all", total * 1e3);
    }

    fn print_counts(&self, streams: &mut Streams<'_>) {
        let mut nodes = self.nodes;
        let _ = writeln!(streams.stderr, "rewrites  expressions      pass");
        for done in &self.done {
            let from_to = format!("{nodes} -> {}", done.nodes);
            let _ = writeln!(streams.stderr, "{:>8}  {from_to:<15}  {}", done.rewrites, done.name);
            nodes = done.nodes;
        }
    }

    /// The passes from the one that runs on, as a pipeline.
    fn rest(&self) -> String {
        let steps = self.pipeline.steps.iter().skip(self.step);
        steps.map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

fn names(list: &[String], pass: &PassDef) -> bool {
    list.iter().any(|n| n == pass.name || n == pass.relay_name)
}

impl Instrument for Watch<'_> {
    fn before(&mut self, pass: &PassDef, module: &Module) {
        if self.done.is_empty() {
            self.nodes = walk::reachable(module).len();
            if self.args.dump_ir_dir.is_some() {
                self.files.push(("input".into(), output::module_text(module, self.print, false)));
            }
        }
        if names(&self.args.print_ir_before, pass) {
            self.dump("before", pass.name, module);
        }
        if self.keeps_text() && self.before.is_none() {
            self.before = Some(output::module_text(module, self.print, false));
        }
        self.running = Some(pass.name);
        crash::enter(format!("the pass `{}`", pass.name));
        if let Some(path) = &self.args.crash_reproducer {
            crash::keep_program(module, self.rest(), path);
        }
        self.started = Some(Instant::now());
    }

    fn after(&mut self, pass: &PassDef, module: &Module, outcome: Outcome, context: &PassContext) {
        let seconds = self.started.take().map_or(0.0, |s| s.elapsed().as_secs_f64());
        self.running = None;
        self.step +=
            usize::from(self.pipeline.steps.get(self.step).is_some_and(|s| s.pass.name == pass.name));
        let nodes = if self.args.stats { walk::reachable(module).len() } else { 0 };
        self.done.push(Done { name: pass.name, seconds, outcome, rewrites: context.rewrites, nodes });
        self.remarks.extend(context.remarks.iter().cloned());
        let changed = outcome == Outcome::Changed;
        let wanted = changed && self.args.print_ir_after_change || self.args.print_ir_after_all;
        if wanted || names(&self.args.print_ir_after, pass) {
            self.dump("after", pass.name, module);
        }
        if changed && (self.keeps_text() || self.args.dump_ir_dir.is_some()) {
            let text = output::module_text(module, self.print, false);
            if self.args.print_changed.is_some() {
                self.diff(pass.name, &text);
                self.before = Some(text.clone());
            }
            if self.args.dump_ir_dir.is_some() {
                self.files.push((format!("{:02}_{}", self.done.len(), pass.name), text));
            }
        }
    }
}

/// Writes the files of a dump; the input is number 0.
fn write_dump(folder: &Path, files: &[(String, String)], streams: &mut Streams<'_>) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::usage(format!("cannot make `{}`: {e}", folder.display())))?;
    for (name, content) in files {
        let name = if name == "input" { "00_input.relay".into() } else { format!("{name}.relay") };
        output::write(&folder.join(name), content.as_bytes(), streams)?;
    }
    Ok(())
}

/// A printed program with these functions only, or whole if there are none named.
fn only_funcs(text: &str, funcs: &[String]) -> String {
    if funcs.is_empty() {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut keeps = false;
    for line in text.split_inclusive('\n') {
        if let Some(head) = line.strip_prefix("def @") {
            keeps = funcs.iter().any(|f| is_head_of(head, f.trim_start_matches('@')));
        }
        if keeps {
            kept.push_str(line);
        }
        keeps &= !line.starts_with('}');
    }
    kept
}

/// Whether what follows `def @` begins the function of this name, quoted or not.
fn is_head_of(head: &str, name: &str) -> bool {
    let rest = head.strip_prefix(name).or_else(|| head.strip_prefix(&format!("\"{name}\"")));
    rest.is_some_and(|rest| rest.starts_with(['(', '[']))
}

#[cfg(test)]
mod tests {
    use super::only_funcs;

    #[test]
    fn functions_are_told_by_their_whole_name() {
        let text = "#[version = \"0.0.5\"]\ndef @f(%x: int32) {\n  %x\n}\ndef @fg[A]() {\n  1\n}\n";
        assert_eq!(only_funcs(text, &[]), text);
        assert_eq!(only_funcs(text, &["f".into()]), "def @f(%x: int32) {\n  %x\n}\n");
        assert_eq!(only_funcs(text, &["@fg".into(), "h".into()]), "def @fg[A]() {\n  1\n}\n");
    }
}
