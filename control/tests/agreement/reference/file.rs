//! YAML files to JSON values.

use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

/// The documents of each file of a directory, in the order of their names; a List's are its items.
pub(crate) fn objects(directory: &Path) -> Vec<Value> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let documents = files.iter().flat_map(|file| documents(file));
    let unlisted = documents.flat_map(|document| match document["kind"].as_str() {
        Some("List") => document["items"].as_array().cloned().unwrap_or_default(),
        _ => vec![document],
    });
    unlisted.collect()
}

/// The probes of a file.
pub(crate) fn probes(file: &Path) -> Vec<Value> {
    let lists = documents(file).into_iter().map(|document| document.as_array().expect("a list").clone());
    lists.flatten().collect()
}

/// The documents of a file that say something.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    documents.iter().map(json).filter(|document| !document.is_null()).collect()
}

fn json(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.0.into(),
        Yaml::Value(Scalar::String(value)) => value.to_string().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(mapping) => mapping
            .iter()
            .map(|(key, value)| (key.as_str().expect("a text key").to_owned(), json(value)))
            .collect(),
        _ => Value::Null,
    }
}
