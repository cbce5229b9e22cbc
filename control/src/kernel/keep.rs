//! The mirror kept by a task of its own: whoever uses it is told of changes and says which neighbours are wanted,
//! and never waits for the kernel.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Error, Mirror, NeighbourKey};
use crate::state::Kernel;

/// The using side. The task ends, and lets go of the neighbours, when this is closed.
#[derive(Debug)]
pub struct Kept {
    kernel: watch::Receiver<Arc<Kernel>>,
    wanted: watch::Sender<BTreeSet<NeighbourKey>>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Mirror {
    /// Hands the mirror over to a task.
    pub fn keep(self) -> Kept {
        let (kernel_sender, kernel) = watch::channel(Arc::new(self.kernel.clone()));
        let (wanted, wanted_receiver) = watch::channel(BTreeSet::new());
        Kept { kernel, wanted, task: tokio::spawn(self.run(kernel_sender, wanted_receiver)) }
    }

    async fn run(
        mut self,
        kernel: watch::Sender<Arc<Kernel>>,
        mut wanted: watch::Receiver<BTreeSet<NeighbourKey>>,
    ) -> Result<(), Error> {
        loop {
            tokio::select! {
                changed = self.changed() => {
                    changed?;
                    kernel.send_replace(Arc::new(self.kernel.clone()));
                }
                closed = wanted.changed() => if closed.is_err() {
                    self.want_neighbours(&BTreeSet::new()).await;
                    return Ok(());
                }
            }
            let now = wanted.borrow_and_update().clone();
            self.want_neighbours(&now).await;
        }
    }
}

impl Kept {
    /// The kernel's state as last seen.
    pub fn kernel(&self) -> Arc<Kernel> {
        Arc::clone(&self.kernel.borrow())
    }

    /// Waits until that differs from what was last waited for. May be dropped while it waits.
    pub async fn changed(&mut self) -> Result<(), Error> {
        match self.kernel.changed().await {
            Ok(()) => Ok(()),
            // The task ends of itself only by an error.
            Err(_) => (&mut self.task).await.unwrap_or(Err(Error::Closed)),
        }
    }

    /// As [`Mirror::want_neighbours`], soon; what is flushed meanwhile is asked for anew.
    pub fn want_neighbours(&self, wanted: BTreeSet<NeighbourKey>) {
        self.wanted.send_if_modified(|before| {
            let is_new = *before != wanted;
            *before = wanted;
            is_new
        });
    }

    /// Lets go of the neighbours and ends the task.
    pub async fn close(self) {
        drop(self.wanted);
        // Whatever it failed of, it is over.
        let _ = self.task.await;
    }
}
