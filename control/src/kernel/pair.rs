//! A veth pair of Margay's own, by which packets of pods enter this node's kernel. Its two ends are named with a
//! prefix: `0` is the kernel's end, `1` Margay's. No route leads to it: whoever loses it loses nothing else.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

/// The kernel's end has to have one, for the reverse-path check to let in what is routed elsewhere. This one is set
/// aside for those who have none (RFC 7600 4.8), and as it is of this host alone nothing is ever sent from it.
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Names of the ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub kernel_end: String,
    pub our_end: String,
    /// Where the kernel's settings of network devices are.
    settings: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum PairError {
    #[error("cannot open a netlink socket: {0}")]
    Open(io::Error),
    #[error(
        "{names}: there is a device of that name that is not one end of a veth pair of both: `ip link del` it, or \
             set policy.host_interface_prefix"
    )]
    Foreign { names: String },
    #[error("cannot {what} the veth pair {names}: {error}")]
    Netlink { names: String, what: &'static str, error: rtnetlink::Error },
    #[error(
        "cannot write {value} to {}: {error}; Margay needs /proc/sys/net writable for its own devices, or \
         node.proc_sys_net to say where it is",
        path.display()
    )]
    Setting { path: PathBuf, value: &'static str, error: io::Error },
}

impl Pair {
    pub fn new(prefix: &str, settings: &Path) -> Self {
        let end = |digit| format!("{prefix}{digit}");
        Self { kernel_end: end(0), our_end: end(1), settings: settings.to_owned() }
    }

    fn names(&self) -> String {
        format!("{}, {}", self.kernel_end, self.our_end)
    }

    /// Sees to it that the pair is there and up, in the network namespace of the calling thread. What an earlier run
    /// has left is taken over.
    pub async fn ensure(&self, mtu: u32) -> Result<(), PairError> {
        let handle = connect()?;
        let failed = |what| move |error| PairError::Netlink { names: self.names(), what, error };
        match (find(&handle, &self.kernel_end).await, find(&handle, &self.our_end).await) {
            (None, None) => {
                let pair = LinkVeth::new(&self.kernel_end, &self.our_end).build();
                handle.link().add(pair).execute().await.map_err(failed("create"))?;
            }
            (Some(a), Some(b)) if are_peers(&a, &b) => {}
            _ => return Err(PairError::Foreign { names: self.names() }),
        }
        self.set_up().map_err(|(path, value, error)| PairError::Setting { path, value, error })?;
        if let Some(kernel_end) = find(&handle, &self.kernel_end).await {
            let mut dummy = handle.address().add(kernel_end.header.index, IpAddr::V4(DUMMY), 32).replace();
            dummy.message_mut().header.scope = AddressScope::Host;
            dummy.execute().await.map_err(failed("give an address to"))?;
        }
        for end in [&self.kernel_end, &self.our_end] {
            let up = LinkUnspec::new_with_name(end).mtu(mtu).up().build();
            handle.link().set(up).execute().await.map_err(failed("bring up"))?;
        }
        Ok(())
    }

    /// A pod's packets of either family pass though the route to it is another device's; no end has an address of IPv6, or
    /// says anything there.
    fn set_up(&self) -> Result<(), (PathBuf, &'static str, io::Error)> {
        let ipv6 = self.settings.join("ipv6");
        let of_ipv6 = |end: &str, key| format!("ipv6/conf/{end}/{key}");
        let settings = [
            (of_ipv6(&self.our_end, "disable_ipv6"), "1"),
            // Before it is on: no address is made up for the link.
            (of_ipv6(&self.kernel_end, "addr_gen_mode"), "1"),
            (of_ipv6(&self.kernel_end, "disable_ipv6"), "0"),
            (format!("ipv4/conf/{}/rp_filter", self.kernel_end), "2"),
        ];
        for (path, value) in settings {
            let path = self.settings.join(path);
            match fs::write(&path, value) {
                Ok(()) => {}
                // A kernel without IPv6.
                Err(_) if path.starts_with(&ipv6) && !ipv6.exists() => {}
                Err(error) => return Err((path, value, error)),
            }
        }
        Ok(())
    }

    /// Removes the pair, if it is one.
    pub async fn remove(&self) -> Result<(), PairError> {
        let handle = connect()?;
        let ends = (find(&handle, &self.kernel_end).await, find(&handle, &self.our_end).await);
        if let (Some(a), Some(b)) = ends
            && are_peers(&a, &b)
        {
            let failed = |error| PairError::Netlink { names: self.names(), what: "remove", error };
            handle.link().del(a.header.index).execute().await.map_err(failed)?;
        }
        Ok(())
    }
}

fn connect() -> Result<Handle, PairError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(PairError::Open)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// `None` where there is none, which the kernel says as an error.
async fn find(handle: &Handle, name: &str) -> Option<LinkMessage> {
    handle.link().get().match_name(name).execute().try_next().await.ok().flatten()
}

fn are_peers(a: &LinkMessage, b: &LinkMessage) -> bool {
    let is_veth = |link: &LinkMessage| {
        let infos = link.attributes.iter().filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        infos.flatten().any(|info| *info == LinkInfo::Kind(InfoKind::Veth))
    };
    let is_peer_of = |link: &LinkMessage, other: &LinkMessage| {
        link.attributes.contains(&LinkAttribute::Link(other.header.index))
    };
    is_veth(a) && is_veth(b) && is_peer_of(a, b) && is_peer_of(b, a)
}
