//! Rules T14 and T15: loops over GPU threads, barriers, and what stands inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Rules;
use crate::tir::intrin::{self, Execution, WARP};
use crate::tir::ir::{LoopKind, Stmt};

/// Threads that a block may have.
pub const MAX_THREADS: i64 = 1024;

impl Rules<'_> {
    /// Loops over threads: constant extents, one an axis, none inside another of its axis; and
    /// barriers only inside them.
    pub(super) fn threads(&mut self) {
        let mut extents: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        let mut together = false;
        let mut stack: Vec<(&Stmt, Vec<Arc<str>>)> = vec![(&self.func.body, Vec::new())];
        while let Some((s, mut open)) = stack.pop() {
            match s {
                Stmt::For { extent, kind: LoopKind::ThreadBinding(axis), .. } if is_thread(axis) => {
                    let size = extent.as_int().filter(|n| (1..=MAX_THREADS).contains(n));
                    let Some(size) = size else {
                        let message = format!("the extent of `{axis}` is not a constant in 1..{MAX_THREADS}");
                        return self.broken(14, message);
                    };
                    if *extents.entry(axis.clone()).or_insert(size) != size {
                        self.broken(14, format!("two loops over `{axis}` have different extents"));
                    }
                    if open.contains(axis) {
                        self.broken(14, format!("a loop over `{axis}` stands inside another"));
                    }
                    open.push(axis.clone());
                }
                Stmt::Barrier if open.is_empty() => {
                    self.broken(14, "a barrier stands outside of loops over threads");
                }
                Stmt::Intrin { name, .. } => {
                    let execution = intrin::lookup(name).map(|def| def.execution);
                    together |= execution == Some(Execution::Warp);
                    match (execution, open.is_empty()) {
                        (Some(Execution::Worker), false) => {
                            self.broken(15, format!("`{name}` is no intrinsic for GPU threads"));
                        }
                        (Some(Execution::Worker), true) | (None, _) | (Some(_), false) => {}
                        (Some(_), true) => {
                            self.broken(15, format!("`{name}` stands outside of loops over GPU threads"));
                        }
                    }
                }
                _ => {}
            }
            stack.extend(s.children().into_iter().map(|c| (c, open.clone())));
        }
        let threads = extents.values().product::<i64>();
        if threads > MAX_THREADS {
            self.broken(14, format!("a block has more than {MAX_THREADS} threads"));
        }
        if together && threads % WARP as i64 != 0 {
            self.broken(15, format!("warps do something together, but {threads} threads are no whole warps"));
        }
    }
}

fn is_thread(axis: &str) -> bool {
    axis.starts_with("threadIdx.")
}
