//! ToMixedPrecision: products and convolutions in float16 or bfloat16, and what follows them.
//!
//! Every value keeps its float32 form for whoever wants that: an operator that is computed in the
//! low type casts its result back, and a reader that is computed low as well takes it before that
//! cast. So the program keeps its types, and casts stand only where the two worlds meet. Sums
//! accumulate in float32 all the same, as everywhere here.
//!
//! - *always*: products and convolutions;
//! - *follow*: elementwise, broadcast and injective operators and maximum pools are computed low if
//!   what they read is, and constants beside it fit in the type;
//! - *never*: exponentials, powers, error functions, sums, means, norms, softmax, and all others.

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{Expr, ExprId, Function, Module};
use fermata_ir::op::broadcast::POWER;
use fermata_ir::op::conv::{CONV1D, CONV1D_TRANSPOSE, CONV2D, CONV2D_TRANSPOSE, CONV3D, CONV3D_TRANSPOSE};
use fermata_ir::op::elemwise::convert::{CAST, CastAttrs};
use fermata_ir::op::elemwise::misc::{CLIP, ClipAttrs};
use fermata_ir::op::elemwise::{ERF, EXP, LOG, RSQRT, SQRT};
use fermata_ir::op::nn::{BATCH_MATMUL, DENSE, MATMUL};
use fermata_ir::op::{Attrs, FusePattern, Op, OpAttrs, OpDef, Purity};
use fermata_ir::types::DType;

use super::elements::scalars;
use super::rewrite::{Rebuilt, owned_functions};
use crate::pass::{FloatClass, MAX_LEVEL, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "to_mixed_precision",
    relay_name: "ToMixedPrecision",
    level: MAX_LEVEL + 1,
    doc: "compute products and convolutions, and what follows them, in a 16-bit float type",
    options: &[
        OptionDef { name: "dtype", doc: "the type", default: OptionValue::Word("float16|bfloat16") },
        OptionDef {
            name: "keep_orig_output_dtype",
            doc: "False gives results of @main in the low type where they are computed in it",
            default: OptionValue::Bool(true),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Approximate,
    run,
};

/// Operators that are always computed in the low type.
const ALWAYS: [&OpDef; 9] = [
    &DENSE,
    &MATMUL,
    &BATCH_MATMUL,
    &CONV1D,
    &CONV2D,
    &CONV3D,
    &CONV1D_TRANSPOSE,
    &CONV2D_TRANSPOSE,
    &CONV3D_TRANSPOSE,
];

/// Operators that would follow by their pattern, and lose too much.
const NEVER: [&OpDef; 6] = [&EXP, &ERF, &LOG, &POWER, &SQRT, &RSQRT];

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let dtype = if context.word("dtype") == "bfloat16" { DType::BF16 } else { DType::F16 };
    let keeps = context.bool("keep_orig_output_dtype");
    let (mut outcome, mut rebuilt) = (Outcome::Unchanged, Rebuilt::default());
    for (global, func) in owned_functions(module) {
        let mut low = Low { dtype, casts: BTreeMap::new() };
        let body =
            rebuilt.rebuild(module, func.body, &mut |module, _, new| low.lowered(module, new, context));
        let strips = !keeps && &*module.globals[global].name == "main" && body != func.body;
        let body = if strips { low.strip(module, body) } else { body };
        if body != func.body {
            outcome = Outcome::Changed;
            let ret = module.types[body].clone();
            module.globals[global].func = Some(Function { body, ret, ..func });
        }
    }
    Ok(outcome)
}

/// The low type, and casts to it that there are already.
struct Low {
    dtype: DType,
    casts: BTreeMap<ExprId, ExprId>,
}

impl Low {
    /// The call computed in the low type and cast back, if it is one that should be.
    fn lowered(&mut self, module: &mut Module, expr: ExprId, context: &mut PassContext) -> ExprId {
        let Some((op, call)) = module.as_op_call(expr) else { return expr };
        let (attrs, args) = (call.attrs.clone(), call.args.to_vec());
        let is = |defs: &[&'static OpDef]| defs.iter().any(|def| op.is(def));
        let float32 = module.types[expr].as_tensor().is_some_and(|t| t.dtype == DType::F32);
        if !float32 || op.purity != Purity::Pure || op.is(&CAST) {
            return expr;
        }
        let follows =
            op.pattern <= FusePattern::Injective && !is(&NEVER) || op.name().starts_with("nn.max_pool");
        let wanted = is(&ALWAYS) || follows && args.iter().any(|&a| self.is_low(module, a));
        if !wanted {
            return expr;
        }
        if let Some(why) = self.obstacle(module, op, &attrs, &args, is(&ALWAYS)) {
            if context.want_remarks {
                let message = format!("`{op}` stays in float32: {why}");
                context.remarks.push(Diagnostic::warning(Code::PASS, message).at(module.spans[expr].clone()));
            }
            return expr;
        }
        if !context.fire("compute in the low type", module, expr) {
            return expr;
        }
        self.computed(module, expr, op, &args, attrs).unwrap_or(expr)
    }

    fn obstacle(
        &self,
        module: &Module,
        op: Op,
        attrs: &Attrs,
        args: &[ExprId],
        always: bool,
    ) -> Option<&'static str> {
        let largest = if self.dtype == DType::F16 { 65504.0 } else { f64::from(f32::MAX) };
        if op.is(&CLIP) {
            let clip: ClipAttrs = attrs.read();
            if clip.a_min.abs().max(clip.a_max.abs()) > largest {
                return Some("a bound is beyond the type");
            }
        }
        let parts = args.iter().flat_map(|&a| fields(module, a));
        for part in parts {
            if let Some(tensor) = module.as_const(part).filter(|t| t.dtype() == DType::F32) {
                if scalars(tensor).any(|v| v.as_f64().abs() > largest) {
                    return Some("a constant is beyond the type");
                }
            } else if !always && !self.is_low(module, part) && is_float32(module, part) {
                return Some("it reads float32 values besides");
            }
        }
        None
    }

    /// True for a cast from the low type to float32, or a tuple of them.
    fn is_low(&self, module: &Module, expr: ExprId) -> bool {
        fields(module, expr).into_iter().any(|field| self.source(module, field).is_some())
    }

    /// What a cast from the low type casts.
    fn source(&self, module: &Module, expr: ExprId) -> Option<ExprId> {
        let (op, call) = module.as_op_call(expr)?;
        let from = module.types[call.args[0]].as_tensor()?.dtype;
        (op.is(&CAST) && from == self.dtype && is_float32(module, expr)).then(|| call.args[0])
    }

    fn computed(
        &mut self,
        module: &mut Module,
        expr: ExprId,
        op: Op,
        args: &[ExprId],
        attrs: Attrs,
    ) -> Result<ExprId, Diagnostic> {
        let mut low = Vec::with_capacity(args.len());
        for &arg in args {
            low.push(match module.exprs[arg].clone() {
                Expr::Tuple(fields) => {
                    let own = fields.iter().map(|&f| self.low(module, f)).collect::<Result<Vec<_>, _>>()?;
                    Builder::new(module).tuple(&own)?
                }
                _ => self.low(module, arg)?,
            });
        }
        let span = module.spans[expr].clone();
        let mut build = Builder::new(module);
        build.with_span(span);
        let value = build.call(op.0, &low, attrs)?;
        build.call(&CAST, &[value], CastAttrs { dtype: DType::F32 }.attrs())
    }

    /// The value in the low type; what is no float32 stays as it is.
    fn low(&mut self, module: &mut Module, expr: ExprId) -> Result<ExprId, Diagnostic> {
        if !is_float32(module, expr) {
            return Ok(expr);
        }
        if let Some(known) = self.source(module, expr).or_else(|| self.casts.get(&expr).copied()) {
            return Ok(known);
        }
        let span = module.spans[expr].clone();
        let mut build = Builder::new(module);
        build.with_span(span);
        let cast = build.call(&CAST, &[expr], CastAttrs { dtype: self.dtype }.attrs())?;
        self.casts.insert(expr, cast);
        Ok(cast)
    }

    /// A result, and the fields of one, before the cast back.
    fn strip(&self, module: &mut Module, body: ExprId) -> ExprId {
        let own: Vec<ExprId> =
            fields(module, body).into_iter().map(|f| self.source(module, f).unwrap_or(f)).collect();
        match &module.exprs[body] {
            Expr::Tuple(_) => Builder::new(module).tuple(&own).unwrap_or(body),
            _ => own[0],
        }
    }
}

/// The fields of a tuple that is written out, or the expression itself.
fn fields(module: &Module, expr: ExprId) -> Vec<ExprId> {
    match &module.exprs[expr] {
        Expr::Tuple(fields) => fields.to_vec(),
        _ => vec![expr],
    }
}

fn is_float32(module: &Module, expr: ExprId) -> bool {
    module.types[expr].as_tensor().is_some_and(|t| t.dtype == DType::F32)
}
