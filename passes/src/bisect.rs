//! Finding the first rewrite that makes a check fail, as `git bisect` finds a commit.
//!
//! Passes count their rewrites, and [`crate::manager::Options::fuel`] stops them after so many.
//! A program that is good after none of them and bad after all has a first rewrite after which
//! it is bad; halving finds it in as many checks as its number has digits in binary.

use std::collections::BTreeSet;

/// What a check says of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
    /// It cannot be judged: it does not compile, say.
    Skip,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// After this many rewrites the program is bad, and after one less good.
    Rewrite(u64),
    /// What lies between could not be judged: the first bad one is one of these.
    Between {
        /// After so many it is good.
        good: u64,
        /// After so many it is bad.
        bad: u64,
    },
}

/// The first number of rewrites that is bad, given that none are good and `all` are bad.
///
/// Where the middle cannot be judged, its nearest neighbours are tried. If there are several
/// borders between good and bad, one of them is found.
///
/// # Errors
/// If the check itself fails.
pub fn first_bad<E>(all: u64, check: &mut dyn FnMut(u64) -> Result<Verdict, E>) -> Result<Found, E> {
    let (mut good, mut bad) = (0, all);
    let mut skipped = BTreeSet::new();
    while bad - good > 1 {
        let Some(at) = nearest_to_middle(good, bad, &skipped) else {
            return Ok(Found::Between { good, bad });
        };
        match check(at)? {
            Verdict::Good => good = at,
            Verdict::Bad => bad = at,
            Verdict::Skip => drop(skipped.insert(at)),
        }
    }
    Ok(Found::Rewrite(bad))
}

/// The number between the two that is nearest to their middle and was not skipped.
fn nearest_to_middle(good: u64, bad: u64, skipped: &BTreeSet<u64>) -> Option<u64> {
    let middle = good + (bad - good) / 2;
    let around =
        (0..bad - good).flat_map(|distance| [middle.checked_sub(distance), middle.checked_add(distance)]);
    around.flatten().find(|at| (good + 1..bad).contains(at) && !skipped.contains(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches among `all` rewrites where `judge` says what each is; gives the checks too.
    fn search(all: u64, judge: impl Fn(u64) -> Verdict) -> (Found, u32) {
        let mut checks = 0;
        let found = first_bad(all, &mut |at| {
            checks += 1;
            Ok::<_, ()>(judge(at))
        });
        (found.expect("no check fails"), checks)
    }

    fn from(first: u64) -> impl Fn(u64) -> Verdict {
        move |at| if at >= first { Verdict::Bad } else { Verdict::Good }
    }

    #[test]
    fn halving_finds_every_first_one() {
        for all in 1..40 {
            for first in 1..=all {
                let (found, checks) = search(all, from(first));
                assert_eq!(found, Found::Rewrite(first));
                assert!(checks <= 6, "{checks} checks of {all}");
            }
        }
        assert_eq!(search(1_000_000, from(777_777)).0, Found::Rewrite(777_777));
        assert!(search(1_000_000, from(777_777)).1 <= 20);
    }

    #[test]
    fn what_cannot_be_judged_is_gone_around() {
        let odd = |at: u64| if at % 2 == 1 { Verdict::Skip } else { from(20)(at) };
        assert_eq!(search(40, odd).0, Found::Between { good: 18, bad: 20 });
        let few = |at: u64| if (9..12).contains(&at) { Verdict::Skip } else { from(14)(at) };
        assert_eq!(search(20, few).0, Found::Rewrite(14));
        assert_eq!(search(9, |_| Verdict::Skip).0, Found::Between { good: 0, bad: 9 });
    }
}
