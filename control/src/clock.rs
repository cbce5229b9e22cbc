//! The wall's clock, which anybody may set at any time: for people to read, and for nothing else. What waits, expires or
//! measures goes by `Instant`.

use jiff::Timestamp;

#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
#[must_use]
pub fn wall() -> Timestamp {
    Timestamp::now()
}
