//! The admin socket: HTTP/1.1 on a Unix socket, where a running Margay says how it is. `GET /v1/status` answers with
//! a [`Status`] in JSON.

mod client;
mod server;
mod status;

pub use client::{Error as ClientError, status};
pub use server::{Error as ServerError, Request, Server};
pub use status::{FlowTable, Port, PortState, Snapshot, Source, Status, Traffic, Umem, Worker};
