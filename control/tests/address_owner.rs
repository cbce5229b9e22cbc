//! Two pods that claim one address: exactly one of them holds it, for its own policy and as a peer.

use margay_control::compile::policy::{Serves, compile};
use margay_control::state::{Cluster, Name, Pod};

const ADDRESS: &str = "10.0.0.1";

/// Name of the endpoint at the address, of pods given as (name, terminating, created, finished, host network).
fn owner(pods: &[(&str, bool, i64, bool, bool)]) -> Option<String> {
    let mut cluster = Cluster::default();
    for &(name, terminating, created, finished, host_network) in pods {
        let addresses = vec![ADDRESS.parse().unwrap()];
        let pod = Pod { terminating, created, finished, host_network, addresses, ..Pod::default() };
        cluster.pods.insert(Name::new("x", name), pod.into());
    }
    let (policies, _) = compile(&cluster, Serves::All);
    assert!(policies.endpoints.len() <= 1);
    policies.endpoint(ADDRESS.parse().unwrap()).map(|endpoint| endpoint.name.to_string())
}

#[test]
fn an_address_has_one_owner() {
    for (pods, expected) in [
        (&[("a", false, 1, false, false), ("b", false, 2, false, false)][..], Some("x/b")),
        (&[("a", false, 2, false, false), ("b", false, 2, false, false)], Some("x/a")),
        (&[("a", true, 3, false, false), ("b", false, 2, false, false)], Some("x/b")),
        (&[("a", false, 1, false, false), ("b", false, 2, true, false)], Some("x/a")),
        (&[("a", false, 1, false, false), ("b", false, 2, false, true)], Some("x/a")),
        (&[("a", false, 1, true, false)], None),
        (&[("a", false, 1, false, true)], None),
    ] {
        assert_eq!(owner(pods).as_deref(), expected, "{pods:?}");
    }
}
