//! ONNX models that are made here: small ones with what large ones have.

use crate::onnx::{
    BOOL, FLOAT, Field, INT64, int, ints, longs, message, model, node, subgraph, tensor, text, value,
};

/// The file of external data that one of the models names.
pub(super) const EXTERNAL: &str = "weights.bin";

/// Words that models have besides the names of operators.
pub(super) const WORDS: &[&str] = &[
    "x",
    "y",
    "w",
    "c",
    "batch",
    "N",
    "then_branch",
    "else_branch",
    "body",
    "axis",
    "axes",
    "perm",
    "to",
    "value",
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "auto_pad",
    "SAME_UPPER",
    "NOTSET",
    "keepdims",
    "equation",
    "mode",
    "location",
    "offset",
    "length",
    "../w.bin",
    "/etc/passwd",
    "a/../../w.bin",
    "weights.bin",
    "-1",
    "18446744073709551615",
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "com.microsoft",
    "local",
    "float32",
];

/// Floats that are external data.
fn external() -> Vec<u8> {
    let entry = |key: &str, value: &str| message(13, vec![text(1, key), text(2, value)]);
    let weight = message(
        5,
        vec![
            int(1, 2),
            int(2, FLOAT as i64),
            text(8, "w"),
            entry("location", EXTERNAL),
            entry("offset", "8"),
            entry("length", "8"),
            int(14, 1),
        ],
    );
    let add = node("Add", &["x", "w"], &["y"], vec![]);
    model(vec![add, weight, value(11, "x", FLOAT, &["2"]), value(12, "y", FLOAT, &["2"])], vec![])
}

/// An `If` whose branches read from outside, and a `Loop`.
fn control() -> Vec<u8> {
    let branch = |op: &str| vec![node(op, &["x"], &["b"], vec![]), value(12, "b", FLOAT, &["2"])];
    let arms = vec![subgraph("then_branch", branch("Neg")), subgraph("else_branch", branch("Abs"))];
    let body = vec![
        node("Add", &["s", "x"], &["t"], vec![]),
        node("Identity", &["k"], &["j"], vec![]),
        value(11, "i", INT64, &[]),
        value(11, "k", BOOL, &[]),
        value(11, "s", FLOAT, &["2"]),
        value(12, "j", BOOL, &[]),
        value(12, "t", FLOAT, &["2"]),
    ];
    let graph = vec![
        node("If", &["c"], &["z"], arms),
        node("Loop", &["n", "", "z"], &["y"], vec![subgraph("body", body)]),
        longs("n", &[3]),
        value(11, "c", BOOL, &[]),
        value(11, "x", FLOAT, &["2"]),
        value(12, "y", FLOAT, &["2"]),
    ];
    model(graph, vec![])
}

/// Shapes that are computed, a convolution, and a function of the model's own.
fn shapes() -> Vec<u8> {
    let domain = |name: &str| text(7, name);
    let graph = vec![
        node("Conv", &["x", "w"], &["a"], vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])]),
        node("Shape", &["a"], &["s"], vec![]),
        node("Gather", &["s", "zero"], &["b"], vec![]),
        node(
            "Concat",
            &["b", "rest"],
            &["r"],
            vec![message(5, vec![text(1, "axis"), int(3, 0), int(20, 2)])],
        ),
        node("Reshape", &["a", "r"], &["f"], vec![]),
        node("Twice", &["f"], &["y"], vec![domain("local")]),
        tensor("w", FLOAT, &[3, 2, 3, 3], vec![0; 216]),
        longs("zero", &[0]),
        longs("rest", &[-1]),
        value(11, "x", FLOAT, &["batch", "2", "8", "8"]),
        value(12, "y", FLOAT, &["batch", "48"]),
    ];
    let function = vec![
        text(1, "Twice"),
        text(4, "p"),
        text(5, "q"),
        message(7, vec![text(1, "p"), text(1, "p"), text(2, "q"), text(4, "Add")]),
        message(9, vec![text(1, ""), int(2, 21)]),
        text(10, "local"),
    ];
    model(graph, vec![message(8, vec![text(1, "local"), int(2, 1)]), message(25, function)])
}

/// Operators whose attributes and constants decide shapes, one model each.
fn single() -> Vec<Vec<u8>> {
    let of = |op: &str, constants: &[(&str, &[i64])], attrs: Vec<Field>| {
        let mut inputs = vec!["x"];
        inputs.extend(constants.iter().map(|(name, _)| *name));
        let mut graph = vec![node(op, &inputs, &["y"], attrs)];
        graph.extend(constants.iter().map(|(name, values)| longs(name, values)));
        graph.extend([value(11, "x", FLOAT, &["1", "2", "4", "4"]), value(12, "y", FLOAT, &[])]);
        model(graph, vec![])
    };
    vec![
        of("Tile", &[("r", &[1, 2, 1, 1])], vec![]),
        of("Expand", &[("r", &[3, 2, 4, 4])], vec![]),
        of("Pad", &[("p", &[0, 0, 1, 1, 0, 0, 1, 1])], vec![]),
        of("Slice", &[("s", &[0, 1]), ("e", &[2, 3]), ("a", &[1, 2])], vec![]),
        of("Squeeze", &[("a", &[0])], vec![]),
        of("Unsqueeze", &[("a", &[0, 5])], vec![]),
        of("Split", &[("s", &[1, 3])], vec![message(5, vec![text(1, "axis"), int(3, 2), int(20, 2)])]),
        of("Transpose", &[], vec![ints("perm", &[0, 2, 3, 1])]),
        of("MaxPool", &[], vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[1, 1])]),
        of("AveragePool", &[], vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])]),
        of("ReduceSum", &[("a", &[-1])], vec![]),
        of("TopK", &[("k", &[2])], vec![]),
        of("DepthToSpace", &[], vec![message(5, vec![text(1, "blocksize"), int(3, 1), int(20, 2)])]),
        of("Flatten", &[], vec![message(5, vec![text(1, "axis"), int(3, 1), int(20, 2)])]),
        of("Resize", &[("", &[]), ("", &[]), ("s", &[1, 2, 8, 8])], vec![]),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Vec<u8>> {
    let mut models = vec![external(), control(), shapes()];
    models.extend(single());
    models
}
