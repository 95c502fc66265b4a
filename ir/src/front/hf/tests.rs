//! Tiny random checkpoints, written by the tests, against loops over their numbers.

use std::collections::BTreeMap;
use std::path::Path;

use super::{import_dir, tokenizer::Tokenizer};
use crate::diag::Code;
use crate::eval::{EvalOptions, Value, eval_global};
use crate::scalar::{self, Scalar, UnaryOp};
use crate::tensor::Tensor;
use crate::weights;

const HIDDEN: usize = 4;
const HEADS: usize = 2;
const INNER: usize = 6;

const CONFIG: &str = r#"{"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
    "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 6, "max_position_embeddings": 5, "type_vocab_size": 2, "layer_norm_eps": 1e-12}"#;

const MODULES: &str = r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
    {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}]"#;

type Tensors = BTreeMap<String, Tensor>;

/// The tensors of the encoder of [`CONFIG`], in [-0.5, 0.5).
fn tensors() -> Tensors {
    let mut state = 7u64;
    let mut random = |shape: &[usize]| {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_slice(shape, &data).expect("small")
    };
    let mut all = Tensors::new();
    for (name, rows) in [("word", 10), ("position", 5), ("token_type", 2)] {
        all.insert(format!("embeddings.{name}_embeddings.weight"), random(&[rows, HIDDEN]));
    }
    let layer = "encoder.layer.0";
    for part in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
        for kind in ["weight", "bias"] {
            all.insert(format!("{part}.LayerNorm.{kind}"), random(&[HIDDEN]));
        }
    }
    for (part, rows, columns) in [
        ("attention.self.query", HIDDEN, HIDDEN),
        ("attention.self.key", HIDDEN, HIDDEN),
        ("attention.self.value", HIDDEN, HIDDEN),
        ("attention.output.dense", HIDDEN, HIDDEN),
        ("intermediate.dense", INNER, HIDDEN),
        ("output.dense", HIDDEN, INNER),
    ] {
        all.insert(format!("{layer}.{part}.weight"), random(&[rows, columns]));
        all.insert(format!("{layer}.{part}.bias"), random(&[rows]));
    }
    all
}

/// A folder with these files, gone when it is dropped.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str, config: &str, tensors: &Tensors) -> Folder {
        let dir = std::env::temp_dir().join(format!("fermata-hf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("1_Pooling")).expect("the temporary folder is writable");
        let folder = Folder(dir);
        let mut bytes = Vec::new();
        weights::write(&mut bytes, tensors.iter().map(|(n, t)| (&**n, t))).expect("a vector takes all");
        folder.write("model.safetensors", &bytes);
        folder.write("config.json", config.as_bytes());
        folder.write("modules.json", MODULES.as_bytes());
        folder.write("1_Pooling/config.json", br#"{"pooling_mode_mean_tokens": true}"#);
        folder
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.join(name), content).expect("the temporary folder is writable");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(dir: &Path, ids: &[i64], mask: &[i64]) -> (Vec<f32>, Vec<f32>) {
    let module = import_dir(dir).expect("it is well formed");
    let of = |data: &[i64]| Value::from(Tensor::from_slice(&[1, data.len()], data).expect("small"));
    let args = vec![of(ids), of(mask), of(&vec![0; ids.len()])];
    let result = eval_global(&module, "main", args, &EvalOptions::default()).expect("it runs");
    let fields = result.as_tuple().expect("two results");
    let data =
        |i: usize| fields[i].as_tensor().expect("a tensor").as_slice::<f32>().expect("floats").to_vec();
    (data(0), data(1))
}

/// The forward pass as loops in float64.
struct Loops(Tensors);

type Rows = Vec<Vec<f64>>;

impl Loops {
    fn get(&self, name: &str) -> Vec<f64> {
        self.0[name].as_slice::<f32>().expect("floats").iter().map(|&v| f64::from(v)).collect()
    }

    fn row(&self, table: &str, index: usize) -> Vec<f64> {
        self.get(&format!("embeddings.{table}_embeddings.weight"))[index * HIDDEN..][..HIDDEN].to_vec()
    }

    fn dense(&self, part: &str, x: &Rows) -> Rows {
        let (w, b) = (self.get(&format!("{part}.weight")), self.get(&format!("{part}.bias")));
        let of = |row: &Vec<f64>| -> Vec<f64> {
            let dot = |w: &[f64]| w.iter().zip(row).map(|(w, x)| w * x).sum::<f64>();
            w.chunks(row.len()).zip(&b).map(|(w, b)| dot(w) + b).collect()
        };
        x.iter().map(of).collect()
    }

    fn norm(&self, part: &str, x: &Rows) -> Rows {
        let (g, b) = (self.get(&format!("{part}.weight")), self.get(&format!("{part}.bias")));
        let of = |row: &Vec<f64>| -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / HIDDEN as f64;
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / HIDDEN as f64;
            row.iter()
                .zip(g.iter().zip(&b))
                .map(|(v, (g, b))| (v - mean) / (var + 1e-12).sqrt() * g + b)
                .collect()
        };
        x.iter().map(of).collect()
    }

    fn hidden(&self, ids: &[i64]) -> Rows {
        let token = |(place, &id): (usize, &i64)| -> Vec<f64> {
            let rows =
                [self.row("word", id as usize), self.row("token_type", 0), self.row("position", place)];
            (0..HIDDEN).map(|i| rows.iter().map(|r| r[i]).sum()).collect()
        };
        let x = self.norm("embeddings.LayerNorm", &ids.iter().enumerate().map(token).collect());
        let part = |name: &str| format!("encoder.layer.0.{name}");
        let [q, k, v] =
            ["query", "key", "value"].map(|n| self.dense(&part(&format!("attention.self.{n}")), &x));
        let mut attended = vec![vec![0.0; HIDDEN]; ids.len()];
        let size = HIDDEN / HEADS;
        for head in 0..HEADS {
            let own = head * size..(head + 1) * size;
            for (i, row) in attended.iter_mut().enumerate() {
                let score =
                    |j: usize| own.clone().map(|d| q[i][d] * k[j][d]).sum::<f64>() / (size as f64).sqrt();
                let scores: Vec<f64> = (0..ids.len()).map(|j| score(j).exp()).collect();
                let total: f64 = scores.iter().sum();
                own.clone().for_each(|d| row[d] = scores.iter().zip(&v).map(|(s, v)| s / total * v[d]).sum());
            }
        }
        let plus = |a: Rows, b: &Rows| -> Rows {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        let projected = self.dense(&part("attention.output.dense"), &attended);
        let x = self.norm(&part("attention.output.LayerNorm"), &plus(projected, &x));
        let mut inner = self.dense(&part("intermediate.dense"), &x);
        let erf = |v: f64| scalar::unary(UnaryOp::Erf, Scalar::of(v)).as_f64();
        let gelu = |v: f64| v / 2.0 * (1.0 + erf(v / 2f64.sqrt()));
        inner.iter_mut().flatten().for_each(|v| *v = gelu(*v));
        let outer = self.dense(&part("output.dense"), &inner);
        self.norm(&part("output.LayerNorm"), &plus(outer, &x))
    }
}

fn assert_close(found: &[f32], expected: impl IntoIterator<Item = f64>) {
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*a) - b).abs() < 1e-5, "element {i} is {a}, expected {b}");
    }
}

#[test]
fn an_encoder_computes_what_loops_compute_and_padding_changes_nothing() {
    let folder = Folder::new("forward", CONFIG, &tensors());
    let loops = Loops(tensors());
    let ids = [3, 7, 1];
    let (hidden, embedding) = run(&folder.0, &ids, &[1, 1, 1]);
    let rows = loops.hidden(&ids);
    assert_close(&hidden, rows.iter().flatten().copied());
    let mean: Vec<f64> = (0..HIDDEN).map(|i| rows.iter().map(|r| r[i]).sum::<f64>() / 3.0).collect();
    let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert_close(&embedding, mean.iter().map(|v| v / length));
    let (padded, same) = run(&folder.0, &[3, 7, 1, 0, 0], &[1, 1, 1, 0, 0]);
    assert_close(&padded[..hidden.len()], hidden.iter().map(|&v| f64::from(v)));
    assert_close(&same, embedding.iter().map(|&v| f64::from(v)));
    let (_, nothing) = run(&folder.0, &[3, 7], &[0, 0]);
    assert!(nothing.iter().all(|v| v.is_finite()), "{nothing:?}");
}

#[test]
fn tensors_of_a_head_and_of_half_precision_are_read() {
    let head = |name: &String| format!("bert.{name}");
    let halves = |t: &Tensor| {
        let data: Vec<half::f16> =
            t.as_slice::<f32>().unwrap().iter().map(|&v| half::f16::from_f32(v)).collect();
        Tensor::from_slice(t.shape(), &data).unwrap()
    };
    let mut all: Tensors = tensors().iter().map(|(name, t)| (head(name), halves(t))).collect();
    all.insert("cls.predictions.bias".into(), Tensor::scalar(1f32));
    let folder = Folder::new("head", CONFIG, &all);
    let widened = all.iter().filter_map(|(name, t)| {
        let data: Vec<f32> = t.as_slice::<half::f16>()?.iter().map(|v| v.to_f32()).collect();
        Some((name.strip_prefix("bert.")?.to_owned(), Tensor::from_slice(t.shape(), &data).unwrap()))
    });
    let loops = Loops(widened.collect());
    assert_close(&run(&folder.0, &[5, 2], &[1, 1]).0, loops.hidden(&[5, 2]).into_iter().flatten());
}

#[test]
fn all_that_is_wrong_with_a_checkpoint_is_named_at_once() {
    let mut all = tensors();
    all.remove("embeddings.LayerNorm.bias");
    all.insert("encoder.layer.1.output.dense.bias".into(), Tensor::scalar(0f32));
    all.insert("embeddings.LayerNorm.weight".into(), Tensor::from_slice(&[5], &[0f32; 5]).unwrap());
    all.insert("encoder.layer.0.output.dense.bias".into(), Tensor::from_slice(&[4], &[f32::NAN; 4]).unwrap());
    all.insert(
        "encoder.layer.0.intermediate.dense.bias".into(),
        Tensor::from_slice(&[6], &[0i32; 6]).unwrap(),
    );
    let folder = Folder::new("wrong", CONFIG, &all);
    let error = import_dir(&folder.0).expect_err("it is wrong").0.remove(0);
    assert_eq!(error.code, Code::WEIGHTS);
    assert!(error.message.ends_with("5 tensors are wrong"), "{}", error.message);
    assert_eq!(
        error.notes,
        [
            "`embeddings.LayerNorm.bias` is missing; it should be [4]",
            "`embeddings.LayerNorm.weight` is [5]; it should be [4]",
            "`encoder.layer.0.intermediate.dense.bias` is of int32; it should be float32, float16 or bfloat16",
            "`encoder.layer.0.output.dense.bias` holds NaN or infinity",
            "`encoder.layer.1.output.dense.bias` is none of this architecture",
        ]
    );
}

#[test]
fn configurations_that_are_not_supported_or_lie_are_refused() {
    let message = |from: &str, to: &str| {
        let folder = Folder::new("config", &CONFIG.replace(from, to), &Tensors::new());
        let error = import_dir(&folder.0).expect_err("it is refused").0.remove(0);
        format!("{} {}", error.message, error.help.unwrap_or_default())
    };
    assert!(
        message(r#""bert", "architectures": ["BertModel"]"#, r#""llama""#).contains("architecture llama")
    );
    assert!(
        message(r#""bert""#, r#""llama""#).contains("architecture BertModel is not supported supported:")
    );
    assert!(message(r#""gelu""#, r#""swish""#).contains("hidden_act swish"));
    assert!(message("_attention_heads\": 2", "_attention_heads\": 3").contains("do not divide 4"));
    assert!(message("_attention_heads\": 2", "_attention_heads\": 0").contains("it is 0"));
    assert!(message("\"vocab_size\": 10", "\"vocab_size\": 18446744073709551615").contains("16777216"));
    assert!(message("\"vocab_size\": 10,", "").contains("it is missing"));
    assert!(message("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 1000000").contains("1024"));
    assert!(message(CONFIG, "[").contains("no JSON"));
    let nowhere = import_dir(Path::new("/nowhere/x")).expect_err("it is not there");
    assert!(nowhere.0[0].message.contains("no config.json"));
}

#[test]
fn a_tokenizer_makes_a_batch() {
    let folder = Folder::new("tokens", CONFIG, &Tensors::new());
    let error = |folder: &Folder| Tokenizer::read(&folder.0).expect_err("it is refused").message;
    assert!(error(&folder).contains("neither tokenizer.json nor vocab.txt"));
    folder.write("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nhi\n##gh\n!\n");
    let tokenizer = Tokenizer::read(&folder.0).expect("it is well formed");
    assert_eq!(tokenizer.encode("High! what"), [2, 4, 5, 6, 3]);
    let texts = ["hi".to_owned(), "what hi".to_owned()];
    let batch = tokenizer.batch(&texts, None).expect("it fits");
    let rows: Vec<(&str, Vec<i64>)> =
        batch.iter().map(|(name, t)| (*name, t.as_slice::<i64>().expect("numbers").to_vec())).collect();
    assert_eq!(rows[0], ("input_ids", vec![2, 4, 3, 0, 2, 1, 4, 3]));
    assert_eq!(rows[1], ("attention_mask", vec![1, 1, 1, 0, 1, 1, 1, 1]));
    assert!(tokenizer.batch(&texts, Some(3)).expect_err("too short").help.is_some());
    folder.write("vocab.txt", b"[PAD]\n[CLS]\n[SEP]\n");
    assert!(error(&folder).contains("no token `[UNK]`"));
    folder.write("tokenizer.json", br#"{"pre_tokenizer": {"type": "ByteLevel"}}"#);
    assert!(error(&folder).contains("type ByteLevel is not supported"));
    let json = r###"{"pre_tokenizer": {"type": "BertPreTokenizer"}, "normalizer": {"type": "BertNormalizer"},
        "model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 77}}}"###;
    folder.write("tokenizer.json", json.as_bytes());
    assert!(error(&folder).contains("the token 77, but there are 10 embeddings"));
    folder.write("tokenizer.json", json.replace("77", "9").as_bytes());
    assert_eq!(Tokenizer::read(&folder.0).expect("it is well formed").encode("A b"), [2, 9, 1, 3]);
}
