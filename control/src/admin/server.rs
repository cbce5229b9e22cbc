//! The serving side: a Unix socket for root, and for the group that the configuration names.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::access::{Owner, Peer, guard};
use super::{Control, Question, Refusal, resources};
use crate::config::Admin;

/// Bytes of what is sent with a question at most.
const MOST_BODY: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("admin socket {}: another Margay answers there; give this one an admin.socket of its own", .0.display())]
    InUse(PathBuf),
    #[error("admin socket {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("admin.group {name}: {why}; `getent group` lists those that there are")]
    NoGroup { name: String, why: String },
}

/// The listening socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens. What a Margay that is gone left there is replaced.
    pub(crate) fn listen(config: &Admin) -> Result<(Self, mpsc::Receiver<Question>), Error> {
        let path = config.socket.as_path();
        let failed = |error| Error::Io { path: path.to_owned(), error };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(Error::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let group = config.group.as_deref().map(group).transpose()?;
        // Nobody gets in by the mode that the file begins with.
        let before = umask(Mode::from_bits_truncate(0o777));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(failed)?;
        if group.is_some() {
            chown(path, None, group).map_err(|errno| failed(errno.into()))?;
        }
        fs::set_permissions(path, Permissions::from_mode(config.mode())).map_err(failed)?;
        let (control, questions) = Control::new();
        let task = tokio::spawn(serve(listener, router(control)));
        Ok((Self { path: path.to_owned(), task }, questions))
    }
}

/// The number of a group.
fn group(name: &str) -> Result<Gid, Error> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(Error::NoGroup { name: name.to_owned(), why: "there is no such group".to_owned() }),
        Err(errno) => Err(Error::NoGroup { name: name.to_owned(), why: errno.desc().to_owned() }),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, router: Router) {
    // It says what it cannot take, waits, and goes on.
    let service = router.into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!(%error, "the admin socket answers no more");
    }
}

/// All resources, and what is said of whatever is none.
fn router(control: Control) -> Router {
    let (router, document) = resources().split_for_parts();
    let paths: Vec<String> = document.paths.paths.into_keys().collect();
    let known = format!("there are {}", paths.join(", "));
    let unknown = move |uri: Uri| async move { Refusal::not_found(format!("no {}: {known}", uri.path())) };
    let wrong = |method: Method, uri: Uri| async move {
        Refusal::wrong_method(format!("no {method} of {}: /v1/openapi.json says what there is", uri.path()))
    };
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong)
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(from_fn_with_state(Owner::of_this_process(), guard))
        .with_state(control)
}
