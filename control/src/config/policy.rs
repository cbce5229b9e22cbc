//! `[policy]`: what the policies of the cluster leave to the node.

use margay_fastpath::{counters, pipeline};
use serde::Deserialize;

use super::read;

/// `[policy]`: what a change of policy does, what is counted, and what pods may send to their own node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub established: Established,
    /// Rules that are counted each by itself, by each worker, up to 524,287; what more there are count together. 32 bytes
    /// each and worker, of those that ever match. Default 131,072. Beside these, up to 131,072 combinations of a rule that
    /// decides and what flows pass on the way (Log, Pass, staged rules) are counted at a time, 16 bytes each and worker;
    /// what more there are count first packets by what is passed, and `margay policies` says how many flows that were.
    #[serde(deserialize_with = "read::rules")]
    pub rules: u32,
    pub endpoint_to_host: EndpointToHost,
    /// Name before the digit of the two ends of a veth pair, `0` and `1`, by which packets of pods enter the node's kernel
    /// that have a policy on that way. It is made when it is needed, and removed at the end. Default `margay`.
    #[serde(deserialize_with = "read::host_interface_prefix")]
    pub host_interface_prefix: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            established: Established::default(),
            rules: counters::DEFAULT_RULES,
            endpoint_to_host: EndpointToHost::default(),
            host_interface_prefix: "margay".into(),
        }
    }
}

/// What becomes of the flows that a change of policy would no longer allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Established {
    /// They end.
    #[default]
    Reevaluate,
    /// They go on until their ends close them or they expire, and no rule counts them as admitted any more.
    Keep,
}

impl From<Established> for pipeline::Established {
    fn from(configured: Established) -> Self {
        match configured {
            Established::Reevaluate => Self::Reevaluate,
            Established::Keep => Self::Keep,
        }
    }
}

/// What becomes of a packet that a pod sends to its own node, where the pod's policy does not deny it: Calico's
/// `defaultEndpointToHostAction`, as its manifests set it. What the node has begun is not asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointToHost {
    /// The kernel gets it, and its firewall has the say: Calico's `Accept` and `Return`.
    #[default]
    Accept,
    Drop,
}
