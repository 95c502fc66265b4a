//! Malformed and malicious bytes: always a diagnostic that names the place, never a panic.

use super::write::{Pb, floats, graph, model, node, raw, subgraph, value};
use super::{F32, error, import, place};
use crate::diag::Code;
use crate::front::onnx::{ImportOptions, import_file};

fn relu(initializers: &[Pb]) -> Pb {
    let outputs = [value("y", F32, &[])];
    model(
        17,
        &graph(&[node("Relu", &["x"], &["y"], &[])], initializers, &[value("x", F32, &["2"])], &outputs),
    )
}

fn with_nodes(nodes: &[Pb]) -> Pb {
    model(17, &graph(nodes, &[], &[value("x", F32, &["2"])], &[value("y", F32, &[])]))
}

#[test]
fn every_truncation_is_an_error() {
    let whole = relu(&[floats("w", &[2], &[1.0, 2.0])]);
    assert!(import(&whole).is_ok());
    for len in 0..whole.0.len() {
        // A file cut between two of the model's fields may still be a whole model.
        let _ = import(&Pb(whole.0[..len].to_vec()));
    }
    let d = error(&Pb(whole.0[..20].to_vec()));
    assert_eq!(d.code, Code::IMPORT_FORMAT);
    assert!(d.notes.iter().any(|n| n.starts_with("at byte")), "{d:?}");
}

#[test]
fn mutations_never_panic() {
    let base = relu(&[floats("w", &[2], &[1.0, 2.0])]).0;
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..4000 {
        let mut bytes = base.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            match random() % 4 {
                0 => bytes[at] = random() as u8,
                1 => bytes[at] ^= 1 << (random() % 8),
                2 => bytes.insert(at, random() as u8),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        let _ = import(&Pb(bytes));
    }
}

#[test]
fn a_claim_of_gigabytes_costs_nothing() {
    let claim = Pb::default().int(1, 10).varint(7 << 3 | 2).varint(4 << 30);
    assert!(error(&claim).message.contains("4294967296 bytes"));
    let dims = relu(&[raw("w", F32, &[1 << 31, 1 << 31], &[0; 8])]);
    assert!(place(&error(&dims)).contains("initializer `w`"));
    let overflow = relu(&[raw("w", F32, &[i64::MAX, i64::MAX, 16], &[0; 8])]);
    assert_eq!(error(&overflow).code, Code::IMPORT_FORMAT);
    let negative = relu(&[raw("w", F32, &[-2], &[0; 8])]);
    assert!(error(&negative).message.contains("-2 is negative"));
    let typed = Pb::default().int(1, 1 << 38).int(2, F32).text(8, "w").float(4, 1.0);
    assert!(error(&relu(&[typed])).message.contains("needs"));
    let short = relu(&[raw("w", F32, &[3], &[0; 8])]);
    assert_eq!(error(&short).code, Code::IMPORT_FORMAT);
}

#[test]
fn deep_nesting_is_refused() {
    let mut body = graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[], &[value("y", F32, &[])]);
    for _ in 0..2000 {
        let attrs = [subgraph("then_branch", &body), subgraph("else_branch", &Pb::default())];
        body = graph(&[node("If", &["c"], &["y"], &attrs)], &[], &[], &[value("y", F32, &[])]);
    }
    assert!(error(&model(17, &body)).message.contains("deep"));
    let groups = Pb(vec![0x0b; 100_000]);
    assert!(error(&groups).message.contains("wire type"));
}

#[test]
fn names_that_contradict_are_refused() {
    let twice = with_nodes(&[node("Relu", &["x"], &["y"], &[]), node("Neg", &["x"], &["y"], &[])]);
    assert!(error(&twice).message.contains("made twice"));
    assert!(place(&error(&twice)).contains("Neg (node #1)"));
    let cycle = with_nodes(&[node("Relu", &["b"], &["y"], &[]), node("Neg", &["y"], &["b"], &[])]);
    assert!(error(&cycle).message.contains("cycle"));
    let missing = with_nodes(&[node("Relu", &["xx"], &["y"], &[])]);
    assert_eq!(error(&missing).help.as_deref(), Some("did you mean `x`?"));
    let no_output = with_nodes(&[node("Relu", &["x"], &["z"], &[])]);
    assert!(error(&no_output).message.contains("output `y`"));
    let initializers = relu(&[floats("w", &[1], &[1.0]), floats("w", &[1], &[1.0])]);
    assert!(error(&initializers).message.contains("defined twice"));
    let bad_name = with_nodes(&[Pb::default().bytes(1, &[0xff, 0xfe]).text(4, "Relu")]);
    assert!(error(&bad_name).message.contains("UTF-8"));
    assert!(error(&Pb::default()).message.contains("no graph"));
}

fn external(location: &str, offset: &str, length: &str) -> Pb {
    let entry = |k: &str, v: &str| Pb::default().text(1, k).text(2, v);
    let entries = [entry("location", location), entry("offset", offset), entry("length", length)];
    let tensor = Pb::default().int(1, 2).int(2, F32).text(8, "w").messages(13, &entries).int(14, 1);
    let nodes = [node("Add", &["x", "w"], &["y"], &[])];
    model(17, &graph(&nodes, &[tensor], &[value("x", F32, &["2"])], &[value("y", F32, &[])]))
}

#[test]
fn external_data_stays_in_the_folder() {
    let root = std::env::temp_dir().join(format!("fermata-external-{}", std::process::id()));
    let folder = root.join("model");
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let data: Vec<u8> = [0f32, 1.5, 2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join("w.bin"), &data).expect("written");
    std::fs::write(root.join("secret.bin"), &data).expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("secret.bin"), folder.join("link.bin")).expect("linked");
    let path = folder.join("m.onnx");
    let attempt = |m: Pb| {
        std::fs::write(&path, &m.0).expect("written");
        import_file(&path, &ImportOptions::default())
    };
    let module = attempt(external("w.bin", "4", "8")).expect("well formed");
    let weight = module.consts.values().next().expect("a weight");
    assert_eq!(weight.tensor.as_slice::<f32>(), Some(&[1.5, 2.5][..]));
    let secret = root.join("secret.bin").display().to_string();
    let refused = [
        ("../secret.bin", "0", "8", "leaves"),
        (secret.as_str(), "0", "8", "leaves"),
        ("a/../../secret.bin", "0", "8", "leaves"),
        ("", "0", "8", "leaves"),
        ("link.bin", "0", "8", "link"),
        (".", "0", "8", "not a file"),
        ("none.bin", "0", "8", "none.bin"),
        ("w.bin", "8", "8", "are needed"),
        ("w.bin", "99", "8", "past the end"),
        ("w.bin", "-1", "8", "not a size"),
        ("w.bin", "18446744073709551615", "8", "past the end"),
        ("w.bin", "0", "4", "needs"),
    ];
    for (location, offset, length, word) in refused {
        let d = attempt(external(location, offset, length)).expect_err(location).0.remove(0);
        assert!(d.message.contains(word), "{location} {offset} {length}: {}", d.message);
        assert!(place(&d).contains("initializer `w`"));
    }
    std::fs::remove_dir_all(&root).expect("removed");
}
