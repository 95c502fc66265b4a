//! Programs whose dimensions have names.

use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::types::{Dim, TensorType, Type};
use fermata_ir::verify::verify;

use super::{Program, Rng};

/// The program with a name in place of one size in the types of the parameters of `@main`, if it
/// is well typed for every size. It means the same for its inputs.
pub fn generalise(program: &Program, rng: &mut Rng) -> Option<Program> {
    let mut module = program.module.clone();
    let main = module.global("main")?;
    let params = module.globals[main].func.as_ref()?.params.clone();
    let sizes = |m: &Module| -> Vec<usize> {
        let shapes = params.iter().filter_map(|&p| m.vars[p].ty.as_tensor()?.static_shape());
        shapes.flatten().filter(|&n| n > 1).collect()
    };
    let sizes = sizes(&module);
    let size = *rng.pick((!sizes.is_empty()).then_some(&sizes[..])?);
    for &param in &params {
        if let Type::Tensor(ty) = &mut module.vars[param].ty {
            let named = |d: &Dim| if *d == Dim::Static(size) { Dim::Sym("batch".into()) } else { d.clone() };
            let shape = ty.shape.iter().map(named).collect();
            *ty = TensorType { shape, dtype: ty.dtype }.into();
        }
    }
    let mut module = untyped(module);
    infer_module(&mut module).ok()?;
    verify(&module).ok()?;
    Some(Program { module, inputs: program.inputs.clone() })
}

/// The program without the types that were inferred from the sizes: those of expressions that
/// are no constants, of lets and of results of functions.
fn untyped(mut module: Module) -> Module {
    use fermata_ir::expr::Expr;
    for id in fermata_ir::walk::reachable(&module) {
        match module.exprs[id].clone() {
            Expr::Const(_) => continue,
            Expr::Let { var, .. } => module.vars[var].ty = Type::Unknown,
            _ => {}
        }
        module.types[id] = Type::Unknown;
    }
    if let Some(main) = module.global("main")
        && let Some(func) = module.globals[main].func.as_mut()
    {
        func.ret = Type::Unknown;
    }
    module
}
