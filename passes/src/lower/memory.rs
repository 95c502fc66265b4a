//! The memory plan: offsets in one arena for everything that lives only during a run.
//!
//! Buffers are placed largest first, each at the lowest offset where it meets no other that
//! is alive at the same time (greedy by size, Pisarchyk and Lee, 2020). A step that holds
//! sub-plans counts as one step.

/// When a buffer is alive, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Size in bytes.
    pub bytes: usize,
    /// The step that writes it first.
    pub first: usize,
    /// The last step that uses it.
    pub last: usize,
}

/// Alignment of every buffer in the arena, in bytes.
pub const ALIGNMENT: usize = 64;

/// Offsets, one a buffer, and the size of the arena in bytes.
pub fn plan(buffers: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), i));
    let mut offsets = vec![0; buffers.len()];
    let mut live = LiveIndex::new(buffers);
    let mut arena = 0;
    for i in order {
        let size = buffers[i].bytes.next_multiple_of(ALIGNMENT);
        let mut taken = live.overlapping(&buffers[i]);
        taken.sort_unstable();
        let mut at = 0;
        for (start, end) in taken {
            if at + size <= start {
                break;
            }
            at = at.max(end);
        }
        offsets[i] = at;
        arena = arena.max(at + size);
        live.insert(&buffers[i], at, at + size);
    }
    (offsets, arena)
}

/// The least that any plan needs: the largest sum of sizes alive at one step.
pub fn lower_bound(buffers: &[Lifetime]) -> usize {
    let mut change = std::collections::BTreeMap::<usize, isize>::new();
    for b in buffers {
        let size = b.bytes.next_multiple_of(ALIGNMENT) as isize;
        *change.entry(b.first).or_default() += size;
        *change.entry(b.last + 1).or_default() -= size;
    }
    let mut alive = 0;
    let peaks = change.into_values().map(|c| {
        alive += c;
        alive
    });
    peaks.max().unwrap_or(0) as usize
}

/// Placed buffers by time, in blocks of steps, so that long plans stay near-linear.
struct LiveIndex {
    blocks: Vec<Vec<(usize, usize, usize, usize)>>,
}

/// Steps in a block.
const BLOCK: usize = 64;

impl LiveIndex {
    fn new(buffers: &[Lifetime]) -> LiveIndex {
        let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
        LiveIndex { blocks: vec![Vec::new(); steps.div_ceil(BLOCK).max(1)] }
    }

    fn insert(&mut self, b: &Lifetime, start: usize, end: usize) {
        for block in &mut self.blocks[b.first / BLOCK..=b.last / BLOCK] {
            block.push((b.first, b.last, start, end));
        }
    }

    /// The places of buffers that are alive together with this one.
    fn overlapping(&self, b: &Lifetime) -> Vec<(usize, usize)> {
        let blocks = self.blocks[b.first / BLOCK..=b.last / BLOCK].iter().flatten();
        let mut found: Vec<_> = blocks
            .filter(|(first, last, ..)| *first <= b.last && b.first <= *last)
            .map(|&(.., start, end)| (start, end))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(bytes: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { bytes, first, last }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<_> = (0..1000).map(|i| life(256, i, i + 1)).collect();
        let (offsets, arena) = plan(&chain);
        assert_eq!(arena, 512);
        assert!(offsets.windows(2).all(|w| w[0] != w[1]));
        assert_eq!(lower_bound(&chain), 512);
    }

    #[test]
    fn no_two_live_buffers_overlap() {
        let buffers: Vec<_> =
            (0..200).map(|i| life(1 + i * 37 % 501, i * 7 % 90, i * 7 % 90 + i % 13)).collect();
        let (offsets, arena) = plan(&buffers);
        for (i, a) in buffers.iter().enumerate() {
            assert!(offsets[i] % ALIGNMENT == 0 && offsets[i] + a.bytes <= arena);
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let disjoint = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                assert!(!together || disjoint, "{i} and {j}");
            }
        }
        assert!(arena >= lower_bound(&buffers));
    }

    #[test]
    fn an_empty_buffer_takes_no_room() {
        assert_eq!(plan(&[life(0, 0, 0)]), (vec![0], 0));
    }
}
