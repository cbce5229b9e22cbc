//! `FelixConfiguration`: of all that it says, the numbers of the overlay.

use serde::Deserialize;

use super::Resource;
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate;
use crate::state::FelixConfiguration;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct Spec {
    #[serde(rename = "vxlanVNI")]
    vni: Option<i64>,
    vxlan_port: Option<i32>,
    #[serde(rename = "vxlanMTU")]
    vxlan_mtu: Option<i64>,
    #[serde(rename = "vxlanMTUV6")]
    vxlan_mtu_v6: Option<i64>,
    #[serde(rename = "ipipMTU")]
    ipip_mtu: Option<i64>,
}

/// What every host takes (RFC 791 3.1); a tunnel of less is no tunnel.
const LEAST_MTU: u16 = 576;

pub(in crate::manifest) fn felix_configuration(
    object: &Resource<Spec>,
) -> Result<FelixConfiguration, Invalid> {
    let field = Field::Root.key("spec");
    let vni = |number| match u32::try_from(number) {
        Ok(vni) if vni < 1 << 24 => Ok(vni),
        _ => Err(field.key("vxlanVNI").invalid(format!("{number} is not a VNI (0 to 16777215)"))),
    };
    let port = |number| validate::port(&field.key("vxlanPort"), number);
    // 0 has Felix work it out, which is what the uplink's MTU leaves.
    let mtu = |key: &'static str, number: Option<i64>| {
        let Some(number) = number.filter(|number| *number != 0) else { return Ok(None) };
        let mtu = u16::try_from(number).ok().filter(|mtu| *mtu >= LEAST_MTU);
        let not_one = || field.key(key).invalid(format!("{number} is not an MTU (576 to 65535, or 0)"));
        mtu.map(Some).ok_or_else(not_one)
    };
    Ok(FelixConfiguration {
        vni: object.spec.vni.map(vni).transpose()?,
        vxlan_port: object.spec.vxlan_port.map(port).transpose()?,
        vxlan_mtu: mtu("vxlanMTU", object.spec.vxlan_mtu)?,
        vxlan_mtu_v6: mtu("vxlanMTUV6", object.spec.vxlan_mtu_v6)?,
        ipip_mtu: mtu("ipipMTU", object.spec.ipip_mtu)?,
    })
}
