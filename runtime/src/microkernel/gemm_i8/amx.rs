//! Products by `tdpbssd`: tiles of 16 rows by 64 bytes, 16 by 16 sums of 64 products at a time.
//!
//! B's panels lie as the instruction wants its right operand: a row of a tile is four steps of k
//! of sixteen columns. A block of 32 rows of A is packed into tiles once for all panels. Two
//! tiles of A and two panels fill the eight tile registers with four tiles of sums, so each
//! tile that is loaded is used twice. The system's permission is asked for once
//! ([`detect`](crate::detect)), a thread's tiles are laid out when it first comes here, and the
//! loop over k is one piece of assembly, since the compiler knows nothing of tiles.
//!
//! An emulated processor (Bochs with the model of Sapphire Rapids) has run the tests of all
//! implementations on this, bit for bit; no real one has, so its speed is not known.

use std::arch::asm;
use std::cell::Cell;

use super::{KR, NR, Operands, store, vnni};

/// Rows of a tile register, and bytes of each.
const TILE_ROWS: usize = 16;
const TILE_BYTES: usize = 64;

/// Bytes of a tile.
const TILE: usize = TILE_ROWS * TILE_BYTES;

/// Rows of A that are packed at a time.
const BLOCK_ROWS: usize = 2 * TILE_ROWS;

/// The steps of k for which the scratch memory of the catalogue's row holds such a block.
const MAX_DEPTH: usize = 8_192;

/// Sums of a tile.
type TileSums = [[i32; NR]; TILE_ROWS];

/// What `ldtilecfg` reads: the layout of each tile register.
#[repr(C, align(64))]
struct Layout {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight registers whole.
static LAYOUT: Layout = Layout {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

thread_local! {
    /// Whether this thread's tiles are laid out.
    static LAID_OUT: Cell<bool> = const { Cell::new(false) };
}

/// The intrinsic on AMX.
///
/// # Safety
/// As the catalogue's row says, on a machine with AMX for int8 and AVX-512 with VNNI, whose
/// system has permitted the use of tiles.
pub(in super::super) unsafe extern "C" fn amx(regions: *const *mut u8, params: *const i64, scratch: *mut u8) {
    // SAFETY: the contract of this function.
    let operands = unsafe { Operands::read(regions, params) };
    // Few rows leave tiles empty, and no depth leaves nothing to load.
    if operands.m < TILE_ROWS || operands.k == 0 || operands.k > MAX_DEPTH {
        // SAFETY: the contract of this function.
        return unsafe { vnni(regions, params, scratch) };
    }
    if !LAID_OUT.replace(true) {
        // SAFETY: the machine has tiles, and the layout is one that its palette knows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const LAYOUT, options(nostack, readonly)) };
    }
    // SAFETY: the contract of this function; the depth is one that the scratch memory holds.
    unsafe { run(&operands, scratch) }
}

/// # Safety
/// As the catalogue's row says; tiles are laid out.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run(o: &Operands, scratch: *mut u8) {
    let groups = o.k.div_ceil(KR);
    let (whole, rest) = (groups / TILE_ROWS, groups % TILE_ROWS);
    let steps = groups.div_ceil(TILE_ROWS);
    let packed = scratch;
    let tails = packed.wrapping_add(steps * 2 * TILE);
    for first in (0..o.m).step_by(BLOCK_ROWS) {
        let rows = BLOCK_ROWS.min(o.m - first);
        // SAFETY: the rows are within A; the scratch memory holds the block and two tiles.
        unsafe { pack(o, first, rows, steps, packed) };
        for column in (0..o.n).step_by(2 * NR) {
            // The second panel of an odd last pair is the first again, and its sums are left.
            let second = if column + NR < o.n { column + NR } else { column };
            let panels = [column, second].map(|c| o.b.wrapping_add(c / NR * o.b_panel));
            let mut sums: [TileSums; 4] = [[[0; NR]; TILE_ROWS]; 4];
            // SAFETY: the panels have so many whole tiles and a rest of groups, which is copied;
            // the block has a tile more than there are whole ones if there is a rest.
            unsafe {
                for (i, panel) in panels.iter().enumerate().filter(|_| rest > 0) {
                    let tail = tails.add(i * TILE);
                    tail.write_bytes(0, TILE);
                    let from = panel.add(whole * TILE).cast::<u8>();
                    std::ptr::copy_nonoverlapping(from, tail, rest * TILE_BYTES);
                }
                multiply(packed, panels, (whole, tails, usize::from(rest > 0)), &mut sums);
            }
            for (i, sums) in sums.iter().enumerate() {
                let (row, at) = (i / 2 * TILE_ROWS, if i % 2 == 0 { column } else { second });
                if row < rows && (i % 2 == 0 || second != column) {
                    // SAFETY: the rows and the column are within C.
                    unsafe { store(o, first + row, TILE_ROWS.min(rows - row), at, sums, |_| 0) };
                }
            }
        }
    }
}

/// Packs rows of A: for each 64 steps of k two tiles of sixteen rows, zeros past rows and steps.
///
/// # Safety
/// The rows are within A, and `to` holds `steps` pairs of tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack(o: &Operands, first: usize, rows: usize, steps: usize, to: *mut u8) {
    for step in 0..steps {
        let width = TILE_BYTES.min(o.k - step * TILE_BYTES);
        for row in 0..BLOCK_ROWS {
            // SAFETY: the line is within the block; so much of the row is within A.
            unsafe {
                let to = to.add(step * 2 * TILE + row * TILE_BYTES);
                if row >= rows || width < TILE_BYTES {
                    to.write_bytes(0, TILE_BYTES);
                }
                if row < rows {
                    let from = o.a.add((first + row) * o.a_row + step * TILE_BYTES);
                    std::ptr::copy_nonoverlapping(from.cast::<u8>(), to, width);
                }
            }
        }
    }
}

/// The sums of a block with two panels: of its first rows with each, then of its second rows.
///
/// # Safety
/// The block has `whole` pairs of tiles, and one more if `rest` is 1; the panels have `whole`
/// tiles, and `tails` is one more of each then. Tiles are laid out.
#[inline]
unsafe fn multiply(
    block: *const u8,
    panels: [*const i8; 2],
    (whole, tails, rest): (usize, *const u8, usize),
    sums: &mut [TileSums; 4],
) {
    // SAFETY: by the contract, every tile that is loaded is there; the four sums are stored whole.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {whole}, {whole}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{b0} + {stride}]",
            "tileloadd tmm5, [{a} + {stride} + 1024]",
            "tileloadd tmm7, [{b1} + {stride}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tdpbssd tmm1, tmm4, tmm7",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {whole}",
            "jnz 2b",
            "3:",
            "test {rest}, {rest}",
            "jz 4f",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm5, [{a} + {stride} + 1024]",
            "tileloadd tmm6, [{tails} + {stride}]",
            "tileloadd tmm7, [{tails} + {stride} + 1024]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tdpbssd tmm1, tmm4, tmm7",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "4:",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 1024], tmm1",
            "tilestored [{c} + {stride} + 2048], tmm2",
            "tilestored [{c} + {stride} + 3072], tmm3",
            a = inout(reg) block => _,
            b0 = inout(reg) panels[0] => _,
            b1 = inout(reg) panels[1] => _,
            whole = inout(reg) whole => _,
            rest = in(reg) rest,
            tails = in(reg) tails,
            stride = in(reg) TILE_BYTES,
            c = in(reg) sums.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
