//! `[admin]`: the socket on which a gateway is asked.

use std::path::PathBuf;

use serde::Deserialize;

use super::read;

/// `[admin]`: where `margay status` and others ask, and who may.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Path of the Unix socket. Default /run/margay/admin.sock.
    pub socket: PathBuf,
    /// Group whose members may ask, but change nothing. Default: none; root alone.
    pub group: Option<String>,
    /// Mode of the socket's file, as 0o600; nothing for others. Default: 0o600, and 0o660 with a group.
    #[serde(deserialize_with = "read::socket_mode")]
    pub mode: Option<u32>,
}

impl Admin {
    /// The mode, as configured or by default.
    pub fn mode(&self) -> u32 {
        self.mode.unwrap_or(if self.group.is_some() { 0o660 } else { 0o600 })
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: "/run/margay/admin.sock".into(), group: None, mode: None }
    }
}
