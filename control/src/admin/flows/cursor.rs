//! Where a page of connections ends and the next begins.
//!
//! A connection keeps its slot, so a slot is a place that stays one while others come and go. Sorted, the place is the
//! number that is sorted by, and the slot among those with the same number.

use std::fmt;
use std::str::FromStr;

use super::asked::Sort;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// From this slot on.
    At(u32),
    /// What comes behind the connection of this number in this slot.
    Behind { sort: Sort, number: u64, slot: u32 },
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(slot) => write!(f, "{slot}"),
            Self::Behind { sort, number, slot } => write!(f, "{}.{number}.{slot}", sort.word()),
        }
    }
}

/// No page ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let parts: Vec<&str> = text.split('.').collect();
        let slot = |text: &str| text.parse().map_err(|_| NoCursor);
        match parts[..] {
            [at] => Ok(Self::At(slot(at)?)),
            [sort, number, at] => {
                let sort = Sort::ALL.into_iter().find(|known| known.word() == sort).ok_or(NoCursor)?;
                Ok(Self::Behind { sort, number: number.parse().map_err(|_| NoCursor)?, slot: slot(at)? })
            }
            _ => Err(NoCursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        for cursor in [
            Cursor::At(0),
            Cursor::At(u32::MAX),
            Cursor::Behind { sort: Sort::Rate, number: u64::MAX, slot: 7 },
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "-1", "x", "bytes.1", "bytes.1.2.3", "size.1.2", "bytes.-1.2", "bytes.1.4294967296"]
        {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }
}
