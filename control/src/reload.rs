//! What a new configuration changes in a gateway that runs: each field by its path in the file, and whether it takes a
//! restart. Which does is decided for every field in `reload/fields.rs`; how it is applied is `run/reload.rs`.

mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Loaded;

use self::fields::{FIELDS, Fate, UPLINK};

/// What became of a new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// In force from now on.
    pub applied: Vec<FieldChange>,
    /// In force after a restart. What was stays until then.
    pub needs_restart: Vec<FieldChange>,
}

/// A field that the new configuration has otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Keys from the outermost table inward; of an uplink `uplink[DEVICE]`, and its key.
    pub field: String,
    /// As the files write them; `default` where one does not; of a whole uplink `there` or `none`.
    pub from: String,
    pub to: String,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.field, self.from, self.to)
    }
}

/// Puts into `running` what can change without a restart. What cannot stays, and is told again the next time.
pub fn take(running: &mut Loaded, new: &Loaded) -> Reloaded {
    let mut reloaded = Reloaded::default();
    for field in FIELDS {
        if !(field.differs)(&running.config, &new.config) {
            continue;
        }
        let changes = if field.path == "uplink" {
            uplink_changes(running, new)
        } else {
            vec![change(field.path.to_owned(), running.written(field.path), new.written(field.path))]
        };
        match field.fate {
            Fate::Live(take) => {
                take(&mut running.config, &new.config);
                running.adopt(field.path, new);
                reloaded.applied.extend(changes);
            }
            Fate::Restart => reloaded.needs_restart.extend(changes),
        }
    }
    reloaded
}

/// Uplinks are told apart by their devices.
fn uplink_changes(running: &Loaded, new: &Loaded) -> Vec<FieldChange> {
    let devices = |loaded: &Loaded| -> BTreeSet<String> {
        loaded.config.uplink.iter().map(|uplink| uplink.device.clone()).collect()
    };
    let (before, after) = (devices(running), devices(new));
    let field = |device: &str| format!("uplink[{device}]");
    let whole = |device: &String, from: &str, to: &str| FieldChange {
        field: field(device),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let mut changes: Vec<FieldChange> =
        before.difference(&after).map(|device| whole(device, "there", "none")).collect();
    changes.extend(after.difference(&before).map(|device| whole(device, "none", "there")));
    for device in before.intersection(&after) {
        let of = |loaded: &Loaded, key: &str| loaded.written_of_uplink(device, key);
        for key in UPLINK.iter().filter(|key| of(running, key) != of(new, key)) {
            changes.push(change(format!("{}.{key}", field(device)), of(running, key), of(new, key)));
        }
    }
    changes
}

fn change(field: String, from: Option<String>, to: Option<String>) -> FieldChange {
    let text = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
    FieldChange { field, from: text(from), to: text(to) }
}
