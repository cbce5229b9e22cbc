//! Who this process is: the node that it forwards for, and the constants of that node's VXLAN.

/// What `compile` must know besides the state of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the Node object.
    pub node: String,
    /// VXLAN network identifier, 24 bits (RFC 7348 5).
    pub vni: u32,
    /// UDP destination port of VXLAN.
    pub vxlan_port: u16,
}

impl Identity {
    /// The node with the VNI and port that Calico nodes use unless configured otherwise.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), vni: 4096, vxlan_port: 4789 }
    }
}
