//! What the source cannot learn: kept for status, and logged once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Unit;

use crate::admin;
use crate::source::Trouble;

/// Different reasons of one spell of trouble that are logged. A server may word its reason anew at each try.
const MOST_SAID: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Troubles {
    present: Vec<Trouble>,
    /// Reasons that were logged since there was none.
    said: BTreeSet<String>,
}

impl Troubles {
    /// Takes in all that there is now of the source of that name. A reason is logged with all that it is the reason of
    /// when it first comes up.
    pub(super) fn set(&mut self, source: &str, troubles: Vec<Trouble>) {
        let mut fresh: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for trouble in troubles.iter().filter(|trouble| !self.said.contains(&trouble.why)) {
            fresh.entry(&trouble.why).or_default().push(&trouble.what);
        }
        for (why, what) in fresh {
            if self.said.len() < MOST_SAID {
                tracing::error!("what is known stays in force of {}: {why}", what.join(", "));
                self.said.insert(why.to_owned());
            }
        }
        if troubles.is_empty() {
            tracing::info!("{source} is heard again");
            self.said.clear();
        }
        self.present = troubles;
    }

    pub(super) fn statuses(&self) -> Vec<admin::Trouble> {
        statuses(&self.present)
    }
}

/// As the admin socket tells them.
pub(super) fn statuses(troubles: &[Trouble]) -> Vec<admin::Trouble> {
    let status = |trouble: &Trouble| admin::Trouble {
        what: trouble.what.clone(),
        why: trouble.why.clone(),
        since: trouble.since.round(Unit::Second).unwrap_or(trouble.since).to_string(),
        for_seconds: trouble.began.elapsed().as_secs(),
    };
    troubles.iter().map(status).collect()
}
