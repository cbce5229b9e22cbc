//! As much of `PromQL` as tells what an expression asks for.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Before the parentheses of what is computed. Another word there is one that nobody knows.
const FUNCTIONS: [&str; 6] = ["changes", "histogram_quantile", "max", "rate", "sum", "time"];
/// Before labels in parentheses.
const GROUPING: [&str; 6] = ["by", "group_left", "group_right", "ignoring", "on", "without"];
const OPERATORS: [&str; 4] = ["and", "bool", "or", "unless"];

/// What selects series: a metric, and labels with what is asked of them.
#[derive(Debug, PartialEq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<(String, String)>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) selectors: Vec<Selector>,
    /// Labels in `by`, `on` and the like.
    pub(crate) named: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

impl Asked {
    /// Panics where it does not understand.
    pub(crate) fn of(expression: &str) -> Self {
        let mut tokens = tokens(expression).into_iter().peekable();
        let mut asked = Self::default();
        while let Some(token) = tokens.next() {
            let Token::Word(word) = token else { continue };
            let is_call = tokens.peek() == Some(&Token::Mark('('));
            if GROUPING.contains(&word.as_str()) {
                let labels = tokens.by_ref().skip(1).take_while(|token| *token != Token::Mark(')'));
                asked.named.extend(labels.filter_map(|token| match token {
                    Token::Word(label) => Some(label),
                    _ => None,
                }));
            } else if is_call || FUNCTIONS.contains(&word.as_str()) {
                let is_known = FUNCTIONS.contains(&word.as_str()) || OPERATORS.contains(&word.as_str());
                assert!(is_known, "{expression}: what is {word}?");
            } else if !OPERATORS.contains(&word.as_str()) {
                asked.selectors.push(Selector { metric: word, matchers: matchers(&mut tokens) });
            }
        }
        asked
    }
}

/// What stands in braces, if they come next.
fn matchers(tokens: &mut Peekable<IntoIter<Token>>) -> Vec<(String, String)> {
    if tokens.next_if_eq(&Token::Mark('{')).is_none() {
        return Vec::new();
    }
    let inside: Vec<Token> = tokens.take_while(|token| *token != Token::Mark('}')).collect();
    let matcher = |tokens: &[Token]| match tokens {
        [Token::Word(label), Token::Mark(_), .., Token::Text(value)] => (label.clone(), value.clone()),
        other => panic!("no matcher: {other:?}"),
    };
    inside.split(|token| *token == Token::Mark(',')).map(matcher).collect()
}

/// Words, texts in quotes, and single characters; numbers are left out, and so is what stands in brackets.
fn tokens(expression: &str) -> Vec<Token> {
    let (mut tokens, mut chars) = (Vec::new(), expression.chars().peekable());
    while let Some(c) = chars.next() {
        let is_word = |c: &char| c.is_ascii_alphanumeric() || ['_', ':', '.'].contains(c);
        match c {
            '"' => tokens.push(Token::Text(chars.by_ref().take_while(|c| *c != '"').collect())),
            '[' => assert!(chars.by_ref().any(|c| c == ']'), "{expression}: a bracket does not close"),
            c if is_word(&c) => {
                let rest = std::iter::from_fn(|| chars.next_if(is_word));
                let word: String = std::iter::once(c).chain(rest).collect();
                if !word.starts_with(|c: char| c.is_ascii_digit()) {
                    tokens.push(Token::Word(word));
                }
            }
            c if c.is_whitespace() => {}
            c => tokens.push(Token::Mark(c)),
        }
    }
    tokens
}

#[test]
fn what_an_expression_asks_for() {
    let asked = Asked::of(
        "-8 * sum by (a, b) (rate(bytes_total{a=~\"x|y\", c!=\"1\"}[5m])) / on (d) group_left (e) info > 0.5 and other",
    );
    let selector = |metric: &str, matchers: &[(&str, &str)]| Selector {
        metric: metric.to_owned(),
        matchers: matchers.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
    };
    let selectors = [("bytes_total", &[("a", "x|y"), ("c", "1")][..]), ("info", &[]), ("other", &[])];
    assert_eq!(asked.selectors, selectors.map(|(metric, matchers)| selector(metric, matchers)));
    assert_eq!(asked.named, ["a", "b", "d", "e"].map(str::to_owned).into());
}
