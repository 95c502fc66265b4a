//! `fermata explain`: what a diagnostic's number means.

use fermata_ir::diag::CODES;

use crate::args::ExplainArgs;
use crate::{Failure, Streams};

/// `fermata explain`.
pub(crate) fn command(args: &ExplainArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let wanted = args.code.trim().trim_start_matches(['E', 'e']).parse::<u16>().ok();
    match CODES.iter().find(|info| Some(info.code.0) == wanted) {
        Some(info) => {
            writeln!(streams.stdout, "{}: {}\n\n{}", info.code, info.title, info.explanation)?;
            Ok(0)
        }
        None => {
            let codes: Vec<String> = CODES.iter().map(|info| info.code.to_string()).collect();
            Err(Failure::usage(format!(
                "there is no diagnostic `{}`; the numbers are: {}",
                args.code,
                codes.join(", ")
            )))
        }
    }
}
