//! What `--print-pipeline` prints is what `--passes` takes, and does the same.

use fermata::Driver;
use fermata_testsuite::case::run;

const NETWORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/demo/digits.onnx");

fn opt(words: &[&str]) -> String {
    let words = ["opt", NETWORK, "--dim", "batch=2"].iter().chain(words).map(|w| (*w).to_owned());
    let output = run(&Driver::standard(), &words.collect::<Vec<_>>());
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout
}

#[test]
fn a_printed_pipeline_gives_the_same_program() {
    for flags in [&["-O0"][..], &["-O1"], &["-O2"], &["-O3"], &["-O2", "--disable-pass=fold_constant"]] {
        let printed = opt(&[flags, &["--print-pipeline"]].concat());
        let again = format!("--passes={}", printed.trim());
        assert_eq!(opt(&[&again, "--print-pipeline"]), printed);
        assert!(opt(&[&again]) == opt(flags), "{flags:?}: {printed} gives another program");
    }
    let one = opt(&["--passes=fuse_ops{max_depth=2 fuse=True}", "--print-pipeline"]);
    assert_eq!(one, "fuse_ops{max_depth=2}\n");
}
