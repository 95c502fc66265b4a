//! The rules of the repository, as tests: each names every place that breaks it.

use std::path::Path;

use fermata::Driver;
use fermata_ir::diag::{CODES, Code};
use fermata_ir::op::OpTable;
use fermata_passes::table::PASSES;
use fermata_testsuite::case;
use fermata_testsuite::rules::{
    Source, commands, dependencies, forbidden, long_files, long_functions, sources, wildcards, without_doc,
};

/// The crates, each below the next: a crate depends on earlier ones only.
const CRATES: [&str; 6] = ["ir", "passes", "codegen", "runtime", "cli", "testsuite"];

/// Files that may use hash tables, and why the order of a table shows nowhere.
const HASHED: &[(&str, &str)] = &[
    ("codegen/src/cpu/abi.rs", "slots are looked up"),
    ("codegen/src/cpu/analysis.rs", "facts are looked up"),
    ("codegen/src/cpu/lower_expr.rs", "values are looked up"),
    ("codegen/src/cpu/reduction.rs", "asked whether it holds a key"),
    ("ir/src/compact.rs", "new ids are looked up"),
    ("ir/src/eval/machine.rs", "values are looked up"),
    ("ir/src/eval/scope.rs", "uses are counted and looked up"),
    ("ir/src/infer/visit.rs", "types are looked up by id"),
    ("ir/src/text/print/names.rs", "asked whether a name is taken"),
    ("ir/src/text/resolve/mod.rs", "names are looked up"),
    ("ir/src/text/resolve/scope.rs", "names are looked up"),
    ("ir/src/tir/access.rs", "asked whether it holds a key"),
    ("ir/src/tir/equal.rs", "pairs are looked up"),
    ("ir/src/tir/eval/compile.rs", "slots are looked up"),
    ("ir/src/tir/names.rs", "names are looked up"),
    ("ir/src/tir/parse/cursor.rs", "names are looked up"),
    ("ir/src/tir/visit.rs", "substitutes are looked up"),
    ("ir/src/verify/scope.rs", "binders are looked up"),
    ("ir/src/walk/rewrite.rs", "results are looked up"),
    ("runtime/src/device/simulated/explore.rs", "states are looked up"),
];

/// What lies at the top, besides what git keeps for itself.
const TOP_LEVEL: [&str; 17] = [
    ".ci",
    ".gitignore",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "cli",
    "clippy.toml",
    "codegen",
    "ir",
    "passes",
    "runtime",
    "rustfmt.toml",
    "testsuite",
];

/// Enumerations of operations and programs whose treatment, form by form, leaves none out.
const ENUMS: [&str; 5] = ["Expr", "Stmt", "ExprKind", "BinaryOp", "UnaryOp"];

/// Enumerations that no wildcard stands beside, however few forms are asked for.
const STRICT_ENUMS: [&str; 10] = [
    "Callee",
    "StageKind",
    "Combiner",
    "LoopKind",
    "Lower",
    "FusePattern",
    "Purity",
    "Stage",
    "Outcome",
    "Step",
];

/// Files where a wildcard stands for what is treated alike, and why.
const WILDCARDS: &[(&str, &str)] = &[
    ("codegen/src/cpu/analysis.rs", "operations that never trap need no care"),
    ("codegen/src/cpu/arith.rs", "what has no instruction of its own is a call"),
    ("codegen/src/cpu/vector_ops.rs", "what has no vector form runs lane by lane"),
    ("codegen/src/cuda/expr.rs", "what has no operator in C is a function of the prelude"),
    ("codegen/src/cuda/ops.rs", "what has no function in C goes another way"),
    ("ir/src/infer/visit.rs", "other forms only visit their children"),
    ("ir/src/tir/facts.rs", "other forms give no facts"),
    ("ir/src/tir/linear.rs", "anything else is a term that is not looked into"),
    ("ir/src/tir/simplify.rs", "other forms have no rule"),
    ("passes/src/lower/kernels.rs", "other forms are named by their operators"),
    ("passes/src/tir/nest.rs", "other forms are looked into"),
];

/// Diagnostics that no command line can provoke, and what shows them instead.
const UNPROVOKED: &[(Code, &str)] = &[
    (Code::CODEGEN, "needs a processor without a code generator"),
    (Code::INTERNAL, "cli/tests/driver.rs has a pass that panics"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn all() -> Vec<Source> {
    let found = sources(root(), &CRATES);
    assert!(found.len() > 100, "the sources are found");
    found
}

fn none(broken: &[String]) {
    assert!(broken.is_empty(), "{} places break the rule:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    none(&without_doc(&all()));
}

#[test]
fn files_and_functions_are_of_a_readable_size() {
    let sources = all();
    none(&long_files(&sources));
    none(&long_functions(&sources));
}

#[test]
fn nothing_is_left_to_do_or_to_chance() {
    let sources = all();
    let shipped: Vec<Source> = sources.into_iter().filter(|s| s.path != "testsuite/src/rules.rs").collect();
    none(&forbidden(&shipped, "todo!", "finish it or refuse it with a diagnostic", &[]));
    none(&forbidden(&shipped, ".unwrap()", "give an error, or `expect` with the invariant", &[]));
    let order = "its order is random; use IndexMap, BTreeMap or a dense table";
    none(&forbidden(&shipped, "HashMap", order, HASHED));
    none(&forbidden(&shipped, "HashSet", order, HASHED));
}

#[test]
fn no_wildcard_hides_a_form_of_the_language() {
    let sources = all();
    none(&wildcards(&sources, &ENUMS, &STRICT_ENUMS, WILDCARDS));
    let idle = WILDCARDS.iter().filter(|(path, _)| {
        let others: Vec<_> = WILDCARDS.iter().copied().filter(|e| e.0 != *path).collect();
        wildcards(&sources, &ENUMS, &[], &others).is_empty()
    });
    none(&idle.map(|(path, _)| format!("{path}: needs no exception any more")).collect::<Vec<_>>());
}

#[test]
fn nothing_else_lies_at_the_top() {
    let entries = std::fs::read_dir(root()).expect("the repository is there").flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let ours = |name: &String| !name.starts_with(".git") || name == ".gitignore";
    // What builds leave is ignored by git, and no part of the repository.
    let broken: Vec<String> = names
        .filter(|name| ours(name) && name != "target" && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: does not belong at the top"))
        .collect();
    none(&broken);
}

#[test]
fn every_pass_has_cases_that_fire_that_do_not_and_of_a_model() {
    let folder = root().join("testsuite/cases/passes");
    let mut broken = Vec::new();
    for pass in PASSES {
        let names = file_names(&folder.join(pass.name));
        for kind in ["fires", "stays", "model"] {
            if !names.iter().any(|name| name.starts_with(kind) && name.ends_with(".relay")) {
                broken.push(format!("testsuite/cases/passes/{}: no case `{kind}*.relay`", pass.name));
            }
        }
    }
    for name in file_names(&folder) {
        if !PASSES.iter().any(|pass| pass.name == name) {
            broken.push(format!("testsuite/cases/passes/{name}: there is no such pass"));
        }
    }
    none(&broken);
}

#[test]
fn every_diagnostic_has_a_case_and_an_explanation() {
    let names = file_names(&root().join("testsuite/cases/errors"));
    let has_case = |code: Code| names.iter().any(|name| name.starts_with(&format!("{code}_")));
    let mut broken = Vec::new();
    for info in CODES {
        let excused = UNPROVOKED.iter().any(|(code, _)| *code == info.code);
        if has_case(info.code) == excused {
            let what =
                if excused { "has a case, and needs no excuse" } else { "has no case in cases/errors" };
            broken.push(format!("{}: {what}", info.code));
        }
        // A title is no explanation.
        if info.explanation.len() < 2 * info.title.len() || !info.explanation.ends_with('.') {
            broken.push(format!("{}: its explanation says too little", info.code));
        }
    }
    let known = |name: &str| CODES.iter().any(|info| name.starts_with(&format!("{}_", info.code)));
    let strange = names.iter().filter(|name| *name != "files" && !known(name));
    broken.extend(strange.map(|name| format!("cases/errors/{name}: begins with no number of a diagnostic")));
    none(&broken);
}

#[test]
fn the_commands_that_the_docs_name_exist() {
    let mut broken = Vec::new();
    for file in ["README.md", "BENCHMARKS.md"] {
        let text = std::fs::read_to_string(root().join(file)).expect("the file is there");
        for command in commands(&text) {
            let words = case::split(&command).expect("quotes are closed");
            if let Err(error) = fermata::command_line().try_get_matches_from(words)
                && error.use_stderr()
            {
                broken.push(format!("{file}: `{command}`: {}", error.kind()));
            }
        }
    }
    none(&broken);
}

/// The table of operators in the docs of `ir`; `FERMATA_BLESS=1` writes it anew.
#[test]
fn the_table_of_operators_is_that_of_the_program() {
    let words = ["list", "ops", "--markdown"].map(String::from);
    let table = case::run(&Driver::standard(), &words).stdout;
    let path = root().join("ir/docs/operators.md");
    if std::env::var_os("FERMATA_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == table, "ir/docs/operators.md is out of date: run with FERMATA_BLESS=1");
}

/// The names of what lies in a folder.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn exceptions_are_still_needed() {
    let sources = all();
    let idle = HASHED.iter().filter(|(path, _)| {
        let source = sources.iter().find(|s| s.path == *path);
        source.is_none_or(|s| !s.text.contains("HashMap") && !s.text.contains("HashSet"))
    });
    none(&idle.map(|(path, _)| format!("{path}: needs no exception any more")).collect::<Vec<_>>());
}

#[test]
fn crates_depend_on_lower_ones_only() {
    let mut broken = Vec::new();
    for (level, name) in CRATES.iter().enumerate() {
        let path = root().join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).expect("every crate has a manifest");
        for dependency in dependencies(&manifest) {
            // The package in `cli` bears the name of the program.
            let folder = dependency.strip_prefix("fermata-").unwrap_or("cli");
            if !CRATES[..level].contains(&folder) {
                broken.push(format!("{name}/Cargo.toml: `{dependency}` is not below `{name}`"));
            }
        }
    }
    none(&broken);
}

#[test]
fn every_operator_has_a_case_file_and_every_case_file_an_operator() {
    let table = OpTable::standard();
    let folder = root().join("testsuite/cases/ops");
    let missing = table.iter().filter(|op| !folder.join(format!("{}.relay", op.name)).is_file());
    let mut broken: Vec<String> =
        missing.map(|op| format!("`{}`: no testsuite/cases/ops/{}.relay", op.name, op.name)).collect();
    for entry in std::fs::read_dir(&folder).expect("the folder is there").flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let name = file.strip_suffix(".relay").unwrap_or(&file);
        if !table.iter().any(|op| op.name == name) {
            broken.push(format!("testsuite/cases/ops/{file}: there is no operator `{name}`"));
        }
    }
    none(&broken);
}
