//! What a running Margay tells over TCP where `[metrics]` is configured: figures for Prometheus, and whether it lives and is
//! ready. `docs/metrics.md` is the list of the figures, and a test holds it against [`FAMILIES`].

mod exposition;
mod families;
mod figures;
mod health;
mod latencies;
mod process;
mod server;

pub use exposition::{CONTENT_TYPE, Scrape};
pub use families::{FAMILIES, Family, Kind};
pub use figures::{Figures, WorkerTime};
pub use health::lacking;
pub use latencies::Latencies;
pub use process::Process;
pub use server::{Request, Server};
