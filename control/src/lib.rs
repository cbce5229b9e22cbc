//! What the world is: sources of objects, the state they build, the compiler to a Snapshot, the program `margay`.

#![forbid(unsafe_code)]

pub mod admin;
pub mod capture;
pub mod check;
pub mod clock;
pub mod compile;
pub mod config;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod flowlog;
pub mod identity;
pub mod kernel;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod policy_drops;
pub mod privileges;
pub mod probe;
pub mod reload;
pub mod replay;
pub mod report;
pub mod rule_counts;
pub mod run;
pub mod selector;
pub mod source;
pub mod state;
pub mod tap;
pub mod top;
pub mod trace;
