//! InsertCheckpoints: tiles under a bound, checkpoints between them, and a certificate a kernel.
//!
//! The rules choose tiles by the [`Goal`] that they are given; [`fit`] asks them for shorter ones
//! until the cost model puts a tile under the bound, or they have none. [`insert`] then places
//! the checkpoint, which stands at the end of the tile loop's body, and [`certify`] says what the
//! model promises. That tiles may be left between any two and taken up in any order is what
//! [`fermata_ir::tir::segments`] prove; a kernel of which they do not has a certificate that
//! promises nothing.

use std::fmt::Write as _;
use std::time::Duration;

use fermata_ir::tir::protocol::{CPU_LOOKAHEAD, Certificate};
use fermata_ir::tir::segments::{TilesIndependent, segments};
use fermata_ir::tir::{PrimFunc, Stmt, intrin};

use super::cost::{self, Heaviest};
use super::rules_cpu::Scheduled;
use crate::target::CpuTarget;

/// How often the rules are asked for shorter tiles.
const TRIES: usize = 24;

/// How much shorter at least, each time.
const SHORTER: f64 = 0.95;

/// How often they are asked for longer ones again, once tiles fit.
const REFINEMENTS: usize = 4;

/// What schedule rules aim at.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'t> {
    /// What the kernel is for.
    pub target: &'t CpuTarget,
    /// How long a tile may take, as a part of what it takes in the schedule that knows no bound.
    pub share: f64,
}

impl<'t> Goal<'t> {
    /// The best schedule, however long its tiles take.
    pub fn raw(target: &'t CpuTarget) -> Goal<'t> {
        Goal { target, share: 1.0 }
    }

    /// A size of the raw schedule, cut as the goal asks: at least 1.
    pub fn cut(&self, size: usize) -> usize {
        if self.share >= 1.0 { size } else { ((size as f64 * self.share) as usize).max(1) }
    }

    /// The candidate that gives the shortest kernel with tiles under this goal, or the one with
    /// the shortest tiles. `raw` and `cost` give the time of a tile, and of all tiles, in any unit.
    pub fn choose<T: Copy>(
        &self,
        raw: T,
        candidates: impl Iterator<Item = T>,
        cost: impl Fn(T) -> (f64, f64),
    ) -> T {
        if self.share >= 1.0 {
            return raw;
        }
        let limit = cost(raw).0 * self.share;
        let mut best: Option<(f64, T)> = None;
        let mut shortest = (cost(raw).0, raw);
        for candidate in candidates {
            let (tile, all) = cost(candidate);
            if tile < shortest.0 {
                shortest = (tile, candidate);
            }
            if tile <= limit && best.is_none_or(|(least, _)| all < least) {
                best = Some((all, candidate));
            }
        }
        best.unwrap_or(shortest).1
    }
}

/// The kernel that `emit` gives under a bound on the predicted time of a tile; without one, the
/// raw kernel.
///
/// # Errors
/// Those of `emit`.
pub fn fit<E>(
    target: &CpuTarget,
    bound: Option<Duration>,
    emit: &mut dyn FnMut(Goal<'_>) -> Result<Scheduled, E>,
) -> Result<Scheduled, E> {
    let raw = emit(Goal::raw(target))?;
    let Some(bound) = bound else { return Ok(raw) };
    let bound = bound.as_nanos() as f64;
    let mut best = Found::new(raw, target);
    let (mut share, mut too_long) = (bound / best.tile, 1.0);
    for _ in 0..TRIES {
        if best.tile <= bound {
            break;
        }
        let shorter = Found::new(emit(Goal { target, share })?, target);
        if shorter.tile > bound {
            too_long = share;
            share *= (bound / shorter.tile).clamp(0.5, SHORTER);
        }
        if shorter.tile < best.tile {
            best = shorter;
        }
    }
    if best.tile > bound || share >= too_long {
        return Ok(best.kernel);
    }
    // The steps to a share that fits are long; a larger one may fit too, with less work in all.
    for _ in 0..REFINEMENTS {
        let between = (share + too_long) / 2.0;
        let longer = Found::new(emit(Goal { target, share: between })?, target);
        if longer.tile > bound {
            too_long = between;
            continue;
        }
        share = between;
        if longer.all < best.all {
            best = longer;
        }
    }
    Ok(best.kernel)
}

/// A kernel, and nanoseconds that its longest tile and all of its tiles are predicted to take.
struct Found {
    kernel: Scheduled,
    tile: f64,
    all: f64,
}

impl Found {
    fn new(kernel: Scheduled, target: &CpuTarget) -> Found {
        let tile = cost::tile(&kernel.func, target).ns;
        let tiles = kernel.func.tiles().unwrap_or(1).max(1);
        Found { kernel, tile, all: tile * tiles as f64 }
    }
}

/// Places the checkpoint of a scheduled kernel, which has none.
pub fn insert(func: &mut PrimFunc) {
    if let Stmt::For { body, .. } = &mut func.body {
        let tile = std::mem::replace(&mut **body, Stmt::nop());
        **body = Stmt::Seq(vec![tile, Stmt::Checkpoint]);
    }
}

/// True if there is a checkpoint between the tiles of a function.
pub fn is_inserted(func: &PrimFunc) -> bool {
    matches!(&func.body, Stmt::For { body, .. } if matches!(body.flatten().last(), Some(Stmt::Checkpoint)))
}

/// What the model promises of a scheduled kernel.
pub fn certify(func: &PrimFunc, target: &CpuTarget, bound: Option<Duration>) -> Certificate {
    let cost = cost::tile(func, target);
    let mut certificate = Certificate {
        tile_ns: cost.ns.ceil() as u64,
        lookahead: CPU_LOOKAHEAD,
        bound_ns: bound.map(|b| u64::try_from(b.as_nanos()).unwrap_or(u64::MAX)),
        obstacle: None,
    };
    if let (Some(_), Err(why)) = (bound, independent(func)) {
        certificate.obstacle = Some(format!("its tiles are not proved to be independent: {why}").into());
    } else if !certificate.holds() {
        let parts = certificate.exit_ns().div_ceil(certificate.bound_ns.unwrap_or(1).max(1));
        certificate.obstacle = Some(obstacle(func, &cost.heaviest, parts).into());
    }
    certificate
}

/// Why tiles are no shorter: the axis that no rule splits, and into how many parts it would have to be.
fn obstacle(func: &PrimFunc, heaviest: &Heaviest, parts: u64) -> String {
    match heaviest {
        Heaviest::Intrinsic(name, params) => {
            let depth = intrin::lookup(name).map_or(0, |i| {
                let size = |name: &str| match i.params.contains(&name) {
                    true => i.param(params, name),
                    false => 1,
                };
                ["k", "ic", "kh", "kw"].map(size).iter().product()
            });
            format!(
                "its tile is one call of `{name}`, whose sums over {depth} products would have to be split in {parts}"
            )
        }
        Heaviest::Loops(loops) => {
            let mut text = String::from("its tile is ");
            let longest = loops.iter().max_by_key(|(_, extent)| *extent);
            match longest {
                Some((name, extent)) if func.tiles().is_some() => {
                    let _ = write!(
                        text,
                        "one pass of the loop `{name}` over {extent}, which would have to be split in {parts}"
                    );
                }
                _ => text.push_str("one statement, which nothing splits"),
            }
            text
        }
    }
}

/// Whether the tiles of a kernel may be run in any order and left between any two.
///
/// # Errors
/// Why analysis cannot show it.
pub fn independent(func: &PrimFunc) -> Result<(), String> {
    match segments(func).map(|s| s.independent(func)) {
        Some(TilesIndependent::Unproved(why)) => Err(why),
        Some(TilesIndependent::Proved) => Ok(()),
        None => Err("the kernel has no tiles".into()),
    }
}
