//! The control loop, as the resources ask it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Refusal;
use crate::run::Dataplane;

/// Questions that may wait for the control loop.
const WAITING: usize = 16;

/// A look at everything that runs, at one moment.
pub(crate) type Question = Box<dyn FnOnce(&mut Dataplane) + Send>;

#[derive(Clone, Debug)]
pub(crate) struct Control {
    questions: mpsc::Sender<Question>,
    /// Walks of the flow table: one at a time.
    walks: Arc<Semaphore>,
}

impl Control {
    /// With what the control loop takes the questions from.
    pub(super) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (sender, questions) = mpsc::channel(WAITING);
        (Self { questions: sender, walks: Arc::new(Semaphore::new(1)) }, questions)
    }

    /// Waits for the walks of the flow table that others have asked for. The turn ends where it is dropped.
    pub(super) async fn walk(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.walks).acquire_owned().await.map_err(|_| Refusal::stopping())
    }

    /// The answer, as of one moment. The control loop does nothing else meanwhile: what takes longer than a millisecond
    /// or two is asked in portions, or worked out on a thread of its own from what the loop shares
    /// (`tokio::task::spawn_blocking`).
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Dataplane) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        // Whoever asked may have gone.
        let question: Question = Box::new(move |plane| drop(sender.send(question(plane))));
        self.questions.send(question).await.map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())
    }
}
