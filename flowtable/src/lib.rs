//! Everything a packet looks up: the flow table and its connection tracking, routes and next hops, endpoints,
//! address sets and policy, and the [`Snapshot`] that binds what the control thread publishes.
//!
//! The crate does no I/O and reads no clock: time is an argument. `unsafe` is in
//! `prefetch.rs`, `hash.rs` and `table/` (`memory.rs`, `index.rs`, `scan.rs`).

#![deny(unsafe_code)]

pub mod address_set;
pub mod classify;
pub mod conntrack;
pub mod endpoint;
pub mod fib;
mod hash;
pub mod isa;
pub mod key;
pub mod next_hop;
pub mod policy;
mod prefetch;
pub mod publish;
pub mod snapshot;
mod sync;
pub mod table;

pub use address_set::{AddressSet, PortSet};
pub use classify::{Decision, Tuple, Verdict, classify};
pub use conntrack::{CtState, CtStatus, Direction, Timeouts};
pub use endpoint::{Endpoint, Endpoints};
pub use fib::{Fib, FibBytes};
pub use isa::Isa;
pub use key::{FlowKey, KeyWords};
pub use next_hop::{Adjacency, NextHop, NextHopId, NextHops, PortId, Rewrite, Tunnel};
pub use policy::{Action, Policy, Program, Rule, Tier};
pub use publish::{Publisher, Reader};
pub use snapshot::{PortKind, PortState, Snapshot};
pub use table::{FlowAction, FlowRef, FlowTable, Hit, Insert, Query, SweepCursor, Swept};
