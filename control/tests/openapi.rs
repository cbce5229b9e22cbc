//! docs/openapi.json is what the server says of itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use margay_control::admin;
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(admin::document()).unwrap()
}

#[test]
fn the_document_is_what_the_server_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let said = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if env::var_os("ACCEPT").is_some() {
        fs::write(&file, &said).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let how = "ACCEPT=1 cargo test -p margay-control --test openapi writes it anew";
    assert!(written == said, "docs/openapi.json is not what the server says: {how}");
}

/// Every `$ref` of the document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn whoever_reads_it_finds_all_that_it_refers_to_and_what_each_path_is_for() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("all in one document");
        assert!(document.pointer(pointer).is_some(), "{reference} is not there");
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with("/v1/"), "{path}");
        for (method, operation) in methods.as_object().unwrap() {
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "nothing says what {method} {path} is for");
        }
    }
}
