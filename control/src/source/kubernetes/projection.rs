//! What of an object is kept while its JSON is read. The rest never becomes a value: `managedFields` alone are often half
//! of an object, and a pod's containers most of the other.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A part of an object. Where the JSON has another shape than is meant, it is kept whole: whoever reads it says what is
/// wrong with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    All,
    /// These fields, and of each its part.
    Fields(&'static [(&'static str, Keep)]),
    /// Of each item of a list this part.
    Items(&'static Keep),
    /// The fields whose names begin so.
    Prefixed(&'static str),
}

impl Keep {
    fn of_field(self, name: &str) -> Option<Self> {
        match self {
            Self::All | Self::Items(_) => Some(Self::All),
            Self::Fields(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, keep)| *keep),
            Self::Prefixed(prefix) => name.starts_with(prefix).then_some(Self::All),
        }
    }

    fn of_item(self) -> Self {
        match self {
            Self::Items(keep) => *keep,
            _ => Self::All,
        }
    }

    pub(super) fn read(self, json: &[u8]) -> Result<Value, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let value = self.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.of_item())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<std::borrow::Cow<'_, str>>()? {
            match self.of_field(&name) {
                Some(keep) => {
                    let value = object.next_value_seed(keep)?;
                    fields.insert(name.into_owned(), value);
                }
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEEP: Keep = Keep::Fields(&[
        ("name", Keep::All),
        ("notes", Keep::Prefixed("a/")),
        ("parts", Keep::Items(&Keep::Fields(&[("port", Keep::All)]))),
    ]);

    #[test]
    fn what_is_named_is_kept_and_nothing_else() {
        let object = json!({
            "name": {"all": [1, -2, 2.5, null, true]}, "other": {"deep": [{}]},
            "notes": {"a/b": "c", "b": "d"}, "parts": [{"port": 1, "image": "x"}, {"image": "y"}],
        });
        let kept = json!({
            "name": {"all": [1, -2, 2.5, null, true]}, "notes": {"a/b": "c"}, "parts": [{"port": 1}, {}],
        });
        assert_eq!(KEEP.read(object.to_string().as_bytes()).unwrap(), kept);
    }

    #[test]
    fn what_has_another_shape_is_kept_whole() {
        let object = json!({"name": 1, "notes": "a", "parts": {"port": {"x": 1}}});
        assert_eq!(KEEP.read(object.to_string().as_bytes()).unwrap(), object);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "{\"name\": tru", "nonsense", &"[".repeat(1_000_000)] {
            assert!(KEEP.read(text.as_bytes()).is_err());
        }
    }
}
