//! A lab's life: up, its parts while it is up, down.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};
use margay_control::compile::routes;
use margay_control::manifest;
use margay_control::state::{Cluster, Name};

use crate::ip::Batch;
use crate::state::{LabState, check_name};
use crate::topology::{Dataplane, LabNode, Topology};
use crate::{daemon, kernel_node, netns, state, wiring};

/// A lab that is up, or is being brought up.
#[derive(Debug)]
pub struct Lab {
    pub state: LabState,
    pub cluster: Cluster,
    pub topology: Topology,
}

impl Lab {
    /// Builds the world that the manifests describe, after removing what an earlier lab of the name left. What cannot
    /// be built is told to `note`, a line each; if building fails nothing stays.
    pub fn up(state: LabState, note: &mut dyn FnMut(&str)) -> Result<Self> {
        Self::up_after(state, note, |_| Ok(()))
    }

    /// The same, with `prepare` done where all links are there and no Margay runs yet.
    pub fn up_after(
        state: LabState,
        note: &mut dyn FnMut(&str),
        prepare: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Self> {
        check_name(&state.name)?;
        down(&state.name)?;
        let lab = Self::read(state, note)?;
        if lab.topology.nodes.is_empty() {
            bail!("{}: no Node has an address: nothing to build", lab.state.manifests.display());
        }
        if lab.margay_nodes().next().is_some() && !lab.state.margay.exists() {
            bail!(
                "the program margay is not at {}: build the workspace, or name it with --margay",
                lab.state.margay.display()
            );
        }
        match lab.build(note).and_then(|()| prepare(&lab)).and_then(|()| lab.start_margays()) {
            Ok(()) => Ok(lab),
            Err(error) => match down(&lab.state.name) {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(format!("and what was built could not be removed: {left:#}"))),
            },
        }
    }

    /// The lab of this name, which must be up, with the manifests as they are now.
    pub fn open(name: &str) -> Result<Self> {
        Self::read(LabState::load(name)?, &mut |_| ())
    }

    fn read(state: LabState, note: &mut dyn FnMut(&str)) -> Result<Self> {
        let cluster = load(&state.manifests, note)?;
        let topology = Topology::new(&state.name, &cluster, &state.dataplanes);
        let topology = Topology { zero_checksum6: state.zero_checksum6, ..topology };
        for line in &topology.left_out {
            note(line);
        }
        Ok(Self { state, cluster, topology })
    }

    fn build(&self, note: &mut dyn FnMut(&str)) -> Result<()> {
        self.state.save()?;
        netns::create(&self.topology.namespaces())?;
        self.set_sysctls()?;
        let router = self.topology.router();
        wiring::router(&self.topology, self.state.queues).run(Some(&router))?;
        let unsupported = Mutex::new(Vec::new());
        let underlay = Mutex::new(Batch::new());
        in_parallel(self.topology.nodes.values(), |node| self.build_node(node, &unsupported, &underlay))?;
        let mut unsupported = unsupported.into_inner().unwrap_or_default();
        unsupported.sort();
        for line in &unsupported {
            note(line);
        }
        underlay.into_inner().unwrap_or_default().run(Some(&router))?;
        in_parallel(self.topology.pods.values(), |pod| wiring::pod_inside(pod).run(Some(&pod.netns)))
    }

    fn start_margays(&self) -> Result<()> {
        for node in self.margay_nodes() {
            daemon::start(&self.state, node)?;
        }
        self.margay_nodes().try_for_each(|node| daemon::wait_ready(&self.state, node))
    }

    /// The node's uplink, the veths of its pods, its kernel's routes. What the kernel cannot do goes to `unsupported`,
    /// what the router must know to `underlay`.
    fn build_node(
        &self,
        node: &LabNode,
        unsupported: &Mutex<Vec<String>>,
        underlay: &Mutex<Batch>,
    ) -> Result<()> {
        let routes = routes::routes(&self.cluster, &node.name)?;
        let program = kernel_node::program(&self.topology, node, &routes);
        let mut batch = wiring::uplink(&self.topology, node);
        for (_, pod) in self.topology.pods_on(&node.name) {
            batch.append(&wiring::pod_link(pod));
        }
        batch.append(&program.ip);
        batch.run(Some(&node.netns))?;
        program.ipv6.run_ipv6(Some(&node.netns))?;
        program.bridge.run_bridge(Some(&node.netns))?;
        if let Ok(mut lines) = unsupported.lock() {
            lines.extend(program.unsupported);
        }
        if let Ok(mut lines) = underlay.lock() {
            for (block, via) in kernel_node::beyond_router(&self.topology, node, &routes) {
                lines.line(wiring::underlay_route(block, via));
            }
        }
        Ok(())
    }

    /// Makes the tunnels of the Linux nodes anew, by what the manifests say when the lab is opened.
    pub fn remake_tunnels(&self) -> Result<()> {
        self.remake_tunnels_of(&self.topology)
    }

    /// The same, with or without UDP checksums over IPv6.
    pub fn remake_tunnels_with(&self, zero_checksum6: bool) -> Result<()> {
        self.remake_tunnels_of(&Topology { zero_checksum6, ..self.topology.clone() })
    }

    fn remake_tunnels_of(&self, topology: &Topology) -> Result<()> {
        let linux = topology.nodes.values().filter(|node| node.dataplane == Dataplane::Kernel);
        for node in linux {
            let routes = routes::routes(&self.cluster, &node.name)?;
            let program = kernel_node::program(topology, node, &routes);
            let mut batch = Batch::new();
            batch.lines(kernel_node::vxlan_devices(node).map(|device| format!("link del {device}")));
            batch.append(&program.ip);
            batch.run(Some(&node.netns))?;
            program.bridge.run_bridge(Some(&node.netns))?;
        }
        Ok(())
    }

    fn set_sysctls(&self) -> Result<()> {
        let forwarding = |node: &LabNode| node.dataplane == Dataplane::Kernel;
        let mut all = vec![(self.topology.router(), true)];
        all.extend(self.topology.nodes.values().map(|node| (node.netns.clone(), forwarding(node))));
        all.extend(self.topology.pods.values().map(|pod| (pod.netns.clone(), false)));
        in_parallel(all.iter(), |(netns, forward)| {
            netns::within(netns, || set_sysctls(*forward, self.topology.has_ipv6()))?
        })
    }

    /// Nodes that Margay forwards on.
    pub fn margay_nodes(&self) -> impl Iterator<Item = &LabNode> {
        self.topology.nodes.values().filter(|node| node.dataplane == Dataplane::Margay)
    }

    pub fn node(&self, name: &str) -> Result<&LabNode> {
        self.topology.nodes.get(name).ok_or_else(|| {
            let known: Vec<_> = self.topology.nodes.keys().cloned().collect();
            anyhow!("lab {:?} has no node {name:?}: it has {}", self.state.name, known.join(", "))
        })
    }

    /// Namespace of `NS/POD` or `node:NAME`. A pod of the host's network lives in its node's.
    pub fn netns(&self, place: &str) -> Result<String> {
        if let Some(name) = place.strip_prefix("node:") {
            return Ok(self.node(name)?.netns.clone());
        }
        let Some((namespace, name)) = place.split_once('/') else {
            bail!("{place:?} is no place in a lab: write NS/POD or node:NAME");
        };
        let name = Name::new(namespace, name);
        if let Some(pod) = self.topology.pods.get(&name) {
            return Ok(pod.netns.clone());
        }
        match self.cluster.pods.get(&name) {
            Some(pod) if pod.host_network && !pod.finished => Ok(self.node(&pod.node)?.netns.clone()),
            Some(_) => {
                bail!(
                    "pod {name} has no namespace in the lab: it has no node there, or no address of a family that its node has"
                )
            }
            None => bail!("lab {:?} has no pod {name}", self.state.name),
        }
    }
}

/// Removes all of a lab: what lives in its namespaces, they themselves and its files. To remove a lab that is not
/// there is no error.
pub fn down(name: &str) -> Result<()> {
    check_name(name)?;
    netns::remove(&netns::list(&netns::prefix(name))?)?;
    state::remove(name)
}

fn load(manifests: &Path, note: &mut dyn FnMut(&str)) -> Result<Cluster> {
    let (cluster, problems) = manifest::load_dir(manifests)?;
    for problem in problems {
        note(&problem.to_string());
    }
    Ok(cluster)
}

/// Packets take the way of the routes alone: no reverse-path check (the two directions of a flow through a gateway need
/// not take one way), no redirects (a gateway sends back on the link that a packet came by), and IPv6 only where the lab
/// has addresses of it: nobody announces routers there, and addresses are of use at once.
fn set_sysctls(forward: bool, has_ipv6: bool) -> Result<()> {
    let forward = if forward { "1" } else { "0" };
    let mut settings = vec![("ipv4/ip_forward".to_owned(), forward)];
    for which in ["all", "default"] {
        for key in ["rp_filter", "send_redirects", "accept_redirects"] {
            settings.push((format!("ipv4/conf/{which}/{key}"), "0"));
        }
        let off = [("disable_ipv6", "1")];
        let on =
            [("forwarding", forward), ("accept_ra", "0"), ("accept_redirects", "0"), ("accept_dad", "0")];
        let of_ipv6 = if has_ipv6 { &on[..] } else { &off };
        settings.extend(of_ipv6.iter().map(|(key, value)| (format!("ipv6/conf/{which}/{key}"), *value)));
    }
    for (key, value) in settings {
        let path = PathBuf::from("/proc/sys/net").join(key);
        match fs::write(&path, value) {
            // A kernel without IPv6 needs no telling.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && path.starts_with("/proc/sys/net/ipv6") => {
            }
            written => written.with_context(|| format!("cannot write {value} to {}", path.display()))?,
        }
    }
    Ok(())
}

/// Does `work` for each item, some at a time: most of it is waiting for the kernel and for `ip`. The first error wins.
fn in_parallel<I: Send>(
    items: impl Iterator<Item = I> + Send,
    work: impl Fn(I) -> Result<()> + Sync,
) -> Result<()> {
    const THREADS: usize = 4;
    let items = Mutex::new(items);
    let next = || items.lock().ok()?.next();
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| std::iter::from_fn(next).try_for_each(&work))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread that builds the lab panicked"))?)
            .fold(Ok(()), Result::and)
    })
}
