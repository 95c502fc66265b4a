//! The library face of the program `fermata`: the commands as functions over streams.
//!
//! A pass author's own `opt` is this crate with more operators and passes:
//!
//! ```no_run
//! fermata::Driver::standard().with_passes(&[]).with_ops(&[]).main()
//! ```

mod args;
mod bench;
mod colocate;
mod compare;
pub mod compile;
mod cuda;
mod demo;
mod doctor;
mod explain;
pub mod inputs;
mod inspect;
pub mod json;
mod list;
pub mod model;
mod opt;
mod output;
mod quantize;
mod run;
mod streams;

pub use bench::machine;
pub use streams::{Failure, Streams};

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use fermata_ir::op::{OpDef, OpTable};
use fermata_passes::pass::PassDef;
use fermata_passes::table::PassTable;

use args::{Cli, Verb};

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
        let code = streams::with_process_streams(|streams| self.run(std::env::args_os(), streams));
        std::process::exit(code)
    }

    /// Runs a command line, the program's name first; gives the exit code: 0 done, 1 the answer is
    /// no, 2 called wrongly.
    pub fn run(&self, args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> i32 {
        let command = Cli::command().color(streams.clap_color());
        let matches = match command.try_get_matches_from(args) {
            Ok(matches) => matches,
            Err(error) => return streams.clap_error(&error),
        };
        let cli = match Cli::from_arg_matches(&matches) {
            Ok(cli) => cli,
            Err(error) => return streams.clap_error(&error),
        };
        match self.verb(&cli.verb, streams) {
            Ok(code) => code,
            Err(failure) => streams.report(&failure),
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
            Verb::Inspect(args) => inspect::command(self, args, streams),
            Verb::List(args) => list::command(self, args, streams),
            Verb::Doctor(args) => doctor::command(args, streams),
            Verb::Demo(args) => demo::command(self, args, streams),
            Verb::Explain(args) => explain::command(args, streams),
            Verb::Completions(args) => {
                let mut command = Cli::command();
                clap_complete::generate(args.shell, &mut command, "fermata", &mut streams.stdout);
                Ok(0)
            }
        }
    }
}
