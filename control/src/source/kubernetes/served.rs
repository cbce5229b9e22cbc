//! Which of the kinds that not every cluster has are served, and by which API group. Asked again and again: a CRD may be
//! installed or removed while Margay runs.
//!
//! That a kind is gone is taken for true only when the API server, being ready, has said so several times in a row: one
//! that has just started may not know its CRDs yet, and policies must not be lost to that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::client::Connection;
use super::kinds::{CALICO, CALICO_CRD, CALICO_CRD_MARK, GroupVersion, Presence, WATCHED, Watched};
use super::request::{Failure, get_whole};
use super::waits::Waits;
use super::{Message, Topic};
use crate::manifest::Kind;

/// Between two rounds of questions, give or take a quarter.
const ROUND: Duration = Duration::from_secs(15);
/// The same while a kind that was there seems to be gone.
const DOUBT: Duration = Duration::from_secs(3);
/// Answers in a row that a kind is gone.
const GONE: u32 = 3;

/// Where each kind is served; a kind that is missing here has not been asked for yet.
pub(super) type Served = BTreeMap<Kind, Option<GroupVersion>>;

/// What a version of a group serves: names of resources. `None`: the version is not there.
type Resources = Option<Vec<String>>;

#[derive(Debug, Default, Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
}

/// Asks for as long as the program runs, and tells what is new.
pub(super) async fn ask(
    connection: Arc<Connection>,
    served: watch::Sender<Served>,
    out: mpsc::Sender<Message>,
) {
    let mut absences = Absences::default();
    let mut waits = Waits::default();
    loop {
        let answers = ask_once(&connection).await;
        let why = answers.as_ref().err().map(Failure::to_string);
        // Nobody listens any more only when the source ends, and this with it.
        out.send(Message::Trouble { topic: Topic::Discovery, why }).await.ok();
        let wait = match answers {
            Ok(answers) => {
                waits = Waits::default();
                let known = served.borrow().clone();
                let (now, is_in_doubt) = absences.weigh(&known, &answers);
                if now != known {
                    served.send_replace(now);
                }
                let round = if is_in_doubt { DOUBT } else { ROUND };
                round.mul_f64(0.75 + fastrand::f64() / 2.0)
            }
            Err(failure) => waits.next(&failure),
        };
        sleep(wait).await;
    }
}

async fn ask_once(connection: &Connection) -> Result<BTreeMap<GroupVersion, Resources>, Failure> {
    check_ready(connection).await?;
    let mut answers = BTreeMap::new();
    for watched in optional() {
        for at in watched.versions {
            if *at == CALICO && !is_asked_for(&answers) || answers.contains_key(at) {
                continue;
            }
            answers.insert(*at, resources(connection, *at).await?);
        }
    }
    Ok(answers)
}

/// Fails while the server says that it is not ready. Who may not ask has to take it as it is.
async fn check_ready(connection: &Connection) -> Result<(), Failure> {
    match get_whole(connection, request("/readyz")).await {
        Err(Failure::Answer(mut status)) if status.code >= 500 => {
            // It lists its checks, a line each.
            let failed =
                status.message.lines().filter_map(|line| line.strip_prefix("[-]")?.split(' ').next());
            let failed: Vec<&str> = failed.collect();
            status.message = format!("the API server is not ready: {}", failed.join(", "));
            Err(Failure::Answer(status))
        }
        Err(failure) if !matches!(failure.code(), Some(403 | 404)) => Err(failure),
        _ => Ok(()),
    }
}

async fn resources(connection: &Connection, at: GroupVersion) -> Result<Resources, Failure> {
    match get_whole(connection, request(&at.path())).await {
        Ok(body) => {
            let list: ResourceList =
                serde_json::from_slice(&body).map_err(|error| Failure::garbage(&error))?;
            Ok(Some(list.resources.into_iter().map(|resource| resource.name).collect()))
        }
        Err(failure) if failure.code() == Some(404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Calico's own API server shows the objects of the CRDs once more: it is asked for where the CRDs are not there.
fn is_asked_for(answers: &BTreeMap<GroupVersion, Resources>) -> bool {
    !serves(answers, CALICO_CRD, CALICO_CRD_MARK)
}

fn serves(answers: &BTreeMap<GroupVersion, Resources>, at: GroupVersion, plural: &str) -> bool {
    let resources = answers.get(&at).and_then(Option::as_ref);
    resources.is_some_and(|resources| resources.iter().any(|resource| resource == plural))
}

fn optional() -> impl Iterator<Item = &'static Watched> {
    WATCHED.iter().filter(|watched| watched.presence == Presence::WhereServed)
}

fn request(path: &str) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = path.parse().expect("a path of our own is one");
    request
}

/// How often in a row a kind that was there was said to be gone.
#[derive(Debug, Default)]
struct Absences(BTreeMap<Kind, u32>);

impl Absences {
    /// Where the kinds are after these answers, and whether one of them may be gone.
    fn weigh(&mut self, known: &Served, answers: &BTreeMap<GroupVersion, Resources>) -> (Served, bool) {
        let mut now = Served::new();
        for watched in optional() {
            let kind = watched.kind;
            let found = watched.versions.iter().copied().find(|at| serves(answers, *at, watched.plural));
            let before = known.get(&kind).copied().flatten();
            let at = if found.is_some() || before.is_none() {
                self.0.remove(&kind);
                found
            } else {
                let times = self.0.entry(kind).or_default();
                *times += 1;
                before.filter(|_| *times < GONE)
            };
            if at.is_none() {
                self.0.remove(&kind);
            }
            now.insert(kind, at);
        }
        (now, !self.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(crd: Option<&[&str]>, v3: Option<&[&str]>) -> BTreeMap<GroupVersion, Resources> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        BTreeMap::from([(CALICO_CRD, crd.map(names)), (CALICO, v3.map(names))])
    }

    #[test]
    fn the_crds_go_before_the_other_view_of_them() {
        let at = |answers| Absences::default().weigh(&Served::new(), &answers).0[&Kind::IpPool];
        assert_eq!(at(answers(Some(&["ippools"]), Some(&["ippools"]))), Some(CALICO_CRD));
        assert_eq!(at(answers(Some(&["ipamblocks"]), Some(&["ippools"]))), Some(CALICO));
        assert_eq!(at(answers(None, Some(&["ippools"]))), Some(CALICO));
        assert_eq!(at(answers(None, None)), None);
        assert!(is_asked_for(&answers(Some(&["ipamblocks"]), None)));
        assert!(!is_asked_for(&answers(Some(&["ipamblocks", CALICO_CRD_MARK]), None)));
    }

    #[test]
    fn a_kind_is_gone_when_that_has_been_said_several_times_in_a_row() {
        let mut absences = Absences::default();
        let there = answers(Some(&["ippools"]), None);
        let gone = answers(None, None);
        let mut known = Served::new();
        let mut weigh = |answers: &_| {
            let (now, is_in_doubt) = absences.weigh(&known, answers);
            known = now;
            (known[&Kind::IpPool].is_some(), is_in_doubt)
        };
        assert_eq!(weigh(&there), (true, false));
        assert_eq!(weigh(&gone), (true, true));
        assert_eq!(weigh(&gone), (true, true));
        assert_eq!(weigh(&there), (true, false));
        assert_eq!(weigh(&gone), (true, true));
        assert_eq!(weigh(&gone), (true, true));
        assert_eq!(weigh(&gone), (false, false));
        assert_eq!(weigh(&gone), (false, false));
        assert_eq!(weigh(&there), (true, false));
    }
}
