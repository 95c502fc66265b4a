//! Rows of a matrix as panels, which is what packing a weight means.

/// Writes rows of `k` elements of `width` bytes as panels of `lanes` rows each: element `p` of row
/// `panel * lanes + lane` goes to place `(panel * k + p) * lanes + lane`. Lanes past the last row
/// stay as they are.
pub fn into_panels(rows: &[u8], packed: &mut [u8], [k, lanes, width]: [usize; 3]) {
    if k == 0 || lanes == 0 {
        return;
    }
    // A width that is known makes moves of what would be calls.
    match width {
        1 => panels::<1>(rows, packed, k, lanes),
        2 => panels::<2>(rows, packed, k, lanes),
        4 => panels::<4>(rows, packed, k, lanes),
        _ => panels::<8>(rows, packed, k, lanes),
    }
}

fn panels<const WIDTH: usize>(rows: &[u8], packed: &mut [u8], k: usize, lanes: usize) {
    let (rows, packed) = (rows.as_chunks::<WIDTH>().0, packed.as_chunks_mut::<WIDTH>().0);
    for (rows, panel) in rows.chunks(k * lanes).zip(packed.chunks_mut(k * lanes)) {
        // In the order of the panel, so that what is written is written in a row.
        for (p, column) in panel.chunks_exact_mut(lanes).enumerate() {
            column.iter_mut().zip(rows.iter().skip(p).step_by(k)).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::into_panels;

    #[test]
    fn elements_go_where_they_should_whatever_their_width() {
        let (n, k, lanes) = (5, 3, 2);
        for width in [1, 2, 4, 8] {
            let rows: Vec<u8> = (0..n * k * width).map(|i| i as u8 + 1).collect();
            let mut packed = vec![0; 3 * k * lanes * width];
            into_panels(&rows, &mut packed, [k, lanes, width]);
            for row in 0..6 {
                for p in 0..k {
                    let at = ((row / lanes * k + p) * lanes + row % lanes) * width;
                    let from = (row * k + p) * width;
                    let expected = if row < n { &rows[from..from + width] } else { &[0; 8][..width] };
                    assert_eq!(&packed[at..at + width], expected, "width {width}, row {row}, element {p}");
                }
            }
        }
        into_panels(&[], &mut [], [0, 4, 4]);
    }
}
