//! What a client of the server in memory sees.

use std::sync::Arc;

use futures::AsyncBufReadExt;
use futures::stream::StreamExt;
use hyper::Request;
use margay_flowtable::Policies;
use serde_json::Value;

use super::*;
use crate::control::churn::Kind as ChangeKind;
use crate::control::verdicts::Verdicts;

const SIZE: Size = Size { pods: 120, policies: 8, namespaces: 4, nodes: 2 };

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    client.request(Request::get(path).body(Vec::new()).unwrap()).await
}

/// The first events of a watch.
async fn events(client: &Client, path: &str, count: usize) -> Vec<Value> {
    let lines = client.request_stream(Request::get(path).body(Vec::new()).unwrap()).await.unwrap().lines();
    let lines: Vec<_> = lines.take(count).collect().await;
    lines.into_iter().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// Writes, and says whether that was acknowledged.
fn write(server: &MemoryServer, pod: u32, kind: ChangeKind, becomes: Option<PodState>) -> bool {
    let verdicts = Arc::new(Verdicts::default());
    let address = SIZE.pod_address(pod);
    verdicts.expect((pod, SIZE.pod_name(pod)), address, kind, margay_flowtable::Verdict::Allow);
    verdicts.look(&Policies::default(), Instant::now());
    server.write(Change { pod, kind, becomes }, Ticket::new(&verdicts, pod));
    verdicts.outstanding() == 0
}

fn versions(page: &Value) -> (u64, Vec<&str>) {
    let names =
        page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap());
    (page["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap(), names.collect())
}

#[test]
fn lists_come_by_pages_and_without_what_is_gone() {
    let server = MemoryServer::new(SIZE, Lists::Paged);
    block_on(async {
        let client = server.client();
        let first = get(&client, "/api/v1/pods?limit=100").await.unwrap();
        let (version, names) = versions(&first);
        assert_eq!((names.len(), names[99]), (100, "pod-99"));
        let next = first["metadata"]["continue"].as_str().unwrap();
        assert!(write(&server, 110, ChangeKind::Removed, None));
        let last = get(&client, &format!("/api/v1/pods?limit=100&continue={next}")).await.unwrap();
        assert_eq!(last["metadata"]["continue"], "");
        let (later, names) = versions(&last);
        assert_eq!((later, names.len()), (version + 1, 19));
        assert!(!names.contains(&"pod-110"));
        let nodes = get(&client, "/api/v1/nodes").await.unwrap();
        assert_eq!(versions(&nodes).1, ["node-0", "node-1", "gateway"]);
        let none = get(&client, "/apis/discovery.k8s.io/v1/endpointslices?limit=5").await.unwrap();
        assert_eq!((none["kind"].as_str(), versions(&none).1.len()), (Some("EndpointSliceList"), 0));
        let missing = get(&client, "/apis/crd.projectcalico.org/v1/ippools").await.unwrap_err();
        assert!(matches!(missing, kube::Error::Api(status) if status.code == 404));
        let groups = client.list_api_groups().await.unwrap();
        assert_eq!(groups.groups.len(), 2);
    });
}

#[test]
fn a_watch_begins_behind_the_version_that_it_names() {
    let server = MemoryServer::new(SIZE, Lists::Paged);
    let relabelled = Some(PodState { app: 7, incarnation: 0 });
    assert!(write(&server, 1, ChangeKind::Removed, None));
    assert!(write(&server, 2, ChangeKind::Relabelled, relabelled));
    assert!(write(&server, 1, ChangeKind::Added, Some(PodState { app: 7, incarnation: 1 })));
    let seen = block_on(async {
        let client = server.client();
        events(&client, &format!("/api/v1/pods?watch=true&resourceVersion={}", FIRST_VERSION + 1), 2).await
    });
    let said = |event: &Value| {
        let object = &event["object"];
        let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        [&event["type"], &object["kind"], &object["metadata"]["name"], &object["metadata"]["labels"]["app"]]
            .map(field)
    };
    assert_eq!(said(&seen[0]), ["MODIFIED", "Pod", "pod-2", "app-7"]);
    assert_eq!(said(&seen[1]), ["ADDED", "Pod", "pod-1", "app-7"]);
}

#[test]
fn a_list_is_streamed_where_that_is_asked_for_and_can_be() {
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let refused = MemoryServer::new(SIZE, Lists::Paged);
    block_on(async {
        let error = get(&refused.client(), path).await.unwrap_err();
        assert!(matches!(error, kube::Error::Api(status) if status.code == 422));
    });
    let server = MemoryServer::new(SIZE, Lists::Streaming);
    let seen = block_on(async { events(&server.client(), path, 121).await });
    assert!(seen[..120].iter().all(|event| event["type"] == "ADDED" && event["object"]["kind"] == "Pod"));
    let bookmark = &seen[120]["object"]["metadata"];
    assert_eq!(bookmark["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["resourceVersion"], FIRST_VERSION.to_string());
}
