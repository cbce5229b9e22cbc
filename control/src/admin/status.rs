//! `GET /v1/status`: what a running Margay says of itself. Counters count since the start of the process, a port's since it was opened.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, Refusal};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub uptime_seconds: u64,
    /// Whether packets are forwarded as the source says: a snapshot is in force, every uplink is open, and so is every
    /// pod's port whose device is there and up.
    pub ready: bool,
    /// `None` until the source and the kernel have delivered a whole first state.
    pub snapshot: Option<Snapshot>,
    pub source: Source,
    /// What cannot be written to the API server now.
    pub reporting: Vec<Trouble>,
    pub ports: Vec<Port>,
    pub workers: Vec<Worker>,
    pub flow_table: FlowTable,
    pub umem: Umem,
    /// Of `[flow_log]`, where it is on.
    pub flow_log: Option<crate::flowlog::Status>,
    /// Why the kernel does not tell ports in skb mode where to cut packets that are several in one (GSO), where it does not.
    pub untold_gso: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    pub generation: u32,
    /// Seconds since it was published.
    pub age_seconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    pub name: String,
    /// What the source cannot learn now; what it delivered last stays in force.
    pub troubles: Vec<Trouble>,
    /// What it delivered and could not be enforced as written.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// A kind of objects, or all there is.
    pub what: String,
    pub why: String,
    /// RFC 3339.
    pub since: String,
    /// Seconds since then, whatever became of the clock meanwhile.
    pub for_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    Open,
    /// There is no such device, or it is not up.
    Missing,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    pub name: String,
    pub device: String,
    /// Of an uplink on a VLAN of its device.
    pub vlan: Option<u16>,
    /// `uplink` or `pod`.
    pub kind: String,
    /// NAMESPACE/NAME of the pod.
    pub pod: Option<String>,
    pub state: PortState,
    /// Why the port is not open, where it failed.
    pub error: Option<String>,
    /// MAC address, and bytes of the largest IP packet, while it is open.
    #[serde(default)]
    pub mac: Option<String>,
    #[serde(default)]
    pub mtu: Option<u16>,
    /// `native` or `skb`.
    pub mode: Option<String>,
    pub zero_copy: Option<bool>,
    pub queues: Option<usize>,
    /// Frames that its FILL rings hold at most.
    pub fill_frames: Option<u64>,
    pub traffic: Option<Traffic>,
}

/// Frames (and bytes) of a port, summed over the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    pub rx: u64,
    pub rx_bytes: u64,
    /// Of those received, handed to an output port.
    pub forwarded: u64,
    /// Given to this port, and lost: the ring to its worker was full, or it went away.
    pub tx_lost: u64,
    /// Of those received, answered by an ICMP error of ours; each of these counts as dropped too.
    pub answered: u64,
    pub tx: u64,
    pub tx_bytes: u64,
    /// Of those received, dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    pub index: usize,
    pub core: usize,
    /// Turns of its loop, and those that moved a frame.
    pub turns: u64,
    pub busy_turns: u64,
    /// Connections that it entered into the flow table, took out when they expired, and judged again after a change.
    pub flows_inserted: u64,
    pub flows_expired: u64,
    pub flows_reclassified: u64,
    /// What it does at this moment.
    pub doing: String,
    /// The longest time that it made no turn of its loop, in milliseconds, as far as a look each 50 ms tells.
    pub longest_stall_ms: u64,
    /// How often it made none for 800 ms because it got no processor.
    pub starved: u64,
    pub traffic: Traffic,
    /// Free frames in its pool.
    pub pool: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowTable {
    pub connections: usize,
    pub capacity: usize,
    /// Connections that were not assured and made room for others.
    pub evicted: u64,
}

/// Where the frames of the UMEM are. Those that stand in no line are in the ports' rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Umem {
    pub frames: u32,
    pub frame_size: u32,
    pub huge_pages: bool,
    /// What the FILL rings of all ports hold at most.
    pub fill_frames: u64,
    /// Held by no worker and no port.
    pub spare: usize,
    /// In the workers' pools.
    pub pools: u64,
    /// On the way from one worker to another.
    pub handed_over: usize,
}

/// How the gateway is: snapshot, source, ports, workers, memory.
#[utoipa::path(
    get,
    path = "/v1/status",
    responses((status = OK, description = "How it is, ready or not", body = Status))
)]
pub(super) async fn status(State(control): State<Control>) -> Result<Json<Status>, Refusal> {
    control.ask(|plane| plane.status()).await.map(Json)
}
