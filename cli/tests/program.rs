//! The program as a process, where its environment matters.

use std::process::{Command, Output};

/// What a command line gives in an environment without NVRTC, run in `folder`.
fn without_nvrtc(folder: &std::path::Path, words: &[&str]) -> Output {
    let program = folder.join("exp.relay");
    let text = "#[version = \"0.0.5\"]\ndef @main(%x: Tensor[(4), float32]) { exp(%x) }\n";
    std::fs::write(&program, text).expect("the program is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fermata"));
    command.args(words).current_dir(folder).env("FERMATA_NVRTC", folder);
    command.output().expect("the program runs")
}

#[test]
fn without_nvrtc_there_is_cuda_c_and_no_cubin() {
    let folder = tempfile::tempdir().expect("a folder");
    let compile = ["compile", "exp.relay", "--target", "cuda:sm_80"];
    let output = without_nvrtc(folder.path(), &[&compile[..], &["--emit=cubin", "-o", "exp.cubin"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let place = folder.path().display();
    let why = format!(
        "error[E0703]: there is no cubin or PTX for cuda:sm_80: NVRTC was not found in `{place}`, which \
         FERMATA_NVRTC names"
    );
    assert!(stderr.starts_with(&why), "{stderr}");
    assert!(stderr.contains("note: CUDA C needs nothing: --emit=cuda"), "{stderr}");
    assert!(stderr.contains("help: `pip install nvidia-cuda-nvrtc`"), "{stderr}");
    assert!(!folder.path().join("exp.cubin").exists(), "nothing is written");

    let output = without_nvrtc(folder.path(), &[&compile[..], &["--emit=cuda", "-o", "-"]].concat());
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("__global__"));

    // An artifact then carries the source alone.
    let output = without_nvrtc(folder.path(), &[&compile[..], &["-o", "exp.fermata"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = without_nvrtc(folder.path(), &["inspect", "exp.fermata"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let output = without_nvrtc(folder.path(), &["doctor"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("NVRTC was not found in"));
}
