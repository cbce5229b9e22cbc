//! `[privileges]`: what the gateway gives up once it has what it needs.

use serde::Deserialize;

/// `[privileges]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Privileges {
    /// Whether every capability is dropped that is not needed, workers having none. Then root reads only what is root's own or
    /// everybody's: manifests, kubeconfig and configuration have to be. Default true.
    pub drop_capabilities: bool,
    pub seccomp: Seccomp,
}

impl Default for Privileges {
    fn default() -> Self {
        Self { drop_capabilities: true, seccomp: Seccomp::default() }
    }
}

/// What becomes of a worker that makes a system call which workers have no use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The process is killed by SIGSYS, and is to be started anew. The kernel's audit log says which call it was.
    #[default]
    Kill,
    /// The call is made, and stands in the kernel's audit log.
    Log,
    Off,
}
