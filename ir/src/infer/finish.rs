//! The end of inference: what was found goes into the module, what was not is reported.

use super::terms::Unresolved;
use super::visit::Infer;
use crate::diag::{Code, Diagnostic};
use crate::expr::Expr;

impl Infer<'_> {
    /// Writes what was found into the module.
    pub(super) fn finish(mut self) -> Result<(), Vec<Diagnostic>> {
        let complete = self.errors.is_empty();
        self.finish_vars(complete);
        self.finish_exprs();
        self.finish_rets();
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn finish_vars(&mut self, complete: bool) {
        for (var, binder) in std::mem::take(&mut self.open_vars) {
            let ty = self.vars[&var].clone();
            match self.terms.resolve(&ty) {
                Ok(ty) => self.module.vars[var].ty = ty,
                Err(why) if complete => {
                    let name = self.module.vars[var].name.clone();
                    let message = match why {
                        Unresolved::Hole(_) => format!("the type of `%{name}` cannot be inferred"),
                        Unresolved::TooDeep => {
                            format!("the type of `%{name}` contains itself or nests too deeply")
                        }
                    };
                    let help = format!("annotate it: `%{name}: Tensor[(..), float32]`");
                    self.error(binder, Code::TYPE_UNKNOWN, message, Some(help));
                }
                Err(_) => {}
            }
        }
    }

    fn finish_exprs(&mut self) {
        for id in std::mem::take(&mut self.open_exprs) {
            let ty = self.exprs[&id].clone();
            match self.terms.resolve(&ty) {
                Ok(ty) => self.module.types[id] = ty,
                Err(_) if self.errors.is_empty() => {
                    let message = "the type of this expression cannot be inferred".to_owned();
                    let help = "annotate the variables it uses or the result of the function".to_owned();
                    self.error(id, Code::TYPE_UNKNOWN, message, Some(help));
                }
                Err(_) => {}
            }
        }
    }

    fn finish_rets(&mut self) {
        // Which table is iterated makes no difference: every entry is written to its own place.
        let rets: Vec<_> = self.rets.iter().map(|(&id, ty)| (id, self.terms.resolve(ty))).collect();
        for (id, ret) in rets {
            if let (Expr::Func(func), Ok(ret)) = (&mut self.module.exprs[id], ret) {
                func.ret = ret;
            }
        }
        let rets: Vec<_> = self.global_rets.iter().map(|(&id, ty)| (id, self.terms.resolve(ty))).collect();
        for (id, ret) in rets {
            if let (Some(func), Ok(ret)) = (&mut self.module.globals[id].func, ret) {
                func.ret = ret;
            }
        }
    }
}
