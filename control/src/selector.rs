//! Kubernetes label selectors: what they select, in a form in which equal selectors compare equal.

use std::collections::BTreeSet;

use crate::state::Labels;

/// All of its requirements hold. None: it selects everything.
///
/// Requirements are sorted and unique, so that two spellings of one selector are one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement on one label; `matchLabels: {key: value}` is `In` with one value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    In(String, BTreeSet<String>),
    /// True also where the label is missing.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let sorted: BTreeSet<Requirement> = requirements.into_iter().collect();
        Self { requirements: sorted.into_iter().collect() }
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn values(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|v| (*v).to_owned()).collect()
    }

    #[test]
    fn requirements_hold_as_the_api_says() {
        let web = labels(&[("app", "web"), ("empty", "")]);
        let cases = [
            (Requirement::In("app".into(), values(&["web", "db"])), true),
            (Requirement::In("app".into(), values(&["db"])), false),
            (Requirement::In("absent".into(), values(&["web"])), false),
            (Requirement::In("absent".into(), values(&[""])), false),
            (Requirement::In("empty".into(), values(&[""])), true),
            (Requirement::NotIn("app".into(), values(&["web"])), false),
            (Requirement::NotIn("app".into(), values(&["db"])), true),
            (Requirement::NotIn("absent".into(), values(&["db"])), true),
            (Requirement::Exists("empty".into()), true),
            (Requirement::Exists("absent".into()), false),
            (Requirement::DoesNotExist("app".into()), false),
            (Requirement::DoesNotExist("absent".into()), true),
        ];
        for (requirement, expected) in cases {
            assert_eq!(requirement.matches(&web), expected, "{requirement:?}");
        }
    }

    #[test]
    fn all_requirements_must_hold_and_none_selects_all() {
        let app = Requirement::In("app".into(), values(&["web"]));
        let both = Selector::new([app.clone(), Requirement::Exists("tier".into())]);
        assert!(!both.matches(&labels(&[("app", "web")])));
        assert!(both.matches(&labels(&[("app", "web"), ("tier", "1")])));
        assert!(Selector::default().matches(&Labels::new()));
        assert_eq!(both, Selector::new([Requirement::Exists("tier".into()), app.clone(), app]));
    }
}
