//! `--checkpoint-bound`: how long a kernel may run between two checkpoints.

use std::time::Duration;

use fermata_ir::diag::{Code, Diagnostic, Severity};
use fermata_ir::entity::EntityRef;
use fermata_ir::expr::Module;
use fermata_passes::lower::plan::{Kernel, Program};

use crate::args::PipelineArgs;
use crate::bench::duration;
use crate::{Failure, Streams};

/// Kernels that a message names.
const NAMED: usize = 8;

/// What the flag asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The longest time of a tile.
    pub time: Duration,
    /// Whether a kernel that cannot keep it is an error.
    pub strict: bool,
}

impl Bound {
    /// The bound of the flags.
    ///
    /// # Errors
    /// If it is no time, or the target has no cost model.
    pub fn of(args: &PipelineArgs) -> Result<Option<Bound>, Failure> {
        let Some(text) = &args.checkpoint_bound else { return Ok(None) };
        let (time, strict) = match text.split_once(',') {
            Some((time, "strict")) => (time, true),
            Some((_, other)) => {
                let message = format!("`--checkpoint-bound {text}`: `{other}` is no mode");
                let error = Diagnostic::error(Code::USAGE, message);
                return Err(Failure::from_usage(
                    error.help("write 20us, or 20us,strict to refuse longer tiles"),
                ));
            }
            None => (text.as_str(), false),
        };
        let time = duration(time)?;
        if time.is_zero() {
            return Err(Failure::usage(format!("`--checkpoint-bound {text}` leaves no time for a tile")));
        }
        if args.target != "cpu" {
            let message = format!("there is no cost model for `{}` in this version", args.target);
            let error = Diagnostic::error(Code::USAGE, message);
            return Err(Failure::from_usage(error.help("--checkpoint-bound is for the target cpu")));
        }
        Ok(Some(Bound { time, strict }))
    }

    /// Says which kernels of a program do not keep the bound; an error if it is strict.
    ///
    /// # Errors
    /// If it is strict, and some kernel does not keep it.
    pub fn report(
        self,
        program: &Program,
        module: &Module,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let Some(mut diagnostic) = broken(program, self.time) else { return Ok(()) };
        if self.strict {
            diagnostic.severity = Severity::Error;
            return Err(Failure::refused(diagnostic, &module.sources));
        }
        streams.warn(&[diagnostic], &module.sources);
        Ok(())
    }
}

/// Checks that an artifact was compiled for the bound that the flags ask for.
///
/// # Errors
/// If it was compiled for another, or for none.
pub fn of_artifact(program: &Program, args: &PipelineArgs) -> Result<(), Failure> {
    let Some(bound) = Bound::of(args)? else { return Ok(()) };
    if program.bound == Some(bound.time) {
        return Ok(());
    }
    let found = program.bound.map_or("no bound".into(), |b| format!("a bound of {}", time_text(b)));
    let message = format!("the artifact was compiled with {found}, not of {}", time_text(bound.time));
    Err(Failure::from_usage(
        Diagnostic::error(Code::USAGE, message).help("give --checkpoint-bound to `fermata compile`"),
    ))
}

/// The warning that names the kernels whose certificates do not hold, if there are any.
fn broken(program: &Program, bound: Duration) -> Option<Diagnostic> {
    let launches = program.launches();
    let launched: Vec<&Kernel> =
        program.kernels.iter().filter(|(id, _)| launches[id.index()] > 0).map(|(_, kernel)| kernel).collect();
    let mut broken: Vec<(u64, &Kernel)> = launched
        .iter()
        .filter_map(|kernel| kernel.certificate.as_ref().map(|c| (c, kernel)))
        .filter(|(certificate, _)| !certificate.holds())
        .map(|(certificate, kernel)| (certificate.exit_ns(), *kernel))
        .collect();
    let longest = broken.iter().map(|(ns, _)| *ns).max()?;
    broken.sort_by_key(|(ns, kernel)| (std::cmp::Reverse(*ns), kernel.func.name.clone()));
    let message = format!(
        "{} of {} kernels may run longer than {} between checkpoints",
        broken.len(),
        launched.len(),
        time_text(bound)
    );
    let mut diagnostic = Diagnostic::warning(Code::CHECKPOINT_BOUND, message);
    for (ns, kernel) in broken.iter().take(NAMED) {
        let why = kernel.certificate.as_ref().and_then(|c| c.obstacle.clone()).unwrap_or_default();
        diagnostic = diagnostic.note(format!("`{}`, {}: {why}", kernel.func.name, ns_text(*ns)));
    }
    if broken.len() > NAMED {
        diagnostic = diagnostic.note(format!("and {} more", broken.len() - NAMED));
    }
    Some(diagnostic.help(format!("all of them keep --checkpoint-bound={}us", longest.div_ceil(1000))))
}

/// `20 us`, `1.5 ms`.
pub fn time_text(time: Duration) -> String {
    let short = |value: f64| format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    match time.as_secs_f64() {
        s if s < 1e-3 => format!("{} us", short(s * 1e6)),
        s if s < 1.0 => format!("{} ms", short(s * 1e3)),
        s => format!("{} s", short(s)),
    }
}

/// Microseconds with one place.
pub fn ns_text(ns: u64) -> String {
    format!("{:.1} us", ns as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_times_with_or_without_strict() {
        let of = |text: &str| {
            let args = PipelineArgs { checkpoint_bound: Some(text.into()), ..PipelineArgs::default() };
            Bound::of(&args).map(|b| b.map(|b| (b.time.as_nanos(), b.strict)))
        };
        assert!(matches!(of("20us"), Ok(Some((20_000, false)))));
        assert!(matches!(of("1.5ms,strict"), Ok(Some((1_500_000, true)))));
        for wrong in ["", "0us", "soon", "20us,maybe", "-1us"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(Bound::of(&PipelineArgs::default()), Ok(None)));
    }

    #[test]
    fn times_are_short() {
        let text = |ns| time_text(Duration::from_nanos(ns));
        assert_eq!([text(20_000), text(500), text(1_500_000)], ["20 us", "0.5 us", "1.5 ms"]);
    }
}
