//! How a product is cut into tiles.

use super::super::super::checkpoint::Goal;
use super::super::{TILE_FLOPS, over_tiles};
use super::{MAX_SIZE, Product, Right};

/// Rows of a tile at most: its part of the left operand stays in the second-level cache.
const MAX_ROWS: usize = 128;

/// Columns that the micro-kernels of unpacked operands take at a time.
const PANEL: usize = 48;

/// Rows of a tile at least, where the epilogue reduces over them and so takes all columns.
const MIN_WHOLE_ROWS: usize = 8;

/// Bytes of the right operand that each tile of whole rows may go through: it should stay in cache.
const MAX_WHOLE_BYTES: usize = 1 << 20;

/// Tiles at least, where there are as many, so that a second worker finds work.
pub const MIN_TILES: usize = 4;

/// A way to cut a product.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Rows of a tile.
    pub rows: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// Tiles along the rows.
    pub row_tiles: usize,
    /// Tiles along the columns.
    pub column_tiles: usize,
}

impl Tiling {
    /// Tiles of this size.
    pub fn of(product: &Product, [rows, columns]: [usize; 2]) -> Tiling {
        let (row_tiles, column_tiles) = (product.m().div_ceil(rows), product.column.extent.div_ceil(columns));
        Tiling { rows, columns, row_tiles, column_tiles }
    }

    /// The tiles that go best with the goal, where the operands are there in memory.
    pub fn new(product: &Product, goal: &Goal<'_>) -> Tiling {
        let (m, n) = (product.m(), product.column.extent);
        let panel = panel(product);
        let rows = m.min(MAX_ROWS);
        let fitting = TILE_FLOPS / (2 * rows * product.k).max(1);
        let spread = MIN_TILES.div_ceil((product.batches() * m.div_ceil(rows)).max(1));
        let columns = fitting.min(n.div_ceil(spread)).clamp(1, MAX_SIZE / 2).next_multiple_of(panel);
        let columns = columns.min(n.next_multiple_of(panel));
        let peaks = goal.target.peaks();
        let size = goal.choose([rows, columns], Tiling::sizes(product, goal), |[rows, columns]| {
            let cost = |rows: usize, columns: usize| product.cycles(rows, columns.min(n), &peaks);
            (cost(rows, columns), over_tiles([m, n], [rows, columns], cost))
        });
        Tiling::of(product, size)
    }

    /// Tiles that have all columns.
    pub fn of_whole_rows(product: &Product, goal: &Goal<'_>) -> Tiling {
        Tiling::of(product, [goal.cut(product.whole_rows()), product.column.extent])
    }

    /// The sizes of tiles that register tiles fill, the last one of each axis apart.
    pub fn sizes(product: &Product, goal: &Goal<'_>) -> impl Iterator<Item = [usize; 2]> + use<> {
        let (rows, step) = (product.m().min(MAX_ROWS), goal.target.peaks().tile[0]);
        let (panel, panels) = (panel(product), product.column.extent.div_ceil(panel(product)));
        let heights =
            [1].into_iter().chain((1..).map(move |r| r * step).take_while(move |&r| r < rows)).chain([rows]);
        heights.flat_map(move |r| (1..=panels).map(move |c| [r, c * panel]))
    }

    /// How many tiles there are in all.
    pub fn tiles(&self, product: &Product) -> usize {
        product.batches() * self.row_tiles * self.column_tiles
    }
}

impl Product {
    /// True if a tile of whole rows is a good one.
    pub fn holds_rows(&self) -> bool {
        let bytes = self.k.saturating_mul(self.column.extent).saturating_mul(4);
        bytes <= MAX_WHOLE_BYTES && self.whole_rows() >= MIN_WHOLE_ROWS
    }

    /// Rows of a tile that has all columns, if no bound asks for fewer.
    fn whole_rows(&self) -> usize {
        let (m, columns) = (self.m(), self.column.extent);
        let fitting = (TILE_FLOPS / (2 * columns * self.k).max(1)).clamp(2 * MIN_WHOLE_ROWS, MAX_ROWS);
        fitting.min(m).min((self.batches() * m).div_ceil(MIN_TILES))
    }
}

/// Columns that belong together.
fn panel(product: &Product) -> usize {
    match product.right {
        Right::Panels { nr, .. } => nr,
        Right::Rows(_) | Right::Columns(_) => PANEL,
    }
}
