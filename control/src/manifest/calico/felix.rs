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
}

pub(in crate::manifest) fn felix_configuration(
    object: &Resource<Spec>,
) -> Result<FelixConfiguration, Invalid> {
    let field = Field::Root.key("spec");
    let vni = |number| match u32::try_from(number) {
        Ok(vni) if vni < 1 << 24 => Ok(vni),
        _ => Err(field.key("vxlanVNI").invalid(format!("{number} is not a VNI (0 to 16777215)"))),
    };
    let port = |number| validate::port(&field.key("vxlanPort"), number);
    Ok(FelixConfiguration {
        vni: object.spec.vni.map(vni).transpose()?,
        vxlan_port: object.spec.vxlan_port.map(port).transpose()?,
    })
}
