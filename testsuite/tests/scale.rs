//! Large programs and deep nests, at a size that an unoptimised build takes in seconds;
//! `testsuite scale` has the full size.

use fermata_testsuite::scale::{nests, on_stack, programs, read_nest, whole_way};

#[test]
fn large_programs_go_the_whole_way() {
    for (name, text) in programs(3000) {
        if let Err(message) = on_stack(|| whole_way(&text, 0)) {
            panic!("{name}: {message}");
        }
    }
}

#[test]
fn deep_nests_are_read_or_refused() {
    let mut read = Vec::new();
    for (name, format, text) in nests(30_000) {
        match on_stack(|| read_nest(format, &text)) {
            Ok(true) => read.push(name),
            Ok(false) => {}
            Err(message) => panic!("{name}: {message}"),
        }
    }
    // What is deep as people write programs is read.
    for name in ["parentheses", "lets", "ifs", "calls"] {
        assert!(read.contains(&name), "{name} are refused; read are {read:?}");
    }
}
