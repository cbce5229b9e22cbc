//! The way to the API server: a client made of the configuration, and made anew when the server does not take it any
//! more, for the file may have changed: a rotated token, another server.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::sync::Notify;

/// Where the address of the API server and the credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// What a pod has: the service account's files, and the address from the environment.
    InCluster,
    Kubeconfig(PathBuf),
}

/// A configuration that no client can be made of.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Unusable {
    what: String,
    why: String,
}

const CONNECT: Duration = Duration::from_secs(10);
/// A watch says something once a minute (bookmarks): a connection that is silent for longer has lost its other end.
pub(super) const SILENCE: Duration = Duration::from_secs(75);
const WRITE: Duration = Duration::from_secs(30);

impl Access {
    /// As logs and status name it.
    pub fn name(&self) -> String {
        match self {
            Self::InCluster => "the API server of this pod's cluster".to_owned(),
            Self::Kubeconfig(path) => format!("the API server of {}", path.display()),
        }
    }

    /// Reads the configuration as it is now. Requests fail where nothing comes for as long as `silence`.
    async fn config(&self, silence: Duration) -> Result<Config, Unusable> {
        let unusable = |error: &dyn Error| Unusable { what: self.what(), why: in_full(error) };
        let mut config = match self {
            Self::InCluster => Config::incluster().map_err(|error| unusable(&error))?,
            Self::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| unusable(&error))?
            }
        };
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(silence);
        config.reset_reader_on_write = true;
        config.write_timeout = Some(WRITE);
        // Its retries go on for minutes and say nothing of it; ours do.
        config.default_retry = false;
        Ok(config)
    }

    pub async fn client(&self) -> Result<Client, Unusable> {
        self.client_within(SILENCE).await
    }

    async fn client_within(&self, silence: Duration) -> Result<Client, Unusable> {
        let config = self.config(silence).await?;
        Client::try_from(config).map_err(|error| Unusable { what: self.what(), why: in_full(&error) })
    }

    fn what(&self) -> String {
        match self {
            Self::InCluster => "the pod's access to its API server".to_owned(),
            Self::Kubeconfig(path) => format!("kubeconfig {}", path.display()),
        }
    }
}

/// What clients are made of.
pub(super) enum Origin {
    /// With the longest time that nothing comes.
    Access(Access, Duration),
    /// The API server's name, and what makes a client.
    Made(String, Box<dyn Fn() -> Client + Send + Sync>),
}

impl Origin {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Access(access, _) => access.name(),
            Self::Made(name, _) => name.clone(),
        }
    }

    async fn client(&self) -> Result<Client, Unusable> {
        match self {
            Self::Access(access, silence) => access.client_within(*silence).await,
            Self::Made(_, make) => Ok(make()),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The client that all requests go by.
#[derive(Debug)]
pub(super) struct Connection {
    origin: Origin,
    current: Mutex<Current>,
    /// Whether the server could not be reached when it was last asked something.
    is_lost: AtomicBool,
    /// Told when it can be again.
    found: Notify,
}

#[derive(Default)]
struct Current {
    /// How many clients there have been.
    number: u64,
    client: Option<Client>,
}

impl Current {
    fn client(&self) -> Option<(u64, Client)> {
        Some((self.number, self.client.clone()?))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, current: Mutex::default(), is_lost: AtomicBool::new(false), found: Notify::new() }
    }

    /// The client and its number, for [`Connection::distrust`].
    pub(super) async fn client(&self) -> Result<(u64, Client), Unusable> {
        if let Some(client) = self.current().client() {
            return Ok(client);
        }
        let client = self.origin.client().await?;
        let mut current = self.current();
        // Somebody else may have been quicker.
        if let Some(client) = current.client() {
            return Ok(client);
        }
        *current = Current { number: current.number + 1, client: Some(client.clone()) };
        Ok((current.number, client))
    }

    /// Has the next request go by a new client, unless there is one already since the one of that number.
    pub(super) fn distrust(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            current.client = None;
        }
    }

    /// Notes whether the server has just been reached, and wakes who waits for that.
    pub(super) fn note(&self, is_reached: bool) {
        if self.is_lost.swap(!is_reached, Ordering::Relaxed) && is_reached {
            self.found.notify_waiters();
        }
    }

    /// Waits until a request reaches a server that the one before did not.
    pub(super) async fn found(&self) {
        self.found.notified().await;
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with what it comes from, each said once, without kube's words for its own layers and rustls' addresses of
/// its manual.
pub(super) fn in_full(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        let said = ["ServiceError: ", "HyperError: "]
            .iter()
            .fold(&*said, |said, word| said.trim_start_matches(word));
        let said = said.split(": https://docs.rs").next().unwrap_or(said);
        if text.is_empty() {
            said.clone_into(&mut text);
        } else if !text.contains(said) {
            text = format!("{text}: {said}");
        }
        next = error.source();
    }
    text
}
