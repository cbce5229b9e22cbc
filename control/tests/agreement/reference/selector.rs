//! Selectors: Calico's expressions, evaluated while they are read, and Kubernetes' label selectors.

use serde_json::Value;

use super::items;

/// What a selector is asked about.
pub(crate) trait Subject {
    fn label(&self, key: &str) -> Option<&str>;
    /// What `all()` says here.
    fn is_any(&self) -> bool;
    /// What `global()` says here.
    fn is_global(&self) -> bool;
}

/// Whether the expression holds; an empty one does.
pub(crate) fn holds(expression: &str, subject: &dyn Subject) -> bool {
    let mut reader = Reader { rest: expression, subject };
    reader.skip_blanks();
    if reader.rest.is_empty() {
        return subject.is_any();
    }
    let value = reader.or();
    assert!(reader.rest.is_empty(), "{expression}: left over: {}", reader.rest);
    value
}

struct Reader<'a> {
    rest: &'a str,
    subject: &'a dyn Subject,
}

impl<'a> Reader<'a> {
    fn or(&mut self) -> bool {
        let mut value = self.and();
        while self.take("||") {
            value |= self.and();
        }
        value
    }

    fn and(&mut self) -> bool {
        let mut value = self.operand();
        while self.take("&&") {
            value &= self.operand();
        }
        value
    }

    fn operand(&mut self) -> bool {
        if !self.rest.starts_with("!=") && self.take("!") {
            return !self.operand();
        }
        if self.take("(") {
            let value = self.or();
            self.expect(")");
            return value;
        }
        if self.take("has(") {
            let key = self.label();
            self.expect(")");
            return self.subject.label(key).is_some();
        }
        if self.take("all(") {
            self.expect(")");
            return self.subject.is_any();
        }
        if self.take("global(") {
            self.expect(")");
            return self.subject.is_global();
        }
        self.comparison()
    }

    /// A missing label differs from everything, and is in no set; all other comparisons are false of it.
    fn comparison(&mut self) -> bool {
        let key = self.label();
        let value = self.subject.label(key);
        if self.take("==") {
            let wanted = self.string();
            return value == Some(wanted);
        }
        if self.take("!=") {
            let unwanted = self.string();
            return value != Some(unwanted);
        }
        if self.word("contains") {
            let part = self.string();
            return value.is_some_and(|value| value.contains(part));
        }
        if self.words("starts", "with") {
            let part = self.string();
            return value.is_some_and(|value| value.starts_with(part));
        }
        if self.words("ends", "with") {
            let part = self.string();
            return value.is_some_and(|value| value.ends_with(part));
        }
        if self.words("not", "in") {
            let set = self.set();
            return value.is_none_or(|value| !set.contains(&value));
        }
        assert!(self.word("in"), "no operator: {}", self.rest);
        let set = self.set();
        value.is_some_and(|value| set.contains(&value))
    }

    fn set(&mut self) -> Vec<&'a str> {
        self.expect("{");
        let mut set = Vec::new();
        while !self.take("}") {
            set.push(self.string());
            if !self.take(",") {
                self.expect("}");
                break;
            }
        }
        set
    }

    fn string(&mut self) -> &'a str {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')).expect("a quoted string");
        let (string, rest) = self.rest[1..].split_once(quote).expect("a closing quote");
        self.rest = rest;
        self.skip_blanks();
        string
    }

    fn label(&mut self) -> &'a str {
        let is_label = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        let end = self.rest.find(|c| !is_label(c)).unwrap_or(self.rest.len());
        assert!(end > 0, "no label: {}", self.rest);
        let (label, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_blanks();
        label
    }

    fn words(&mut self, first: &str, second: &str) -> bool {
        let before = self.rest;
        if self.take(first) && self.word(second) {
            return true;
        }
        self.rest = before;
        false
    }

    fn word(&mut self, word: &str) -> bool {
        self.take(word)
    }

    fn expect(&mut self, token: &str) {
        assert!(self.take(token), "no {token}: {}", self.rest);
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        self.skip_blanks();
        true
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// Whether a Kubernetes label selector holds; a missing or empty one does.
pub(crate) fn selects(selector: &Value, label: impl Fn(&str) -> Option<String>) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key).as_deref() == value.as_str());
    let expressions = items(selector, "matchExpressions").all(|expression| {
        let value = label(expression["key"].as_str().expect("a key"));
        let listed = items(expression, "values").any(|listed| listed.as_str() == value.as_deref());
        match expression["operator"].as_str() {
            Some("In") => value.is_some() && listed,
            Some("NotIn") => value.is_none() || !listed,
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            other => panic!("operator {other:?}"),
        }
    });
    equal && expressions
}
