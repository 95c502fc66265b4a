//! Tests of reading and printing text.

use super::*;
use crate::expr::Expr;

fn parse(body: &str) -> Result<Module, String> {
    let text = format!("#[version = \"0.0.5\"]\n{body}");
    let ops = OpTable::standard();
    parse_module("t.relay", &text, &ParseOptions::new(&ops))
        .map_err(|d| d.render(&sources("t.relay", &text), false))
}

fn accept(body: &str) -> Module {
    parse(body).unwrap_or_else(|e| panic!("{body}\n{e}"))
}

/// Wraps an expression in a function of `%x`, `%y` (float32) and `%n` (int32).
fn func(expr: &str) -> String {
    format!("def @main(%x: float32, %y: float32, %n: int32) {{ {expr} }}")
}

#[track_caller]
fn refuse(body: &str, expected: &str) {
    match parse(body) {
        Ok(_) => panic!("accepted: {body}"),
        Err(e) => assert!(e.contains(expected), "expected `{expected}` in:\n{e}"),
    }
}

#[test]
fn expressions_are_read() {
    for expr in [
        "// line\n1",
        "/* block */ 1",
        "/* a /* b */ c */ 1",
        "--10",
        "True",
        "()",
        "(1,)",
        "(1, 2).0",
        "((1, 2), 3).0.1",
        "%x + %y * %x - -1f / %y == %x",
        "1-1",
        "add(%x, %y)",
        "if (%n == 0) { 1 } else if (%n == 1) { 2 } else { 3 }",
        "let %x = add(%x, %x); %x",
        "%0 = add(%x, %y); add(%0, %0)",
        "fn (%a, %b: int32, Primitive=1) -> int32 { %b }",
        "let %id = fn [A](%a: A) -> A { %a }; %id(1)",
        "%0 = ref(%x); ref_write(%0, 1f); ref_read(%0)",
        "add",
        "let %\"a.b\" = 1; %\"a.b\"",
        "@main(%x, %y, %n)",
        "fn (%f: fn [A](A) -> A, %r: ref(int32)) { %r }",
        "fn (%a: Tensor[(batch, ?, 3, _), float16], %b: (int32,), %c: ()) { %a }",
        "const(Tensor[(2, 2), int8], [[1, -2], [3, 4]])",
        "const(Tensor[(0), float32], [])",
        "const(Tensor[(3), bool], [True, False, True])",
        "{ let %z = 1; %z }",
        "let %a = match ((1, 2)) { (%p, _) => %p }; %a",
        "(let %q = 1f; %q) * %y",
    ] {
        accept(&func(expr));
    }
}

#[test]
fn wrong_programs_are_refused() {
    let refuse = |expr: &str, expected: &str| refuse(&func(expr), expected);
    refuse("-%x", "expected a number or `-`, found `%x`");
    refuse("-%x", "negative(..)");
    refuse("let @x = 1; ()", "expected a variable, found `@x`");
    refuse("let x = 1; ()", "starts with `%`: `%x`");
    refuse("let %a = 1;", "expected an expression");
    refuse("let %a = 1; let %b = 2", "ends in an expression");
    refuse("%x/%y", "write spaces around it");
    refuse("%z", "no variable `%z`");
    refuse("if (True) { let %v = 1; %v } else { %v }", "no variable `%v`");
    refuse("%3", "graph number `%3` is not defined");
    refuse("%0 = 1; %0 = 2; %0", "defined twice");
    refuse("@man(1)", "did you mean `@main`?");
    refuse("ad(%x, %y)", "did you mean `add`?");
    refuse("add(%x, %y, axis=1)", "has no attribute `axis`");
    refuse("add(%x)", "takes 2 arguments, not 1");
    refuse("1.0", "`1.0f` is a float32");
    refuse("300i8", "does not fit int8");
    refuse("meta[relay.Constant][1337]", "no key `relay.Constant`");
    refuse("weights[\"w\"]", "--weights");
    refuse("elided", "elided");
    refuse("const(Tensor[(2, 2), int8], [[1, 2, 3], [4]])", "axis 1");
    refuse("const(Tensor[(2), int8], [1, 2, 3])", "2 elements");
    refuse("const(Tensor[(2), int8], [1, 300])", "does not fit int8");
    refuse("fn (%a: Tensor[(99999999999999999999), int8]) { %a }", "no dimension");
    refuse("fn (%a: Tensor[(99999999999, 99999999999), int8]) { %a }", "2^40");
    refuse("fn (%a: flaot32) { %a }", "did you mean `float32`?");
    refuse("fn (%a, %a) { %a }", "listed twice");
    refuse("\"abc", "string does not end");
    refuse("/* abc", "comment does not end");
    refuse("é", "is no token");
    refuse("{}", "expected an expression");
    refuse("%x(1, a=2)", "only calls of operators");
    refuse("%a + %b + %c", "no variable `%c`");
}

#[test]
fn definitions_are_checked() {
    refuse("def @f() { 1 } def @f() { 2 }", "`@f` is defined twice");
    refuse("type A { L } type B { L }", "constructor `L` is defined twice");
    refuse("type A type A", "type `A` is defined twice");
    refuse("type L[A] { Nil, Cons(A, L) }", "takes 1 arguments, not 0");
    let m = accept("def @g() { @f(1) } def @f(%x: int32) -> int32 { @f(%x) } extern type E type L[A] { Nil, Cons(A, L[A]) }
        def @len(%l: L[int32]) -> int32 { match? (%l) { Cons(%h, %t) => 1 + @len(%t), Nil => 0 } }");
    assert_eq!(m.functions().len(), 3);
    let ops = OpTable::standard();
    let missing = parse_module("t", "def @f() { 1 }", &ParseOptions::new(&ops)).expect_err("no version");
    assert!(missing.0[0].message.contains("starts with its version"));
    let other =
        parse_module("t", "#[version = \"0.0.4\"]", &ParseOptions::new(&ops)).expect_err("another version");
    assert!(other.0[0].message.contains("is not known"));
}

#[test]
fn a_let_shadows_a_parameter() {
    let m = accept("def @main(%x: int32) { let %x = 2; %x }");
    let main = m.functions()[0].1;
    let Expr::Let { var, body, .. } = m.exprs[main.body] else { panic!("a let") };
    assert_eq!(m.exprs[body], Expr::Var(var));
    assert_ne!(var, main.params[0]);
}

#[test]
fn graph_numbers_belong_to_a_function() {
    accept("def @f(%x: int32) { %0 = add(%x, 1); %0 } def @g(%x: int32) { %0 = add(%x, 2); %0 }");
    refuse("def @f(%x: int32) { %0 = add(%x, 1); %0 } def @g(%x: int32) { %0 }", "%0");
}

#[test]
fn hostile_nesting_parses_or_is_refused() {
    let n = 100_000;
    let around =
        |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for text in [
        around("(", "1", ")"),
        around("(", "1", ",)"),
        around("let %a = 1; ", "%a", ""),
        around("let %a = (", "1", "); %a"),
        around("if (True) { ", "1", " } else { 2 }"),
        around("fn () { ", "1", " }"),
        around("-", "1", ""),
        around("{ let %a = 1; ", "%a", "}"),
        format!("1{}", " + 1".repeat(n)),
        format!("%x{}", ".0".repeat(n)),
        around("ref(", "1", ")"),
        around("match (1) { _ => ", "1", "}"),
    ] {
        accept(&func(&text));
    }
    for text in [
        format!("fn (%a: {}) {{ 1 }}", around("(", "int32", ",)")),
        format!("add(1, 1, a={})", around("[", "1", "]")),
        format!("match (1) {{ {} => 1 }}", around("(", "_", ",)")),
    ] {
        refuse(&func(&text), "at most 64 deep");
    }
    for text in [around("(", "", ""), around("let %a = ", "", ""), around("/*", "", ""), around("fn", "", "")]
    {
        assert!(parse(&func(&text)).is_err());
    }
}

#[test]
fn long_programs_are_quick() {
    let n = 100_000;
    let mut chain = String::from("%0 = add(%x, 1f);\n");
    let mut lets = String::new();
    for i in 1..n {
        chain.push_str(&format!("%{i} = add(%{}, 1f);\n", i - 1));
        lets.push_str(&format!("let %v{i} = add(%x, 1f);\n"));
    }
    chain.push_str(&format!("%{}", n - 1));
    lets.push_str("%v1");
    accept(&func(&chain));
    accept(&func(&lets));
}
