//! API servers for tests: a real one with its etcd, a stub with faults on command, and a client that writes to either.

mod client;
mod etcd;
mod manifest;
mod reserve;
mod resource;
mod server;
mod site;
pub mod stub;

pub use client::Client;
pub use etcd::Etcd;
pub use manifest::documents;
pub use resource::{CALICO, CORE, POLICY, Resource};
pub use server::{ADMIN, DATAPLANE, Server};
pub use site::Site;
