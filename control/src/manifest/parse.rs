//! One file's text to objects: documents, lists and the kinds in them.

use serde_json::Value;

use super::object::{Id, Kind, Object};
use super::problem::{Field, Invalid, Place, Problem, Reason};
use super::read::{Read, identify, read};
use super::yaml::{self, Node};

/// What a file holds, in its order.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) objects: Vec<Found>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Id,
    pub(super) api_version: String,
    pub(super) place: Place,
    pub(super) object: Object,
}

impl Found {
    /// Whether it says the same in another API version, as Calico's objects stand in two API groups of one cluster.
    pub(super) fn is_other_form_of(&self, other: &Self) -> bool {
        self.api_version != other.api_version && self.object == other.object
    }
}

/// Reads the objects of a text. An object that is not valid becomes a problem, and the others stand; a text that is
/// no YAML is a problem as a whole.
pub(super) fn parse(text: &str, file: &Place) -> Result<Parsed, Box<Problem>> {
    let documents = yaml::documents(text)
        .map_err(|error| Box::new(Problem::new(file.at(error.line), None, Reason::Syntax(error.why))))?;
    let mut parsed = Parsed::default();
    for document in documents.nodes() {
        parsed.visit(document, None, file);
    }
    Ok(parsed)
}

/// API version and kind.
type Type<'n> = (&'n str, &'n str);

impl Parsed {
    /// Takes in an object, or each of a list's. `of_list` is the type of a typed list's items, which may not repeat it.
    fn visit(&mut self, node: Node<'_>, of_list: Option<Type<'_>>, file: &Place) {
        let place = file.at(node.line());
        let text = |key| node.get(key).and_then(Node::as_str);
        let api_version = text("apiVersion").or(of_list.map(|t| t.0));
        let kind = text("kind").or(of_list.map(|t| t.1));
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let missing = if kind.is_none() { "kind" } else { "apiVersion" };
            let reason = Reason::NotAnObject(format!("it has no `{missing}`"));
            return self.problems.push(Problem::new(place, None, reason));
        };
        if let Some(of_items) = kind.strip_suffix("List")
            && (node.get("items").is_some() || (api_version, kind) == ("v1", "List"))
        {
            let of_items = (!of_items.is_empty()).then_some((api_version, of_items));
            return self.visit_items(node, of_items, file);
        }
        let Some(known) = Kind::of(api_version, kind) else {
            let reason = Reason::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
            return self.problems.push(Problem::new(place, None, reason));
        };
        let at_fault = |invalid: &Invalid| file.at(node.line_of(&invalid.field));
        let text =
            |path: &[&str]| path.iter().try_fold(node, |node, key| node.get(key)).and_then(Node::as_str);
        let id = match identify(known, text) {
            Ok(id) => id,
            Err(invalid) => {
                let place = at_fault(&invalid);
                return self.problems.push(Problem::new(place, None, Reason::Unnamed(known, invalid)));
            }
        };
        match read_node(node, (api_version, kind), &id) {
            Ok((object, in_part)) => {
                for invalid in in_part {
                    let place = at_fault(&invalid);
                    self.problems.push(Problem::new(place, Some(id.clone()), Reason::InPart(invalid)));
                }
                self.objects.push(Found { id, api_version: api_version.to_owned(), place, object });
            }
            Err(invalid) => {
                let place = at_fault(&invalid);
                self.problems.push(Problem::new(place, Some(id), Reason::Invalid(invalid)));
            }
        }
    }

    /// A list without items, or with null as Go writes an empty slice, is an empty one.
    fn visit_items(&mut self, list: Node<'_>, of_list: Option<Type<'_>>, file: &Place) {
        let Some(items) = list.get("items").filter(|items| !items.is_null()) else { return };
        if let Some(items) = items.items() {
            return items.for_each(|item| self.visit(item, of_list, file));
        }
        let invalid = Field::Root.key("items").invalid("is not a list of objects");
        let place = file.at(list.line_of(&invalid.field));
        self.problems.push(Problem::new(place, None, Reason::Invalid(invalid)));
    }
}

fn read_node(node: Node<'_>, (api_version, kind): Type<'_>, id: &Id) -> Result<Read, Invalid> {
    let mut value = node.to_json()?;
    if let Value::Object(object) = &mut value {
        object.entry("apiVersion").or_insert_with(|| api_version.into());
        object.entry("kind").or_insert_with(|| kind.into());
    }
    read(value, id)
}
