//! In step: ports, snapshot, steering and neighbours follow the cluster and the kernel.

use std::mem;

use margay_fastpath::steer::RouteChanges;
use tokio::time::Instant;

use super::dataplane::Dataplane;
use super::error::Error;

impl Dataplane {
    /// Brings ports, snapshot and neighbours in step with the cluster and the kernel.
    pub(super) async fn step(&mut self) -> Result<(), Error> {
        self.apply().await?;
        if !self.has_cluster {
            return Ok(());
        }
        let kernel = self.kernel.kernel();
        self.host.ensure(&kernel).await;
        let (routing, host) = (self.compiler.routing(), self.host.device());
        let largest = self.xdp.largest_mtu();
        let largest_mtu = |interface| self.ports.largest_mtu(interface).unwrap_or(largest);
        if self.wanted.refresh(&self.config, routing, &kernel, host, largest_mtu) {
            self.ports.retire_unwanted(&self.wanted.ports, &kernel);
            self.ports.set_fates(&mut self.xdp);
        }
        for (device, interface) in self.ports.interfaces() {
            if let Some(link) = kernel.links.get(&interface)
                && let Err(error) = self.xdp.set_mac(device, link.mac)
            {
                tracing::error!("packets to the new MAC address of {} go to the kernel: {error}", link.name);
            }
        }
        let mut is_new = self.compiler.set_underlay(&self.wanted.limited, self.ports.bindings());
        // Before a port is open: what is Margay's must not slip to the kernel meanwhile.
        self.steer();
        let (xdp, workers) = (&mut self.xdp, &mut self.workers);
        self.ports.open_wanted(&self.wanted.ports, &self.config, &kernel, xdp, workers).await?;
        is_new |= self.compiler.set_underlay(&self.wanted.limited, self.ports.bindings());
        is_new |= mem::take(&mut self.is_stale);
        is_new |= self.host.refresh(&self.ports, &kernel, &self.xdp);
        if is_new {
            self.publish();
            self.want_neighbours();
            self.ports.detach_retired(&mut self.workers).await?;
        }
        Ok(())
    }

    /// Has the kernel resolve the neighbours that packets have waited for.
    pub(super) fn ask_for_neighbours(&mut self) {
        if self.neighbours.take(&self.exchange) && self.has_cluster {
            self.neighbours.trim(self.compiler.routing());
            self.want_neighbours();
        }
    }

    pub(super) fn want_neighbours(&mut self) {
        if let Some(wanted) = self.neighbours.wanted(self.compiler.routing()) {
            self.kernel.want_neighbours(wanted);
        }
    }

    /// Takes what policy has dropped since.
    pub(super) fn collect_drops(&mut self) {
        let (rules, policies) = (self.compiler.rule_ids(), &self.publisher.current().policies);
        self.policy_counts.collect(&self.workers, rules, policies, self.started.elapsed());
    }

    /// Publishes what the state compiles to.
    pub(super) fn publish(&mut self) {
        let mut snapshot = self.compiler.snapshot(self.publisher.current());
        snapshot.entrance = self.host.entrance();
        let (trails, given_again) = (self.table.trails(), self.compiler.take_rules_given_again());
        self.policy_counts.begin(&given_again, trails, &self.workers);
        let now = self.started.elapsed();
        self.policy_counts.turn(&mut snapshot, trails, &self.workers, &self.publisher, now);
        self.steer();
        self.steered.publish(self.publisher.publish(snapshot));
        self.host.police(self.ports.pods(), self.publisher.current(), &mut self.xdp);
        let first = self.published.replace(Instant::now()).is_none();
        if first {
            tracing::info!(
                ports = self.ports.bindings().len(),
                fill_frames = self.ports.fill_total(&self.config.xdp),
                "forwarding: the first snapshot is published"
            );
        }
    }

    /// Has the program redirect what has come, beside what it redirects already.
    pub(super) fn steer(&mut self) {
        let port = self.compiler.routing().local().vxlan_port;
        let is_other = mem::replace(&mut self.vxlan_port, port) != port;
        if is_other && let Err(error) = self.xdp.set_vxlan_port(port) {
            tracing::error!("VXLAN on port {port} goes to the kernel: {error}");
        }
        let changes = self.steered.take(self.compiler.take_steering_changes());
        self.change_routes(changes);
    }

    pub(super) fn change_routes(&mut self, changes: RouteChanges) {
        if let Err(error) = self.xdp.change_routes(changes) {
            tracing::error!("packets to some destinations go to the kernel: {error}");
        }
    }

    pub(super) fn is_settling(&self) -> bool {
        self.steered.is_waiting() || self.ports.is_closing() || self.compiler.has_stale_indexes()
    }

    /// Does what waited for the workers, as far as they are. True where the state is due.
    pub(super) fn settle(&mut self) -> bool {
        if let Some(changes) = self.steered.settle(|number| self.publisher.is_taken(number)) {
            self.change_routes(changes);
            self.publisher.reclaim();
        }
        if let Some(snapshot) = self.compiler.refresh_indexes(self.publisher.current()) {
            self.publisher.publish(snapshot);
        }
        self.ports.advance(&mut self.xdp, &mut self.workers)
    }
}
