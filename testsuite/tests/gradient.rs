//! Gradients against finite differences, in float64.

use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::parse;
use fermata_passes::table::PassTable;
use fermata_testsuite::generate::{Rng, evaluate};

/// Parameters and body of a function; every parameter is a small float64 tensor.
const PROGRAMS: [(&str, &str); 14] = [
    ("%x: Tensor[(2, 3), float64]", "multiply(exp(%x), tanh(negative(%x)))"),
    ("%x: Tensor[(2, 3), float64]", "add(sigmoid(%x), multiply(erf(%x), sin(cos(%x))))"),
    (
        "%x: Tensor[(2, 3), float64]",
        "{ %0 = add(multiply(%x, %x), 1f64); multiply(log(%0), add(sqrt(%0), rsqrt(%0))) }",
    ),
    (
        "%x: Tensor[(2, 3), float64], %y: Tensor[(3), float64]",
        "divide(subtract(%x, %y), add(multiply(%y, %y), 2f64))",
    ),
    (
        "%x: Tensor[(2, 3), float64], %y: Tensor[(2, 1), float64]",
        "maximum(minimum(%x, %y), multiply(%x, 0.5f64))",
    ),
    ("%x: Tensor[(2, 3), float64]", "nn.relu(where(greater(%x, 0.1f64), %x, multiply(%x, 3f64)))"),
    (
        "%x: Tensor[(2, 3, 4), float64]",
        "multiply(sum(%x, axis=[1], keepdims=True), mean(%x, axis=[0], exclude=True, keepdims=True))",
    ),
    (
        "%x: Tensor[(2, 3, 4), float64]",
        "multiply(reshape(transpose(%x, axes=[2, 0, 1]), newshape=[4, 6]), broadcast_to(mean(%x), shape=[4, 6]))",
    ),
    (
        "%x: Tensor[(2, 2, 3), float64], %w: Tensor[(4, 3), float64], %b: Tensor[(4), float64]",
        "tanh(nn.bias_add(nn.dense(%x, %w, units=None), %b, axis=-1))",
    ),
    (
        "%x: Tensor[(2, 2, 3), float64], %y: Tensor[(2, 4, 3), float64]",
        "exp(nn.batch_matmul(%x, %y, transpose_b=True))",
    ),
    ("%x: Tensor[(2, 2, 3), float64], %y: Tensor[(2, 3, 2), float64]", "tanh(nn.batch_matmul(%x, %y))"),
    (
        "%x: Tensor[(3, 4), float64], %y: Tensor[(3, 4), float64]",
        "multiply(nn.softmax(%x), add(nn.log_softmax(%y, axis=0), %x))",
    ),
    (
        "%x: Tensor[(1, 2, 5, 6), float64], %w: Tensor[(3, 2, 3, 2), float64]",
        "tanh(nn.conv2d(%x, %w, strides=[2, 2], padding=[1, 0, 1, 1], channels=3, kernel_size=[3, 2]))",
    ),
    // A small network: convolution, rectifier, pool by mean, dense, loss.
    (
        "%x: Tensor[(2, 1, 4, 4), float64], %w: Tensor[(2, 1, 3, 3), float64], %v: Tensor[(3, 2), float64]",
        "{ %0 = nn.relu(nn.conv2d(%x, %w, padding=[1, 1, 1, 1], channels=2, kernel_size=[3, 3])); \
        %1 = nn.log_softmax(nn.dense(mean(%0, axis=[2, 3]), %v, units=None)); negative(sum(multiply(%1, %1))) }",
    ),
];

fn module(params: &str, body: &str) -> Module {
    let text = format!("#[version = \"0.0.5\"]\ndef @main({params}) {{ {body} }}");
    let ops = OpTable::standard();
    let mut module = parse_module("gradient", &text, &ParseOptions::new(&ops)).expect("parses");
    infer_module(&mut module).expect("typed");
    module
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.as_slice::<f64>().expect("float64").to_vec()
}

/// The sum of the elements of the result.
fn total(module: &Module, inputs: &[Tensor]) -> f64 {
    values(&evaluate(module, inputs).expect("a value")[0]).iter().sum()
}

#[test]
fn gradients_are_what_differences_say() {
    check("to_graph_normal_form,gradient");
}

#[test]
fn gradients_that_are_held_lazily_are_the_same() {
    check("to_graph_normal_form,gradient,lazy_gradient_init");
}

/// Compares the gradients that passes make with differences.
fn check(passes: &str) {
    let pipeline = parse(passes, &PassTable::standard()).expect("a pipeline");
    for (seed, (params, body)) in PROGRAMS.into_iter().enumerate() {
        let plain = module(params, body);
        let mut with = plain.clone();
        manager::run(&mut with, &pipeline, &Options::default(), &mut []).expect("runs");
        let main = plain.globals[plain.global("main").expect("there")].func.clone().expect("live");
        let mut rng = Rng::new(seed as u64);
        let inputs: Vec<Tensor> = main
            .params
            .iter()
            .map(|&p| {
                let shape = plain.vars[p].ty.as_tensor().expect("a tensor").static_shape().expect("static");
                let data: Vec<f64> = (0..shape.iter().product()).map(|_| 2.0 * rng.unit() - 1.0).collect();
                Tensor::from_slice(&shape, &data).expect("fits")
            })
            .collect();
        let results = evaluate(&with, &inputs).expect("a value");
        assert_eq!(results.len(), 1 + inputs.len(), "{body}: a gradient for every parameter");
        for (place, gradient) in results[1..].iter().enumerate() {
            let at = values(&inputs[place]);
            for (i, &found) in values(gradient).iter().enumerate() {
                let step = 1e-6;
                let moved = |by: f64| {
                    let mut data = at.clone();
                    data[i] += by;
                    let mut all = inputs.clone();
                    all[place] = Tensor::from_slice(inputs[place].shape(), &data).expect("fits");
                    total(&plain, &all)
                };
                let difference = (moved(step) - moved(-step)) / (2.0 * step);
                let error = (found - difference).abs();
                assert!(
                    error <= 1e-6 + 1e-6 * difference.abs(),
                    "{body}: parameter {place}, element {i}: {found} instead of {difference}"
                );
            }
        }
    }
}
