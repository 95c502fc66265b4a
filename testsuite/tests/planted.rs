//! A bug that was planted: `bisect` names it, `reduce` makes its program small.

use fermata::Driver;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Expr, Module};
use fermata_ir::op::OpTable;
use fermata_ir::op::broadcast::{ADD, SUBTRACT};
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_ir::walk;
use fermata_passes::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use fermata_passes::reduce::count_calls;
use fermata_passes::relay::rewrite::rebuild_functions;
use fermata_testsuite::case::{Output, run};
use fermata_testsuite::networks::{Encoder, encoder};

/// Rewrites sums, rightly, and one kind of difference, wrongly.
static PLANTED: PassDef = PassDef {
    name: "planted",
    relay_name: "Planted",
    level: 2,
    doc: "put the operands of sums in another order, and of some differences too",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run: plant,
};

/// The rule that is wrong.
const WRONG: &str = "swap the operands of a difference of exponentials";

fn plant(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    Ok(rebuild_functions(module, |module, _, new| {
        let Some((op, call)) = module.as_op_call(new) else { return new };
        let mut call = call.clone();
        let is_exp = |at| module.as_op_call(at).is_some_and(|(op, _)| op.name() == "exp");
        let fires = if op.is(&ADD) && module.types[call.args[0]] == module.types[call.args[1]] {
            context.fire("swap the operands of a sum", module, new)
        } else {
            op.is(&SUBTRACT) && is_exp(call.args[0]) && context.fire(WRONG, module, new)
        };
        if !fires {
            return new;
        }
        call.args.swap(0, 1);
        let ty = module.types[new].clone();
        let id = module.add_like(Expr::Call(call), new);
        module.types[id] = ty;
        id
    }))
}

const PIPELINE: &str = "--passes=infer_type,fold_constant,simplify_expr,planted,common_subexpr,fuse_ops";

/// An encoder of three small layers, after the second of which stands what the bug breaks.
fn victim() -> String {
    let text = encoder(Encoder { layers: 3, tokens: 4, width: 8, heads: 2 });
    let place = text.match_indices("= erf(").nth(1).expect("the second layer has its GELU").0;
    let line = text[..place].rfind('\n').expect("lines end") + 1;
    let (before, after) = text.split_at(line);
    let (erf, rest) = after.split_once('\n').expect("lines end");
    let (name, call) = erf.trim().split_once(" = ").expect("it is a definition");
    let operand = call.trim_start_matches("erf(").trim_end_matches(");");
    // The same value, and a difference of an exponential on the way.
    let same = format!("subtract(exp({operand}), subtract(exp({operand}), erf({operand})))");
    format!("{before}  {name} = {same};\n{rest}")
}

fn fermata(words: &[&str]) -> Output {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    run(&Driver::standard().with_passes(&[&PLANTED]), &words)
}

#[test]
fn a_planted_bug_is_named_and_its_program_made_small() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, small) = (path("victim.relay"), path("small.relay"));
    std::fs::write(&file, victim()).expect("written");
    let read = |file: &str| {
        let text = std::fs::read_to_string(file).expect("it is there");
        parse_module("victim", &text, &ParseOptions::new(&OpTable::standard())).expect("it parses")
    };
    let calls = count_calls(&read(&file));
    assert!(calls > 100, "{calls} calls");

    let found = fermata(&["bisect", &file, PIPELINE, "--check", "compare", "--rtol=1e-3"]);
    assert_eq!(found.code, 0, "{}", found.stderr);
    let text = &found.stdout;
    assert!(text.starts_with("the first bad rewrite is number "), "{text}");
    assert!(text.contains("of the pass `planted`\n") && text.contains(WRONG), "{text}");
    assert!(text.contains("\n-") && text.contains("\n+"), "{text}");

    let reduced = fermata(&["reduce", &file, PIPELINE, "--check", "compare", "--rtol=1e-3", "-o", &small]);
    assert_eq!(reduced.code, 0, "{}", reduced.stderr);
    let left = count_calls(&read(&small));
    assert!(left < 10, "{}\n{}", reduced.stderr, std::fs::read_to_string(&small).expect("it is there"));
    let has = |name: &str| {
        let module = read(&small);
        walk::reachable(&module)
            .into_iter()
            .any(|e| module.as_op_call(e).is_some_and(|(op, _)| op.name() == name))
    };
    assert!(has("exp") && has("subtract"));
    // It fails as before, and is found as before.
    let again = fermata(&["bisect", &small, PIPELINE, "--check", "compare", "--rtol=1e-3"]);
    assert!(again.stdout.contains(WRONG), "{}{}", again.stdout, again.stderr);
}
