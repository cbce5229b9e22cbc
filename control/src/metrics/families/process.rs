//! Metrics of the process, by the names that all of Prometheus' clients have for them.

use super::{Family, Kind, Tell, Value};
use crate::metrics::{Process, Scrape};

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Kind::Counter,
        "process_cpu",
        &[],
        "Time on cores, in user space and in the kernel; a worker that spins is always on its core",
        |scrape, tell| read(scrape, tell, |process| Some(process.cpu_seconds.into())),
    )
    .of("seconds"),
    Family::new(Kind::Gauge, "process_resident_memory", &[], "Memory in RAM", |scrape, tell| {
        read(scrape, tell, |process| Some(process.resident_bytes.into()));
    })
    .of("bytes"),
    Family::new(Kind::Gauge, "process_virtual_memory", &[], "Address space", |scrape, tell| {
        read(scrape, tell, |process| Some(process.virtual_bytes.into()));
    })
    .of("bytes"),
    Family::new(
        Kind::Gauge,
        "process_start_time",
        &[],
        "When it started, since 1970 by the node's clock",
        |scrape, tell| read(scrape, tell, |process| Some(process.start_seconds.into())),
    )
    .of("seconds"),
    Family::new(Kind::Gauge, "process_threads", &[], "Threads", |scrape, tell| {
        read(scrape, tell, |process| Some(process.threads.into()));
    }),
    Family::new(Kind::Gauge, "process_open_fds", &[], "Open file descriptors", |scrape, tell| {
        read(scrape, tell, |process| Some(process.open_descriptors.into()));
    }),
    Family::new(
        Kind::Gauge,
        "process_max_fds",
        &[],
        "File descriptors that it may open; no series where that is not limited",
        |scrape, tell| read(scrape, tell, |process| process.most_descriptors.map(Value::from)),
    ),
];

fn read(scrape: &Scrape, tell: &mut Tell<'_>, value: fn(&Process) -> Option<Value>) {
    if let Some(value) = scrape.process.as_ref().and_then(value) {
        tell(&[], value);
    }
}
