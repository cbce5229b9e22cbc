//! JSON with gaps: the world's objects differ in a few strings, and are written a hundred thousand times.

use serde_json::Value;

/// An object's JSON, cut where a variable stands in it.
#[derive(Debug)]
pub(super) struct Template {
    /// What stands before each variable, and which it is.
    parts: Vec<(String, usize)>,
    end: String,
}

impl Template {
    /// Of an object in whose strings `<name>` stands for the variable of that name.
    pub(super) fn new(object: &Value, names: &[&str]) -> Self {
        let mut rest = object.to_string();
        let mut parts = Vec::new();
        let next = |text: &str| {
            let found = names.iter().enumerate().filter_map(|(variable, name)| {
                let marker = format!("<{name}>");
                text.find(&marker).map(|at| (at, at + marker.len(), variable))
            });
            found.min()
        };
        while let Some((start, end, variable)) = next(&rest) {
            let after = rest.split_off(end);
            rest.truncate(start);
            parts.push((std::mem::replace(&mut rest, after), variable));
        }
        Self { parts, end: rest }
    }

    /// Appends the object with these values, none of which needs an escape.
    pub(super) fn write(&self, values: &[&str], out: &mut Vec<u8>) {
        for (before, variable) in &self.parts {
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(values[*variable].as_bytes());
        }
        out.extend_from_slice(self.end.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_stand_where_their_names_stood() {
        let object = json!({"a": "<x>", "b": ["<y>-<x>", "<z>", 1]});
        let template = Template::new(&object, &["x", "y"]);
        let mut out = Vec::new();
        template.write(&["1", "2"], &mut out);
        let expected = json!({"a": "1", "b": ["2-1", "<z>", 1]});
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }
}
