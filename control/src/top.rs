//! `margay top`: a screen that shows what a running gateway is doing, asked of its admin socket again and again.
//!
//! What is shown is the difference of two answers ([`View`]), drawn by itself ([`draw`]), so both are tried without a terminal.

mod moment;
mod screen;
mod session;
mod units;
mod view;

pub use moment::{Flow, Flows, Moment};
pub use screen::{Screen, draw};
pub use session::{Error, run};
pub use view::{PortRates, View, WorkerRates};
