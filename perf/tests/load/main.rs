//! The lab's load, through gateways that do little: what is sent arrives and is counted, and what goes wrong is seen.

mod bytes;
mod connections;
mod tools;
mod trials;
mod wire;
