//! What a gateway says at one moment.

use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use crate::admin::workers::Workers;
use crate::admin::{self, ClientError, Status};

#[derive(Clone, Debug)]
pub struct Moment {
    pub status: Status,
    pub workers: Workers,
}

impl Moment {
    pub async fn ask(socket: &Path) -> Result<Self, ClientError> {
        // The first is what rates are taken of, and so the second, whose clock they are by, comes right after it.
        let status = admin::status(socket).await?;
        Ok(Self { status, workers: admin::get(socket, "/v1/workers").await? })
    }
}

/// The busiest connections, of what the admin socket says of each as much as is shown.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Flows {
    pub flows: Vec<Flow>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Flow {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    pub src_name: Option<String>,
    pub dst_name: Option<String>,
    /// `None` where connections are not counted.
    pub packets_per_second: Option<f64>,
    pub bits_per_second: Option<f64>,
}

impl Flows {
    /// Asks for so many. It takes the gateway a second or more.
    pub async fn ask(socket: &Path, most: usize) -> Result<Self, ClientError> {
        admin::get(socket, &format!("/v1/flows?sort=rate&limit={most}")).await
    }
}
