//! Selectors against a naive evaluator of the grammar, and texts that are made to hurt.

use std::cmp::Ordering;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use margay_control::selector::Selector;
use margay_control::state::Labels;
use proptest::prelude::*;
use proptest::sample::select;

/// What a text says, as it is written.
#[derive(Clone, Debug)]
enum Tree {
    All,
    Has(&'static str),
    Is(&'static str, &'static str),
    In(&'static str, Vec<&'static str>),
    Contains(&'static str, &'static str),
    StartsWith(&'static str, &'static str),
    EndsWith(&'static str, &'static str),
    Not(Box<Tree>),
    AllOf(Vec<Tree>),
    AnyOf(Vec<Tree>),
}

impl Tree {
    fn holds(&self, labels: &Labels) -> bool {
        let value = |key: &str| labels.get(key);
        match self {
            Self::All => true,
            Self::Has(key) => value(key).is_some(),
            Self::Is(key, wanted) => value(key).is_some_and(|value| value == wanted),
            Self::In(key, wanted) => value(key).is_some_and(|value| wanted.contains(&value.as_str())),
            Self::Contains(key, piece) => value(key).is_some_and(|value| value.contains(piece)),
            Self::StartsWith(key, piece) => value(key).is_some_and(|value| value.starts_with(piece)),
            Self::EndsWith(key, piece) => value(key).is_some_and(|value| value.ends_with(piece)),
            Self::Not(inner) => !inner.holds(labels),
            Self::AllOf(parts) => parts.iter().all(|part| part.holds(labels)),
            Self::AnyOf(parts) => parts.iter().any(|part| part.holds(labels)),
        }
    }

    fn text(&self) -> String {
        let list = |parts: &[Self], operator| {
            format!("({})", parts.iter().map(Self::text).collect::<Vec<_>>().join(operator))
        };
        match self {
            Self::All => "all()".into(),
            Self::Has(key) => format!("has({key})"),
            Self::Is(key, value) => format!("{key} == '{value}'"),
            Self::In(key, values) => format!(
                "{key} in {{{}}}",
                values.iter().fold(String::new(), |set, v| format!("{set}'{v}', "))
            ),
            Self::Contains(key, piece) => format!("{key} contains '{piece}'"),
            Self::StartsWith(key, piece) => format!("{key} starts with '{piece}'"),
            Self::EndsWith(key, piece) => format!("{key} ends with '{piece}'"),
            Self::Not(inner) => format!("!{}", inner.text()),
            Self::AllOf(parts) => list(parts, " && "),
            Self::AnyOf(parts) => list(parts, "||"),
        }
    }

    /// Another way to say the same; each bit of `turns` decides at one node.
    fn otherwise(&self, turns: &mut u64) -> Self {
        *turns = turns.rotate_right(1);
        let turned = *turns & 1 == 1;
        let not = |tree: &Self| Self::Not(tree.clone().into());
        match self {
            Self::Is(key, value) if turned => Self::In(key, vec![value, value]),
            Self::In(key, values) if turned && !values.is_empty() => {
                Self::AnyOf(values.iter().rev().map(|value| Self::Is(key, value)).collect())
            }
            Self::AllOf(parts) | Self::AnyOf(parts) => {
                let mut parts: Vec<_> = parts.iter().rev().map(|part| part.otherwise(turns)).collect();
                parts.push(parts[0].clone());
                match (self, turned) {
                    (Self::AllOf(_), false) => Self::AllOf(parts),
                    (Self::AllOf(_), true) => not(&Self::AnyOf(parts.iter().map(not).collect())),
                    (_, false) => Self::AnyOf(parts),
                    (_, true) => not(&Self::AllOf(parts.iter().map(not).collect())),
                }
            }
            Self::Not(inner) => Self::Not(inner.otherwise(turns).into()),
            other if turned => not(&not(other)),
            other => other.clone(),
        }
    }
}

fn key() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn value() -> impl Strategy<Value = &'static str> {
    select(vec!["", "x", "y", "xy", "\"x"])
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        1 => Just(Tree::All),
        4 => key().prop_map(Tree::Has),
        6 => (key(), value()).prop_map(|(key, value)| Tree::Is(key, value)),
        6 => (key(), prop::collection::vec(value(), 0..4)).prop_map(|(key, values)| Tree::In(key, values)),
        2 => (key(), value()).prop_map(|(key, piece)| Tree::Contains(key, piece)),
        2 => (key(), value()).prop_map(|(key, piece)| Tree::StartsWith(key, piece)),
        2 => (key(), value()).prop_map(|(key, piece)| Tree::EndsWith(key, piece)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let list = || prop::collection::vec(inner.clone(), 1..5);
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(tree.into())),
            list().prop_map(Tree::AllOf),
            list().prop_map(Tree::AnyOf),
        ]
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    let some = prop::collection::btree_map(key(), value(), 0..4);
    some.prop_map(|some| some.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

fn hash(selector: &Selector) -> u64 {
    let mut hasher = DefaultHasher::new();
    selector.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_selector_selects_what_its_text_says(tree in tree(), sets in prop::collection::vec(labels(), 1..8)) {
        let selector = Selector::parse(&tree.text()).unwrap();
        let opposite = selector.clone().not();
        let prefixed = selector.prefixed("p.");
        for labels in sets {
            let with_prefix: Labels = labels.iter().map(|(k, v)| (format!("p.{k}"), v.clone())).collect();
            let expected = tree.holds(&labels);
            prop_assert_eq!(selector.matches(&labels), expected, "{} as {}", tree.text(), selector);
            prop_assert_eq!(opposite.matches(&labels), !expected, "{} as {}", tree.text(), opposite);
            prop_assert_eq!(prefixed.matches(&with_prefix), expected, "{}", prefixed);
        }
        prop_assert_eq!(opposite.not(), selector);
    }

    #[test]
    fn it_prints_as_text_that_parses_to_it(tree in tree()) {
        let selector = Selector::parse(&tree.text()).unwrap();
        let printed = selector.to_string();
        let again = Selector::parse(&printed).unwrap();
        prop_assert_eq!(again.to_string(), printed);
        prop_assert_eq!(hash(&again), hash(&selector));
        prop_assert_eq!(again.cmp(&selector), Ordering::Equal);
    }

    #[test]
    fn other_words_for_it_are_equal_to_it(tree in tree(), mut turns: u64) {
        let other = tree.otherwise(&mut turns);
        let (one, other) = (Selector::parse(&tree.text()).unwrap(), Selector::parse(&other.text()).unwrap());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn equal_ones_select_the_same(
        pair in (tree(), tree()),
        sets in prop::collection::vec(labels(), 8),
    ) {
        let (one, other) = (Selector::parse(&pair.0.text()).unwrap(), Selector::parse(&pair.1.text()).unwrap());
        let same = sets.iter().all(|labels| pair.0.holds(labels) == pair.1.holds(labels));
        prop_assert!(same || one != other, "{one} and {other}");
    }

    #[test]
    fn any_text_is_a_selector_or_an_error_inside_it(
        text in r#"([ab(){}!=&|,'"\n\té]|has\(|all\(\)| in | not in | contains |starts with|'x'){0,24}"#,
    ) {
        match Selector::parse(&text) {
            Ok(selector) => prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector),
            Err(error) => prop_assert!(text.is_char_boundary(error.at) && error.why.len() < 200, "{}", error),
        }
    }
}

/// Walks it every way there is, on a stack of a quarter of what a thread commonly has.
fn walk(text: String) -> Result<Selector, String> {
    let walk = move || {
        let selector = Selector::parse(&text).map_err(|error| error.to_string())?;
        let labels: Labels = [("a0".to_owned(), "x".to_owned())].into();
        assert_eq!(selector.clone().not().matches(&labels), !selector.matches(&labels));
        assert_eq!(Selector::parse(&selector.to_string()).as_ref(), Ok(&selector));
        assert_eq!(hash(&selector.clone().and(selector.clone()).or(selector.clone())), hash(&selector));
        assert_eq!(selector.prefixed("").cmp(&selector), Ordering::Equal);
        Ok(selector)
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(walk).unwrap().join().unwrap()
}

#[test]
fn parentheses_nest_to_a_hundred() {
    // Of alternating lists, so that none of them is the same as the one around it.
    let nested = |depth: usize| {
        let open: Vec<_> = (0..depth).map(|i| format!("a{i} == 'x' {} !(", ["&&", "||"][i % 2])).collect();
        format!("{}has(b){}", open.concat(), ")".repeat(depth))
    };
    assert!(walk(nested(100)).is_ok());
    assert!(walk(format!("{}has(b){}", "(".repeat(100), ")".repeat(100))).is_ok());
    for text in [nested(101), "(".repeat(1_000_000), "!(".repeat(500_000)] {
        let error = walk(text).unwrap_err();
        assert!(error.ends_with("more than 100 parentheses in one another: write it flatter"), "{error}");
    }
}

#[test]
fn long_texts_are_walked_and_long_keys_refused() {
    let terms = |operator: &str, term: &dyn Fn(usize) -> String| {
        (0..10_000).map(term).collect::<Vec<_>>().join(operator)
    };
    let is = |i: usize| format!("a{} == 'x{}'", i * 7919 % 10_000, i % 3);
    let one_key = |i: usize| format!("a0 == 'x{}'", i * 7919 % 10_000);
    for text in [
        terms(" && ", &is),
        terms(" || ", &is),
        terms(" || ", &one_key),
        terms(" && ", &one_key),
        terms(" || ", &|i| format!("a{i} == 'x' && !(b == 'y' || !c{i} contains 'z')")),
        format!("{}{}{}", "(".repeat(100), terms(" && ", &is), ") && has(b)".repeat(100)),
        format!("{}{}", "! ".repeat(1_000_000), is(0)),
        format!("a0 == '{}'", "x".repeat(1 << 20)),
        format!("a0 in {{{}}}", "'x',".repeat(1 << 18)),
        format!("has({})", "k".repeat(512)),
    ] {
        walk(text).unwrap();
    }
    let error = walk(format!("has(a) && has({})", "k".repeat(1 << 20))).unwrap_err();
    assert_eq!(error, "at byte 14: a label key of 1048576 characters: it may have 512 at most");
    let error = walk(format!("a == '{}", "x".repeat(1 << 20))).unwrap_err();
    assert_eq!(error, "at byte 5: this string does not end: close it by '");
}
