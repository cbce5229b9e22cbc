//! YAML text to JSON values that remember their lines.
//!
//! JSON is read by the same parser: what Kubernetes prints as JSON is YAML too.

use saphyr::{MarkedYaml, Scalar, ScanError, YamlData, YamlLoader};
use saphyr_parser::{Event, Parser, SpannedEventReceiver};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::problem::{FieldPath, Invalid, Step};

/// Deeper nesting than any object has; without a limit a hostile file could exhaust the stack.
const MAX_DEPTH: usize = 128;

/// The documents of a text that have content.
#[derive(Debug)]
pub(crate) struct Documents<'a>(Vec<MarkedYaml<'a>>);

/// A YAML node and everything below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'n>(&'n MarkedYaml<'n>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) why: String,
}

pub(crate) fn documents(text: &str) -> Result<Documents<'_>, SyntaxError> {
    let at = |error: &ScanError| SyntaxError { line: error.marker().line(), why: error.info().to_owned() };
    let mut loader = YamlLoader::default();
    let mut depth = 0;
    // Event by event: the parser's own loop calls itself at each level, and a deep text would exhaust the stack.
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| at(&error))?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth -= 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            let why = format!("it is nested deeper than {MAX_DEPTH} levels");
            return Err(SyntaxError { line: span.start.line(), why });
        }
        loader.on_event(event, span);
    }
    if let Some(error) = loader.error() {
        return Err(at(error));
    }
    let mut documents: Vec<MarkedYaml<'_>> = loader.into_documents();
    documents.retain(|node| !matches!(node.data, YamlData::Value(Scalar::Null) | YamlData::BadValue));
    Ok(Documents(documents))
}

impl Documents<'_> {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.0.iter().map(Node)
    }
}

impl<'n> Node<'n> {
    /// Line that the node starts on, from 1.
    pub(crate) fn line(self) -> usize {
        self.0.span.start.line()
    }

    /// The items of a sequence.
    pub(crate) fn items(self) -> Option<impl Iterator<Item = Node<'n>>> {
        Some(self.0.data.as_sequence()?.iter().map(Node))
    }

    /// The value of a mapping's key.
    pub(crate) fn get(self, key: &str) -> Option<Node<'n>> {
        self.0.data.as_mapping_get(key).map(Node)
    }

    pub(crate) fn is_null(self) -> bool {
        self.0.data.is_null()
    }

    pub(crate) fn as_str(self) -> Option<&'n str> {
        self.0.data.as_str()
    }

    /// Line of the field that `path` names, or of the last step of it that exists.
    pub(crate) fn line_of(self, path: &FieldPath) -> usize {
        let mut node = self.0;
        let mut line = self.line();
        for step in &path.0 {
            let next = match (step, &node.data) {
                (Step::Key(key), YamlData::Mapping(mapping)) => mapping
                    .iter()
                    .find(|(k, _)| key_text(k).is_some_and(|k| k == *key))
                    .map(|(k, value)| (k.span.start.line(), value)),
                (Step::Index(index), YamlData::Sequence(items)) => {
                    items.get(*index).map(|item| (item.span.start.line(), item))
                }
                _ => None,
            };
            let Some(next) = next else { break };
            (line, node) = next;
        }
        line
    }

    /// The same as JSON. What JSON cannot say (a mapping as key, a value at odds with its tag) is an error.
    pub(crate) fn to_json(self) -> Result<Value, Invalid> {
        json(self.0, &mut FieldPath::default())
    }

    /// Reads the node into `T`; an error names the field.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, Invalid> {
        read(self.to_json()?)
    }
}

/// Reads a value into `T`; an error names the field.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Invalid> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| Invalid { field: error.path().into(), why: shorten(error.inner().to_string()) })
}

/// An error may quote the value, however long it is.
fn shorten(mut why: String) -> String {
    const LONGEST: usize = 300;
    if let Some((end, _)) = why.char_indices().nth(LONGEST) {
        why.truncate(end);
        why.push_str("...");
    }
    why
}

fn json(node: &MarkedYaml<'_>, path: &mut FieldPath) -> Result<Value, Invalid> {
    let value = match &node.data {
        YamlData::Value(scalar) => scalar_json(scalar),
        YamlData::Sequence(items) => {
            let mut array = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                path.0.push(Step::Index(i));
                array.push(json(item, path)?);
                path.0.pop();
            }
            Value::Array(array)
        }
        YamlData::Mapping(mapping) => {
            let mut object = Map::with_capacity(mapping.len());
            for (key, value) in mapping {
                let Some(key) = key_text(key) else {
                    return Err(Invalid { field: path.clone(), why: "a key is not a string".into() });
                };
                path.0.push(Step::Key(key.clone()));
                let value = json(value, path)?;
                path.0.pop();
                object.insert(key, value);
            }
            Value::Object(object)
        }
        YamlData::Tagged(_, inner) => json(inner, path)?,
        YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
            let why = "the value does not fit its tag, or names an unknown anchor";
            return Err(Invalid { field: path.clone(), why: why.into() });
        }
    };
    Ok(value)
}

fn scalar_json(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => Value::Number((*value).into()),
        // Infinities and NaN have no JSON number.
        Scalar::FloatingPoint(value) => Number::from_f64(value.0).map_or(Value::Null, Value::Number),
        Scalar::String(value) => Value::String(value.to_string()),
    }
}

/// A mapping's key as the API server's YAML reader takes it: numbers and booleans are their text.
fn key_text(key: &MarkedYaml<'_>) -> Option<String> {
    match &key.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(value)) => Some(value.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        documents(text).unwrap().nodes().next().unwrap().to_json().unwrap()
    }

    #[test]
    fn scalars_are_what_kubectl_means() {
        let text = "a: 'true'\nb: true\nc: null\nd:\ne: '80'\nf: 80\ng: 1.5\nh: \"yes\"\ni: ~\n1: x\nj: 0o17\nk: {}\nl: []\n";
        assert_eq!(
            one(text),
            json!({
                "a": "true", "b": true, "c": null, "d": null, "e": "80", "f": 80, "g": 1.5, "h": "yes", "i": null,
                "1": "x", "j": 15, "k": {}, "l": [],
            })
        );
    }

    #[test]
    fn documents_without_content_are_left_out() {
        assert_eq!(documents("---\n# nothing\n---\na: 1\n---\n...\n").unwrap().nodes().count(), 1);
        assert_eq!(documents("").unwrap().nodes().count(), 0);
        assert_eq!(documents("\u{feff}a: 1\n").unwrap().nodes().count(), 1);
    }

    #[test]
    fn json_text_is_read_and_keeps_lines() {
        let documents = documents("{\n  \"a\": [1,\n    {\"b\": null}]\n}\n").unwrap();
        let node = documents.nodes().next().unwrap();
        assert_eq!(node.to_json().unwrap(), json!({"a": [1, {"b": null}]}));
        let path = FieldPath(vec![Step::Key("a".into()), Step::Index(1), Step::Key("b".into())]);
        assert_eq!(node.line_of(&path), 3);
    }

    #[test]
    fn line_of_a_missing_field_is_that_of_its_parent() {
        let documents = documents("---\nspec:\n  rules:\n  - port: 1\n  - name: x\n").unwrap();
        for (path, line) in [
            (vec![], 2),
            (vec![Step::Key("spec".into())], 2),
            (vec![Step::Key("spec".into()), Step::Key("rules".into()), Step::Index(1)], 5),
            (
                vec![
                    Step::Key("spec".into()),
                    Step::Key("rules".into()),
                    Step::Index(0),
                    Step::Key("none".into()),
                ],
                4,
            ),
        ] {
            assert_eq!(documents.nodes().next().unwrap().line_of(&FieldPath(path.clone())), line, "{path:?}");
        }
    }

    #[test]
    fn what_is_no_yaml_names_its_line() {
        assert_eq!(documents("a: 1\nb: [1, 2\nc: 3\n").unwrap_err().line, 3);
        assert_eq!(
            documents("a: 1\na: 2\n").unwrap_err(),
            SyntaxError { line: 2, why: "duplicated key in mapping".into() }
        );
    }

    #[test]
    fn hostile_nesting_and_aliases_are_refused() {
        for text in ["- ".repeat(200_000), "[".repeat(200_000), "{a: ".repeat(200_000), "? ".repeat(100_000)]
        {
            assert!(documents(&text).is_err());
        }
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
            writeln!(laughs, "a{i}: &a{i} [{aliases}]").unwrap();
        }
        assert!(documents(&laughs).is_err());
    }
}
