//! Whether a program's inputs have fixed sizes, as compiled code needs them: asked once, before
//! any pass runs, so that one message names every flag that is missing.

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::expr::Module;
use fermata_ir::types::{Dim, TensorType, Type};

/// Checks that every dimension of `@main`'s parameters is bound.
///
/// # Errors
/// One that names all dimensions that are not, with the flags that bind them.
pub fn check(module: &Module) -> Result<(), Diagnostic> {
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    let mut open = Open::default();
    for &param in main.map_or(&[][..], |f| &f.params) {
        let var = &module.vars[param];
        if let Some(ty) = var.ty.as_tensor() {
            open.parameter(&var.name, ty);
        } else {
            open.inside(&var.name, &var.ty);
        }
    }
    open.into_result()
}

/// What is open.
#[derive(Default)]
struct Open {
    /// Parameters with their types.
    params: Vec<String>,
    /// Named dimensions, in order, once each.
    dims: Vec<String>,
    /// Flags that bind everything.
    flags: Vec<String>,
}

impl Open {
    fn parameter(&mut self, name: &str, ty: &TensorType) {
        if ty.static_shape().is_some() {
            return;
        }
        self.params.push(format!("input `{name}`: {ty}"));
        self.named(ty);
        if ty.shape.contains(&Dim::Any) {
            let size = |dim: &Dim| match dim {
                Dim::Static(n) => n.to_string(),
                Dim::Sym(_) | Dim::Any => "N".into(),
            };
            let sizes: Vec<String> = ty.shape.iter().map(size).collect();
            self.flags.push(format!("--shape {name}={}", sizes.join("x")));
        }
    }

    fn named(&mut self, ty: &TensorType) {
        for dim in &ty.shape {
            if let Dim::Sym(name) = dim
                && !self.dims.iter().any(|known| **known == **name)
            {
                self.dims.push(name.to_string());
                self.flags.push(format!("--dim {name}=N"));
            }
        }
    }

    /// The tensors inside a tuple.
    fn inside(&mut self, name: &str, ty: &Type) {
        let mut pending = vec![ty];
        while let Some(ty) = pending.pop() {
            match ty {
                Type::Tensor(tensor) if tensor.static_shape().is_none() => {
                    self.params.push(format!("in input `{name}`: {tensor}"));
                    self.named(tensor);
                }
                Type::Tuple(fields) => pending.extend(fields.iter().rev()),
                // Other types are refused where they are lowered.
                Type::Tensor(_)
                | Type::Unknown
                | Type::Var(_)
                | Type::Adt(..)
                | Type::Func(_)
                | Type::Ref(_) => {}
            }
        }
    }

    fn into_result(self) -> Result<(), Diagnostic> {
        if self.params.is_empty() {
            return Ok(());
        }
        let message = match &self.dims[..] {
            [] => "the shapes of the inputs are not known".to_string(),
            [one] => format!("the dimension `{one}` is not bound"),
            all => format!("the dimensions `{}` are not bound", all.join("`, `")),
        };
        let mut error = Diagnostic::error(Code::DIM_UNBOUND, message);
        error.notes = self.params;
        Err(if self.flags.is_empty() { error } else { error.help(format!("give {}", self.flags.join(" "))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fermata_ir::op::OpTable;
    use fermata_ir::text::{ParseOptions, parse_module};

    fn checked(params: &str) -> Result<(), Diagnostic> {
        let text = format!("#[version = \"0.0.5\"]\ndef @main({params}) {{ 1 }}");
        let ops = OpTable::standard();
        check(&parse_module("a.relay", &text, &ParseOptions::new(&ops)).expect("parses"))
    }

    #[test]
    fn every_flag_is_named_once() {
        checked("%x: Tensor[(1, 2), float32], %y: int32").expect("all is bound");
        let two = "%x: Tensor[(batch, 3), float32], %y: (Tensor[(batch, n), int8], int32)";
        let error = checked(two).expect_err("open");
        assert_eq!(error.message, "the dimensions `batch`, `n` are not bound");
        assert_eq!(error.help.as_deref(), Some("give --dim batch=N --dim n=N"));
        assert_eq!(error.notes.len(), 2);
    }

    #[test]
    fn a_nameless_dimension_is_given_by_its_shape() {
        let error = checked("%x: Tensor[(?, 3), float32]").expect_err("open");
        assert_eq!(error.help.as_deref(), Some("give --shape x=Nx3"));
    }
}
