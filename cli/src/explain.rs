//! `fermata explain`: what a diagnostic's number means.

use fermata_ir::diag::{CODES, CodeInfo};

use crate::args::ExplainArgs;
use crate::{Failure, Streams};

/// Columns of the text.
const WIDTH: usize = 80;

/// `fermata explain`.
pub(crate) fn command(args: &ExplainArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let Some(code) = &args.code else {
        for info in CODES {
            writeln!(streams.stdout, "{}  {}", info.code, info.title)?;
        }
        return Ok(0);
    };
    let wanted = code.trim().trim_start_matches(['E', 'e']).parse::<u16>().ok();
    let Some(info) = CODES.iter().find(|info| Some(info.code.0) == wanted) else {
        return Err(unknown(code));
    };
    writeln!(streams.stdout, "{}: {}\n", info.code, info.title)?;
    let mut line = String::new();
    for word in info.explanation.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(streams.stdout, "{line}")?;
            line.clear();
        }
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(word);
    }
    writeln!(streams.stdout, "{line}")?;
    Ok(0)
}

fn unknown(code: &str) -> Failure {
    let names: Vec<String> = CODES.iter().map(|info: &CodeInfo| info.code.to_string()).collect();
    Failure::no_such("diagnostic", code, names.iter().map(String::as_str))
}
