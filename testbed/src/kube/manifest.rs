//! YAML of manifests, as the JSON that an API server takes.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The objects of a text, those of a `List` each by itself.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    // A namespace may be called `y`, which was true in YAML 1.1.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).context("no YAML")?;
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
