//! Numbers as people read them: three digits or four, and the unit beside them.

/// Bytes in decimal units.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Bits a second.
pub(super) fn bits_per_second(bits: f64) -> String {
    scaled(bits, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// Packets a second.
pub(super) fn packets_per_second(packets: f64) -> String {
    scaled(packets, &["pps", "kpps", "Mpps", "Gpps"])
}

fn scaled(number: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number, 0);
    // What would be rounded to four digits has the next unit.
    while number >= 999.5 && unit + 1 < units.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && number < 99.95);
    format!("{number:.digits$} {}", units[unit])
}

/// A time in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d{}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h{}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m{}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// `-` for nothing.
pub(super) fn or_dash<T: ToString>(cell: Option<T>) -> String {
    cell.map_or_else(|| "-".to_owned(), |cell| cell.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234, "1.2 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (u64::MAX, "18447 PB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(
            (bits_per_second(12e9).as_str(), packets_per_second(0.4).as_str()),
            ("12.0 Gbit/s", "0 pps")
        );
    }

    #[test]
    fn times_have_their_two_largest_units() {
        let cases =
            [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_599, "59m59s"), (7_265, "2h1m"), (200_000, "2d7h")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
