//! A packet's steps for people: a line each.

use super::Traced;

/// Width of the steps' names.
const WIDTH: usize = 8;

pub fn text(traced: &Traced) -> String {
    let reason = traced.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
    let head = format!("{}  worker {}  {}{reason}", traced.at, traced.worker, traced.fate.to_uppercase());
    let steps = traced.steps.iter().map(|step| format!("  {:WIDTH$} {}", step.step, step.said));
    std::iter::once(head).chain(steps).collect::<Vec<_>>().join("\n") + "\n"
}
