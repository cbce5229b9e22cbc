//! Where Margay is tried: labs of network namespaces and veth pairs, built from a cluster's manifests, and what is done
//! in them. The program `margay-lab`.

#![forbid(unsafe_code)]

pub mod daemon;
pub mod demo;
pub mod ip;
pub mod kernel_node;
pub mod kube;
pub mod lab;
pub mod measure;
pub mod netns;
pub mod probe;
pub mod state;
pub mod topology;
pub mod way;
pub mod wiring;
