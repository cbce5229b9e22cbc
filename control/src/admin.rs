//! The admin socket: HTTP/1.1 on a Unix socket, where a running Margay says how it is: `GET /v1/status` answers with
//! a [`Status`] in JSON, `GET /v1/policies` with [`Policies`], `POST /v1/explain` of a probe with why its packets pass
//! or do not.

mod client;
pub mod policies;
mod server;
mod status;

pub use client::{Error as ClientError, explain, policies, status};
pub use policies::Policies;
pub use server::{Error as ServerError, Request, Server};
pub use status::{FlowTable, Port, PortState, Snapshot, Source, Status, Traffic, Trouble, Umem, Worker};
