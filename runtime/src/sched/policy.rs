//! Policies: plain functions from the scheduler's state to quotas.

/// What a policy sees.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Workers of the device.
    pub workers: u32,
    /// Tiles that the real-time queue's launch still offers; `None` if no request is being served.
    pub rt_tiles: Option<u64>,
    /// Whether the best-effort queue's kernel keeps its bound, by its certificate and by what was
    /// measured here.
    pub certified: bool,
}

/// A way of sharing the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The real-time model alone: best-effort queues never run.
    Alone,
    /// No priorities: workers take tiles of all queues in turn.
    None,
    /// One model run after the other, in order of arrival.
    Fifo,
    /// A request stops the best-effort queues after the tile that each worker is in.
    Preempt,
    /// As `Preempt`, but best-effort queues keep the workers that the request's kernel has no
    /// tiles for (REEF's dynamic kernel padding, by quota). Not those whose kernel may run longer
    /// than its bound: the request's next kernel would wait for it.
    Padding,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Policy; 5] =
        [Policy::Alone, Policy::None, Policy::Fifo, Policy::Preempt, Policy::Padding];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Alone => "alone",
            Policy::None => "none",
            Policy::Fifo => "fifo",
            Policy::Preempt => "preempt",
            Policy::Padding => "padding",
        }
    }

    /// The quota of every best-effort queue: workers in slots below it may run.
    pub fn quota(self, state: State) -> u32 {
        match (self, state.rt_tiles) {
            (Policy::Alone, _) => 0,
            (Policy::None | Policy::Fifo, _) | (_, None) => state.workers,
            (Policy::Preempt, Some(_)) => 0,
            (Policy::Padding, Some(_)) if !state.certified => 0,
            (Policy::Padding, Some(tiles)) => {
                state.workers.saturating_sub(u32::try_from(tiles).unwrap_or(u32::MAX))
            }
        }
    }

    /// Whether a worker in a best-effort launch looks for requests at every checkpoint.
    pub fn interrupts(self) -> bool {
        matches!(self, Policy::Preempt | Policy::Padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas() {
        let state = |rt_tiles| State { workers: 4, rt_tiles, certified: true };
        let quotas =
            |policy: Policy| [None, Some(1), Some(3), Some(9)].map(|tiles| policy.quota(state(tiles)));
        assert_eq!(quotas(Policy::Alone), [0, 0, 0, 0]);
        assert_eq!(quotas(Policy::None), [4, 4, 4, 4]);
        assert_eq!(quotas(Policy::Preempt), [4, 0, 0, 0]);
        assert_eq!(quotas(Policy::Padding), [4, 3, 1, 0]);
        let uncertified = |rt_tiles| State { certified: false, ..state(rt_tiles) };
        let padded = [None, Some(1)].map(|tiles| Policy::Padding.quota(uncertified(tiles)));
        assert_eq!(padded, [4, 0]);
    }
}
