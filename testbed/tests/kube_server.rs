//! The source against a real API server, as the user `dataplane` whose role is what the source's own table of kinds asks
//! for: objects of every kind, the server's death and return, what etcd has forgotten, kinds that come and go.

mod watching;

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use margay_control::manifest;
use margay_control::source::kubernetes::{VERBS, WATCHED};
use margay_control::state::{Cluster, Name};
use margay_testbed::kube::{ADMIN, CALICO, Client, DATAPLANE, POLICY, Server, Site, documents};
use serde_json::{Value, json};
use watching::{Watching, differences};

/// An object of each kind that is watched, in an order in which they can be made.
const OBJECTS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: a}}}
---
apiVersion: v1
kind: Node
metadata: {name: n, labels: {zone: a}, annotations: {projectcalico.org/IPv4Address: 172.20.1.1/24}}
spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24]}
status: {addresses: [{type: InternalIP, address: 172.20.1.1}]}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: x, labels: {team: a}}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec:
  nodeName: n
  serviceAccountName: web
  containers: [{name: main, image: none, ports: [{name: http, containerPort: 80}]}]
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: x, labels: {app: a}}
spec: {clusterIP: 10.96.0.77, selector: {app: a}, ports: [{name: web, port: 80, targetPort: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: x, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: web, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {matchLabels: {app: a}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}], ports: [{port: http, protocol: TCP}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: admin}
spec:
  priority: 5
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {name: default}
spec:
  subject: {namespaces: {}}
  egress: [{action: Allow, to: [{namespaces: {}}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: cluster}
spec:
  tier: Admin
  priority: 3
  subject: {namespaces: {}}
  ingress: [{action: Pass, from: [{namespaces: {}}]}]
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.0.0.0/16, blockSize: 26, vxlanMode: Always, ipipMode: Never, natOutgoing: true}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: n-10-0-0-0-26}
spec: {cidr: 10.0.0.0/26, node: n, state: confirmed, deleted: 'false'}
---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-0-0-0-26}
spec: {cidr: 10.0.0.0/26, affinity: 'host:n', allocations: [], unallocated: [], attributes: [], strictAffinity: false}
---
apiVersion: crd.projectcalico.org/v1
kind: Tier
metadata: {name: security}
spec: {order: 100}
---
apiVersion: crd.projectcalico.org/v1
kind: NetworkPolicy
metadata: {name: security.np, namespace: x}
spec: {tier: security, order: 10, selector: app == 'a', types: [Ingress], ingress: [{action: Allow}]}
---
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkPolicy
metadata: {name: security.gnp}
spec: {tier: security, order: 20, selector: all(), types: [Egress], egress: [{action: Pass}]}
---
apiVersion: crd.projectcalico.org/v1
kind: NetworkSet
metadata: {name: nets, namespace: x, labels: {role: db}}
spec: {nets: [192.0.2.0/24]}
---
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkSet
metadata: {name: nets, labels: {role: db}}
spec: {nets: [198.51.100.0/24]}
---
apiVersion: crd.projectcalico.org/v1
kind: StagedNetworkPolicy
metadata: {name: security.snp, namespace: x}
spec: {tier: security, selector: app == 'a', types: [Ingress], ingress: [{action: Deny}]}
---
apiVersion: crd.projectcalico.org/v1
kind: StagedGlobalNetworkPolicy
metadata: {name: security.sgnp}
spec: {tier: security, selector: all(), types: [Ingress], ingress: [{action: Deny}]}
---
apiVersion: crd.projectcalico.org/v1
kind: StagedKubernetesNetworkPolicy
metadata: {name: sknp, namespace: x}
spec: {podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}
---
apiVersion: crd.projectcalico.org/v1
kind: HostEndpoint
metadata: {name: hep, labels: {host: n}}
spec: {node: n, interfaceName: eth0, expectedIPs: [172.20.1.1]}
---
apiVersion: crd.projectcalico.org/v1
kind: FelixConfiguration
metadata: {name: default}
spec: {vxlanVNI: 4097, vxlanPort: 4790}
";

/// A change of an object that can be seen, by kind: where, and to what, as JSON. Labels where none is named.
const CHANGES: &[(&str, &str, &str)] = &[
    ("Node", "/metadata/annotations/projectcalico.org~1IPv4Address", r#""172.20.1.2/24""#),
    ("EndpointSlice", "/endpoints/0/addresses/0", r#""10.0.0.9""#),
    ("Service", "/spec/ports/0/port", "81"),
    ("IPPool", "/spec/vxlanMode", r#""CrossSubnet""#),
    ("BlockAffinity", "/spec/state", r#""pending""#),
    ("IPAMBlock", "/spec/affinity", r#""host:m""#),
    ("Tier", "/spec/order", "50"),
    ("FelixConfiguration", "/spec/vxlanVNI", "4098"),
    ("AdminNetworkPolicy", "/spec/priority", "6"),
    ("BaselineAdminNetworkPolicy", "/spec/egress/0/action", r#""Deny""#),
    ("ClusterNetworkPolicy", "/spec/priority", "4"),
    ("NetworkPolicy", "/spec/ingress", "[]"),
    ("GlobalNetworkPolicy", "/spec/egress", "[]"),
    ("StagedNetworkPolicy", "/spec/ingress", "[]"),
    ("StagedGlobalNetworkPolicy", "/spec/ingress", "[]"),
    ("StagedKubernetesNetworkPolicy", "/spec/podSelector", "{}"),
];

fn changed(object: &Value) -> Value {
    let mut object = object.clone();
    let change = CHANGES.iter().find(|(kind, ..)| object["kind"] == *kind);
    match change {
        Some((_, pointer, value)) => {
            *object.pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
        }
        None => object["metadata"]["labels"] = json!({"changed": "yes"}),
    }
    object
}

/// What the directory source makes of the objects: every field means the same.
fn as_in_a_directory(objects: &[Value]) -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    for (index, object) in objects.iter().enumerate() {
        std::fs::write(directory.path().join(format!("{index}.json")), object.to_string()).unwrap();
    }
    let (cluster, problems) = manifest::load_dir(directory.path()).unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
    cluster
}

/// Rules of a role that allows what the source's table of kinds asks for, but for one kind.
fn rules_without(plural: &str) -> Value {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for watched in WATCHED.iter().filter(|watched| watched.plural != plural) {
        for version in watched.versions {
            groups.entry(version.group).or_default().push(watched.plural);
        }
    }
    let rule = |(group, resources)| json!({"apiGroups": [group], "resources": resources, "verbs": VERBS});
    groups.into_iter().map(rule).collect()
}

fn rules() -> Value {
    rules_without("")
}

fn start() -> Server {
    let binaries = env::var_os("MARGAY_KUBE").expect("MARGAY_KUBE names no directory: run make test-kube");
    Server::start(&PathBuf::from(binaries), Site::Loopback).unwrap_or_else(|error| panic!("{error:#}"))
}

fn says(watching: &Watching, what: &str, objects: &[Value]) {
    let expected = as_in_a_directory(objects);
    let mut left = Vec::new();
    let comes = watching.comes(|told| {
        left = differences(&told.cluster, &expected);
        left.is_empty()
    });
    assert!(comes, "{what}: {left:#?}; {:#?}", watching.told().troubles);
}

fn apply_all(client: &Client, objects: &[Value]) {
    for object in objects {
        client.apply(object).unwrap();
    }
}

fn delete_all(client: &Client, objects: &[Value]) {
    for object in objects.iter().rev() {
        client.delete(object).unwrap();
    }
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn objects_of_every_kind_are_followed() {
    let server = start();
    server.install(POLICY).unwrap();
    server.install(CALICO).unwrap();
    server.grant(&rules()).unwrap();
    let client = server.client(ADMIN).unwrap();
    let objects = documents(OBJECTS).unwrap();
    assert_eq!(objects.len(), WATCHED.len(), "a kind is watched that is not tried here");
    let watching = Watching::whole(&server.kubeconfig(DATAPLANE));

    apply_all(&client, &objects);
    says(&watching, "what was created", &objects);
    assert_eq!(watching.told().problems, [""; 0]);
    let changed: Vec<Value> = objects.iter().map(changed).collect();
    apply_all(&client, &changed);
    says(&watching, "what was changed", &changed);
    // A source that starts now sees the same in its first list.
    says(&Watching::whole(&server.kubeconfig(DATAPLANE)), "a first list", &changed);
    // Every object but the namespace and what a namespace needs anew: under its name, with another UID.
    for object in &objects[1..] {
        client.delete(object).unwrap();
        client.apply(object).unwrap();
    }
    client.apply(&objects[0]).unwrap();
    says(&watching, "what was made anew", &objects);
    delete_all(&client, &objects);
    says(&watching, "what was deleted", &[]);
    watching.has_no_trouble();
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn a_server_that_dies_takes_nothing_along_and_is_caught_up_with() {
    let mut server = start();
    server.grant(&rules()).unwrap();
    let objects: Vec<Value> = documents(OBJECTS).unwrap().into_iter().take(7).collect();
    let mut pods: Vec<Value> = (2..5)
        .map(|number| {
            let mut pod = objects[3].clone();
            let address = format!("10.0.0.{number}");
            pod["metadata"]["name"] = json!(format!("pod-{number}"));
            pod["status"] = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
            pod
        })
        .collect();
    let client = server.client(ADMIN).unwrap();
    apply_all(&client, &objects);
    apply_all(&client, &pods);
    let mut objects = objects;
    objects.append(&mut pods.clone());
    let watching = Watching::whole(&server.kubeconfig(DATAPLANE));
    says(&watching, "what is there", &objects);

    // Dead, and back as if nothing had been.
    server.kill_api();
    watching.has_trouble("Pod");
    server.start_api().unwrap();
    watching.has_no_trouble();

    // Dead, while a pod goes and etcd forgets that it did; back with another token and without a right.
    server.kill_api();
    watching.has_trouble("Pod");
    let etcd = server.etcd().unwrap();
    assert_eq!(etcd.delete("/registry/pods/x/pod-3").unwrap(), 1);
    etcd.compact().unwrap();
    server.set_token(DATAPLANE, "another").unwrap();
    server.start_api().unwrap();
    objects.retain(|object| object["metadata"]["name"] != "pod-3");
    says(&watching, "what is left", &objects);
    watching.has_no_trouble();

    // A kind that is forbidden is trouble; the others go on.
    server.kill_api();
    watching.has_trouble("Pod");
    server.start_api().unwrap();
    server.grant(&rules_without("networkpolicies")).unwrap();
    watching.wait("trouble of one kind", |told| told.troubles.len() <= 1);
    let pod = pods.remove(1);
    server.client(ADMIN).unwrap().apply(&pod).unwrap();
    objects.push(pod);
    says(&watching, "what is there again", &objects);
    server.grant(&rules()).unwrap();
    watching.has_no_trouble();
    let told = watching.told();
    assert!(told.removed.len() == 1 && told.removed[0].contains("pod-3"), "{:?}", told.removed);
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn a_server_that_is_restored_to_an_older_state_is_listed_anew() {
    let mut server = start();
    server.grant(&rules()).unwrap();
    let objects: Vec<Value> = documents(OBJECTS).unwrap().into_iter().take(7).collect();
    apply_all(&server.client(ADMIN).unwrap(), &objects);
    server.back_up().unwrap();
    let watching = Watching::whole(&server.kubeconfig(DATAPLANE));
    says(&watching, "what is there", &objects);

    // It comes so far that it does not come as far again while the test runs.
    let client = server.client(ADMIN).unwrap();
    let mut changed: Vec<Value> = objects.iter().map(changed).collect();
    for _ in 0..30 {
        apply_all(&client, &changed);
        apply_all(&client, &objects);
    }
    apply_all(&client, &changed);
    client.delete(&changed.remove(3)).unwrap();
    says(&watching, "what was changed", &changed);

    server.restore().unwrap();
    says(&watching, "what was restored", &objects);
    let client = server.client(ADMIN).unwrap();
    client.delete(&objects[6]).unwrap();
    says(&watching, "what happens from there on", &objects[..6]);
    watching.has_no_trouble();
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn definitions_come_and_go() {
    let server = start();
    server.grant(&rules()).unwrap();
    let client = server.client(ADMIN).unwrap();
    let objects = documents(OBJECTS).unwrap();
    let (own, defined) = objects.split_at(7);
    apply_all(&client, own);
    let watching = Watching::whole(&server.kubeconfig(DATAPLANE));
    says(&watching, "what every cluster has", own);

    server.install(POLICY).unwrap();
    server.install(CALICO).unwrap();
    apply_all(&client, defined);
    says(&watching, "what was defined", &objects);
    server.uninstall(POLICY).unwrap();
    server.uninstall(CALICO).unwrap();
    says(&watching, "what is left", own);
    watching.has_no_trouble();
    assert!(watching.told().cluster.pods.contains_key(&Name::new("x", "a")));
}
