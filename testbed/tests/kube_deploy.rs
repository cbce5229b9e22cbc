//! `deploy/` on a real API server, and what a gateway may do there with the role that it gives.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kube::Error;
use margay_control::config;
use margay_control::manifest::{FieldPath, Invalid, Kind, Place, Problem, Reason, Reference};
use margay_control::report::{Annotations, Pace, Report, Reporter};
use margay_control::source::kubernetes::Access;
use margay_control::source::{KubernetesSource, Source, SourceEvent};
use margay_control::state::policy::PolicyKind;
use margay_control::state::{Kernel, Name, Node};
use margay_testbed::kube::{ADMIN, CALICO, Client, DATAPLANE, POLICY, Server, Site, documents};
use serde_json::{Value, json};

/// Longest wait for something to come; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn document(file: &str) -> Value {
    documents(&fs::read_to_string(deploy().join(file)).unwrap()).unwrap().remove(0)
}

/// What `kubectl` prints, as the administrator.
fn kubectl(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new("kubectl")
        .args(arguments)
        .env("KUBECONFIG", server.kubeconfig(ADMIN))
        .output()
        .expect("kubectl: the package kubernetes-client has it");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The first that there is of what comes by asking again and again.
fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn what_is_deployed_is_taken_and_its_role_is_enough() {
    let binaries = PathBuf::from(env::var_os("MARGAY_KUBE").expect("make test-kube says where it is"));
    let server = Server::start(&binaries, Site::Loopback).unwrap();
    server.install(POLICY).unwrap();
    server.install(CALICO).unwrap();
    the_server_takes_every_object(&server);
    server.grant(&document("cluster-role.yaml")["rules"]).unwrap();
    let admin = server.client(ADMIN).unwrap();
    put_objects(&admin);
    everything_can_be_watched(&server);
    nothing_else_is_allowed(&server.client(DATAPLANE).unwrap());
    the_gateway_reports(&server, &admin);
    what_stands_on_the_node_stands(&server, &admin);
}

fn the_server_takes_every_object(server: &Server) {
    let directory = deploy();
    let path = |file: &str| directory.join(file).display().to_string();
    // A dry run makes no namespace for what comes after it.
    kubectl(server, &["apply", "-f", &path("namespace.yaml")]);
    let taken = kubectl(server, &["apply", "--dry-run=server", "-k", &directory.display().to_string()]);
    let taken: BTreeSet<&str> = taken.lines().filter_map(|line| line.split(['/', '.']).next()).collect();
    let kinds =
        ["clusterrole", "clusterrolebinding", "configmap", "daemonset", "namespace", "serviceaccount"];
    assert_eq!(taken, kinds.into());
}

fn put_objects(admin: &Client) {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gw"},
            "spec": {"taints": [{"key": "dedicated", "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkPolicy",
            "metadata": {"name": "everywhere"}, "spec": {"selector": "all()"},
        }),
    ];
    for object in &objects {
        admin.apply(object).unwrap();
    }
}

/// The source has its whole first state, and no trouble with any kind.
fn everything_can_be_watched(server: &Server) {
    let source = Box::new(KubernetesSource::new(Access::Kubeconfig(server.kubeconfig(DATAPLANE))));
    let (sender, events) = mpsc::channel();
    thread::spawn(move || {
        source.run(&mut |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
    });
    match events.recv_timeout(PATIENCE).expect("the source delivers") {
        SourceEvent::Changes { problems, .. } => assert_eq!(problems, []),
        SourceEvent::Trouble(troubles) => panic!("{troubles:?}"),
    }
}

fn nothing_else_is_allowed(gateway: &Client) {
    let cordon = json!({"spec": {"unschedulable": true}});
    let attempts = [
        gateway.get("/api/v1/secrets"),
        gateway.get("/api/v1/namespaces/shop/configmaps"),
        gateway.request(&hyper::Method::PATCH, "/api/v1/nodes/gw", Some(&cordon)),
        gateway.request(&hyper::Method::DELETE, "/api/v1/namespaces/shop", None),
    ];
    for attempt in attempts {
        assert!(matches!(&attempt, Err(Error::Api(status)) if status.code == 403), "{attempt:?}");
    }
}

fn start(server: &Server) -> Reporter {
    let soon = Duration::from_millis(10);
    let pace = Pace { gap: soon, spread: soon, retry: soon, ..Pace::default() };
    let access = Access::Kubeconfig(server.kubeconfig(DATAPLANE));
    Reporter::start(access, "gw", &config::Report::default(), pace).unwrap()
}

fn calico(vxlan_tunnel_address: &str) -> Annotations {
    let config = config::Calico {
        vxlan_tunnel_address: Some(vxlan_tunnel_address.parse::<Ipv4Addr>().unwrap()),
        ..config::Calico::default()
    };
    let node = Node { ipv4: Some("192.0.2.7/32".parse().unwrap()), ..Node::default() };
    let kernel = Kernel { addresses: vec![(2, "192.0.2.7/24".parse().unwrap())], ..Kernel::default() };
    Annotations::of(&config, "gw", Some(&node), &kernel)
}

fn the_gateway_reports(server: &Server, admin: &Client) {
    let uid = |path: &str| admin.get(path).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let references = [
        Reference {
            kind: Kind::Service,
            name: Name::new("shop", "web"),
            uid: uid("/api/v1/namespaces/shop/services/web"),
        },
        Reference {
            kind: Kind::Policy(PolicyKind::GlobalNetworkPolicy),
            name: Name::new("", "everywhere"),
            uid: uid("/apis/crd.projectcalico.org/v1/globalnetworkpolicies/everywhere"),
        },
    ];
    let problem = |reference: Reference| Problem {
        place: Place::Api(Arc::new(reference)),
        object: None,
        reason: Reason::InPart(Invalid { field: FieldPath::default(), why: "has been made up".into() }),
        last_good_stands: false,
    };
    let before = admin.get("/api/v1/nodes/gw").unwrap();
    let reporter = start(server);
    reporter.tell(Report {
        ready: true,
        problems: Arc::new(references.map(problem).into()),
        calico: calico("10.9.0.1"),
        ..Report::default()
    });
    until("two Events", || {
        let events = admin.get("/apis/events.k8s.io/v1/events").unwrap();
        (events["items"].as_array()?.len() == 2).then_some(())
    });
    // People find them at the objects.
    for object in [&["service", "web", "--namespace", "shop"][..], &["globalnetworkpolicy", "everywhere"]] {
        let described = kubectl(server, &[&["describe"], object].concat());
        assert!(described.contains("EnforcedInPart") && described.contains("made up"), "{described}");
    }

    let annotated = until("annotations", || {
        let node = admin.get("/api/v1/nodes/gw").unwrap();
        node["metadata"]["annotations"]["margay.dev/status"].is_string().then_some(node)
    });
    let annotations = &annotated["metadata"]["annotations"];
    assert_eq!(annotations["projectcalico.org/IPv4Address"], "192.0.2.7/24");
    assert_eq!(annotations["projectcalico.org/IPv4VXLANTunnelAddr"], "10.9.0.1");
    assert_eq!(annotations["projectcalico.org/VXLANTunnelMACAddr"].as_str().map(str::len), Some(17));
    assert_eq!(annotated["spec"], before["spec"]);
    assert_eq!(reporter.troubles(), []);
}

/// Another gateway, or this one with another configuration, does not write over what is there.
fn what_stands_on_the_node_stands(server: &Server, admin: &Client) {
    let reporter = start(server);
    reporter.tell(Report { calico: calico("10.9.0.99"), ..Report::default() });
    let trouble = until("trouble", || reporter.troubles().into_iter().next());
    assert!(trouble.why.contains("10.9.0.1,") && trouble.why.contains("10.9.0.99"), "{}", trouble.why);
    let annotation = |key: &str| {
        let node = admin.get("/api/v1/nodes/gw").unwrap();
        node["metadata"]["annotations"][key].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(annotation("projectcalico.org/IPv4VXLANTunnelAddr"), "10.9.0.1");
    // What went with it is written nevertheless.
    assert!(annotation("margay.dev/status").contains("\"ready\":false"));
}
