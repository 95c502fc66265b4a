//! `depthwise_conv2d_f32`: every channel convolved with a window of its own.

use super::gemm_f32::Args;
use super::vector_f32::Vector;
use super::window_f32::{Channels, Fold, for_instruction_sets};

/// Sums of elements times weights.
struct WeightedSums {
    /// The weights, of all channels.
    weights: *const f32,
    w_channel: usize,
    w_row: usize,
    /// Those of the channel that is computed.
    own: *const f32,
}

impl<V: Vector> Fold<V> for WeightedSums {
    const EDGE: f32 = 0.0;

    type Tap = V;

    #[inline(always)]
    fn channel(&mut self, channel: usize) {
        self.own = self.weights.wrapping_add(channel * self.w_channel);
    }

    #[inline(always)]
    fn tap_row(&self) -> usize {
        self.w_row
    }

    #[inline(always)]
    fn tap(&self, place: usize) -> V {
        // SAFETY: whoever made this has weights for every place of every channel's window.
        V::splat(unsafe { *self.own.wrapping_add(place) })
    }

    #[inline(always)]
    fn step(&self, weight: V, value: V, so_far: V) -> V {
        value.multiply_add(weight, so_far)
    }

    #[inline(always)]
    fn finish(&self, folded: V, _row: usize, _column: usize) -> V {
        folded
    }
}

/// All channels.
///
/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn run<V: Vector>(regions: *const *mut u8, params: *const i64) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    let (y, x, weights, [y_channel, y_row, _, x_channel, x_row, _, w_channel, w_row, _]) =
        unsafe { (args.region(0), args.region(1), args.region(2), args.numbers(0)) };
    // SAFETY: as above.
    let sizes = unsafe { args.numbers(9) };
    let convolved = Channels::new((y, [y_channel, y_row]), (x, [x_channel, x_row]), sizes);
    let mut sums = WeightedSums { weights, w_channel, w_row, own: weights };
    // SAFETY: by the contract.
    unsafe { convolved.fold::<V, _>(&mut sums) }
}

for_instruction_sets!(run => portable, avx2, avx512);
