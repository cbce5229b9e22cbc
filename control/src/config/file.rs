//! The configuration file of a running gateway: read at the start, and again at each reload.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, Error};

/// Where the configuration is, and what the command line says in its place.
#[derive(Clone, Debug)]
pub struct File {
    pub path: PathBuf,
    /// `margay run --node`, which goes before `node.name`.
    pub node: Option<String>,
}

/// A configuration as it is meant, and as it is written.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub config: Config,
    written: Table,
}

impl File {
    /// Reads the file, and checks what no key alone can say.
    pub fn load(&self) -> Result<Loaded, Error> {
        let (mut config, text) = Config::load_text(&self.path)?;
        config.node.name = self.node.clone().or(config.node.name);
        config.check().map_err(|reason| Error::Contradiction { path: self.path.clone(), reason })?;
        Ok(Loaded::new(config, &text))
    }
}

impl Loaded {
    pub(crate) fn new(config: Config, text: &str) -> Self {
        // It has been read before.
        Self { config, written: text.parse().unwrap_or_default() }
    }

    /// What the file says at this path of keys: `None` where it leaves the default.
    pub fn written(&self, path: &str) -> Option<String> {
        let mut steps = path.split('.');
        let first = self.written.get(steps.next()?)?;
        steps.try_fold(first, |value, key| value.get(key)).map(text)
    }

    /// The same of a key of the uplink on this device.
    pub fn written_of_uplink(&self, device: &str, key: &str) -> Option<String> {
        self.uplink(device)?.get(key).map(text)
    }

    /// Writes at this path what another one does.
    pub(crate) fn adopt(&mut self, path: &str, from: &Self) {
        let (tables, key) = path.rsplit_once('.').unwrap_or(("", path));
        let within = tables.split('.').filter(|table| !table.is_empty());
        let theirs = within.clone().try_fold(&from.written, |table, key| table.get(key)?.as_table());
        let value = theirs.and_then(|table| table.get(key)).cloned();
        let mut within = within;
        let ours = within.try_fold(&mut self.written, |table, key| {
            table.entry(key).or_insert_with(|| Table::new().into()).as_table_mut()
        });
        match (ours, value) {
            (Some(ours), Some(value)) => drop(ours.insert(key.to_owned(), value)),
            (Some(ours), None) => drop(ours.remove(key)),
            (None, _) => {}
        }
    }

    fn uplink(&self, device: &str) -> Option<&Value> {
        let uplinks = self.written.get("uplink")?.as_array()?;
        uplinks.iter().find(|uplink| uplink.get("device").and_then(Value::as_str) == Some(device))
    }
}

/// As people write it, without quotation marks.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Config {
    /// What contradicts itself, or is missing, across tables.
    fn check(&self) -> Result<(), String> {
        if self.calico.is_wanted() && self.source.kubernetes.is_none() {
            return Err("[calico] says what an API server is told: it needs source.kubernetes".to_owned());
        }
        let wrong = match (&self.source.directory, &self.source.kubernetes) {
            (Some(_), None) | (None, Some(_)) => return Ok(()),
            (Some(_), Some(_)) => "two sources",
            (None, None) => "no source",
        };
        Err(format!(
            "{wrong}: [source] needs either `directory = \"PATH\"` or `kubernetes = \"in-cluster\"` (or the path of a \
             kubeconfig)"
        ))
    }

    fn load_text(path: &Path) -> Result<(Self, String), Error> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
        Ok((Self::parse_at(path, &text)?, text))
    }

    /// Reads and checks the file. A relative path in `source` is taken from the file's own directory.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_text(path).map(|(config, _)| config)
    }
}
