//! Programs that an enemy would write: passes and pictures make of them no more than in proportion.
//!
//! What is counted is what was made, expressions and bytes, not time.

use fermata::Driver;
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::manager::{self, Instrument, Options};
use fermata_passes::pass::{Outcome, PassContext, PassDef};
use fermata_passes::pipeline::{Level, standard};
use fermata_testsuite::case::run;
use fermata_testsuite::scale::{on_stack, programs};

/// Expressions that one pass may make for each that was there.
const MADE: usize = 12;

fn parse(text: &str) -> Module {
    let mut module =
        parse_module("program", text, &ParseOptions::new(&OpTable::standard())).expect("it parses");
    infer_module(&mut module).expect("it is typed");
    module
}

/// Holds each pass to its share.
struct Bound<'a> {
    program: &'a str,
    before: usize,
    size: usize,
}

impl Instrument for Bound<'_> {
    fn before(&mut self, _: &PassDef, module: &Module) {
        self.before = module.exprs.len();
    }

    fn after(&mut self, pass: &PassDef, module: &Module, _: Outcome, _: &PassContext) {
        let made = module.exprs.len() - self.before;
        assert!(made <= MADE * self.size, "{}: `{}` makes {made} of {}", self.program, pass.name, self.size);
    }
}

#[test]
fn every_pass_makes_no_more_than_in_proportion() {
    for (name, text) in programs(2000).into_iter().chain([("a thousand ways", ways())]) {
        for level in [2, 3] {
            on_stack(|| {
                let mut module = parse(&text);
                let size = module.exprs.len() + 100;
                let options = Options { verify_each: false, ..Options::default() };
                let mut bound = Bound { program: name, before: 0, size };
                manager::run(&mut module, &standard(Level(level)), &options, &mut [&mut bound])
                    .unwrap_or_else(|d| panic!("{name}: {:?}", d.0));
            });
        }
    }
}

/// A thousand values made of one, all of them read by one operator.
fn ways() -> String {
    let ways = 1000;
    let mut text = String::from("#[version = \"0.0.5\"]\ndef @main(%x: Tensor[(4), float32]) {\n");
    for i in 0..ways {
        text.push_str(&format!("  %{i} = add(%x, {i}f);\n"));
    }
    let names: Vec<String> = (0..ways).map(|i| format!("%{i}")).collect();
    text.push_str(&format!("  concatenate(({}), axis=0)\n}}\n", names.join(", ")));
    text
}

/// The bytes of what a command prints of a text.
fn printed(text: &str, words: &[&str]) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program.relay");
    std::fs::write(&file, text).expect("written");
    let mut all = vec![words[0].to_owned(), file.display().to_string()];
    all.extend(words[1..].iter().map(|w| (*w).to_owned()));
    let output = run(&Driver::standard(), &all);
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout.len()
}

#[test]
fn pictures_and_pages_grow_with_the_program() {
    let pairs = programs(600).into_iter().zip(programs(1200));
    for ((name, small), (_, large)) in pairs {
        for words in
            [&["opt", "-O1", "--emit=dot"][..], &["opt", "-O1", "--emit=svg"], &["report", "-O1", "-o", "-"]]
        {
            let [a, b] = [&small, &large].map(|text| on_stack(|| printed(text, words)));
            assert!(b <= 3 * a + 20_000, "{name}, {words:?}: {a} bytes become {b}");
        }
    }
}
