//! `testsuite generated`: thousands of generated programs, compiled and evaluated.

use std::collections::BTreeMap;
use std::io;

use fermata_testsuite::generate::{
    Fault, Generator, Program, Treatment, Verdict, as_case, check, round_trip, shrink,
};

/// What is generated, and what is done with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many programs
    #[arg(long, default_value_t = 1000)]
    programs: u64,
    /// The seed of the first program; the next has the next
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// About how many operators a program has
    #[arg(long, default_value_t = 12)]
    size: usize,
    /// Print and read them only
    #[arg(long)]
    text_only: bool,
    /// Print the seed before each program, to find one that kills the process
    #[arg(long)]
    trace: bool,
    /// Stop after so many faults
    #[arg(long, default_value_t = 10)]
    max_faults: usize,
}

/// Runs the programs; whether none is at fault.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut faults = 0;
    for seed in args.seed..args.seed.saturating_add(args.programs) {
        if args.trace {
            eprintln!("seed {seed}");
        }
        let program = Generator::new(seed).module(args.size);
        if let Err(message) = round_trip(&program) {
            println!("FAILED seed {seed}: {message}");
            faults += 1;
        }
        if !args.text_only {
            let end = match check(&program, &Treatment::all(seed)) {
                Ok(verdict) => title(verdict),
                Err(fault) => {
                    faults += 1;
                    report(seed, &program, fault);
                    "failed".into()
                }
            };
            *counts.entry(end).or_default() += 1;
        }
        if faults >= args.max_faults {
            break;
        }
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (end, count) in counts {
        println!("{count:6} {end}");
    }
    println!("{} programs, {faults} faults", args.programs);
    Ok(faults == 0)
}

fn title(verdict: Verdict) -> String {
    match verdict {
        Verdict::Agrees => "agree".into(),
        Verdict::NoMeaning => "stop on the evaluator".into(),
        Verdict::Refused(why) => format!("refused: {why}"),
        Verdict::Unstable => "differ where rounding decides".into(),
    }
}

/// Shrinks a program that is at fault and prints it as a case.
fn report(seed: u64, program: &Program, fault: Fault) {
    println!("FAILED seed {seed}: {fault}");
    let fails = |p: &Program| check(p, &[fault.treatment]).is_err();
    let small = shrink(program, &mut |p| fails(p));
    let last = check(&small, &[fault.treatment]).err().unwrap_or(fault);
    println!("shrunk: {last}\n{}", as_case(&small, &last));
}
