//! What a pass author builds outside of this repository: the example, run.

#[path = "../examples/own_opt.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod own_opt;

use std::path::Path;

use fermata_testsuite::case::{Output, run, split};

const PROGRAM: &str = "#[version = \"0.0.5\"]
def @main(%x: Tensor[(2, 3), float32]) {
  %0 = nn.relu(%x);
  %1 = multiply(%0, %0);
  sqrt(add(%1, 1f))
}
";

/// A command line of the example's program, `%s` being a file of the text.
fn own(text: &str, command: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program.relay");
    std::fs::write(&file, text).expect("written");
    let words = split(&command.replace("%s", &file.display().to_string())).expect("words");
    run(&own_opt::driver(), &words)
}

#[test]
fn its_pass_makes_its_operator_which_fuses() {
    let found = own(PROGRAM, "opt %s --passes=find_squares,fuse_ops");
    assert_eq!(found.code, 0, "{}", found.stderr);
    let text = found.stdout;
    assert!(text.contains("custom.square(") && text.matches("Primitive=1").count() == 1, "{text}");
}

#[test]
fn its_operator_is_read_evaluated_and_compiled() {
    let text = PROGRAM.replace("multiply(%0, %0)", "custom.square(%0, scale=2f)");
    for level in ["-O0", "-O2", "-O3"] {
        let found = own(&text, &format!("compare %s --fill random --range x=-2:2 {level}"));
        assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    }
    let found = own(&text, "run %s -i x=2x3xf32=2 --device interp");
    assert!(found.stdout.contains("[3, 3, 3]"), "{}", found.stdout);
    let listed = own(&text, "list ops");
    assert!(listed.stdout.contains("custom.square"));
    let misspelt = own(&text.replace("custom.square", "custom.sqare"), "opt %s --passes=");
    assert!(misspelt.stderr.contains("did you mean `custom.square`?"), "{}", misspelt.stderr);
}

#[test]
fn it_is_as_short_as_it_is_said_to_be() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own_opt.rs");
    let lines = std::fs::read_to_string(path).expect("the example is there").lines().count();
    assert!(lines < 100, "{lines} lines");
}
