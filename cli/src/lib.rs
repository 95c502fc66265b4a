//! The library face of the program `fermata`: the commands as functions over streams.
//!
//! A pass author's own `opt` is this crate with more operators and passes:
//!
//! ```no_run
//! fermata::Driver::standard().with_passes(&[]).with_ops(&[]).main()
//! ```

mod args;
mod bench;
mod bisect;
mod bound;
mod check;
mod colocate;
mod compare;
pub mod compile;
mod crash;
mod cuda;
mod demo;
mod diff;
mod doctor;
mod explain;
mod graph;
pub mod inputs;
mod inspect;
pub mod json;
mod list;
pub mod model;
mod opt;
mod output;
mod profile;
mod quantize;
mod reduce;
mod report;
mod run;
mod split;
mod streams;
mod watch;

pub use bench::machine;
pub use streams::{Failure, Streams};

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::FromArgMatches;
use fermata_ir::op::{OpDef, OpTable};
use fermata_passes::pass::PassDef;
use fermata_passes::table::PassTable;

use args::{Cli, ManArgs, Verb};

/// The command line as clap knows it, for those who check that a line is well formed.
pub fn command_line() -> clap::Command {
    args::command()
}

/// The exit code of a command that took longer than `--timeout`.
const TIMED_OUT: i32 = 124;

/// The program with its tables.
#[derive(Clone)]
pub struct Driver {
    /// Operators that texts may name.
    pub ops: OpTable,
    /// Passes that pipelines may name.
    pub passes: PassTable,
}

impl Driver {
    /// The program as it is shipped.
    pub fn standard() -> Driver {
        Driver { ops: OpTable::standard(), passes: PassTable::standard() }
    }

    /// The program with more operators.
    #[must_use]
    pub fn with_ops(mut self, ops: &[&'static OpDef]) -> Driver {
        self.ops = self.ops.with(ops);
        self
    }

    /// The program with more passes.
    #[must_use]
    pub fn with_passes(mut self, passes: &[&'static PassDef]) -> Driver {
        self.passes = self.passes.with(passes);
        self
    }

    /// Runs the command line of this process and exits with its code.
    pub fn main(&self) -> ! {
        crash::install_hook();
        let code = streams::with_process_streams(|streams| {
            let args: Vec<OsString> = std::env::args_os().collect();
            match parse(&args, streams) {
                Ok(cli) => match watch_clock(&cli) {
                    Ok(()) => self.dispatch(&cli, &args, streams),
                    Err(failure) => streams.report(&failure),
                },
                Err(code) => code,
            }
        });
        std::process::exit(code)
    }

    /// Runs a command line, the program's name first; gives the exit code: 0 done, 1 the answer is
    /// no, 2 called wrongly, 101 a fault of ours. `--timeout` is for processes and does nothing here.
    pub fn run(&self, args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> i32 {
        let args: Vec<OsString> = args.into_iter().collect();
        match parse(&args, streams) {
            Ok(cli) => self.dispatch(&cli, &args, streams),
            Err(code) => code,
        }
    }

    /// Does what the verb says; a panic becomes a report and exit code 101.
    fn dispatch(&self, cli: &Cli, args: &[OsString], streams: &mut Streams<'_>) -> i32 {
        streams.color &= !cli.verb.is_json();
        crash::enter("");
        let outcome = catch_unwind(AssertUnwindSafe(|| self.verb(&cli.verb, streams)));
        match outcome {
            Ok(Ok(code)) => code,
            Ok(Err(failure)) => streams.report(&failure),
            Err(payload) => crash::report(&*payload, args, streams),
        }
    }

    fn verb(&self, verb: &Verb, streams: &mut Streams<'_>) -> Result<i32, Failure> {
        match verb {
            Verb::Compile(args) => compile::command(self, args, streams),
            Verb::Opt(args) => opt::command(self, args, streams),
            Verb::Run(args) => run::command(self, args, streams),
            Verb::Compare(args) => compare::command(self, args, streams),
            Verb::Bench(args) => bench::command(self, args, streams),
            Verb::Quantize(args) => quantize::command(self, args, streams),
            Verb::Colocate(args) => colocate::command(self, args, streams),
            Verb::Profile(args) => profile::command(self, args, streams),
            Verb::Inspect(args) => inspect::command(self, args, streams),
            Verb::Bisect(args) => bisect::command(self, args, streams),
            Verb::Reduce(args) => reduce::command(self, args, streams),
            Verb::Report(args) => report::command(self, args, streams),
            Verb::List(args) => list::command(self, args, streams),
            Verb::Doctor(args) => doctor::command(args, streams),
            Verb::Demo(args) => demo::command(self, args, streams),
            Verb::Explain(args) => explain::command(args, streams),
            Verb::Completions(args) => {
                let mut script = Vec::new();
                clap_complete::generate(args.shell, &mut args::command(), "fermata", &mut script);
                streams.stdout.write_all(&script)?;
                Ok(0)
            }
            Verb::Man(args) => man(args, streams),
        }
    }
}

/// Reads a command line; where there is nothing to do, or it is wrong, gives the exit code.
fn parse(args: &[OsString], streams: &mut Streams<'_>) -> Result<Cli, i32> {
    let command = args::command().color(streams.clap_color());
    let cli = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    cli.map_err(|error| streams.clap_error(&error))
}

/// Ends the process when the time of `--timeout` is over. Files appear by rename, so none is left
/// half written.
fn watch_clock(cli: &Cli) -> Result<(), Failure> {
    let Some(text) = &cli.timeout else { return Ok(()) };
    let limit = bench::duration(text)?;
    let text = text.clone();
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("error: this took longer than --timeout {text}");
        std::process::exit(TIMED_OUT)
    });
    Ok(())
}

/// `fermata man`.
fn man(args: &ManArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let mut command = args::command();
    command.build();
    let page = match &args.verb {
        None => command,
        Some(verb) => match command.find_subcommand(verb) {
            Some(found) => found.clone(),
            None => {
                let verbs = command.get_subcommands().map(clap::Command::get_name);
                return Err(Failure::no_such("verb", verb, verbs));
            }
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    streams.stdout.write_all(&text)?;
    Ok(0)
}
