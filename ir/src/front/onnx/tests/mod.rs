//! Tests of the importer on hand-made models.

mod control;
mod hostile;
mod write;

use super::{ImportOptions, import_bytes, read_tensor, shape_inputs};
use crate::diag::{Code, Diagnostics, Span};
use crate::eval::{Value, eval_global};
use crate::expr::{Expr, Module};
use crate::front::output_names;
use crate::op::Op;
use crate::tensor::Tensor;
use crate::types::{DType, Dim};
use write::{Pb, float_attr, floats, graph, int, ints, longs, model, node, raw, value};

/// ONNX's numbers of dtypes.
const F32: i64 = 1;
const I64: i64 = 7;
const BOOL: i64 = 9;

fn import(model: &Pb) -> Result<Module, Diagnostics> {
    import_bytes("m.onnx", &model.0, &ImportOptions::default())
}

fn imported(model: &Pb) -> Module {
    import(model).expect("the model is well formed")
}

/// The first error of a model that is refused.
fn error(model: &Pb) -> crate::diag::Diagnostic {
    let mut errors = import(model).expect_err("the model is to be refused");
    errors.0.remove(0)
}

fn place(d: &crate::diag::Diagnostic) -> String {
    match &d.span {
        Span::Node { path, .. } => path.to_string(),
        Span::None | Span::Text { .. } => String::new(),
    }
}

fn run(module: &Module, args: &[Tensor]) -> Vec<Tensor> {
    let args = args.iter().cloned().map(Value::Tensor).collect();
    match eval_global(module, "main", args, &Default::default()).expect("the program runs") {
        Value::Tuple(fields) => fields.iter().filter_map(|v| v.as_tensor().cloned()).collect(),
        other => other.as_tensor().cloned().into_iter().collect(),
    }
}

fn vector(data: &[f32]) -> Tensor {
    Tensor::from_slice(&[data.len()], data).expect("small")
}

/// The operators of `@main`, in order of evaluation.
fn ops(module: &Module) -> Vec<Op> {
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref()).expect("there is a main");
    let order = crate::walk::post_order(module, &[main.body]);
    order.into_iter().filter_map(|e| module.as_op_call(e).map(|(op, _)| op)).collect()
}

#[test]
fn names_types_and_places_are_kept() {
    let nodes =
        [node("Add", &["x", "w"], &["s"], &[]), node("Relu", &["s"], &["y"], &[]).text(3, "/act/Relu")];
    let g = graph(
        &nodes,
        &[floats("w", &[2], &[1.0, -5.0])],
        &[value("x", F32, &["batch", "2"])],
        &[value("y", F32, &[]), value("s", F32, &[])],
    );
    let module = imported(&model(17, &g));
    let main = module.globals[module.global("main").expect("main")].func.clone().expect("defined");
    assert_eq!(output_names(&main), ["y", "s"]);
    let param = &module.vars[main.params[0]];
    assert_eq!(&*param.name, "x");
    let dims = &param.ty.as_tensor().expect("a tensor").shape;
    assert_eq!(dims, &[Dim::Sym("batch".into()), Dim::Static(2)]);
    assert!(module.consts.values().any(|c| c.name.as_deref() == Some("w")));
    let Expr::Tuple(fields) = &module.exprs[main.body] else { panic!("two outputs are a tuple") };
    let span = &module.spans[fields[0]];
    assert!(matches!(span, Span::Node { path, .. } if &**path == "main > /act/Relu (node #1)"), "{span:?}");
    let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0]).expect("small");
    assert_eq!(run(&module, &[x])[0].as_slice::<f32>(), Some(&[2.0, 0.0][..]));
}

#[test]
fn dimensions_are_named_and_bound() {
    let g = graph(
        &[node("Relu", &["x"], &["y"], &[])],
        &[],
        &[value("x", F32, &["N.0", "", "-1", "3"])],
        &[value("y", F32, &[])],
    );
    let m = model(17, &g);
    let shape = |options: &ImportOptions| {
        let module = import_bytes("m", &m.0, options).expect("well formed");
        module.vars.values().next().expect("a parameter").ty.to_string()
    };
    let mut options = ImportOptions::default();
    assert_eq!(shape(&options), "Tensor[(N_0, x_d1, x_d2, 3), float32]");
    options.dims.insert("N.0".into(), 4);
    options.dims.insert("x_d2".into(), 5);
    assert_eq!(shape(&options), "Tensor[(4, x_d1, 5, 3), float32]");
    options.dims.insert("x_d11".into(), 4);
    let e = import_bytes("m", &m.0, &options).expect_err("no such dimension");
    assert_eq!((e.0[0].code, e.0[0].help.as_deref()), (Code::USAGE, Some("did you mean `x_d1`?")));
    let shapes = [("x".to_string(), vec![1, 2, 3, 3])].into();
    assert_eq!(shape(&ImportOptions { shapes, ..Default::default() }), "Tensor[(1, 2, 3, 3), float32]");
}

/// Reshape(x, [shape(x)[0], -1, 2]), as exporters write it.
fn reshape_by_shape() -> Pb {
    let nodes = [
        node("Shape", &["x"], &["s"], &[]),
        node("Gather", &["s", "zero"], &["b"], &[int("axis", 0)]),
        node("Unsqueeze", &["b", "axes"], &["b1"], &[]),
        node("Concat", &["b1", "rest"], &["target"], &[int("axis", 0)]),
        node("Reshape", &["x", "target"], &["y"], &[]),
    ];
    let constants = [longs("zero", &[], &[0]), longs("axes", &[1], &[0]), longs("rest", &[2], &[-1, 2])];
    model(17, &graph(&nodes, &constants, &[value("x", F32, &["batch", "6"])], &[value("y", F32, &[])]))
}

#[test]
fn shapes_that_are_computed_fold_away() {
    let m = reshape_by_shape();
    let module = imported(&m);
    let names: Vec<&str> = ops(&module).iter().map(|op| op.name()).collect();
    assert_eq!(names, ["reshape"], "a symbolic batch is copied");
    let options = ImportOptions { dims: [("batch".to_string(), 3)].into(), ..Default::default() };
    let bound = import_bytes("m", &m.0, &options).expect("well formed");
    let main = bound.globals[bound.global("main").expect("main")].func.clone().expect("defined");
    assert_eq!(main.ret.to_string(), "Tensor[(3, 3, 2), float32]");
}

#[test]
fn an_unknown_shape_stays_a_computation() {
    let g = graph(
        &[node("Reshape", &["x", "shape"], &["y"], &[])],
        &[],
        &[value("x", F32, &["6"]), value("shape", I64, &["2"])],
        &[value("y", F32, &[])],
    );
    let m = model(17, &g);
    assert_eq!(shape_inputs(&m.0).expect("a model"), ["shape"]);
    let x = vector(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let shape = Tensor::from_slice(&[2], &[2i64, -1]).expect("small");
    let dynamic = imported(&m);
    assert_eq!(run(&dynamic, &[x.clone(), shape.clone()])[0].shape(), [2, 3]);
    let options = ImportOptions { const_inputs: [("shape".to_string(), shape)].into(), ..Default::default() };
    let baked = import_bytes("m", &m.0, &options).expect("well formed");
    assert_eq!(ops(&baked).iter().map(|op| op.name()).collect::<Vec<_>>(), ["reshape"]);
    assert_eq!(run(&baked, &[x])[0].shape(), [2, 3]);
}

#[test]
fn unsorted_nodes_are_sorted() {
    let nodes = [node("Relu", &["s"], &["y"], &[]), node("Neg", &["x"], &["s"], &[])];
    let module =
        imported(&model(17, &graph(&nodes, &[], &[value("x", F32, &["2"])], &[value("y", F32, &[])])));
    assert_eq!(run(&module, &[vector(&[-1.0, 2.0])])[0].as_slice::<f32>(), Some(&[1.0, 0.0][..]));
}

#[test]
fn typed_fields_hold_every_dtype() {
    let tensor = |dtype: i64, field: u64, numbers: &[u64]| {
        let packed = numbers.iter().fold(Pb::default(), |out, &n| out.varint(n));
        Pb::default().int(1, numbers.len() as i64).int(2, dtype).message(field, &packed)
    };
    let minus = |n: i64| n as u64;
    let i8s = read_tensor(&tensor(3, 5, &[minus(-1), 127]).0).expect("int8");
    assert_eq!(i8s.as_slice::<i8>(), Some(&[-1, 127][..]));
    let halves = read_tensor(&tensor(10, 5, &[0x3c00, 0xc000]).0).expect("float16");
    assert_eq!(halves.dtype(), DType::F16);
    assert_eq!(halves.bytes(), [0, 0x3c, 0, 0xc0]);
    assert_eq!(read_tensor(&tensor(16, 5, &[0x3f80]).0).expect("bfloat16").dtype(), DType::BF16);
    assert_eq!(read_tensor(&tensor(9, 5, &[1, 0]).0).expect("bool").bytes(), [1, 0]);
    let u64s = read_tensor(&tensor(13, 11, &[u64::MAX]).0).expect("uint64");
    assert_eq!(u64s.as_slice::<u64>(), Some(&[u64::MAX][..]));
    let one = Pb::default().int(1, 1).int(2, 1).float(4, 2.5);
    assert_eq!(read_tensor(&one.0).expect("not packed").as_slice::<f32>(), Some(&[2.5][..]));
    for (dtype, name) in [(8, "string"), (17, "float8e4m3fn"), (22, "int4"), (14, "complex64"), (99, "99")] {
        let e = read_tensor(&raw("t", dtype, &[1], &[0]).0).expect_err("not supported");
        assert!(e.message.contains(name), "{}", e.message);
    }
    assert!(read_tensor(&tensor(1, 5, &[1]).0).is_err(), "floats are not in int32_data");
    assert!(read_tensor(&tensor(6, 5, &[1]).int(1, 7).0).is_err(), "7 elements are promised");
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let body = [
        node("Constant", &[], &["a"], &[Pb::default().text(1, "value_float").text(21, "alpha").int(20, 1)]),
        node("Mul", &["x", "a"], &["y"], &[]),
    ];
    let function = Pb::default()
        .text(1, "Scale")
        .text(4, "x")
        .text(5, "y")
        .messages(7, &body)
        .message(9, &Pb::default().int(2, 17))
        .text(10, "mine")
        .message(11, &float_attr("alpha", 2.0));
    let call = |attrs: &[Pb], x: &str, y: &str| node("Scale", &[x], &[y], attrs).text(7, "mine");
    let nodes = [call(&[], "x", "t"), call(&[float_attr("alpha", 5.0)], "t", "y")];
    let m = model(17, &graph(&nodes, &[], &[value("x", F32, &["1"])], &[value("y", F32, &[])]))
        .message(25, &function);
    assert_eq!(run(&imported(&m), &[vector(&[3.0])])[0].as_slice::<f32>(), Some(&[30.0][..]));
    let endless = Pb::default()
        .text(1, "Scale")
        .text(4, "x")
        .text(5, "y")
        .message(7, &call(&[], "x", "y"))
        .message(9, &Pb::default().int(2, 17))
        .text(10, "mine");
    let m = model(17, &graph(&nodes, &[], &[value("x", F32, &["1"])], &[value("y", F32, &[])]))
        .message(25, &endless);
    assert!(import(&m).is_err(), "a function that calls itself is refused");
}

#[test]
fn everything_unsupported_is_told_at_once() {
    let nodes = [
        node("Rleu", &["x"], &["a"], &[]),
        node("ConvTransposed", &["a"], &["b"], &[]).text(3, "/up"),
        node("Rleu", &["b"], &["y"], &[]),
    ];
    let d = error(&model(17, &graph(&nodes, &[], &[value("x", F32, &["2"])], &[value("y", F32, &[])])));
    assert_eq!(d.code, Code::IMPORT_UNSUPPORTED);
    assert_eq!(d.notes.len(), 2, "{d:?}");
    assert!(
        d.notes[0].contains("did you mean `ConvTranspose`") && d.notes[0].contains("/up (node #1)"),
        "{d:?}"
    );
    assert!(d.notes[1].contains("opset 17") && d.notes[1].contains("2 times"), "{d:?}");
    let newer = model(99, &graph(&[], &[], &[value("x", F32, &["2"])], &[value("x", F32, &[])]));
    assert_eq!(error(&newer).code, Code::IMPORT_UNSUPPORTED);
}

#[test]
fn refusals_of_several_nodes_come_together() {
    let nodes = [
        node("Transpose", &["x"], &["a"], &[ints("perm", &[0, 0])]).text(3, "first"),
        node("Relu", &["a"], &["b"], &[]),
        node("Flatten", &["x"], &["c"], &[int("axis", 9)]).text(3, "second"),
        node("Add", &["b", "c"], &["y"], &[]),
    ];
    let m = model(17, &graph(&nodes, &[], &[value("x", F32, &["2", "2"])], &[value("y", F32, &[])]));
    let errors = import(&m).expect_err("two nodes are wrong").0;
    let places: Vec<String> = errors.iter().map(place).collect();
    assert_eq!(places, ["main > first (node #0)", "main > second (node #2)"]);
}

#[test]
fn old_opsets_broadcast_by_axis() {
    let attrs = [int("broadcast", 1), int("axis", 0)];
    let g = graph(
        &[node("Add", &["x", "w"], &["y"], &attrs)],
        &[floats("w", &[2], &[10.0, 20.0])],
        &[value("x", F32, &["2", "2"]), value("w", F32, &["2"])],
        &[value("y", F32, &[])],
    );
    let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0]).expect("small");
    let module = imported(&model(6, &g));
    assert_eq!(run(&module, &[x])[0].as_slice::<f32>(), Some(&[11.0, 12.0, 23.0, 24.0][..]));
}
