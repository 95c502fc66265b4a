//! Tests of reading and printing text.

use super::*;
use crate::equal::structurally_equal;
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
        round_trip(&accept(&func(&text)));
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
    round_trip(&accept(&func(&chain)));
    round_trip(&accept(&func(&lets)));
}

/// Prints, reads back, compares, and prints again.
#[track_caller]
fn round_trip(module: &Module) -> String {
    let printed = print(module, &PrintOptions::default());
    let weights =
        printed.weights.iter().map(|(n, c)| (n.clone(), module.consts[*c].tensor.clone())).collect();
    let ops = OpTable::standard();
    let options = ParseOptions { ops: &ops, weights: Some(&weights) };
    let again = parse_module("p", &printed.text, &options)
        .unwrap_or_else(|d| panic!("{}\n{}", printed.text, d.render(&sources("p", &printed.text), false)));
    let second = print_module(&again, &PrintOptions::default());
    assert_eq!(printed.text, second);
    assert!(structurally_equal(module, &again) && structurally_equal(&again, module), "{}", printed.text);
    printed.text
}

#[track_caller]
fn prints(body: &str, expected: &str) {
    let text = round_trip(&accept(body));
    assert_eq!(text.trim_end(), format!("#[version = \"0.0.5\"]\n{}", expected.trim()));
}

#[test]
fn printing_numbers_what_is_no_value_of_a_scope() {
    prints(
        "def @main(%x: Tensor[(10, 20), float32]) { exp(add(%x, 1f)) }",
        "def @main(%x: Tensor[(10, 20), float32]) {
  %0 = add(%x, 1f);
  exp(%0)
}",
    );
    prints(
        "def @main() { (fn (%x) {%x})((fn (%y) {%y})(1)) }",
        "def @main() {
  %0 = fn (%y) {
    %y
  };
  %1 = %0(1);
  %2 = fn (%x) {
    %x
  };
  %2(%1)
}",
    );
}

#[test]
fn printing_keeps_lets_and_branches() {
    prints(
        "def @b() { 1 } def @a(%x: int32) -> int32 { let %x = %x + 1; ref_write(ref(%x), 2);
           let %f: fn (int32) -> int32 = fn (%n: int32) -> int32 { if (%n == 0) { %x } else { %f(%n - 1) } }; %f(3) }",
        "def @a(%x: int32) -> int32 {
  let %x_1 = add(%x, 1);
  %0 = ref(%x_1);
  ref_write(%0, 2);
  let %f: fn (int32) -> int32 = fn (%n: int32) -> int32 {
    %1 = equal(%n, 0);
    if (%1) {
      %x_1
    } else {
      %2 = subtract(%n, 1);
      %f(%2)
    }
  };
  %f(3)
}

def @b() {
  1
}",
    );
}

#[test]
fn printing_hoists_what_branches_share() {
    prints(
        "def @main(%c: bool, %x: float32) { %0 = exp(%x); if (%c) { add(%0, 1f) } else { let %y = %0; add(%y, %0) } }",
        "def @main(%c: bool, %x: float32) {
  %0 = exp(%x);
  if (%c) {
    add(%0, 1f)
  } else {
    let %y = %0;
    add(%y, %0)
  }
}",
    );
}

#[test]
fn printing_puts_inner_lets_in_parentheses() {
    prints(
        "def @main(%x: float32) { let %y = { let %z = exp(%x); %z }; (let %q = 1f; add(%q, %q)) * %y }",
        "def @main(%x: float32) {
  let %y = (
    let %z = exp(%x);
    %z
  );
  %0 = (
    let %q = 1f;
    add(%q, %q)
  );
  multiply(%0, %y)
}",
    );
}

#[test]
fn printing_matches_types_and_attributes() {
    prints(
        "type List[A] { Nil, Cons(A, List[A]) } extern type E
         def @\"f.g\"(%\"a.b\": List[int32], %r: ref((int32,)), %t: Tensor[(batch, ?, \"N+1\"), bfloat16], Primitive=1, note=\"q\\\"\") {
           match? (%\"a.b\") { Cons(%h: int32, (_, %t)) => reshape(%r, newshape=[-1, 2]), Nil() => Nil, _ => Cons(1, Nil) } }",
        "extern type E
type List[A] {
  Nil,
  Cons(A, List[A]),
}

def @\"f.g\"(%\"a.b\": List[int32], %r: ref((int32,)), %t: Tensor[(batch, ?, \"N+1\"), bfloat16], Primitive=1, note=\"q\\\"\") {
  match? (%\"a.b\") {
    Cons(%h: int32, (_, %t_1)) => {
      reshape(%r, newshape=[-1, 2])
    },
    Nil => {
      Nil
    },
    _ => {
      %0 = Nil;
      Cons(1, %0)
    },
  }
}",
    );
}

#[test]
fn constants_are_inline_or_weights() {
    prints(
        "def @main() { (const(Tensor[(2, 2), float32], [1, 0.1, -inf, 0x7f800001]), const(Tensor[(0, 3), int8], []), const(Tensor[(1), bool], [True])) }",
        "def @main() {
  (const(Tensor[(2, 2), float32], [[1, 0.1], [-inf, 0x7f800001]]), const(Tensor[(0, 3), int8], []), const(Tensor[(1), bool], [True]))
}",
    );
    let mut m = accept("def @main() { (1, 2) }");
    let big = |v: f32| crate::tensor::Tensor::from_slice(&[20], &[v; 20]).expect("it fits");
    let named = |m: &mut Module, v, name: Option<&str>| {
        let id = m.constant(big(v));
        let Expr::Const(c) = m.exprs[id] else { panic!("a constant") };
        m.consts[c].name = name.map(Into::into);
        id
    };
    let fields = [(1.0, Some("w.0")), (2.0, None), (3.0, Some("w.0")), (1.0, Some("w.0"))];
    let fields = fields.map(|(v, name)| named(&mut m, v, name));
    let body = m.add(Expr::Tuple(fields.into_iter().collect()));
    let main = m.global("main").expect("it is defined");
    m.globals[main].func.as_mut().expect("it is defined").body = body;
    let text = round_trip(&m);
    assert!(
        text.contains(r#"(weights["w.0"], weights["const"], weights["w.0_1"], weights["w.0"])"#),
        "{text}"
    );
    let elide = PrintOptions { large: LargeConstants::Elide, ..PrintOptions::default() };
    assert!(print_module(&m, &elide).contains("elided /* ty=Tensor[(20), float32] */"));
    let all = PrintOptions { large: LargeConstants::Inline, ..PrintOptions::default() };
    let text = print_module(&m, &all);
    assert!(structurally_equal(&accept(text.trim_start_matches("#[version = \"0.0.5\"]")), &m));
}

#[test]
fn type_comments_follow_typed_expressions() {
    let mut m = accept("def @main() { %0 = add(1, 1); %0 }");
    for id in m.exprs.keys().collect::<Vec<_>>() {
        m.types[id] = Type::scalar(crate::types::DType::I32);
    }
    let text = print_module(&m, &PrintOptions { types: true, ..PrintOptions::default() });
    assert_eq!(text.matches("/* ty=int32 */").count(), 3, "{text}");
    assert!(structurally_equal(&accept(text.trim_start_matches("#[version = \"0.0.5\"]")), &m));
}

#[test]
fn equality_sees_what_differs() {
    let same = |a: &str, b: &str| structurally_equal(&accept(&func(a)), &accept(&func(b)));
    assert!(same("let %a = 1f; add(%a, %x)", "let %b = 1f; add(%b, %x)"));
    assert!(!same("let %a = 1f; add(%a, %x)", "let %b = 1f; add(%x, %b)"));
    assert!(!same("%0 = exp(%x); add(%0, %0)", "add(exp(%x), exp(%x))"));
    assert!(!same("fn (%a, %b) { %a }", "fn (%a, %b) { %b }"));
    assert!(!same("1f", "1f64") && !same("0f", "-0f") && same("nanf", "nanf"));
    assert!(!same("reshape(%x, newshape=[1])", "reshape(%x, newshape=[-1])"));
    assert!(!same("fn (%a: int32) { %a }", "fn (%a: int64) { %a }"));
    assert!(!same("fn (%a, Primitive=1) { %a }", "fn (%a) { %a }"));
}

#[test]
fn lone_expressions_declare_their_free_variables() {
    let ops = OpTable::standard();
    let text = "free_var %x: float32;\nfree_var %y;\n%0 = add(%x, %y);\nexp(%0)\n";
    let e = parse_expr("e", text, &ParseOptions::new(&ops)).expect("it parses");
    assert_eq!(e.free_vars.len(), 2);
    assert_eq!(print_expr(&e.module, e.root, &PrintOptions::default()), text);
}

#[test]
fn types_read_back() {
    for text in [
        "float32",
        "Tensor[(), bfloat16]",
        "()",
        "(int8,)",
        "fn [A](A, (A, A)) -> ref(A)",
        "Tensor[(b, ?, \"a b\", 3), bool]",
        "_",
    ] {
        let text = text.to_owned();
        let ty = match parse_type("t", &text) {
            Ok(ty) => ty,
            Err(d) => panic!("{text}: {}", d.render(&sources("t", &text), false)),
        };
        assert_eq!(print_type(&ty), text);
    }
    assert!(parse_type("t", "float33").is_err());
}

#[test]
fn mutated_texts_are_refused_or_survive() {
    const SEEDS: &[&str] = &[
        "type List [ A ] { Nil , Cons ( A , List [ A ] ) } def @main ( %l : List [ int32 ] ) { match ( %l ) { Cons ( %h , _ ) => %h , Nil => 0 } }",
        "def @f ( %x : Tensor [ ( 2 , ? , n ) , float32 ] , Primitive = 1 ) -> float32 { %0 = add ( %x , 1f ) ; let %y = exp ( %0 ) ; ( %0 , %y ) . 0 }",
        "def @g [ A ] ( %\"a.b\" : fn [ B ] ( B ) -> A ) { let %r = ref ( 1 ) ; ref_write ( %r , - 2 ) ; if ( ref_read ( %r ) == 1 ) { () } else { ( ( 1 , ) , ) } }",
        "def @h ( ) { let %f = fn ( %n : int32 ) -> int32 { %f ( %n - 1 ) } ; reshape ( const ( Tensor [ ( 2 ) , float32 ] , [ 1 , nan ] ) , newshape = [ - 1 , 2 ] ) }",
    ];
    let words: Vec<&str> = SEEDS.iter().flat_map(|s| s.split(' ')).collect();
    let mut state = 1u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let (mut accepted, ops) = (0, OpTable::standard());
    for round in 0..4000 {
        let mut text: Vec<&str> = SEEDS[round % SEEDS.len()].split(' ').collect();
        for _ in 0..=next(3) {
            if text.len() < 2 {
                break;
            }
            let (at, other) = (next(text.len()), next(text.len()));
            match next(5) {
                0 => drop(text.remove(at)),
                1 => text[at] = words[next(words.len())],
                2 => text.insert(at, words[next(words.len())]),
                3 => text.swap(at, other),
                _ => text.truncate(at + 1),
            }
        }
        let Ok(module) = parse(&text.join(if round % 7 == 0 { "" } else { " " })) else { continue };
        accepted += 1;
        let printed = print_module(&module, &PrintOptions::default());
        match parse_module("p", &printed, &ParseOptions::new(&ops)) {
            Ok(again) => assert!(structurally_equal(&module, &again), "{}\n{printed}", text.join(" ")),
            // A graph number may carry a variable out of its scope; the verifier refuses that.
            Err(d) => {
                assert!(d.0[0].message.starts_with("no variable"), "{}\n{printed}\n{d:?}", text.join(" "))
            }
        }
    }
    assert!(accepted > 50, "{accepted}");
}
