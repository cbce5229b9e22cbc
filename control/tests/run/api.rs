//! The admin API of a running gateway, held against the document that it says of itself.

use std::path::Path;

use margay_control::admin;
use serde_json::{Value, json};

use crate::world::World;

/// Every path that is asked by GET, with parameters that show much.
const ASKED: [(&str, &str); 10] = [
    ("/v1/drops", ""),
    ("/v1/endpoints", ""),
    ("/v1/flows", "?sort=bytes&rates=true"),
    ("/v1/policies", ""),
    ("/v1/ports", ""),
    ("/v1/routes", ""),
    ("/v1/status", ""),
    ("/v1/tunnels", ""),
    ("/v1/version", ""),
    ("/v1/workers", ""),
];

fn get(socket: &Path, path: &str) -> Result<Value, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin::get(socket, path)).map_err(|error| error.to_string())
}

/// What the document says of an operation's success, as a schema of its own.
fn schema(document: &Value, path: &str, method: &str) -> jsonschema::Validator {
    let pointer =
        format!("/paths/{}/{method}/responses/200/content/application~1json/schema", path.replace('/', "~1"));
    let answer = document.pointer(&pointer).unwrap_or_else(|| panic!("{pointer} is not in the document"));
    let whole = json!({ "allOf": [answer], "components": document["components"] });
    jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_fits(document: &Value, path: &str, method: &str, answer: &Value) {
    let errors: Vec<String> = schema(document, path, method)
        .iter_errors(answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{path} does not answer what its document says: {errors:#?}\n{answer:#}");
}

#[test]
fn answers_are_what_the_document_says() {
    let mut world = World::new();
    world.start();
    world.until("ready", |status| status.ready);
    assert!(world.pings());
    let socket = world.path("socket");
    let document = get(&socket, "/v1/openapi.json").unwrap();
    for (path, parameters) in ASKED {
        let answer = get(&socket, &format!("{path}{parameters}")).unwrap();
        assert_fits(&document, path, "get", &answer);
    }
    let flows = get(&socket, "/v1/flows").unwrap();
    let flow = &flows["flows"][0];
    assert_eq!((&flow["protocol"], &flow["dst_name"]), (&json!(1), &json!("default/web")), "{flows:#}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let probe = json!({ "from": "192.0.2.2", "to": "default/web", "proto": "tcp", "port": 80 });
    let explained: Value = runtime.block_on(admin::post(&socket, "/v1/explain", &probe)).unwrap();
    assert_fits(&document, "/v1/explain", "post", &explained);

    let asked: Vec<&str> = ASKED.iter().map(|(path, _)| *path).collect();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let is_tried =
            path == "/v1/openapi.json" || methods.get("get").is_none() || asked.contains(&path.as_str());
        assert!(is_tried, "nothing tries {path}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_reason() {
    let mut world = World::new();
    world.start();
    world.until("ready", |status| status.ready);
    let socket = world.path("socket");
    let long = format!("/v1/drops?reason={}", "x".repeat(20_000));
    for (path, code, why) in [
        ("/v1/nothing", "404", "/v1/status"),
        ("/v1/explain", "405", "no GET of /v1/explain"),
        ("/v1/ports/eth0", "404", "no /v1/ports/eth0"),
        ("/v1/flows?colour=red", "400", "unknown field `colour`"),
        ("/v1/flows?limit=many", "400", "limit"),
        ("/v1/flows?limit=10001", "400", "limit is 1 to 10000"),
        ("/v1/flows?port=65536", "400", "port"),
        ("/v1/flows?cursor=%ff", "400", ""),
        ("/v1/flows?sort=size", "400", "unknown variant `size`"),
        ("/v1/routes?after=10.0.0.0%2F33", "400", "after"),
        ("/v1/routes?address=nowhere", "400", "address"),
        ("/v1/endpoints?after=web", "400", "NAMESPACE/NAME"),
        ("/v1/endpoints?limit=0", "400", "limit is 1 to 10000"),
        ("/v1/drops?reason=", "400", "there are runt"),
        (&long, "400", "no reason"),
    ] {
        let refusal = get(&socket, path).unwrap_err();
        assert!(refusal.contains(code) && refusal.contains(why), "{path}: {refusal}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let too_long = json!({ "from": "x".repeat(100_000) });
    let refused = runtime.block_on(admin::post::<Value>(&socket, "/v1/explain", &too_long)).unwrap_err();
    assert!(refused.to_string().contains("413"), "{refused}");
    assert!(get(&socket, "/v1/version").is_ok(), "it goes on");
}
