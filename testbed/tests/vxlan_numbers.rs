//! The VXLAN numbers of `FelixConfiguration` change while a connection lives: the gateway follows at once, its Linux peers
//! when their devices are made anew, and in between nothing passes. They need root.

mod common;

use std::time::Duration;

use common::traffic::Connection;
use common::{Options, TestLab, eventually};
use margay_testbed::lab::Lab;

/// Longer than an echo takes, shorter than a patient user.
const ECHO: Duration = Duration::from_secs(1);

const FILE: &str = "felix.yaml";

fn felix(numbers: &str) -> String {
    format!(
        "apiVersion: crd.projectcalico.org/v1\nkind: FelixConfiguration\nmetadata: {{name: default}}\nspec: {numbers}\n"
    )
}

#[test]
fn connections_live_through_changes_of_vni_and_port() {
    let lab = TestLab::two_zones(Options::default());
    // By VXLAN, between a Linux node and the gateway.
    let (far, near) = (lab.place("far/client"), lab.place("shop/bench"));
    let mut connections =
        [(&far, &near), (&near, &far)].map(|(from, to)| Connection::open(from, to).unwrap());
    for numbers in [
        Some("{vxlanVNI: 4097}"),
        Some("{vxlanVNI: 4097, vxlanPort: 4790}"),
        Some("{vxlanVNI: 16777215, vxlanPort: 8472}"),
        None,
    ] {
        match numbers {
            Some(numbers) => lab.write(FILE, &felix(numbers)),
            None => lab.remove(FILE),
        }
        for connection in &mut connections {
            let is_apart = eventually(|| connection.exchange(ECHO).is_err());
            assert!(is_apart, "{numbers:?}: the gateway still takes the old numbers");
        }
        Lab::open(lab.name()).unwrap().remake_tunnels().unwrap();
        for connection in &mut connections {
            let is_back = eventually(|| connection.exchange(ECHO).is_ok());
            assert!(is_back, "{numbers:?}: the gateway does not take the new numbers");
        }
    }
    for (from, to) in [(&far, &near), (&near, &far)] {
        assert!(from.opens(to), "a new connection");
    }
}
