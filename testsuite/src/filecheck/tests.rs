//! Tests of the dialect: each kind of check, where it holds and where it must not.

use std::collections::BTreeSet;

use super::{Check, Failure, Kind, check, escape, parse_line};

fn parse(source: &str) -> Result<Vec<Check>, Failure> {
    let mut defined = BTreeSet::new();
    let lines = source.lines().enumerate();
    let checks = lines.map(|(i, text)| parse_line("CHECK", i + 1, text, &mut defined));
    checks.filter_map(Result::transpose).collect()
}

fn run(source: &str, text: &str) -> Result<(), Failure> {
    check(&parse(source)?, text)
}

fn message(source: &str, text: &str) -> String {
    run(source, text).expect_err("the checks must not hold").to_string()
}

#[test]
fn plain_checks_hold_in_order() {
    run("// CHECK: a\n# CHECK: b", "a\nx\nb").unwrap();
    assert!(message("// CHECK: b\n// CHECK: a", "a\nb").starts_with("line 2: `a` is not there"));
}

#[test]
fn blanks_match_any_run_of_blanks() {
    run("// CHECK:   add(%x,  1f)  ", "  add(%x,\t1f);").unwrap();
    run("// CHECK: a b", "ab").unwrap_err();
}

#[test]
fn next_is_the_next_line_and_no_other() {
    run("// CHECK: a\n// CHECK-NEXT: b", "a\nb").unwrap();
    run("// CHECK: a\n// CHECK-NEXT: b", "a\nx\nb").unwrap_err();
    run("// CHECK: a\n// CHECK-NEXT: b", "a b").unwrap_err();
    assert!(message("// CHECK: a\n// CHECK-NEXT: b", "a").contains("no further line"));
}

#[test]
fn same_is_the_rest_of_the_line() {
    run("// CHECK: a\n// CHECK-SAME: c", "a b c\nd").unwrap();
    run("// CHECK: a\n// CHECK-SAME: d", "a b c\nd").unwrap_err();
    run("// CHECK: b\n// CHECK-SAME: a", "a b").unwrap_err();
}

#[test]
fn dag_checks_come_in_any_order_without_overlap() {
    run("// CHECK-DAG: b\n// CHECK-DAG: a\n// CHECK: c", "a\nb\nc").unwrap();
    run("// CHECK-DAG: add\n// CHECK-DAG: add", "add\nadd").unwrap();
    run("// CHECK-DAG: add\n// CHECK-DAG: add", "add\nmul").unwrap_err();
    run("// CHECK-DAG: b\n// CHECK-DAG: a\n// CHECK: a", "a\nb").unwrap_err();
}

#[test]
fn not_looks_between_its_neighbours() {
    run("// CHECK: a\n// CHECK-NOT: x\n// CHECK: b", "x a b x").unwrap();
    let found = message("// CHECK: a\n// CHECK-NOT: x\n// CHECK: b", "a\nx\nb");
    assert_eq!(found, "line 2: `x` must not be there, and is: output line 2: x");
    run("// CHECK: a\n// CHECK-NOT: x", "a\nx").unwrap_err();
    run("// CHECK-NOT: x", "").unwrap();
    run("// CHECK-NOT: x\n// CHECK-DAG: b\n// CHECK-DAG: a", "a\nb x").unwrap();
}

#[test]
fn labels_bound_what_stands_before_them() {
    let checks = "// CHECK-LABEL: def @a\n// CHECK: add\n// CHECK-LABEL: def @b\n// CHECK: mul";
    run(checks, "def @a\nadd\ndef @b\nmul").unwrap();
    run(checks, "def @a\nx\ndef @b\nadd mul").unwrap_err();
    let absent = "// CHECK-LABEL: def @a\n// CHECK-NOT: mul\n// CHECK-LABEL: def @b";
    run(absent, "def @a\nadd\ndef @b\nmul").unwrap();
    run(absent, "def @a\nmul\ndef @b").unwrap_err();
}

#[test]
fn count_and_empty() {
    run("// CHECK-COUNT-3: add\n// CHECK-NOT: add", "add add\nadd").unwrap();
    run("// CHECK-COUNT-3: add", "add\nadd").unwrap_err();
    run("// CHECK: a\n// CHECK-EMPTY:\n// CHECK-NEXT: b", "a\n\nb").unwrap();
    run("// CHECK: a\n// CHECK-EMPTY:", "a\nb\n").unwrap_err();
}

#[test]
fn variables_bind_and_are_used() {
    run("// CHECK: [[X:%[0-9]+]] = add\n// CHECK: exp([[X]])", "%12 = add\nexp(%12)").unwrap();
    let found = message("// CHECK: [[X:%[0-9]+]] = add\n// CHECK: exp([[X]])", "%1 = add\nexp(%2)");
    assert!(found.contains("with X = %1"), "{found}");
    assert!(found.contains("nearest is    output line 2: exp(%2)"), "{found}");
    run("// CHECK: [[X:[a-c]]] [[Y:.]]\n// CHECK: [[Y]][[X]]", "b +\n+b").unwrap();
    assert!(message("// CHECK: [[X:a]] [[X]]", "a a").contains("bound by this very check"));
}

#[test]
fn nested_lists_stand_for_themselves() {
    run("// CHECK: = [[1, 2], [3, 4]]", "x = [[1, 2], [3, 4]]").unwrap();
    run("// CHECK: = [[nan]]", "x = [[nan]]").unwrap();
}

#[test]
fn regexes_and_their_errors() {
    run("// CHECK: a{{[0-9]{2}}} b", "a42 b").unwrap();
    run("// CHECK: {{^}}b{{$}}", "ab\nb\n").unwrap();
    assert!(parse("// CHECK: {{(}}").is_err());
    assert!(parse("// CHECK: {{a").is_err());
}

#[test]
fn malformed_checks_are_refused() {
    assert!(parse("// CHECK-NXT: a").is_err());
    assert!(parse("// CHECK:").is_err());
    assert!(parse("// CHECK-EMPTY: a").is_err());
    assert!(parse("// CHECK-COUNT-0: a").is_err());
    assert!(parse("// CHECK-LABEL: [[X:a]]").is_err());
    assert!(parse("// CHECKER: a\nCHECK: b\n// see CHECK: c").unwrap().is_empty());
    assert_eq!(parse("// CHECK-COUNT-12: a").unwrap()[0].kind, Kind::Count(12));
}

#[test]
fn an_escaped_line_matches_itself() {
    let line = "f({{1}}) [[a]]";
    run(&format!("// CHECK: {}", escape(line)), line).unwrap();
}
