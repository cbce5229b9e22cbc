//! The lab: a gateway between two veth pairs in namespaces of its own, load from one side, a sink on the other, and what
//! Margay and its alternatives make of it, in turns.
//!
//! `world` says which addresses there are and what flows look like, `site` builds the namespaces, `load` sends and receives,
//! `dataplane` holds the gateways, `method` asks them, `schedule` has them take turns, `report` tells.

pub mod case;
pub mod compare;
pub mod cpu;
pub mod dataplane;
pub mod details;
mod file;
pub mod keep;
pub mod load;
pub mod lock;
pub mod machine;
pub mod method;
pub mod outcome;
pub mod progress;
pub mod report;
pub mod results;
pub mod run;
pub mod schedule;
pub mod site;
pub mod smoke;
pub mod stages;
pub mod stop;
pub mod summary;
pub mod tcp;
pub mod trial;
pub mod world;
