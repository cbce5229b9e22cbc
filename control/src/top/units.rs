//! Numbers in few characters.

const SCALES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

/// A number with three digits, as `1.23M`.
pub(super) fn number(value: f64) -> String {
    // What would be rounded up to a thousand has the next unit.
    let scale = SCALES.iter().find(|(scale, _)| value >= scale * 0.9995);
    match scale {
        Some((scale, unit)) => format!("{}{unit}", digits(value / scale)),
        None if value.fract() == 0.0 || value >= 9.95 => format!("{value:.0}"),
        None => format!("{value:.1}"),
    }
}

/// A time, given in nanoseconds.
pub(super) fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}us", digits(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{}ms", digits(value / 1e6)),
        _ => format!("{}s", digits(value / 1e9)),
    }
}

pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 9.95 || percent == 0.0 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

fn digits(value: f64) -> String {
    let decimals = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.2"),
            (3.0, "3"),
            (9.96, "10"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_600.0, "1.00M"),
            (4.5e9, "4.50G"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn times_and_shares_are_short() {
        let times =
            [(0, "0ns"), (999, "999ns"), (12_340, "12.3us"), (1_000_000, "1.00ms"), (8_600_000_000, "8.60s")];
        for (nanoseconds, text) in times {
            assert_eq!(time(nanoseconds), text);
        }
        for (share, text) in [(0.0, "0%"), (0.004, "0.4%"), (0.45, "45%"), (1.0, "100%")] {
            assert_eq!(percent(share), text);
        }
    }
}
