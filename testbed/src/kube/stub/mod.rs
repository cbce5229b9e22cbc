//! A part of tests: a stub of the API server, in the test's own process, that lists, watches and says what it serves as
//! a real one does, and goes wrong on command.
//!
//! It checks no object, converts none between versions, and admits every client that has the token. Whoever wants to know
//! what a real server does asks a real server; what only the stub has are faults at a chosen moment, and what servers
//! newer than the real one at hand have: streamed lists, fields that the old one drops.

mod answer;
mod body;
mod discovery;
mod fault;
mod request;
mod selector;
mod serve;
mod watch;
mod world;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime;
use tokio::sync::{oneshot, watch as signal};

pub use fault::{Asked, Fault, Interrupt, On};
pub use request::Request;

use super::reserve::Reserved;
use super::resource::Resource;
use super::site::Site;
use fault::Rule;
use world::{Key, World};

/// The stub. It listens until it is dropped, but while it is [`down`](Self::down).
#[derive(Debug)]
pub struct Stub {
    shared: Arc<Shared>,
    /// Keeps the port while nobody listens there.
    reserved: Reserved,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What the test and the connections share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told after each change of the world.
    news: signal::Sender<()>,
}

#[derive(Debug)]
struct State {
    world: World,
    rules: Vec<Rule>,
    token: Option<String>,
    streaming: bool,
    /// What answers and bookmarks say of the time; the truth where there is none.
    date: Option<Date>,
    requests: Vec<Request>,
    watches: Vec<OpenWatch>,
}

#[derive(Debug)]
struct OpenWatch {
    resource: Resource,
    interrupt: oneshot::Sender<Interrupt>,
}

/// What a stub held at a moment.
#[derive(Clone, Debug)]
pub struct Backup(World);

#[derive(Clone, Copy, Debug)]
struct Date {
    answers: &'static str,
    bookmarks: &'static str,
}

impl Stub {
    /// Starts with the core kinds served, no object, and streamed lists.
    pub fn start() -> Result<Self> {
        Self::start_at(&Site::Loopback)
    }

    pub fn start_at(site: &Site) -> Result<Self> {
        let state = State {
            world: World::new(),
            rules: Vec::new(),
            token: None,
            streaming: true,
            date: None,
            requests: Vec::new(),
            watches: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), news: signal::Sender::new(()) });
        let mut stub = Self { shared, reserved: Reserved::new(site)?, running: None };
        stub.up()?;
        Ok(stub)
    }

    pub fn address(&self) -> SocketAddr {
        self.reserved.address()
    }

    /// Writes a kubeconfig, and beside it the file that holds the token; the kubeconfig's path.
    pub fn kubeconfig(&self, directory: &Path, token: &str) -> Result<PathBuf> {
        let path = directory.join("kubeconfig");
        self.write_token(directory, token)?;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: stub\n\
             clusters: [{{name: stub, cluster: {{server: \"http://{}\"}}}}]\n\
             users: [{{name: stub, user: {{tokenFile: {}}}}}]\n\
             contexts: [{{name: stub, context: {{cluster: stub, user: stub}}}}]\n",
            self.address(),
            directory.join("token").display(),
        );
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Puts another token beside the kubeconfig.
    pub fn write_token(&self, directory: &Path, token: &str) -> Result<()> {
        let path = directory.join("token");
        fs::write(&path, token).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Admits who has the token alone, or everyone. Watches that are open stay so.
    pub fn require_token(&self, token: Option<&str>) {
        self.shared.state.lock().token = token.map(str::to_owned);
    }

    /// Whether lists are streamed where that is asked for; a server that does not answers 422.
    pub fn stream_lists(&self, streaming: bool) {
        self.shared.state.lock().streaming = streaming;
    }

    /// Says in answers (RFC 9110) and bookmarks (RFC 3339) that it is another time.
    pub fn set_clock(&self, answers: &'static str, bookmarks: &'static str) {
        self.shared.state.lock().date = Some(Date { answers, bookmarks });
    }

    /// Listens again, at the address that it had.
    pub fn up(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let listener = self.reserved.listen()?;
        let shared = Arc::clone(&self.shared);
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot listen")?
        };
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve::serve(listener, shared) => {}
                    // A stub that was dropped is stopped.
                    _ = stopped => {}
                }
            });
        });
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// Stops listening, and breaks every connection. The objects stay, and can be changed meanwhile.
    pub fn down(&mut self) -> Result<()> {
        let Some(Running { stop, thread }) = self.running.take() else { return Ok(()) };
        // It may have ended already.
        let _ = stop.send(());
        thread.join().map_err(|_| anyhow!("the stub's thread panicked"))
    }

    /// Puts an object, created or changed.
    pub fn put(&self, object: &Value) {
        let (resource, key) = place(object);
        self.put_as(resource, &key.0, &key.1, object.clone());
    }

    /// Puts at this name what need not be an object at all.
    pub fn put_as(&self, resource: Resource, namespace: &str, name: &str, value: Value) {
        self.change(|world| world.put(resource, &(namespace.to_owned(), name.to_owned()), value));
    }

    /// Deletes the object of this one's kind and name. Whether there was one.
    pub fn delete(&self, object: &Value) -> bool {
        let (resource, key) = place(object);
        self.change(|world| world.delete(resource, &key))
    }

    /// Serves these kinds too, as after their definitions were installed.
    pub fn serve(&self, resources: &[Resource]) {
        self.change(|world| world.serve(resources));
    }

    /// Serves these kinds no more: their objects are deleted, their watches end.
    pub fn unserve(&self, resources: &[Resource]) {
        self.change(|world| world.unserve(resources));
    }

    /// Forgets every version so far: what asks to go on from there hears 410.
    pub fn compact(&self) {
        self.change(World::compact);
    }

    /// All that it holds, as a backup of its etcd would.
    pub fn back_up(&self) -> Backup {
        Backup(self.shared.state.lock().world.clone())
    }

    /// Puts back what it held, versions too, as its etcd restored from a backup would.
    pub fn restore(&self, backup: Backup) {
        self.change(|world| *world = backup.0);
    }

    fn change<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let done = work(&mut self.shared.state.lock().world);
        self.shared.news.send_replace(());
        done
    }

    /// From now on, what the fault befalls.
    pub fn fail(&self, on: On, fault: Fault) {
        self.shared.state.lock().rules.push(Rule { on, fault, left: None });
    }

    /// The fault befalls so many requests, and no more.
    pub fn fail_times(&self, times: u32, on: On, fault: Fault) {
        self.shared.state.lock().rules.push(Rule { on, fault, left: Some(times) });
    }

    /// No fault any more.
    pub fn heal(&self) {
        self.shared.state.lock().rules.clear();
    }

    /// Does this to every open watch of the kind. How many there were.
    pub fn interrupt(&self, plural: &str, how: Interrupt) -> usize {
        self.interrupt_where(|resource| resource.plural == plural, how)
    }

    /// Does this to every open watch. How many there were.
    pub fn interrupt_all(&self, how: Interrupt) -> usize {
        self.interrupt_where(|_| true, how)
    }

    fn interrupt_where(&self, is_concerned: impl Fn(Resource) -> bool, how: Interrupt) -> usize {
        let mut state = self.shared.state.lock();
        let watches = std::mem::take(&mut state.watches);
        let (concerned, others): (Vec<_>, _) =
            watches.into_iter().partition(|watch| is_concerned(watch.resource));
        state.watches = others;
        // One that has ended by itself does not count.
        concerned.into_iter().filter_map(|watch| watch.interrupt.send(how).ok()).count()
    }

    /// How many watches of the kind are open.
    pub fn watches(&self, plural: &str) -> usize {
        self.watches_where(|resource| resource.plural == plural)
    }

    /// How many watches are open.
    pub fn all_watches(&self) -> usize {
        self.watches_where(|_| true)
    }

    fn watches_where(&self, is_concerned: impl Fn(Resource) -> bool) -> usize {
        let mut state = self.shared.state.lock();
        state.watches.retain(|watch| !watch.interrupt.is_closed());
        state.watches.iter().filter(|watch| is_concerned(watch.resource)).count()
    }

    /// Every request since the start or the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.state.lock().requests)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // A thread that panicked has said so itself.
        let _ = self.down();
    }
}

fn place(object: &Value) -> (Resource, Key) {
    let resource =
        Resource::of_object(object).unwrap_or_else(|| panic!("no kind that the stub knows: {object}"));
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let namespace = if resource.namespaced { text("namespace") } else { String::new() };
    (resource, (namespace, text("name")))
}
