//! YAML of manifests, as the JSON that an API server takes.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The objects of a text, those of a `List` each by itself.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("no YAML")?;
    let mut objects = Vec::new();
    for mut document in documents {
        if document["kind"] == "List" {
            let Value::Array(items) = document["items"].take() else { bail!("a List without items") };
            objects.extend(items);
        } else if !document.is_null() {
            objects.push(document);
        }
    }
    Ok(objects)
}
