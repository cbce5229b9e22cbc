//! Everything a packet looks up: the flow table and its connection tracking, routes and next hops, endpoints,
//! address sets and policy, and the [`Snapshot`] that binds what the control thread publishes.
//!
//! The crate does no I/O and reads no clock: time is an argument. `unsafe` is in
//! `prefetch.rs`, `hash.rs` and `table/` (`memory.rs`, `index.rs`, `scan.rs`).

#![deny(unsafe_code)]

pub mod address_set;
pub mod addresses;
pub mod classify;
pub mod conntrack;
pub mod endpoint;
pub mod fib;
pub mod fragments;
mod hash;
pub mod inner_source;
pub mod isa;
pub mod key;
pub mod next_hop;
pub mod paged;
pub mod policy;
mod prefetch;
pub mod publish;
pub mod snapshot;
mod sync;
pub mod table;

pub use address_set::{AddressSet, End, IdentitySet, PortSet, ProtocolPort};
pub use addresses::{Addresses, Holder};
pub use classify::{
    Classification, Decision, HostClassification, Passage, Staged, Tuple, Verdict, classify, classify_host,
    classify_host_staged, classify_staged, classify_to_node, classify_untracked, classify_with_staged,
    is_failsafe_in, is_failsafe_untracked, matches,
};
pub use conntrack::{CtState, CtStatus, Direction, Phase, Timeouts};
pub use endpoint::Endpoint;
pub use fib::{Fib, FibBytes};
pub use fragments::{DatagramKey, DatagramRef, Fragments, Placed};
pub use inner_source::{InnerSource, InnerSources, Senders};
pub use isa::Isa;
pub use key::{AnyKey, FlowKey, FlowKey6, Key, KeyWords};
pub use margay_encap::outer::{DontFragment, Dscp, Outer, Ttl};
pub use margay_encap::pull::ZeroChecksum;
pub use next_hop::{Adjacency, NextHop, NextHopId, NextHops, PortId, Rewrite, Tunnel};
pub use paged::Paged;
pub use policy::{
    Action, EndpointId, HostObeys, HostPolicies, IcmpMatch, IdentityId, Interface, IpVersion, Obeys,
    Policies, Policy, PolicyType, PortSetId, Program, ProgramId, Rule, RuleId, Segment, SegmentId, SetId,
    Side, Tier, TierEnd,
};
pub use publish::{Publisher, Reader};
pub use snapshot::{Checksums, Entrance, Epochs, PortKind, PortState, Snapshot, WayOut};
pub use table::{
    EndedFlow, Flow, FlowAction, FlowCounts, FlowEnd, FlowRef, FlowTable, FlowTrails, Hit, Insert, Judged,
    Query, SweepCursor, Swept, Traffic, TrailEra, TrailId, Trails,
};
