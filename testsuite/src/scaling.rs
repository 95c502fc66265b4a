//! `testsuite scale`: programs of 100,000 operators and nests as deep, timed.

use std::io;
use std::time::Instant;

use fermata_testsuite::fuzz::limits::peak_bytes;
use fermata_testsuite::scale::{nests, on_stack, programs, read_nest, whole_way};

/// The most memory that a program may take on its way.
const MAX_BYTES: usize = 2 << 30;

/// How large the programs are.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Operators of a program, levels of a nest
    #[arg(long, default_value_t = 100_000)]
    size: usize,
    /// The optimisation levels
    #[arg(long, value_delimiter = ',', default_value = "0,2")]
    levels: Vec<u8>,
}

/// Takes every program the whole way and reads every nest; whether all is well.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let mut well = true;
    for (name, text) in programs(args.size) {
        for &level in &args.levels {
            let started = Instant::now();
            let (ended, bytes) = peak_bytes(|| on_stack(|| whole_way(&text, level)));
            let seconds = started.elapsed().as_secs_f64();
            println!("{name} -O{level}: {seconds:.2} s, {} MiB", bytes >> 20);
            well &= ended.is_ok() && bytes <= MAX_BYTES;
            match ended {
                Ok(times) => {
                    let each = times.iter().map(|(step, time)| format!("{step} {:.2}", time.as_secs_f64()));
                    println!("  {}", each.collect::<Vec<_>>().join(", "));
                }
                Err(message) => println!("  FAILED: {message}"),
            }
        }
    }
    for (name, format, text) in nests(args.size) {
        let started = Instant::now();
        let (ended, bytes) = peak_bytes(|| on_stack(|| read_nest(format, &text)));
        let end = match &ended {
            Ok(true) => "read",
            Ok(false) => "refused",
            Err(message) => message,
        };
        println!("nested {name}: {end}, {:.2} s, {} MiB", started.elapsed().as_secs_f64(), bytes >> 20);
        well &= ended.is_ok() && bytes <= MAX_BYTES;
    }
    Ok(well)
}
