//! Last steps of branches: what computes a branch's value writes it where it is wanted.
//!
//! A copy behind a call would keep its caller alive. Without it, a call in the last place is a
//! tail call, and a recursion of that kind may turn as often as it likes.

use super::plan::{BufferId, Step};

/// True if the last thing that steps do is to write `values`, all of them, in order.
pub fn computes(steps: &[Step], values: &[BufferId]) -> bool {
    let mut pending = vec![steps];
    while let Some(steps) = pending.pop() {
        match steps.last() {
            Some(Step::Call { results, .. }) if results == values => {}
            Some(Step::If { then, els, .. }) if !values.is_empty() => {
                pending.extend([then.as_slice(), els.as_slice()]);
            }
            Some(Step::Copy { .. }) if copies(steps, values) => {}
            _ => return false,
        }
    }
    true
}

/// True if the last steps are copies to these buffers.
fn copies(steps: &[Step], values: &[BufferId]) -> bool {
    let Some(first) = steps.len().checked_sub(values.len()) else { return false };
    let targets = steps[first..].iter().map(|s| match s {
        Step::Copy { dst, .. } => Some(*dst),
        Step::Launch { .. } | Step::If { .. } | Step::Call { .. } => None,
    });
    targets.eq(values.iter().copied().map(Some))
}

/// Lets the last steps, of which [`computes`] holds, write to `wanted` instead.
pub fn redirect(steps: &mut [Step], wanted: &[BufferId]) {
    let mut pending = vec![steps];
    while let Some(steps) = pending.pop() {
        // Copies come from last to first; a call or a branch writes all there is.
        let mut targets = wanted.iter().rev();
        for step in steps.iter_mut().rev().take(wanted.len().max(1)) {
            match step {
                Step::Copy { dst, .. } => targets.by_ref().take(1).for_each(|to| *dst = *to),
                Step::Call { results, .. } => {
                    results.copy_from_slice(wanted);
                    break;
                }
                Step::If { then, els, .. } => {
                    pending.extend([then.as_mut_slice(), els.as_mut_slice()]);
                    break;
                }
                Step::Launch { .. } => break,
            }
        }
    }
}
