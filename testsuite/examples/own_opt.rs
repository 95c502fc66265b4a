//! A pass and an operator of one's own, and a `fermata` that knows them:
//! `cargo run -p fermata-testsuite --example own_opt -- opt model.relay --passes=find_squares,fuse_ops`

use fermata::Driver;
use fermata_ir::diag::Diagnostics;
use fermata_ir::eval::Value;
use fermata_ir::expr::{Expr, Module};
use fermata_ir::op::broadcast::MULTIPLY;
use fermata_ir::op::util::{build, elements, tensor_arg, tensor_type, tensor_value};
use fermata_ir::op::{Attrs, FusePattern, Lower, Op, OpAttrs, OpDef, OpError, Purity, no_backward};
use fermata_ir::scalar::BinaryOp;
use fermata_ir::types::{DType, Type};
use fermata_ir::{op_attrs, te, tir};
use fermata_passes::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use fermata_passes::relay::rewrite::rebuild_functions;

op_attrs! {
    /// Attributes of `custom.square`.
    pub struct SquareAttrs {
        /// What the square is multiplied by.
        scale: f64 = 1.0,
    }
}

/// `custom.square`: each element times itself, scaled.
pub static SQUARE: OpDef = OpDef {
    name: "custom.square",
    doc: "each element times itself, scaled.",
    args: &["data"],
    optional: 0,
    attrs: SquareAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: &[DType::F32],
    infer,
    backward: no_backward,
    eval,
    lower: Lower::Te(|graph, args, attrs, out| {
        let scale = tir::Expr::float(attrs.read::<SquareAttrs>().scale, out[0].dtype);
        Ok(vec![graph.compute("square", "elemwise", &out[0], |i| square(&args[0], i, scale))])
    }),
    onnx: &[],
};

fn infer(types: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    tensor_type(data.shape.clone(), data.dtype)
}

fn eval(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (data, scale) = (tensor_value(args, 0)?, attrs.read::<SquareAttrs>().scale);
    let input = elements::<f32>(data)?;
    let squares = |out: &mut [f32]| out.iter_mut().zip(input).for_each(|(y, x)| *y = x * x * scale as f32);
    Ok(build::<f32>(data.shape(), squares)?.into())
}

fn square(data: &te::Tensor, at: &[tir::Expr], scale: tir::Expr) -> tir::Expr {
    let x = data.at(at);
    x.clone().binary(BinaryOp::Mul, x).binary(BinaryOp::Mul, scale)
}

/// The pass: `multiply(%x, %x)` becomes `custom.square(%x)`.
pub static FIND_SQUARES: PassDef = PassDef {
    name: "find_squares",
    relay_name: "FindSquares",
    level: 2,
    doc: "write products of a value with itself as squares",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    Ok(rebuild_functions(module, |module, _, new| {
        let Some((op, call)) = module.as_op_call(new) else { return new };
        let (x, y) = (call.args[0], *call.args.last().expect("an operator has operands"));
        let same = x == y || module.exprs[x] == module.exprs[y] && matches!(module.exprs[x], Expr::Var(_));
        let ty = module.types[new].clone();
        let fits = op.is(&MULTIPLY) && same && ty.as_tensor().is_some_and(|t| t.dtype == DType::F32);
        if !fits || !context.fire("a product with itself is a square", module, new) {
            return new;
        }
        let call = module.call_op(Op(&SQUARE), &[x], SquareAttrs { scale: 1.0 }.attrs());
        module.types[call] = ty;
        call
    }))
}

/// The program with both.
pub fn driver() -> Driver {
    Driver::standard().with_ops(&[&SQUARE]).with_passes(&[&FIND_SQUARES])
}

fn main() {
    driver().main()
}
