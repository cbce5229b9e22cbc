//! `AF_XDP` ports on real devices: veth pairs in network namespaces that the tests make for themselves.

mod bench;
mod checksum;
mod frames;
mod gso;
mod jumbo;
mod lifetime;
mod vlan;
