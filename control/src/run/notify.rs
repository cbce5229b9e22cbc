//! What systemd is told, or whoever else has set `NOTIFY_SOCKET`: that the gateway is ready, by the same rule as `margay
//! status`, what it does, and that its control loop goes round. Nothing is sent where nobody has asked.

use sd_notify::NotifyState;

use super::dataplane::Dataplane;

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Notified {
    is_ready: bool,
    status: String,
}

impl Dataplane {
    /// Tells what is new, and that we are alive. Call once a second.
    pub(super) fn notify(&mut self) {
        let is_ready = self.is_ready();
        let status = self.status_line(is_ready);
        let mut states = vec![NotifyState::Watchdog];
        // A gateway that was ready once stays so for systemd, which knows no way back; the status tells.
        if is_ready && !self.notified.is_ready {
            self.notified.is_ready = true;
            states.push(NotifyState::Ready);
        }
        if self.notified.status != status {
            states.push(NotifyState::Status(&status));
        }
        tell(&states);
        self.notified.status = status;
    }

    fn status_line(&self, is_ready: bool) -> String {
        let open = self.ports.open().count();
        match (&self.published, is_ready) {
            (None, _) => format!("waiting for a whole first state of {}", self.source.name),
            (Some(_), true) => format!("forwarding: {open} ports open"),
            (Some(_), false) => format!("not ready: {open} of {} ports open", self.wanted.ports.len()),
        }
    }
}

impl Notified {
    /// A new configuration is being read. Who is not ready yet does not say so by this.
    pub(super) fn reloading(&self) {
        if self.is_ready {
            let now = NotifyState::monotonic_usec_now();
            tell(&[NotifyState::Reloading].into_iter().chain(now).collect::<Vec<_>>());
        }
    }

    /// It has been put into force, or refused.
    pub(super) fn reloaded(&self) {
        if self.is_ready {
            tell(&[NotifyState::Ready]);
        }
    }
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "nobody takes what is told by NOTIFY_SOCKET");
    }
}
