//! What `versus --int8` times: a sentence encoder, and the products of encoders and of a larger model.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use fermata::inputs::{Random, to_f64};
use fermata_ir::front::npy::Arrays;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::report::{Row, memory, ready, times};
use super::{Job, Peer, Runtime};
use crate::minilm::MODEL;
use crate::venv;

/// What the scripts need.
const PACKAGES: [&str; 3] = ["onnx==1.23.2", "onnxruntime==1.31.1", "numpy"];

/// Tokens of the encoder's input, and how many there are to choose from.
const TOKENS: usize = 128;
const VOCABULARY: f64 = 30_522.0;

/// The encoder's name, and how those of products begin.
const ENCODER: &str = "minilm-w8a8";
const PRODUCT: &str = "product-";

/// Rows, columns and depth of the products that are timed.
const SHAPES: [[usize; 3]; 6] = [
    [16, 4096, 4096],
    [128, 4096, 4096],
    [512, 4096, 4096],
    [128, 1536, 384],
    [128, 384, 1536],
    [128, 384, 384],
];

/// The cosine to the results in float32 that ours must reach.
const LEAST_COSINE: f64 = 0.99;

/// The encoder and the products whose names are wanted; nothing else is exported.
pub(super) fn jobs(wanted: impl Fn(&str) -> bool, peers: &[Peer]) -> io::Result<Vec<Job>> {
    let mut found = Vec::new();
    if wanted(ENCODER) {
        let checkpoint = venv::unpacked(MODEL[0])?.join(MODEL[1]);
        let folder = folder("minilm-onnx")?;
        venv::export("export_minilm.py", &PACKAGES, &[&checkpoint], &folder)?;
        let shape = [1, TOKENS];
        let ids = Random::new(0).tensor(DType::I64, &shape, 0.0, VOCABULARY).map_err(io::Error::other)?;
        let all =
            |v: i64| Tensor::from_slice(&shape, &[v; TOKENS]).map_err(|e| io::Error::other(e.to_string()));
        let inputs = [("input_ids", ids), ("attention_mask", all(1)?), ("token_type_ids", all(0)?)];
        let inputs = inputs.map(|(name, tensor)| (name.to_string(), tensor)).into();
        found.push(Job { name: ENCODER.into(), files: files(&folder, "minilm", peers), inputs, verdict });
    }
    let all: Vec<String> = SHAPES.iter().map(|[m, n, k]| format!("{m}x{n}x{k}")).collect();
    let chosen: Vec<(&String, [usize; 3])> =
        all.iter().zip(SHAPES).filter(|(shape, _)| wanted(&format!("{PRODUCT}{shape}"))).collect();
    if !chosen.is_empty() {
        let folder = folder("products-onnx")?;
        venv::export("export_products.py", &PACKAGES, &all, &folder)?;
        for (shape, [m, _, k]) in chosen {
            let name = format!("{PRODUCT}{shape}");
            let x = Random::new(0).tensor(DType::F32, &[m, k], -1.0, 1.0).map_err(io::Error::other)?;
            let inputs = vec![("x".to_string(), x)];
            found.push(Job { files: files(&folder, &name, peers), name, inputs, verdict });
        }
    }
    Ok(found)
}

/// A folder below `target`.
fn folder(name: &str) -> io::Result<PathBuf> {
    let folder = venv::target_dir().join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The file for each runtime: ours and OpenVINO's in float32, ONNX Runtime's quantised.
fn files(folder: &Path, name: &str, peers: &[Peer]) -> Vec<PathBuf> {
    let theirs = peers.iter().map(|peer| match peer {
        Peer::Onnxruntime => folder.join(format!("{name}-int8.onnx")),
        Peer::Openvino => folder.join(format!("{name}.onnx")),
    });
    std::iter::once(folder.join(format!("{name}.onnx"))).chain(theirs).collect()
}

/// The cosine of each runtime's results to those of the last one, all but the last.
fn verdict(results: &[Arrays], _: &[Runtime]) -> Result<String, String> {
    let all = |arrays: &Arrays| arrays.values().flat_map(to_f64).collect::<Vec<f64>>();
    let results: Vec<Vec<f64>> = results.iter().map(all).collect();
    let Some((reference, others)) = results.split_last() else { return Ok(String::new()) };
    let cosines: Vec<f64> = others.iter().map(|r| cosine(r, reference)).collect();
    let text: Vec<String> = cosines.iter().map(|c| format!("{c:.4}")).collect();
    match cosines.first() {
        Some(&ours) if ours.is_nan() || ours < LEAST_COSINE => Err(format!("cosines {}", text.join(", "))),
        _ => Ok(text.join(", ")),
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    if a.len() == b.len() { dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() } else { f64::NAN }
}

/// The tables: the encoder, what making it ready costs, and the products.
pub(super) fn tables(rows: &[Row], threads: &[usize], runtimes: &[Runtime]) -> String {
    let mut text = String::new();
    let of = |begin: &str, threads: usize| -> Vec<&Row> {
        rows.iter().filter(|r| r.threads == threads && r.model.starts_with(begin)).collect()
    };
    for &threads in threads {
        let plural = if threads == 1 { "" } else { "s" };
        for (what, begin) in [("the encoder", ENCODER), ("products", PRODUCT)] {
            let rows = of(begin, threads);
            if !rows.is_empty() {
                let _ = writeln!(text, "Milliseconds a run, {what}, {threads} thread{plural}\n");
                let _ = writeln!(text, "{}", times(&rows, runtimes));
            }
        }
    }
    let encoder = of(ENCODER, threads.first().copied().unwrap_or(1));
    if !encoder.is_empty() {
        let _ = writeln!(
            text,
            "Milliseconds until a run of the encoder is possible\n\n{}",
            ready(&encoder, runtimes)
        );
        let _ = write!(
            text,
            "Megabytes at the peak (of these, since the model was opened)\n\n{}",
            memory(&encoder, runtimes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_of_results() {
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert!(cosine(&[1.0], &[1.0, 1.0]).is_nan());
    }
}
