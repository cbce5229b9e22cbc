//! The grammar of selectors, Calico's:
//!
//! ```text
//! selector = [ or ] ; or = and { "||" and } ; and = operand { "&&" operand }
//! operand  = { "!" } ( "has(" key ")" | "all()" | "global()" | key comparison | "(" or ")" )
//! comparison = ( "==" | "!=" | "contains" | "starts with" | "ends with" ) string
//!            | ( "in" | "not in" ) "{" [ string { "," string } [ "," ] ] "}"
//! ```
//!
//! Keys are of `[A-Za-z0-9_./-]`, strings in `'` or `"` and without escapes. Spaces and tabs may stand between all of
//! these, but not before the parenthesis of `has(`, `all(` and `global(`; those of `starts with` may be left out.

use super::expr::{Expr, Term, Test};
use super::{NAMESPACE_LABEL, Origin, SERVICE_ACCOUNT_LABEL};

const LONGEST_KEY: usize = 512;
/// Expressions are walked recursively. No one writes so many.
const DEEPEST_PARENTHESES: usize = 100;

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {why}")]
pub struct SelectorError {
    /// Offset in bytes of what is wrong.
    pub at: usize,
    /// What is wrong, and what would be right.
    pub why: String,
}

pub(super) fn parse(origin: Origin, text: &str) -> Result<Expr, SelectorError> {
    let mut parser = Parser { text, at: 0, depth: 0, origin };
    if parser.peek().is_none() {
        return Ok(parser.everything(true));
    }
    let draft = parser.any_of(true)?;
    match parser.peek() {
        None => Ok(draft.finish()),
        Some(')') => Err(parser.error("this parenthesis closes none: remove it")),
        Some('&' | '|') => Err(parser.error("one & or |: the operators are && and ||")),
        Some(_) => Err(parser.expected("&& or || between two conditions")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Parentheses that are open.
    depth: usize,
    origin: Origin,
}

/// All of the parts or any of them, not canonical yet: parentheses in a list of the same kind only make it longer, so
/// that each list is sorted once.
struct Draft {
    all: bool,
    parts: Vec<Expr>,
}

impl Draft {
    fn of(part: Expr) -> Self {
        Self { all: true, parts: vec![part] }
    }

    fn add(&mut self, mut other: Self) {
        if other.all != self.all && other.parts.len() > 1 {
            self.parts.push(other.finish());
        } else if self.parts.is_empty() {
            self.parts = other.parts;
        } else {
            self.parts.append(&mut other.parts);
        }
    }

    fn finish(self) -> Expr {
        Expr::join(self.parts, self.all)
    }
}

impl Parser<'_> {
    /// With `holds` unset: the opposite of what is written, by De Morgan's laws.
    fn any_of(&mut self, holds: bool) -> Result<Draft, SelectorError> {
        self.list("||", !holds, |parser| parser.list("&&", holds, |parser| parser.operand(holds)))
    }

    fn list(
        &mut self,
        operator: &str,
        all: bool,
        part: impl Fn(&mut Self) -> Result<Draft, SelectorError>,
    ) -> Result<Draft, SelectorError> {
        let first = part(self)?;
        if !self.eat(operator) {
            return Ok(first);
        }
        let mut list = Draft { all, parts: Vec::new() };
        list.add(first);
        loop {
            list.add(part(self)?);
            if !self.eat(operator) {
                return Ok(list);
            }
        }
    }

    fn operand(&mut self, mut holds: bool) -> Result<Draft, SelectorError> {
        while self.eat("!") {
            holds = !holds;
        }
        if self.peek() == Some('(') {
            return self.parenthesis(holds);
        }
        let part = if self.eat("has(") {
            let key = self.key()?;
            self.close("has(KEY)")?;
            Expr::Term(Term { key, test: Test::Present, holds })
        } else if self.eat("all(") {
            self.close("all()")?;
            self.everything(holds)
        } else if self.eat("global(") {
            self.close("global()")?;
            self.global(holds)
        } else {
            self.comparison(holds)?
        };
        Ok(Draft::of(part))
    }

    fn parenthesis(&mut self, holds: bool) -> Result<Draft, SelectorError> {
        if self.depth == DEEPEST_PARENTHESES {
            let why = format!("more than {DEEPEST_PARENTHESES} parentheses in one another: write it flatter");
            return Err(self.error(why));
        }
        let opened = self.at;
        self.at += 1;
        self.depth += 1;
        let draft = self.any_of(holds)?;
        self.depth -= 1;
        if self.eat(")") {
            return Ok(draft);
        }
        Err(match self.peek() {
            None => SelectorError { at: opened, why: "this parenthesis is not closed: add )".into() },
            Some(_) => self.expected("&&, || or )"),
        })
    }

    fn comparison(&mut self, holds: bool) -> Result<Expr, SelectorError> {
        let (text, start) = (self.text, self.at);
        let key = self.key()?;
        let written = &text[start..self.at];
        if self.eat("==") {
            Ok(Expr::values(key, vec![self.string()?], holds))
        } else if self.eat("!=") {
            Ok(Expr::values(key, vec![self.string()?], !holds))
        } else if self.eat("contains") {
            Ok(Expr::piece(key, self.string()?, Test::Contains, holds))
        } else if self.eat_two("starts", "with") {
            Ok(Expr::piece(key, self.string()?, Test::StartsWith, holds))
        } else if self.eat_two("ends", "with") {
            Ok(Expr::piece(key, self.string()?, Test::EndsWith, holds))
        } else if self.eat_two("not", "in") {
            Ok(Expr::values(key, self.set()?, !holds))
        } else if self.eat("in") {
            Ok(Expr::values(key, self.set()?, holds))
        } else {
            Err(self.no_operator(written))
        }
    }

    fn set(&mut self) -> Result<Vec<Box<str>>, SelectorError> {
        if !self.eat("{") {
            return Err(self.expected("a set of strings in braces, such as {\"a\", \"b\"}"));
        }
        let mut values = Vec::new();
        while !self.eat("}") {
            values.push(self.string()?);
            if !self.eat(",") && self.peek() != Some('}') {
                return Err(self.expected(", or } after a string in a set"));
            }
        }
        Ok(values)
    }

    fn string(&mut self) -> Result<Box<str>, SelectorError> {
        let Some(quote @ ('"' | '\'')) = self.peek() else {
            return Err(self.expected("a value in quotes, such as \"web\""));
        };
        let rest = &self.text[self.at + 1..];
        let Some(length) = rest.find(quote) else {
            return Err(self.error(format!("this string does not end: close it by {quote}")));
        };
        self.at += length + 2;
        Ok(rest[..length].into())
    }

    fn key(&mut self) -> Result<Box<str>, SelectorError> {
        self.peek();
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.expected("a label key (of A-Z a-z 0-9 _ . / -, without quotes)"));
        }
        if length > LONGEST_KEY {
            let why = format!("a label key of {length} characters: it may have {LONGEST_KEY} at most");
            return Err(self.error(why));
        }
        self.at += length;
        Ok(format!("{}{}", self.origin.prefix(), &rest[..length]).into())
    }

    fn close(&mut self, form: &str) -> Result<(), SelectorError> {
        if self.eat(")") { Ok(()) } else { Err(self.expected(&format!(") of {form}"))) }
    }

    fn no_operator(&mut self, key: &str) -> SelectorError {
        const OPERATORS: &str =
            "==, !=, in, not in, contains, starts with or ends with after a label key, or has(KEY)";
        match self.peek() {
            Some('=') => self.error("one =: the operator is =="),
            Some('(') if ["has", "all", "global"].contains(&key) => {
                self.error("a space before the parenthesis: write has(KEY), all() or global()")
            }
            _ => self.expected(OPERATORS),
        }
    }

    /// What `all()` means: where labels of a namespace are asked, everything that is in one.
    fn everything(&self, holds: bool) -> Expr {
        let key = match self.origin {
            Origin::Own => return Expr::constant(holds),
            Origin::Namespace => NAMESPACE_LABEL,
            Origin::ServiceAccount => SERVICE_ACCOUNT_LABEL,
        };
        Expr::Term(Term { key: key.into(), test: Test::Present, holds })
    }

    /// What `global()` means: of namespaces, the opposite of `all()`; else the same.
    fn global(&self, holds: bool) -> Expr {
        self.everything(holds == (self.origin != Origin::Namespace))
    }

    /// The next character behind spaces and tabs.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t']);
        self.at = self.text.len() - rest.len();
        rest.chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn eat_two(&mut self, first: &str, second: &str) -> bool {
        let before = self.at;
        let found = self.eat(first) && self.eat(second);
        if !found {
            self.at = before;
        }
        found
    }

    fn expected(&mut self, what: &str) -> SelectorError {
        match self.peek() {
            None => self.error(format!("the text ends: expected {what}")),
            Some('\n' | '\r') => self.error("a line break: write the selector in one line"),
            Some(found) => self.error(format!("{found:?}: expected {what}")),
        }
    }

    fn error(&self, why: impl Into<String>) -> SelectorError {
        SelectorError { at: self.at, why: why.into() }
    }
}
