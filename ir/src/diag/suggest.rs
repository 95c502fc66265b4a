//! The nearest of some names, for "did you mean".

/// The candidate that differs least from `name`, if it is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    let near = candidates.into_iter().filter(|c| c.len().abs_diff(name.len()) <= 4 * limit);
    let scored = near.map(|c| (distance(name, c), c)).filter(|&(d, _)| d <= limit);
    scored.min_by_key(|&(d, _)| d).map(|(_, c)| c)
}

/// Edits from one to the other: insert, delete, replace, or swap neighbours. Case counts as nothing.
fn distance(a: &str, b: &str) -> usize {
    let fold = |s: &str| s.chars().take(64).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + (a[i] != b[j]) as usize;
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_are_found() {
        let ops = ["add", "nn.relu", "nn.dense", "nn.conv2d"];
        assert_eq!(nearest("nn.rleu", ops), Some("nn.relu"));
        assert_eq!(nearest("nn.conv2D", ops), Some("nn.conv2d"));
        assert_eq!(nearest("ad", ops), Some("add"));
        assert_eq!(nearest("softmax", ops), None);
        assert_eq!(nearest("", ["abc"]), None);
    }
}
