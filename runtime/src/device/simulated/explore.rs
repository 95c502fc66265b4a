//! Every interleaving of a small model: a search over its states, each looked into once.
//!
//! What happens next depends on the state only, so two interleavings that meet in a state have
//! the same futures. Every move makes progress: there are no cycles, and the number of
//! interleavings through a state is the sum of those through the states after it.

use std::collections::HashMap;

use super::model::{Check, Model, Violation, violation};
use super::state::{Move, Run, State};

/// What was explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    /// Different states.
    pub states: u64,
    /// Moves between them.
    pub moves: u64,
    /// Different interleavings from the start to the end; saturates.
    pub interleavings: u128,
}

/// A state on the way, and what is left to try there.
struct Frame {
    state: State,
    moves: Vec<Move>,
    interleavings: u128,
}

impl Frame {
    fn new(run: &Run<'_>, state: State) -> Result<Frame, Violation> {
        let mut moves = run.moves(&state);
        if moves.is_empty() {
            return Err(violation(
                Check::Progress,
                "nobody has anything to do, and a launch is not finished".into(),
            ));
        }
        moves.extend(run.flips(&state));
        Ok(Frame { state, moves, interleavings: 0 })
    }
}

/// Tries every interleaving of a model.
///
/// # Errors
/// The first check that does not hold, with the number of moves that lead there.
pub fn explore(model: &Model) -> Result<Explored, Violation> {
    let run = Run::new(model);
    let mut known: HashMap<State, u128> = HashMap::new();
    let mut moves = 0;
    let mut way = vec![Frame::new(&run, run.start())?];
    while let Some(frame) = way.last_mut() {
        let Some(step) = frame.moves.pop() else {
            let (state, count) = (frame.state, frame.interleavings);
            known.insert(state, count);
            way.pop();
            if let Some(above) = way.last_mut() {
                above.interleavings = above.interleavings.saturating_add(count);
            }
            continue;
        };
        let mut state = frame.state;
        moves += 1;
        let ended = match run.apply(&mut state, step) {
            Ok(()) if run.is_over(&state) => run.check_end(&state).map(|()| Some(1)),
            Ok(()) => Ok(known.get(&state).copied()),
            Err(violation) => Err(violation),
        };
        let depth = way.len();
        let at = |v: Violation| Violation { message: format!("{}, after {depth} moves", v.message), ..v };
        match ended.map_err(at)? {
            Some(count) => {
                let frame = &mut way[depth - 1];
                frame.interleavings = frame.interleavings.saturating_add(count);
            }
            None => way.push(Frame::new(&run, state).map_err(at)?),
        }
    }
    let interleavings = known.get(&run.start()).copied().unwrap_or(0);
    Ok(Explored { states: known.len() as u64, moves, interleavings })
}

#[cfg(test)]
mod tests;
