//! Which clusters are written to.

use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{CONCURRENCY, PAGE, Writer};
use crate::control::objects::{MADE_HERE, Objects};
use crate::world::Size;

/// Checks a cluster that answers with these objects, and says what was asked.
fn check(marker: Option<Value>, node: Option<&'static str>) -> (Result<(), String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        heard.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let names = node.filter(|_| request.uri().path().ends_with("/nodes")).into_iter();
        let items: Vec<Value> = names.map(|name| json!({"metadata": {"name": name}})).collect();
        let (code, answer) = match (request.uri().path().ends_with("/margay-perf"), &marker) {
            (true, Some(marker)) => (StatusCode::OK, marker.clone()),
            (true, None) => {
                let status = json!({"kind": "Status", "status": "Failure", "message": "none", "reason": "NotFound", "code": 404});
                (StatusCode::NOT_FOUND, status)
            }
            (false, _) => (StatusCode::OK, json!({"items": items})),
        };
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = code;
        async move { Ok::<_, std::io::Error>(response) }
    });
    let result = runtime.block_on(async {
        let writer = Writer {
            client: kube::Client::new(service, "default"),
            server: "https://a.example/".to_owned(),
            kubeconfig: "a.conf".into(),
            objects: Objects::new(Size { pods: 20, policies: 1, namespaces: 1, nodes: 1 }),
            slots: Semaphore::new(CONCURRENCY),
        };
        writer.check().await.map_err(|error| format!("{error:#}"))
    });
    let asked = asked.lock().unwrap().clone();
    (result, asked)
}

fn marker(value: &str) -> Value {
    json!({"metadata": {"name": "margay-perf", "labels": {"margay.dev/perf": value}}})
}

#[test]
fn only_a_cluster_that_says_so_and_is_nobody_s_is_written_to() {
    let cases = [
        (None, None, Some("https://a.example/ is not marked as a cluster to fill with pods and to empty")),
        (Some(marker("precious")), None, Some("kubectl --kubeconfig a.conf label namespace margay-perf")),
        (Some(json!({"metadata": {"name": "margay-perf"}})), None, Some("is not marked")),
        (
            Some(marker("disposable")),
            Some("worker-1"),
            Some("it has Node worker-1, which this command has not made"),
        ),
        (Some(marker("disposable")), None, None),
    ];
    for (marker, node, refused) in cases {
        let (result, asked) = check(marker.clone(), node);
        match refused {
            None => assert_eq!(result, Ok(())),
            Some(why) => {
                let said = result.expect_err("refused");
                assert!(said.contains(why), "{said}");
            }
        }
        assert!(asked.iter().all(|request| request.starts_with("GET ")), "{asked:?}");
        let others = format!("GET /api/v1/pods?limit={PAGE}&labelSelector=%21{MADE_HERE}");
        assert_eq!(asked.contains(&others), refused.is_none(), "{asked:?}");
    }
}
