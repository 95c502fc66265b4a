//! Hostile files through the program itself: a diagnostic that names the place, exit code 1 (2 for
//! a wrong call), and nothing written.

use std::path::Path;

use fermata::Driver;
use fermata_testsuite::case::{Output, run};
use fermata_testsuite::onnx::{
    FLOAT, Field, INT64, Payload, encode, int, longs, message, model, node, subgraph, tensor, text, value,
};

/// A folder with a hostile file in it.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(files: &[(&str, &[u8])]) -> Scene {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("the folder is writable");
        }
        Scene { folder }
    }

    /// Runs a command line; `$` stands for the folder.
    fn run(&self, line: &str) -> Output {
        let folder = self.folder.path().display().to_string();
        let words: Vec<String> = line.split(' ').map(|word| word.replace('$', &folder)).collect();
        run(&Driver::standard(), &words)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        let mut names: Vec<String> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A command line that must fail with this code, say these things and write nothing.
    fn refuses(&self, line: &str, code: i32, words: &[&str]) {
        let before = self.names();
        let output = self.run(line);
        assert_eq!(output.code, code, "{line}: {}", output.stderr);
        assert!(output.stderr.starts_with("error[E"), "{line}: {}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{line}: `{word}` is not in: {}", output.stderr);
        }
        assert_eq!(self.names(), before, "{line} left something behind");
    }
}

/// A model that adds a constant to its input.
fn adding(weight: Field) -> Vec<u8> {
    let add = node("Add", &["x", "w"], &["y"], vec![]);
    model(vec![add, weight, value(11, "x", FLOAT, &["2"]), value(12, "y", FLOAT, &["2"])], vec![])
}

/// What every verb that reads a model must say of it.
fn refused_model(bytes: &[u8], words: &[&str]) {
    let scene = Scene::new(&[("m.onnx", bytes)]);
    scene.refuses("run $/m.onnx --fill random -o $/out.npz", 1, words);
    scene.refuses("compile $/m.onnx -o $/m.fermata", 1, words);
    scene.refuses("inspect $/m.onnx", 1, words);
}

#[test]
fn sizes_that_cannot_be() {
    let of = |dims: &[i64], bytes: usize| adding(tensor("w", FLOAT, dims, vec![0; bytes]));
    refused_model(&of(&[-2], 8), &["m.onnx", "initializer `w`", "negative"]);
    refused_model(&of(&[i64::MAX, 4], 8), &["initializer `w`"]);
    refused_model(&of(&[1 << 33, 1 << 33], 8), &["initializer `w`"]);
    refused_model(&of(&[3], 8), &["initializer `w`", "12"]);
}

#[test]
fn a_claim_of_gigabytes_in_a_small_file() {
    let mut claim = encode(&[int(1, 10)]);
    // Field 7, a message, of 4 GiB.
    claim.extend([0x3a, 0x80, 0x80, 0x80, 0x80, 0x10]);
    claim.resize(100, 0);
    refused_model(&claim, &["4294967296 bytes", "at byte"]);
}

#[test]
fn names_and_edges_that_contradict() {
    let graph = |nodes: Vec<Field>| {
        let ends = [value(11, "x", FLOAT, &["2"]), value(12, "y", FLOAT, &["2"])];
        model(nodes.into_iter().chain(ends).collect(), vec![])
    };
    let one = |op: &str, from: &str, to: &str| node(op, &[from], &[to], vec![]);
    refused_model(
        &graph(vec![one("Relu", "x", "y"), one("Neg", "x", "y")]),
        &["made twice", "Neg (node #1)"],
    );
    refused_model(&graph(vec![one("Relu", "z", "y"), one("Neg", "y", "z")]), &["cycle"]);
    refused_model(&graph(vec![one("Relu", "y", "y")]), &["cycle"]);
    refused_model(&graph(vec![one("Relu", "nothing", "y")]), &["`nothing`", "Relu (node #0)"]);
}

#[test]
fn weights_outside_of_the_folder() {
    for place in ["../secret.bin", "/etc/hostname", "sub/../../secret.bin"] {
        let entry = |key: &str, value: &str| message(13, vec![text(1, key), text(2, value)]);
        let fields =
            vec![int(1, 2), int(2, FLOAT as i64), text(8, "w"), entry("location", place), int(14, 1)];
        refused_model(&adding(message(5, fields)), &["leaves the model's folder", "initializer `w`"]);
    }
}

#[test]
fn graphs_in_graphs() {
    let mut body = vec![node("Relu", &["x"], &["y"], vec![]), value(12, "y", FLOAT, &["2"])];
    for _ in 0..200 {
        let arms = vec![subgraph("then_branch", body.clone()), subgraph("else_branch", vec![])];
        body = vec![node("If", &["c"], &["y"], arms), value(12, "y", FLOAT, &["2"])];
    }
    refused_model(&model(body, vec![]), &["deep"]);
}

#[test]
fn all_operators_that_are_not_supported_are_named_at_once() {
    let nodes = vec![
        node("Frobnicate", &["x"], &["a"], vec![]),
        node("Transmogrify", &["a"], &["y"], vec![]),
        value(11, "x", FLOAT, &["2"]),
        value(12, "y", FLOAT, &["2"]),
    ];
    refused_model(&model(nodes, vec![]), &["Frobnicate", "Transmogrify"]);
}

#[test]
fn a_tensor_whose_data_are_no_tensor() {
    let typed = vec![int(1, 1 << 40), int(2, INT64 as i64), text(8, "w"), int(7, 1)];
    refused_model(&adding(message(5, typed)), &["initializer `w`"]);
    refused_model(&adding(longs("v", &[1])), &["`w`"]);
}

const TEXT: &str = "#[version = \"0.0.5\"]\ndef @main(%x: Tensor[(2), float32]) { nn.relu(%x) }\n";

#[test]
fn arrays_that_lie() {
    let header = |shape: &str| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), &[0; 8]].concat()
    };
    let cases: [(&[u8], &str); 4] = [
        (&header("(1073741824,)"), "promises 4294967296 bytes"),
        (&header("(99999999999999999999,)"), "malformed"),
        (&header("(-2,)"), "malformed"),
        (b"\x93NUMPY\x01", "truncated"),
    ];
    for (bytes, word) in cases {
        let scene = Scene::new(&[("m.relay", TEXT.as_bytes()), ("x.npy", bytes)]);
        scene.refuses("run $/m.relay -i x=@$/x.npy -o $/out.npz", 1, &[word]);
    }
    let scene = Scene::new(&[("m.relay", TEXT.as_bytes()), ("x.npz", b"PK\x05\x06 and nothing more")]);
    scene.refuses("run $/m.relay --inputs $/x.npz -o $/out.npz", 1, &["npz file is damaged"]);
}

#[test]
fn weights_that_lie() {
    let model = "#[version = \"0.0.5\"]\ndef @main() { weights[\"w\"] }\n";
    let file = |length: u64, header: &str| [&length.to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
    let entry = |dtype: &str, shape: &str, end: u64| {
        format!("{{\"w\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}")
    };
    let sized = |header: String| file(header.len() as u64, &header);
    let cases = [
        (file(4 << 30, "{}"), "100 MB"),
        (file(4096, "{}"), "longer than the file"),
        (sized(entry("F32", "[1073741824]", 4 << 30)), "truncated"),
        (sized(entry("F32", "[4294967296,4294967296]", 8)), "`w`"),
        (sized(entry("F32", "[-1]", 8)), "`w`"),
        (sized(entry("F32", "[3]", 8)), "shape needs 12"),
        (sized(entry("F3", "[2]", 8)), "`w`"),
    ];
    for (bytes, word) in cases {
        let scene = Scene::new(&[("m.relay", model.as_bytes()), ("m.safetensors", &bytes)]);
        scene.refuses("run $/m.relay -o $/out.npz", 1, &["m.safetensors", word]);
    }
}

#[test]
fn artifacts_that_lie() {
    let scene = Scene::new(&[("m.relay", TEXT.as_bytes())]);
    assert_eq!(scene.run("compile $/m.relay -o $/m.fermata").code, 0);
    let whole = std::fs::read(scene.folder.path().join("m.fermata")).expect("it was written");
    for cut in [100, whole.len() / 2, whole.len() - 1] {
        let scene = Scene::new(&[("m.fermata", &whole[..cut])]);
        scene.refuses("run $/m.fermata --fill random -o $/out.npz", 1, &["E0704"]);
    }
}

#[test]
fn a_wrong_call_writes_nothing() {
    let scene = Scene::new(&[("m.relay", TEXT.as_bytes())]);
    scene.refuses("run $/none.onnx --fill random -o $/out.npz", 2, &["none.onnx"]);
    scene.refuses("run $/m.relay -o $/out.npz", 2, &["`x`"]);
    scene.refuses("run $/m.relay -i x=3xf32=[1,2] -o $/out.npz", 2, &["-i x=3xf32"]);
    scene.refuses("run $/m.relay -i x=99999999999x99999999999xf32=1 -o $/out.npz", 2, &["-i x="]);
    scene.refuses("run $/m.relay --fill random --shape x=-1 -o $/out.npz", 2, &["--shape x=-1"]);
    scene.refuses("compile $/m.relay --passes=no_such_pass -o $/m.fermata", 2, &["no_such_pass"]);
}

#[test]
fn a_run_that_fails_leaves_the_old_file() {
    let text = "#[version = \"0.0.5\"]\ndef @main(%x: Tensor[(2), float32], %i: Tensor[(1), int64]) { dyn.reshape(%x, %i) }\n";
    let scene = Scene::new(&[("m.relay", text.as_bytes()), ("out.npz", b"what was there")]);
    let line = "run $/m.relay --device interp -i x=2xf32=1 -i i=1xi64=[7] -o $/out.npz";
    scene.refuses(line, 1, &["E0401"]);
    let left = std::fs::read(Path::new(scene.folder.path()).join("out.npz")).expect("it is there");
    assert_eq!(left, b"what was there");
}

/// Bytes that are no field of anything.
#[test]
fn files_of_no_kind() {
    for bytes in [&b""[..], b"\xff\xff\xff\xff", &[0; 4096]] {
        let scene = Scene::new(&[("m.onnx", bytes)]);
        scene.refuses("run $/m.onnx --fill random -o $/out.npz", 1, &["m.onnx"]);
    }
    let bytes = encode(&[Field { number: 1, payload: Payload::Bytes(vec![0xff; 40]) }]);
    refused_model(&bytes, &["m.onnx"]);
}
