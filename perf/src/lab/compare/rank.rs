//! Mann and Whitney's U, exact: how often chance alone would put one sample as far above another.
//!
//! Counted over all ways to draw the one sample out of both, with the ranks that they have: right for few repeats, and where
//! some are equal, as losses often are, for which tables and other people's exact tests have no answer.

/// Repeats of both samples at most; of more, so many of each are taken, evenly spread.
const MOST: usize = 20;

/// The chance that a draw stands as high above the rest as `above` does above `below`, or higher.
pub(super) fn chance_above(above: &[f64], below: &[f64]) -> f64 {
    let (above, below) = (thinned(above), thinned(below));
    let all: Vec<f64> = above.iter().chain(&below).copied().collect();
    let ranks: Vec<usize> = all.iter().map(|value| doubled_rank(*value, &all)).collect();
    let found: usize = ranks[..above.len()].iter().sum();
    let ways = ways(&ranks, above.len());
    let all_ways: u64 = ways.iter().sum();
    let as_high: u64 = ways[found..].iter().sum();
    as_high as f64 / all_ways as f64
}

/// Twice the rank, the mean of their ranks where several are equal: a whole number.
fn doubled_rank(value: f64, all: &[f64]) -> usize {
    let below = all.iter().filter(|other| **other < value).count();
    let equal = all.iter().filter(|other| other.total_cmp(&value).is_eq()).count();
    2 * below + equal + 1
}

/// In how many ways `drawn` of the ranks have each sum.
fn ways(ranks: &[usize], drawn: usize) -> Vec<u64> {
    let most: usize = ranks.iter().sum();
    let mut ways = vec![vec![0_u64; most + 1]; drawn + 1];
    ways[0][0] = 1;
    for rank in ranks {
        for count in (1..=drawn).rev() {
            for sum in *rank..=most {
                ways[count][sum] += ways[count - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(drawn)
}

/// A file may hold any number of repeats; the work grows with the fourth power of it.
fn thinned(values: &[f64]) -> Vec<f64> {
    let taken = values.len().min(MOST);
    (0..taken).map(|n| values[n * values.len() / taken]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_of_all_draws() {
        // Of 20 draws of three out of six one is highest, and four have a sum of ranks of 13 or more: 4+5+6, 3+5+6, 3+4+6 and 2+5+6.
        let cases: [(&[f64], &[f64], f64); 8] = [
            (&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], 1.0 / 20.0),
            (&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 1.0),
            (&[2.0, 5.0, 6.0], &[1.0, 3.0, 4.0], 4.0 / 20.0),
            (&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0], 1.0),
            (&[0.0, 0.0, 9.0], &[0.0, 0.0, 0.0], 0.5),
            (&[9.0; 5], &[1.0; 5], 1.0 / 252.0),
            (&[9.0; 9], &[1.0; 9], 1.0 / 48_620.0),
            (&[2.0], &[1.0], 0.5),
        ];
        for (above, below, expected) in cases {
            let found = chance_above(above, below);
            assert!((found - expected).abs() < 1e-12, "{above:?} {below:?}: {found}");
        }
        assert!(chance_above(&vec![2.0; 100_000], &vec![1.0; 100_000]) < 1e-10);
    }
}
