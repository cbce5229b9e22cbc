//! Calico's selector grammar: what each form selects, what is an error and where, what two texts are one selector.

use margay_control::selector::{Origin, Selector};
use margay_control::state::Labels;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Each text, the label sets (`key=value` by spaces) that it selects, and those that it does not.
const SELECTED: &[(&str, &[&str], &[&str])] = &[
    ("", &["", "a=b"], &[]),
    (" \t ", &["", "a=b"], &[]),
    ("all()", &["", "a=b"], &[]),
    ("global( )", &["", "a=b"], &[]),
    ("!all()", &[], &["", "a=b"]),
    ("has(a)", &["a=b", "a="], &["", "b=a"]),
    ("has( a\t)", &["a=b"], &["b=a"]),
    ("!has(a)", &["", "b=a"], &["a=b", "a="]),
    ("!! ! has(a)", &["b=a"], &["a=b"]),
    (r#"a == "b""#, &["a=b", "a=b c=d"], &["", "a=c", "b=b", "a="]),
    ("a=='b'", &["a=b"], &["a=bb"]),
    ("a == ''", &["a="], &["", "a=b"]),
    (r#"a != "b""#, &["", "a=c", "c=b"], &["a=b"]),
    ("!a == 'b'", &["", "a=c"], &["a=b"]),
    ("!a != 'b'", &["a=b"], &["", "a=c"]),
    ("a in {'b', \"c\"}", &["a=b", "a=c"], &["", "a=d", "b=b"]),
    ("a in{'b','c',}", &["a=b", "a=c"], &["a=d"]),
    ("a in {}", &[], &["", "a=", "a=b"]),
    ("a not in { }", &["", "a=", "a=b"], &[]),
    ("a not in {'b', 'c'}", &["", "a=d"], &["a=b", "a=c"]),
    ("a notin{'b'}", &["", "a=d"], &["a=b"]),
    ("a not \t in {'b'}", &["", "a=d"], &["a=b"]),
    ("!a in {'b'}", &["", "a=d"], &["a=b"]),
    (r#"a in {"'", '"'}"#, &["a='", "a=\""], &["a=b"]),
    ("a contains 'b'", &["a=b", "a=abc"], &["", "a=a", "b=b"]),
    ("a contains''", &["a=", "a=b"], &["", "b="]),
    ("!a contains 'b'", &["", "a=a"], &["a=abc"]),
    ("a starts with 'b'", &["a=b", "a=bc"], &["", "a=ab", "b=b"]),
    ("a startswith'b'", &["a=bc"], &["a=ab"]),
    ("a starts \t with 'b'", &["a=bc"], &["a=ab"]),
    ("a ends with 'b'", &["a=b", "a=ab"], &["", "a=bc"]),
    ("a endswith \"b\"", &["a=ab"], &["a=bc"]),
    ("a == '\u{e9}(&&)||'", &["a=\u{e9}(&&)||"], &["a=b"]),
    // Words of the grammar are keys too.
    ("contains contains 'contains'", &["contains=contains"], &["contains=in"]),
    ("in in {'in'} && not not in {'x'}", &["in=in"], &["in=in not=x"]),
    ("has == 'a' || all == 'b' || global == 'c'", &["has=a", "all=b", "global=c"], &["", "has=b"]),
    ("startswith starts with 'a' && endsin ends with 'b'", &["startswith=a endsin=b"], &["startswith=a"]),
    ("has(has) && hasnot == 'a'", &["has= hasnot=a"], &["has="]),
    ("k8s.io/A_b-c == 'd'", &["k8s.io/A_b-c=d"], &["k8s.io/a_b-c=d"]),
    ("-/-._ == 'd' && 0 == '1'", &["-/-._=d 0=1"], &["0=1"]),
    // `&&` binds closer than `||`, `!` closest.
    ("has(a) || has(b) && has(c)", &["a=", "b= c="], &["b=", "c="]),
    ("(has(a) || has(b)) && has(c)", &["a= c=", "b= c="], &["a=", "c=", "a= b="]),
    ("!has(a) && has(b)||has(c)", &["b=", "a= c="], &["a= b=", ""]),
    ("!(has(a) && !(has(b) || c == 'd'))", &["", "a= b=", "a= c=d"], &["a=", "a= c=e"]),
    ("((((has(a)))))", &["a="], &[""]),
    ("!(!has(a) || has(b))", &["a="], &["", "a= b=", "b="]),
    ("has(a)&&has(a)&&has(a)", &["a="], &[""]),
    ("a in {'x','y'} && a in {'y','z'}", &["a=y"], &["a=x", "a=z", ""]),
    ("a == 'x' && a == 'y'", &[], &["a=x", "a=y", ""]),
    ("a != 'x' || a != 'y'", &["a=x", "a=y", ""], &[]),
];

#[test]
fn each_form_selects_what_calico_says() {
    for (text, selected, others) in SELECTED {
        let selector = parse(text);
        for (sets, expected) in [(selected, true), (others, false)] {
            for set in *sets {
                let pairs: Vec<_> = set.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
                assert_eq!(selector.matches(&labels(&pairs)), expected, "{text} of {set:?} ({selector})");
            }
        }
    }
}

/// Each text that is no selector, the offset of what is wrong, and a part of what is said of it.
const ERRORS: &[(&str, usize, &str)] = &[
    ("a", 1, "has(KEY)"),
    ("a ", 2, "expected ==, !=, in, not in, contains"),
    ("a b", 2, "expected ==, !=, in, not in, contains"),
    ("a = 'b'", 2, "the operator is =="),
    ("a === 'b'", 4, "a value in quotes"),
    ("a == b", 5, "a value in quotes"),
    ("a contains b", 11, "a value in quotes"),
    ("a starts 'b'", 2, "starts with"),
    ("a starting with 'b'", 2, "starts with"),
    ("a in 'b'", 5, "strings in braces"),
    ("a inside {'b'}", 4, "strings in braces"),
    ("a in {,}", 6, "a value in quotes"),
    ("a in {'b' 'c'}", 10, "expected , or }"),
    ("a in {'b', ||", 11, "a value in quotes"),
    ("a in {'b'", 9, "expected , or }"),
    ("a not {'b'}", 2, "not in"),
    ("a == 'b", 5, "close it by '"),
    ("a == \"b'", 5, "close it by \""),
    ("'a' == b", 0, "without quotes"),
    ("a == 'b' &", 9, "&& and ||"),
    ("a == 'b' | c == 'd'", 9, "&& and ||"),
    ("a == 'b' &&", 11, "the text ends: expected a label key"),
    ("a == 'b' || && has(c)", 12, "'&': expected a label key"),
    ("a == 'b' has(c)", 9, "expected && or ||"),
    ("!", 1, "the text ends: expected a label key"),
    ("(", 1, "the text ends: expected a label key"),
    ("()", 1, "')': expected a label key"),
    ("(has(a)", 0, "not closed: add )"),
    ("(has(a) has(b)", 8, "expected &&, || or )"),
    ("has(a))", 6, "closes none"),
    ("has()", 4, "expected a label key"),
    ("has('a')", 4, "without quotes"),
    ("has(a", 5, "the text ends: expected ) of has(KEY)"),
    ("has (a)", 4, "a space before the parenthesis"),
    ("hasty (a)", 6, "expected ==, !="),
    ("all(a)", 4, "expected ) of all()"),
    ("all", 3, "expected ==, !=, in, not in, contains"),
    ("global(", 7, "expected ) of global()"),
    ("%", 0, "'%': expected a label key"),
    ("has(a) && \u{e9}", 10, "'\u{e9}': expected a label key"),
    ("has(a)\n&& has(b)", 6, "line break"),
    ("has(a) &&\nhas(b)", 9, "line break"),
    ("b == 'c' && a != ", 17, "a value in quotes"),
];

#[test]
fn an_error_says_where_and_how_to_mend() {
    for (text, at, why) in ERRORS {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(error.at, *at, "{text}: {error}");
        assert!(error.why.contains(why), "{text}: {error}");
        assert_eq!(error.to_string(), format!("at byte {at}: {}", error.why));
    }
}

/// Texts of one selector, with the text that it prints as.
const SPELLINGS: &[(&str, &[&str])] = &[
    (
        "all()",
        &["", "(all())", "!!all()", "global()", "all() || has(a)", "a not in {}", "has(a) || !(a in {})"],
    ),
    ("!all()", &["!global()", "a in {}", "all() && !all() && has(a)", "a == 'x' && a == 'y'"]),
    ("has(a)", &["!!has(a)", "a contains ''", "a starts with \"\"", "a ends with ''", "has(a) && all()"]),
    ("!has(a)", &["!a contains ''", "!(has(a) || has(a))"]),
    ("a == \"x\"", &["a in {'x'}", "!a != 'x'", "!(a not in {'x','x'})", "a in {'x','y'} && a in {'x','z'}"]),
    ("a != \"x\"", &["!a=='x'", "a not in {'x'}", "!(a in {\"x\"})"]),
    ("a in {\"x\", \"y\"}", &["a in {'y', 'x', 'y'}", "a == 'y' || a == 'x'", "!(a != 'x' && a != 'y')"]),
    ("a not in {\"x\", \"y\"}", &["a != 'y' && a != 'x'", "!(a == 'x' || a == 'y')"]),
    ("a == '\"'", &["a in {'\"'}"]),
    ("has(a) && has(b) && has(c)", &["has(c) && (has(b) && has(a))", "!(!has(c) || !(has(a) && has(b)))"]),
    ("has(a) || has(b) && has(c)", &["(has(c) && has(b)) || has(a)", "!(!has(a) && (!has(b) || !has(c)))"]),
    ("has(c) && (has(a) || has(b))", &["(has(b) || has(a)) && has(c)", "!(!has(a) && !has(b)) && has(c)"]),
    ("!a contains \"x\" && !b ends with \"y\"", &["!(b endswith 'y' || a contains'x')"]),
];

#[test]
fn spellings_of_one_selector_are_equal() {
    let mut printed = Vec::new();
    for (canonical, spellings) in SPELLINGS {
        let selector = parse(canonical);
        assert_eq!(selector.to_string(), *canonical);
        for spelling in *spellings {
            assert_eq!(parse(spelling), selector, "{spelling}");
        }
        assert!(!printed.contains(&selector), "{canonical}");
        printed.push(selector);
    }
}

#[test]
fn constructors_give_what_the_grammar_gives() {
    let none: [&str; 0] = [];
    for (built, text) in [
        (Selector::all(), "all()"),
        (Selector::default(), ""),
        (Selector::none(), "!all()"),
        (Selector::has("a"), "has(a)"),
        (Selector::has("a").not(), "!has(a)"),
        (Selector::label_is("a", "x"), "a == 'x'"),
        (Selector::is_in("a", ["y", "x", "y"]), "a in {'x', 'y'}"),
        (Selector::is_in("a", none), "!all()"),
        (Selector::not_in("a", ["x"]), "a != 'x'"),
        (Selector::not_in("a", none), "all()"),
        (Selector::has("a").and(Selector::has("b")).not(), "!has(a) || !has(b)"),
        (Selector::has("a").or(Selector::all()), "all()"),
        (Selector::all_of([]), "all()"),
        (Selector::any_of([]), "!all()"),
        (Selector::any_of([Selector::has("b"), Selector::has("a")]), "has(a) || has(b)"),
        (
            parse("has(a) && (b == 'x' || !c contains 'y')").prefixed("p."),
            "has(p.a) && (p.b == 'x' || !p.c contains 'y')",
        ),
    ] {
        assert_eq!(built, parse(text), "{text}");
    }
}

#[test]
fn selectors_of_namespaces_have_their_prefix_and_their_all() {
    for (origin, text, own) in [
        (Origin::Namespace, "a == 'x' && !has(b)", "pcns.a == 'x' && !has(pcns.b)"),
        (Origin::Namespace, "", "has(projectcalico.org/namespace)"),
        (Origin::Namespace, "all()", "has(projectcalico.org/namespace)"),
        (Origin::Namespace, "global() || a == 'x'", "!has(projectcalico.org/namespace) || pcns.a == 'x'"),
        (Origin::Namespace, "!(global() || has(a))", "has(projectcalico.org/namespace) && !has(pcns.a)"),
        (Origin::ServiceAccount, "all()", "has(projectcalico.org/serviceaccount)"),
        (Origin::ServiceAccount, "a in {'x'}", "pcsa.a == 'x'"),
    ] {
        assert_eq!(Selector::parse_for(origin, text).unwrap(), parse(own), "{text}");
    }
}
