//! The rules of the repository, as tests: each names every place that breaks it.

use std::path::Path;

use fermata_ir::op::OpTable;
use fermata_testsuite::rules::{
    Source, dependencies, forbidden, long_files, long_functions, sources, without_doc,
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
    ("ir/src/tir/interval.rs", "bounds are looked up"),
    ("ir/src/tir/names.rs", "names are looked up"),
    ("ir/src/tir/parse/cursor.rs", "names are looked up"),
    ("ir/src/tir/visit.rs", "substitutes are looked up"),
    ("ir/src/verify/scope.rs", "binders are looked up"),
    ("ir/src/walk/rewrite.rs", "results are looked up"),
];

/// Files over the limit of lines.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions over the limit of lines, as `file::name`.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

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
    none(&long_files(&sources, LONG_FILES));
    none(&long_functions(&sources, LONG_FUNCTIONS));
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
