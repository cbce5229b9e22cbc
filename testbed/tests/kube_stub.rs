//! The stub of the API server, asked by the client library's own watcher: what it serves, and what goes wrong on command.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::{ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, InitialListStrategy, watcher};
use kube::{Api, Client, Config, Error};
use margay_testbed::kube::stub::{Asked, Fault, Interrupt, On, Stub};
use margay_testbed::kube::{CALICO, Resource};
use serde_json::{Value, json};

/// Longest wait for an event; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x"}, "status": {}})
}

fn finished(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x"},
        "status": {"phase": "Succeeded"},
    })
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A stub that holds pods of these names, and every object of the API of pods.
async fn with_pods(names: &[&str]) -> (Stub, tempfile::TempDir, Api<DynamicObject>) {
    let stub = Stub::start().unwrap();
    for name in names {
        stub.put(&pod(name));
    }
    let directory = tempfile::tempdir().unwrap();
    let client = client(&stub.kubeconfig(directory.path(), "t").unwrap()).await;
    (stub, directory, Api::all_with(client, &resource("Pod")))
}

fn resource(kind: &str) -> ApiResource {
    let found = Resource::of("v1", kind).unwrap();
    ApiResource {
        group: found.group.into(),
        version: found.version.into(),
        api_version: found.api_version(),
        kind: found.kind.into(),
        plural: found.plural.into(),
    }
}

fn paged() -> watcher::Config {
    watcher::Config::default().page_size(2)
}

fn streamed() -> watcher::Config {
    watcher::Config {
        initial_list_strategy: InitialListStrategy::StreamingList,
        ..watcher::Config::default()
    }
}

/// Names up to and with the event that the predicate waits for, errors as they are told.
async fn until(
    events: &mut (impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Unpin),
    is_last: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("nothing comes after {told:?}")).unwrap();
        let name = |object: DynamicObject| object.metadata.name.unwrap();
        told.push(match event {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(object)) => format!("has {}", name(object)),
            Ok(Event::InitDone) => "done".to_owned(),
            Ok(Event::Apply(object)) => format!("put {}", name(object)),
            Ok(Event::Delete(object)) => format!("gone {}", name(object)),
            Err(error) => format!("error {error:?}"),
        });
        if told.last().is_some_and(|last| is_last(last)) {
            return told;
        }
    }
}

#[tokio::test]
async fn lists_come_in_pages_or_streamed_and_changes_after_them() {
    let (stub, _directory, pods) = with_pods(&["a", "b", "c"]).await;
    for (config, fields) in [(paged(), None), (streamed(), None), (paged(), Some("status.phase!=Succeeded"))]
    {
        let config = fields.map_or(config.clone(), |fields| config.fields(fields));
        let mut events = pin!(watcher(pods.clone(), config));
        let told = until(&mut events, |last| last == "done").await;
        assert_eq!(told, ["init", "has a", "has b", "has c", "done"]);
        stub.put(&pod("d"));
        stub.put(&finished("d"));
        let last = if fields.is_some() { "gone d" } else { "put d" };
        assert_eq!(until(&mut events, |told| told == last).await.last().unwrap(), last);
        stub.delete(&pod("d"));
        stub.put(&pod("a"));
        assert_eq!(until(&mut events, |told| told == "put a").await.last().unwrap(), "put a");
    }
    let requests = stub.take_requests();
    assert!(requests.iter().any(|request| request.parameter("continue").is_some()), "{requests:#?}");
    assert!(requests.iter().any(|request| request.flag("sendInitialEvents")), "{requests:#?}");
}

#[tokio::test]
async fn a_watch_that_is_interrupted_goes_on_where_it_was_or_begins_anew() {
    let (stub, _directory, pods) = with_pods(&["a"]).await;
    let mut events = pin!(watcher(pods, paged()));
    until(&mut events, |last| last == "done").await;
    for (how, is_told) in [
        (Interrupt::End, "put"),
        (Interrupt::Break, "put"),
        (Interrupt::Half, "put"),
        (Interrupt::Garbage, "put"),
        (Interrupt::Failed, "put"),
        (Interrupt::Gone, "done"),
    ] {
        let mut opens = async || {
            while stub.watches("pods") == 0 {
                let _ = tokio::time::timeout(Duration::from_millis(10), events.next()).await;
            }
        };
        opens().await;
        assert_eq!(stub.interrupt("pods", how), 1, "{how:?}");
        stub.put(&pod("a"));
        let told = until(&mut events, |last| last.starts_with(is_told)).await;
        assert!(told.last().unwrap().starts_with(is_told), "{how:?}: {told:?}");
    }
}

#[tokio::test]
async fn what_was_compacted_is_too_old() {
    let (stub, _directory, pods) = with_pods(&["a", "b", "c"]).await;
    stub.fail_times(1, On::watch("pods"), Fault::Close);
    let mut events = pin!(watcher(pods, paged()));
    until(&mut events, |last| last == "done").await;
    stub.delete(&pod("b"));
    stub.compact();
    let told = until(&mut events, |last| last == "done").await;
    assert!(told.iter().any(|told| told.starts_with("error")), "{told:?}");
    assert!(!told.contains(&"has b".to_owned()), "{told:?}");
}

#[tokio::test]
async fn requests_fail_as_they_are_told_to_and_no_longer() {
    let (mut stub, directory, pods) = with_pods(&["a", "b", "c"]).await;
    let list = async || pods.list(&kube::api::ListParams::default()).await.map(|list| list.items.len());
    let code = |outcome: Result<usize, Error>| match outcome {
        Err(Error::Api(status)) => status.code,
        other => panic!("{other:?}"),
    };
    stub.fail_times(2, On::list("pods"), Fault::Status(403));
    assert_eq!((code(list().await), code(list().await)), (403, 403));
    for fault in [Fault::Garbage, Fault::Half, Fault::Close] {
        stub.fail_times(1, On::all(Asked::List), fault);
        assert!(list().await.is_err(), "{fault:?}");
        assert_eq!(list().await.unwrap(), 3, "{fault:?}");
    }
    stub.fail(On::ANY, Fault::Slow { piece: 500, pause: Duration::from_millis(1) });
    assert_eq!(list().await.unwrap(), 3);
    stub.heal();
    stub.require_token(Some("other"));
    assert_eq!(code(list().await), 401);
    stub.write_token(directory.path(), "other").unwrap();
    let renewed = client(&directory.path().join("kubeconfig")).await;
    let renewed: Api<DynamicObject> = Api::all_with(renewed, &resource("Pod"));
    assert_eq!(renewed.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 3);
    stub.require_token(None);
    stub.down().unwrap();
    assert!(list().await.is_err());
    stub.up().unwrap();
    assert_eq!(list().await.unwrap(), 3);
}

#[tokio::test]
async fn kinds_come_and_go() {
    let (stub, directory, _) = with_pods(&[]).await;
    let client = client(&directory.path().join("kubeconfig")).await;
    let groups = async || {
        let groups = client.list_api_groups().await.unwrap().groups;
        groups.into_iter().map(|group| group.name).collect::<Vec<_>>()
    };
    let core = groups().await;
    assert!(
        ["discovery.k8s.io", "networking.k8s.io"].iter().all(|group| core.iter().any(|have| have == group))
    );
    stub.serve(CALICO);
    assert_eq!(groups().await, [&["crd.projectcalico.org".to_owned()], &core[..]].concat());
    let resources = client.list_api_group_resources("crd.projectcalico.org/v1").await.unwrap().resources;
    assert_eq!(resources.len(), CALICO.len());
    stub.unserve(CALICO);
    assert_eq!(groups().await, core);
    assert!(client.list_api_group_resources("crd.projectcalico.org/v1").await.is_err());
}
