//! What a gateway is asked under load, after RFC 2544 and RFC 8219.
//!
//! Each method is given a device: a function that offers it packets and says what came of them. None knows which gateway
//! that is, or how packets are made. All are bounded in trials, whatever the device does.
//!
//! A trial on a machine that is shared fails now and then because the machine stood still for some milliseconds. So a trial
//! that fails is repeated once, and it is the better one that counts.

pub mod burst;
pub mod curve;
pub mod latency;
pub mod soak;
pub mod throughput;

#[cfg(test)]
mod simulated;

use super::trial::{Measured, Offered};

/// The better of two trials, where the first one is not good enough.
fn repeated(
    device: &mut impl FnMut(&Offered) -> anyhow::Result<Measured>,
    offered: &Offered,
    is_good: impl Fn(&Measured) -> bool,
) -> anyhow::Result<Measured> {
    let first = device(offered)?;
    if is_good(&first) {
        return Ok(first);
    }
    let second = device(offered)?;
    Ok(if second.loss() <= first.loss() { second } else { first })
}
