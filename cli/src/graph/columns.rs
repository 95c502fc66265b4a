//! From the order of layers to places on a page: layers below each other and, where a picture would
//! be a thread, in columns beside each other, as text is set.

/// Space between columns, in which the lines from one to the next run.
const GUTTER: f64 = 70.0;

/// Space above and below columns, for the same lines.
const TURN: f64 = 30.0;

/// How far lines that run side by side are apart, and how many of them are.
const LANES: (f64, usize) = (6.0, 5);

/// How much higher than wide a picture may be before it is set in columns.
const TALL: f64 = 3.0;

/// How much wider than high it is then.
const WIDE: f64 = 1.5;

/// A layer before it is placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The left and right end of what stands in it.
    pub(super) left: f64,
    /// See `left`.
    pub(super) right: f64,
    /// The height of the highest.
    pub(super) height: f64,
    /// Lines from this layer to the next.
    pub(super) lines: usize,
}

/// Where layers are.
pub(super) struct Columns {
    /// For each layer, what its places are moved by, and its upper end.
    pub(super) layers: Vec<Shift>,
    /// The whole.
    pub(super) size: (f64, f64),
    columns: Vec<Column>,
}

/// Where a layer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    /// What is added to the places in it.
    pub(super) x: f64,
    /// Its upper end.
    pub(super) y: f64,
    column: usize,
}

struct Column {
    right: f64,
    bottom: f64,
}

impl Columns {
    /// Places layers with `gap` between them, in one column if they must not be `folded`.
    pub(super) fn new(extents: &[Extent], gap: f64, folded: bool) -> Columns {
        let starts = if folded { starts(extents, gap) } else { vec![0] };
        let several = starts.len() > 1;
        let mut placed = Columns { layers: Vec::new(), size: (0.0, 0.0), columns: Vec::new() };
        let mut x = 0.0;
        for (column, &start) in starts.iter().enumerate() {
            let end = starts.get(column + 1).copied().unwrap_or(extents.len());
            let part = &extents[start..end];
            let left = part.iter().map(|e| e.left).fold(f64::INFINITY, f64::min);
            let right = part.iter().map(|e| e.right).fold(f64::NEG_INFINITY, f64::max);
            let mut y = if several { TURN } else { 0.0 };
            for extent in part {
                placed.layers.push(Shift { x: x - left, y, column });
                y += extent.height + gap;
            }
            let bottom = (y - gap).max(0.0);
            let right = if part.is_empty() { x } else { x + right - left };
            placed.columns.push(Column { right, bottom });
            let margin = if several { TURN } else { 0.0 };
            placed.size = (right, placed.size.1.max(bottom + margin));
            x = right + GUTTER;
        }
        placed
    }

    /// The points of the `lane`-th line between two layers of different columns, from above the
    /// place `x` in one to above the place `to` in the other; none if the column is the same.
    pub(super) fn turn(&self, from: (usize, f64), to: (usize, f64), lane: usize) -> Vec<(f64, f64)> {
        let (above, below) = (self.layers[from.0], self.layers[to.0]);
        let mut points = Vec::new();
        let mut x = from.1 + above.x;
        let aside = LANES.0 * ((lane % LANES.1) as f64 - (LANES.1 / 2) as f64);
        for column in above.column..below.column {
            let end = &self.columns[column];
            let (low, high) = (end.bottom + TURN / 2.0 + aside, TURN / 2.0 + aside);
            let gutter = end.right + GUTTER / 2.0 + aside;
            points.extend([(x, low), (gutter, low), (gutter, high)]);
            x = gutter;
        }
        if !points.is_empty() {
            points.push((to.1 + below.x, TURN / 2.0 + aside));
        }
        points
    }
}

/// The layers with which columns begin: of those near to where a column is full, the one that the
/// fewest lines lead to.
fn starts(extents: &[Extent], gap: f64) -> Vec<usize> {
    let height: f64 = extents.iter().map(|e| e.height + gap).sum();
    let left = extents.iter().map(|e| e.left).fold(f64::INFINITY, f64::min);
    let right = extents.iter().map(|e| e.right).fold(f64::NEG_INFINITY, f64::max);
    let width = right - left + GUTTER;
    if extents.is_empty() || height <= TALL * width {
        return vec![0];
    }
    let count = (height * WIDE / width).sqrt().ceil().max(2.0);
    let full = height / count;
    let mut starts = vec![0];
    let (mut y, mut best): (f64, Option<(usize, usize)>) = (0.0, None);
    for (n, extent) in extents.iter().enumerate() {
        if y > 0.8 * full && n > 0 {
            let lines = extents[n - 1].lines;
            if best.is_none_or(|(fewest, _)| lines < fewest) {
                best = Some((lines, n));
            }
            if y > 1.1 * full
                && let Some((_, start)) = best.take()
            {
                starts.push(start);
                y = extents[start..n].iter().map(|e| e.height + gap).sum();
            }
        }
        y += extent.height + gap;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(count: usize) -> Vec<Extent> {
        let lines = |n: usize| if n % 3 == 2 { 1 } else { 3 };
        (0..count).map(|n| Extent { left: 0.0, right: 100.0, height: 40.0, lines: lines(n) }).collect()
    }

    #[test]
    fn a_thread_is_set_in_columns() {
        let all = extents(400);
        let placed = Columns::new(&all, 30.0, true);
        assert!(placed.columns.len() > 5);
        let (width, height) = placed.size;
        assert!(width > height && width < 3.0 * height, "{width} x {height}");
        // Columns begin where one line leads, and none overlaps another.
        for pair in placed.layers.windows(2).enumerate().filter(|(_, p)| p[0].column != p[1].column) {
            assert_eq!(all[pair.0].lines, 1);
            assert!(pair.1[1].x >= pair.1[0].x + 100.0);
        }
        assert_eq!(Columns::new(&extents(400), 30.0, false).columns.len(), 1);
    }

    #[test]
    fn what_is_short_stays_together() {
        assert_eq!(starts(&extents(3), 30.0), [0]);
        assert_eq!(starts(&[], 30.0), [0]);
        assert_eq!(Columns::new(&[], 30.0, true).size, (0.0, 0.0));
    }

    #[test]
    fn lines_between_columns_run_around_them() {
        let placed = Columns::new(&extents(400), 30.0, true);
        let next = placed.layers.iter().position(|s| s.column == 1).expect("there are several");
        let points = placed.turn((next - 1, 50.0), (next, 50.0), 2);
        assert_eq!(points.len(), 4);
        assert!(points[0].1 > placed.columns[0].bottom && points[3].1 < placed.layers[next].y);
        assert!(placed.turn((0, 50.0), (1, 50.0), 0).is_empty());
    }
}
