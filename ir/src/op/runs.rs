//! Loops over several arrays that broadcast together.
//!
//! The operands are dense, so each dimension of the result is either walked or repeated by
//! each of them. Neighbouring dimensions that are alike merge, which leaves a few outer loops
//! over long inner runs where every operand steps by 1 or stays.

use smallvec::SmallVec;

/// A merged dimension: its size and how far each operand moves along it.
#[derive(Clone, Copy)]
struct Loop<const N: usize> {
    len: usize,
    steps: [usize; N],
}

/// How `N` operands are walked, run by run.
pub struct Runs<const N: usize> {
    outer: SmallVec<[Loop<N>; 8]>,
    /// Number of elements of a run.
    pub len: usize,
    /// Whether each operand moves along a run; otherwise it repeats one element.
    pub moves: [bool; N],
    empty: bool,
}

impl<const N: usize> Runs<N> {
    /// How dense operands of these shapes are walked to fill a dense result of shape `out`,
    /// to which each of them broadcasts.
    pub fn new(shapes: [&[usize]; N], out: &[usize]) -> Runs<N> {
        let mut merged: SmallVec<[(usize, [bool; N]); 8]> = SmallVec::new();
        for (d, &len) in out.iter().enumerate().filter(|&(_, &len)| len != 1) {
            let moves = shapes.map(|s| (d + s.len()).checked_sub(out.len()).is_some_and(|own| s[own] != 1));
            match merged.last_mut() {
                Some((last, alike)) if *alike == moves => *last = last.saturating_mul(len),
                _ => merged.push((len, moves)),
            }
        }
        let (len, moves) = merged.pop().unwrap_or((1, [true; N]));
        let mut sizes = moves.map(|m| if m { len } else { 1 });
        let mut outer: SmallVec<[Loop<N>; 8]> = SmallVec::new();
        for &(len, moves) in merged.iter().rev() {
            let steps = std::array::from_fn(|i| if moves[i] { sizes[i] } else { 0 });
            outer.push(Loop { len, steps });
            sizes = std::array::from_fn(|i| if moves[i] { sizes[i].saturating_mul(len) } else { sizes[i] });
        }
        outer.reverse();
        Runs { outer, len, moves, empty: out.contains(&0) }
    }

    /// Calls `f` for each run in order, with where it starts in the result and in the operands.
    pub fn for_each(&self, mut f: impl FnMut(usize, [usize; N])) {
        if self.empty {
            return;
        }
        let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, self.outer.len());
        let (mut at, mut from) = (0, [0; N]);
        loop {
            f(at, from);
            at += self.len;
            if !self.advance(&mut index, &mut from) {
                return;
            }
        }
    }

    /// Moves to the next run, if there is one. Apart from `for_each` so that it is compiled once
    /// and not with every function.
    fn advance(&self, index: &mut [usize], from: &mut [usize; N]) -> bool {
        for (i, &Loop { len, steps }) in index.iter_mut().zip(&self.outer).rev() {
            *i += 1;
            if *i < len {
                from.iter_mut().zip(steps).for_each(|(from, step)| *from += step);
                return true;
            }
            *i = 0;
            from.iter_mut().zip(steps).for_each(|(from, step)| *from -= step * (len - 1));
        }
        false
    }
}

/// `out = f(a)` element by element.
pub fn map<T: Copy, U>(a: &[T], out: &mut [U], f: impl Fn(T) -> U) {
    for (o, &x) in out.iter_mut().zip(a) {
        *o = f(x);
    }
}

/// `out = f(a, b)`, broadcasting; each operand comes with its shape.
pub fn zip<T: Copy, S: Copy, U: Copy>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[S], &[usize]),
    (out, out_shape): (&mut [U], &[usize]),
    f: impl Fn(T, S) -> U,
) {
    let runs = Runs::new([a_shape, b_shape], out_shape);
    let len = runs.len;
    runs.for_each(|at, [i, j]| {
        let out = &mut out[at..at + len];
        match runs.moves {
            [true, true] => {
                for ((o, &x), &y) in out.iter_mut().zip(&a[i..i + len]).zip(&b[j..j + len]) {
                    *o = f(x, y);
                }
            }
            [true, false] => {
                let y = b[j];
                map(&a[i..i + len], out, |x| f(x, y));
            }
            [false, true] => {
                let x = a[i];
                map(&b[j..j + len], out, |y| f(x, y));
            }
            [false, false] => out.fill(f(a[i], b[j])),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of two arrays of given shapes by the definition of broadcasting.
    fn slow(a: &[usize], b: &[usize], out: &[usize]) -> Vec<usize> {
        let total: usize = out.iter().product();
        let place = |shape: &[usize], mut flat: usize| {
            let (mut at, mut stride) = (0, 1);
            for d in (0..out.len()).rev() {
                let i = flat % out[d];
                flat /= out[d];
                if let Some(own) = (d + shape.len()).checked_sub(out.len()) {
                    at += if shape[own] == 1 { 0 } else { i * stride };
                    stride *= shape[own];
                }
            }
            at
        };
        (0..total).map(|flat| place(a, flat) + 1000 * place(b, flat)).collect()
    }

    #[test]
    fn zip_agrees_with_the_definition() {
        let cases: [(&[usize], &[usize], &[usize]); 10] = [
            (&[], &[], &[]),
            (&[2, 3], &[2, 3], &[2, 3]),
            (&[2, 3], &[3], &[2, 3]),
            (&[2, 3], &[2, 1], &[2, 3]),
            (&[2, 1], &[1, 3], &[2, 3]),
            (&[4, 1, 3, 1], &[5, 1, 2], &[4, 5, 3, 2]),
            (&[2, 3, 4, 5], &[3, 1, 1], &[2, 3, 4, 5]),
            (&[0, 3], &[1], &[0, 3]),
            (&[1, 1], &[1], &[1, 1]),
            (&[1], &[2, 2], &[3, 2, 2]),
        ];
        for (a, b, shape) in cases {
            let count = |s: &[usize]| s.iter().product::<usize>();
            let x: Vec<usize> = (0..count(a)).collect();
            let y: Vec<usize> = (0..count(b)).map(|i| 1000 * i).collect();
            let mut out = vec![0; count(shape)];
            zip((&x, a), (&y, b), (&mut out, shape), |x, y| x + y);
            assert_eq!(out, slow(a, b, shape), "{a:?} {b:?}");
        }
    }
}
