//! `testsuite snapshot`: what -O2 changes in open-nsfw, pass by pass, against a text that was reviewed.
//!
//! Times are left out of the comparison. `--bless` writes the text anew: read the difference then.

use std::io;
use std::path::{Path, PathBuf};

use fermata::Driver;
use fermata_testsuite::case;
use regex::Regex;
use similar::TextDiff;

use crate::zoo::OPEN_MODELS;

/// The model, and the dimension of it that is open.
const MODEL: &str = "open-nsfw";
const DIM: &str = "unk__653=1";

/// Where the reviewed text lies, in this crate.
const REVIEWED: &str = "snapshots/open-nsfw.txt";

/// Lines of a difference that are printed.
const SHOWN: usize = 60;

/// Whether to compare or to write.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the snapshot anew
    #[arg(long)]
    bless: bool,
}

/// Compares with the snapshot; whether it is the same, and the printed pipeline gives the same program.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let model = OPEN_MODELS.iter().find(|m| m.name == MODEL);
    let model = model.ok_or_else(|| io::Error::other("there is no such model"))?.file()?;
    let work = tempfile::tempdir()?;
    let by_level = work.path().join("by_level.relay");
    let seen = opt(&model, &["-O2", "--print-changed=diff", "--timing", "-o", &shown(&by_level)])?.stderr;
    let changed = same_text(&without_times(&seen), args.bless)?;

    let pipeline = opt(&model, &["-O2", "--print-pipeline"])?.stdout;
    let by_passes = work.path().join("by_passes.relay");
    opt(&model, &[&format!("--passes={}", pipeline.trim()), "-o", &shown(&by_passes)])?;
    let same = std::fs::read(&by_level)? == std::fs::read(&by_passes)?;
    println!(
        "--print-pipeline, given to --passes=: {}",
        if same { "the same program" } else { "ANOTHER PROGRAM" }
    );
    Ok(changed && same)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs `fermata opt` on the model.
fn opt(model: &Path, flags: &[&str]) -> io::Result<case::Output> {
    let model = shown(model);
    let words = ["opt", &model, "--dim", DIM].into_iter().chain(flags.iter().copied());
    let output = case::run(&Driver::standard(), &words.map(str::to_owned).collect::<Vec<_>>());
    if output.code == 0 { Ok(output) } else { Err(io::Error::other(output.stderr)) }
}

/// The text with every time replaced.
fn without_times(text: &str) -> String {
    let time = Regex::new(r"(?m)^ *\d+\.\d{3} ms").expect("a regular expression");
    time.replace_all(text, "       _ ms").into_owned()
}

/// Whether a text is the reviewed one, or is now; prints where it is not.
fn same_text(found: &str, bless: bool) -> io::Result<bool> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(REVIEWED);
    if bless {
        std::fs::write(&path, found)?;
        println!("wrote {REVIEWED}: {} lines", found.lines().count());
        return Ok(true);
    }
    let reviewed = std::fs::read_to_string(&path)?;
    if reviewed == found {
        println!("{MODEL} at -O2 changes as in {REVIEWED}: {} lines", found.lines().count());
        return Ok(true);
    }
    let difference =
        TextDiff::from_lines(&reviewed, found).unified_diff().header(REVIEWED, "now").to_string();
    difference.lines().take(SHOWN).for_each(|line| println!("{line}"));
    println!("FAILED: if this is meant, `testsuite snapshot --bless` writes it");
    Ok(false)
}
