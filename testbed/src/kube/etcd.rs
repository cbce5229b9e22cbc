//! What an API server keeps its objects in, changed behind the server's back.

use ::kube::Error;
use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Client;

/// An etcd, by the JSON form of its API.
#[expect(missing_debug_implementations, reason = "its client has none")]
pub struct Etcd(Client);

impl Etcd {
    pub(super) fn new(port: u16, netns: Option<&str>) -> Result<Self> {
        Client::anonymous(&format!("http://127.0.0.1:{port}"), netns).map(Self)
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value, Error> {
        self.0.request(&Method::POST, &format!("/v3/{what}"), Some(body))
    }

    /// Deletes a key, as the API server names its objects: `/registry/pods/NAMESPACE/NAME`. How many there were.
    pub fn delete(&self, key: &str) -> Result<u64> {
        let answer =
            self.post("kv/deleterange", &json!({"key": base64(key)})).context("etcd deletes nothing")?;
        Ok(number(&answer["deleted"]))
    }

    /// Forgets every version but the last; a version that nobody asked for is made first, so that there is a later one.
    pub fn compact(&self) -> Result<()> {
        let put = self.post("kv/put", &json!({"key": base64("margay"), "value": base64("later")}));
        let revision = put.context("etcd takes nothing")?["header"]["revision"].clone();
        self.post("kv/compaction", &json!({"revision": revision, "physical": true}))
            .context("etcd keeps all")?;
        Ok(())
    }
}

/// Numbers of 64 bits are text in this form, and a zero is left out.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}
