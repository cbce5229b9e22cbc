//! The directory source on a real directory: what is noticed, and what stays in force.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use margay_control::manifest::Problem;
use margay_control::source::{DirectorySource, Source, SourceEvent};
use margay_control::state::Cluster;

/// Longest that a change may take here before the test gives up; nothing depends on how long it takes.
const GIVE_UP: Duration = Duration::from_secs(60);

struct Watched {
    events: Receiver<SourceEvent>,
    cluster: Cluster,
}

impl Watched {
    fn start(path: &Path) -> Self {
        let (sender, receiver) = channel();
        let source = Box::new(DirectorySource::new(path));
        thread::spawn(move || {
            source.run(&mut |event| match sender.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
        });
        Self { events: receiver, cluster: Cluster::default() }
    }

    fn next(&self) -> SourceEvent {
        self.events.recv_timeout(GIVE_UP).expect("an event")
    }

    /// Waits for a state of which `is_it` holds. Every change that comes on the way is one.
    fn until(&mut self, is_it: impl Fn(&Cluster, &[Problem]) -> bool) -> (Cluster, Vec<Problem>) {
        loop {
            let SourceEvent::Changes { changes, problems, .. } = self.next() else { continue };
            for mut change in changes {
                assert!(self.cluster.apply(&mut change), "{change:?}");
            }
            if is_it(&self.cluster, &problems) {
                return (self.cluster.clone(), problems);
            }
        }
    }
}

fn namespace(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    is: {label}\n")
}

fn label_of<'a>(cluster: &'a Cluster, namespace: &str) -> Option<&'a str> {
    cluster.namespaces.get(namespace).map(|namespace| &*namespace.labels["is"])
}

#[test]
fn files_come_change_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, namespace("a", "first")).unwrap();
    let mut watched = Watched::start(directory.path());
    watched.until(|cluster, _| label_of(cluster, "a") == Some("first"));
    // As editors write: a new file renamed over the old one.
    fs::write(directory.path().join(".a.yaml.swp"), namespace("a", "second")).unwrap();
    fs::rename(directory.path().join(".a.yaml.swp"), &file).unwrap();
    watched.until(|cluster, _| label_of(cluster, "a") == Some("second"));
    fs::write(
        directory.path().join("b.json"),
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b", "labels": {"is": "json"}}}"#,
    )
    .unwrap();
    watched.until(|cluster, _| label_of(cluster, "b") == Some("json"));
    fs::remove_file(&file).unwrap();
    let (cluster, problems) = watched.until(|cluster, _| label_of(cluster, "a").is_none());
    assert_eq!((label_of(&cluster, "b"), problems), (Some("json"), vec![]));
}

#[test]
fn what_becomes_wrong_keeps_its_last_good_version() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let both = |a: &str, b: &str| format!("{}---\n{}", namespace("a", a), namespace("b", b));
    fs::write(&file, both("first", "first")).unwrap();
    let mut watched = Watched::start(directory.path());
    watched.until(|cluster, _| label_of(cluster, "b") == Some("first"));

    fs::write(&file, both("second", "no label value")).unwrap();
    let (cluster, problems) = watched.until(|cluster, _| label_of(cluster, "a") == Some("second"));
    assert_eq!(label_of(&cluster, "b"), Some("first"));
    assert_eq!(problems[0].place.line(), Some(13));
    assert!(problems[0].to_string().ends_with("(the last good version stays in force)"), "{}", problems[0]);

    fs::write(&file, "a: [").unwrap();
    let (cluster, problems) = watched.until(|_, problems| problems[0].object.is_none());
    assert_eq!((label_of(&cluster, "a"), label_of(&cluster, "b")), (Some("second"), Some("first")));
    assert!(problems[0].last_good_stands);

    fs::write(&file, both("third", "third")).unwrap();
    let (cluster, problems) = watched.until(|cluster, _| label_of(cluster, "a") == Some("third"));
    assert_eq!((label_of(&cluster, "b"), problems), (Some("third"), vec![]));
}

#[test]
fn a_volume_of_the_kubelet_is_swapped_whole() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, label) in [("..1", "first"), ("..2", "second")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), namespace("a", label)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut watched = Watched::start(directory.path());
    watched.until(|cluster, _| label_of(cluster, "a") == Some("first"));
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    watched.until(|cluster, _| label_of(cluster, "a") == Some("second"));
}

#[test]
fn a_directory_that_goes_away_is_lost_and_found_again() {
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("manifests");
    let mut watched = Watched::start(&path);
    let is_lost = |event: &SourceEvent| matches!(event, SourceEvent::Trouble(troubles) if troubles.iter().any(|trouble| trouble.why.contains("manifests")));
    assert!(is_lost(&watched.next()));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), namespace("a", "first")).unwrap();
    watched.until(|cluster, _| label_of(cluster, "a") == Some("first"));
    fs::rename(&path, above.path().join("old")).unwrap();
    while !is_lost(&watched.next()) {}
    fs::create_dir(above.path().join("new")).unwrap();
    fs::write(above.path().join("new/a.yaml"), namespace("a", "second")).unwrap();
    symlink("new", &path).unwrap();
    watched.until(|cluster, _| label_of(cluster, "a") == Some("second"));
}
