//! Who may ask what. The file's mode lets root and the configured group connect, and the kernel says who has: all but root
//! may only read, and not packets.

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use super::Refusal;

/// What is asked with a body, and changes nothing.
const READS: [&str; 1] = ["/v1/explain"];

/// The user at the other end, as of its connecting (`SO_PEERCRED`); `None` where the kernel does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// The user who may change things beside root: ourselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner(u32);

impl Owner {
    pub(super) fn of_this_process() -> Self {
        Self(nix::unistd::geteuid().as_raw())
    }

    fn may(self, Peer(user): Peer, method: &Method, path: &str) -> bool {
        let is_reading = method == Method::GET || method == Method::HEAD || READS.contains(&path);
        is_reading || user.is_some_and(|user| user == 0 || user == self.0)
    }
}

pub(super) async fn guard(
    State(owner): State<Owner>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    if owner.may(peer, method, path) {
        return next.run(request).await;
    }
    Refusal::forbidden(format!("{method} {path} is more than reading, which is for root")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_than_root_and_the_owner_read() {
        let owner = Owner(7);
        for (user, method, path, may) in [
            (Some(0), Method::POST, "/v1/reload", true),
            (Some(7), Method::POST, "/v1/reload", true),
            (Some(8), Method::POST, "/v1/reload", false),
            (None, Method::POST, "/v1/reload", false),
            (Some(8), Method::DELETE, "/v1/status", false),
            (Some(8), Method::GET, "/v1/status", true),
            (Some(8), Method::POST, "/v1/explain", true),
            (Some(8), Method::POST, "/v1/explain/", false),
        ] {
            assert_eq!(owner.may(Peer(user), &method, path), may, "{user:?} {method} {path}");
        }
    }
}
