//! Many attempts at once: their listeners, their turns, their outcomes.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;

use super::attempt::{Attempt, Place, Seen, Transport};
use super::listen::{Arrivals, Ear, ears};

/// Attempts under way at a time.
const AT_ONCE: usize = 512;

/// Makes the attempts, whose tokens must number them in order. The outcomes stand in that order; one that could not be
/// tried on this machine is an error of its own.
pub(super) fn all(attempts: &[Attempt]) -> Result<Vec<Result<Seen>>> {
    // Each listener and each attempt has a descriptor.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime for probes")?.block_on(all_in_runtime(attempts))
}

async fn all_in_runtime(attempts: &[Attempt]) -> Result<Vec<Result<Seen>>> {
    let arrivals: Arrivals = attempts.iter().map(|_| Arc::new(Notify::new())).collect();
    let deaf: HashMap<Ear, String> = ears(attempts.iter())
        .into_iter()
        .filter_map(|ear| ear.open(&arrivals).err().map(|error| (ear, format!("{error:#}"))))
        .collect();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut turns: HashMap<(Place, Transport, u16), Arc<Mutex<()>>> = HashMap::new();
    let mut outcomes: Vec<Option<Result<Seen>>> = attempts.iter().map(|_| None).collect();
    let mut tasks = JoinSet::new();
    for (index, attempt) in attempts.iter().enumerate() {
        if let Some(error) = deaf.get(&Ear::of(attempt)) {
            outcomes[index] = Some(Err(anyhow!("{error}")));
            continue;
        }
        // Attempts from one source port to one port take turns: at once they could be one connection.
        let turn = attempt
            .source_port
            .map(|port| turns.entry((attempt.source.clone(), attempt.transport, port)).or_default().clone());
        let (attempt, arrived, permits) = (attempt.clone(), arrivals[index].clone(), permits.clone());
        tasks.spawn(async move {
            let _turn = match &turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            (index, attempt.make(arrived).await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (index, outcome) = done.context("the task of a probe ended early")?;
        outcomes[index] = Some(outcome);
    }
    Ok(outcomes.into_iter().flatten().collect())
}
