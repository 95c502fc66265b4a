//! Making a failing program small, its inputs with it.

use std::convert::Infallible;

use fermata_passes::reduce::{Candidate, Options, reduce};

use super::Program;

/// Parameters and sizes stay what they are, for inputs are given; so many candidates are tried.
const OPTIONS: Options = Options { fresh_params: false, sizes: false, max_checks: 4000 };

/// A smaller program that still fails, as [`fermata_passes::reduce`] makes it.
pub fn shrink(program: &Program, fails: &mut dyn FnMut(&Program) -> bool) -> Program {
    let with_inputs = |candidate: &Candidate| {
        let kept = candidate.origins.iter().filter_map(|origin| program.inputs.get((*origin)?).cloned());
        Program { module: candidate.module.clone(), inputs: kept.collect() }
    };
    let mut check = |candidate: &Candidate| Ok::<_, Infallible>(fails(&with_inputs(candidate)));
    match reduce(&program.module, &OPTIONS, &mut check, &mut |_| {}) {
        Ok((small, _)) => with_inputs(&small),
    }
}
