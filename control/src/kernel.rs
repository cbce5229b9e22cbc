//! A mirror of what the kernel knows of our network namespace, kept over rtnetlink, and the one thing we ask of the
//! kernel there: to keep the neighbours resolved that routes lead to.
//!
//! Links, addresses and neighbours follow the kernel's notifications. Routes do not: IPv4 routes vanish with their
//! link or address unannounced, and a replacement names the new route alone, so whatever may have touched a route
//! has the table read again. What the messages mean is `kernel/message.rs`.

mod keep;
mod message;
mod pair;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt as _, StreamExt as _, TryStream, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};

use crate::state::{Kernel, Route};

pub use keep::Kept;
pub use pair::{Pair, PairError};

/// Interface index and address of a neighbour.
pub type NeighbourKey = (u32, IpAddr);

/// Pause before a busy socket is asked again, and how often it is.
const BUSY: Duration = Duration::from_millis(1);
const BUSY_TRIES: u32 = 5000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket: {0}")]
    Open(io::Error),
    #[error("cannot read the kernel's {what} over netlink: {error}")]
    Dump { what: &'static str, error: rtnetlink::Error },
    #[error("the netlink socket for notifications is closed")]
    Closed,
}

/// How much of the mirror has to be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    #[default]
    Nothing,
    Routes,
    /// Notifications were lost.
    All,
}

/// Runs on the tokio runtime it was opened on, for the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Mirror {
    kernel: Kernel,
    /// Entries that an administrator made: they need no keeping, and asking for it would make them expire.
    permanent: BTreeSet<NeighbourKey>,
    /// Entries that the kernel was asked to keep resolved.
    kept: BTreeSet<NeighbourKey>,
    events: UnboundedReceiver<(Message, SocketAddr)>,
    /// A socket apart from that of the notifications: an answer is not lost when those overrun.
    requests: Handle,
    stale: Stale,
    changed: bool,
}

type Message = NetlinkMessage<RouteNetlinkMessage>;

impl Mirror {
    /// Subscribes, then reads everything: what changes in between is not missed.
    pub async fn open() -> Result<Self, Error> {
        let (notifications, _, events) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(Error::Open)?;
        tokio::spawn(notifications);
        let (connection, requests, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        tokio::spawn(connection);
        let mut mirror = Self {
            kernel: Kernel::default(),
            permanent: BTreeSet::new(),
            kept: BTreeSet::new(),
            events,
            requests,
            stale: Stale::All,
            changed: false,
        };
        mirror.refresh().await?;
        mirror.changed = false;
        Ok(mirror)
    }

    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Waits until the kernel's state differs from what [`kernel`](Self::kernel) last showed. May be dropped while it
    /// waits: nothing is lost.
    pub async fn changed(&mut self) -> Result<(), Error> {
        loop {
            self.refresh().await?;
            if std::mem::take(&mut self.changed) {
                return Ok(());
            }
            let (event, _) = self.events.next().await.ok_or(Error::Closed)?;
            self.apply(event);
            // What has arrived by now is one change, and costs one reading of the routes.
            while let Some(event) = self.events.next().now_or_never() {
                self.apply(event.ok_or(Error::Closed)?.0);
            }
        }
    }

    /// Has the kernel resolve these neighbours and keep them resolved (`NTF_EXT_MANAGED`, Linux 5.16), and lets go of
    /// those that were wanted before. Call again after each change: an entry that was flushed is asked for anew. An
    /// entry that the kernel refuses is logged and not asked for again.
    pub async fn want_neighbours(&mut self, wanted: &BTreeSet<NeighbourKey>) {
        let gone: Vec<_> = self.kept.difference(wanted).copied().collect();
        for key in gone {
            self.kept.remove(&key);
            // It fails where the entry is gone already, and then there is nothing to do.
            let _ = self.requests.neighbours().del(neighbour_message(key)).execute().await;
        }
        for key in wanted {
            let up = self.kernel.links.get(&key.0).is_some_and(|link| link.up);
            if !up || self.permanent.contains(key) || !self.kept.insert(*key) {
                continue;
            }
            let mut request = self.requests.neighbours().add(key.0, key.1).replace();
            request.message_mut().header.state = NeighbourState::None;
            request.message_mut().attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
            if let Err(error) = request.execute().await {
                tracing::warn!(
                    neighbour = %key.1, ifindex = key.0, %error,
                    "the kernel does not keep this neighbour resolved (that needs CAP_NET_ADMIN and Linux 5.16)"
                );
            }
        }
    }

    fn apply(&mut self, event: Message) {
        use RouteNetlinkMessage as M;
        let message = match event.payload {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => {
                self.stale = Stale::All;
                return;
            }
            _ => return,
        };
        match message {
            M::NewLink(m) => {
                if let Some((index, link)) = message::link(&m) {
                    self.changed |= self.kernel.links.insert(index, link.clone()) != Some(link);
                    self.stale = self.stale.max(Stale::Routes);
                }
            }
            M::DelLink(m) if m.header.interface_family == AddressFamily::Unspec => {
                self.forget_link(m.header.index);
            }
            M::NewAddress(m) => {
                if let Some(address) = message::address(&m)
                    && !self.kernel.addresses.contains(&address)
                {
                    self.kernel.addresses.push(address);
                    self.changed = true;
                    self.stale = self.stale.max(Stale::Routes);
                }
            }
            M::DelAddress(m) => {
                if let Some(address) = message::address(&m) {
                    self.kernel.addresses.retain(|a| *a != address);
                    self.changed = true;
                    self.stale = self.stale.max(Stale::Routes);
                }
            }
            M::NewRoute(_) | M::DelRoute(_) => self.stale = self.stale.max(Stale::Routes),
            M::NewNeighbour(m) => self.learn(&m),
            M::DelNeighbour(m) => {
                if let Some(key) = message::neighbour_key(&m) {
                    self.kept.remove(&key);
                    self.permanent.remove(&key);
                    self.changed |= self.kernel.neighbours.remove(&key).is_some();
                }
            }
            _ => {}
        }
    }

    fn learn(&mut self, message: &NeighbourMessage) {
        let Some((key, neighbour)) = message::neighbour(message) else { return };
        if message.header.state == NeighbourState::Permanent {
            self.permanent.insert(key);
        } else {
            self.permanent.remove(&key);
        }
        self.changed |= self.kernel.neighbours.insert(key, neighbour.clone()) != Some(neighbour);
    }

    fn forget_link(&mut self, index: u32) {
        self.changed |= self.kernel.links.remove(&index).is_some();
        self.kernel.addresses.retain(|(i, _)| *i != index);
        self.kernel.neighbours.retain(|(i, _), _| *i != index);
        self.permanent.retain(|(i, _)| *i != index);
        self.kept.retain(|(i, _)| *i != index);
        self.stale = self.stale.max(Stale::Routes);
    }

    /// Reads again what is stale. The old state stands until the new one is whole.
    async fn refresh(&mut self) -> Result<(), Error> {
        match self.stale {
            Stale::Nothing => return Ok(()),
            Stale::Routes => {
                let routes = self.read_routes().await?;
                self.changed |= routes != self.kernel.routes;
                self.kernel.routes = routes;
            }
            Stale::All => self.read_all().await?,
        }
        self.stale = Stale::Nothing;
        Ok(())
    }

    async fn read_all(&mut self) -> Result<(), Error> {
        let requests = &self.requests;
        let links = whole("links", || requests.link().get().execute()).await?;
        let addresses = whole("addresses", || requests.address().get().execute()).await?;
        let neighbours = whole("neighbours", || requests.neighbours().get().execute()).await?;
        let routes = self.read_routes().await?;

        let before = std::mem::replace(
            &mut self.kernel,
            Kernel {
                links: links.iter().filter_map(message::link).collect(),
                addresses: addresses.iter().filter_map(message::address).collect(),
                routes,
                ..Kernel::default()
            },
        );
        self.permanent.clear();
        for neighbour in &neighbours {
            self.learn(neighbour);
        }
        let known = &self.kernel.neighbours;
        self.kept.retain(|key| known.contains_key(key));
        self.changed |= self.kernel != before;
        Ok(())
    }

    async fn read_routes(&self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let read = whole("routes", || self.requests.route().get(request.clone()).execute()).await?;
            routes.extend(read.iter().filter_map(message::route));
        }
        Ok(routes)
    }
}

/// Reads a table from its beginning to its end. Of a reading that was dropped half-way the kernel sends the rest all the same,
/// and as long as that lasts it begins no other on the socket.
async fn whole<T, R>(what: &'static str, read: impl Fn() -> R) -> Result<Vec<T>, Error>
where
    R: TryStream<Ok = T, Error = rtnetlink::Error>,
{
    let mut tries = BUSY_TRIES;
    loop {
        match read().try_collect().await {
            Err(error) if tries > 0 && is_busy(&error) => tokio::time::sleep(BUSY).await,
            read => return read.map_err(|error| Error::Dump { what, error }),
        }
        tries -= 1;
    }
}

fn is_busy(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(error) if error.to_io().kind() == io::ErrorKind::ResourceBusy)
}

fn neighbour_message((index, address): NeighbourKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(message::neighbour_address(address)));
    message
}
