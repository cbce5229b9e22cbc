//! Host endpoints kept in step with changes are what a compile from nothing makes, and flows that may have another
//! verdict are judged again.

use std::sync::Arc;

use margay_control::compile::Compiler;
use margay_control::state::{Change, Cluster, Edit, State};
use margay_flowtable::{Interface, Snapshot, Tuple};
use proptest::prelude::*;

use crate::explain;
use crate::world::{
    ETH0, ETH1, World, host_endpoint, identity, kernel, load, network_set, node, policy, ports, said, staged,
    staged_policy, tier, tuple,
};

const INTERFACES: [Interface; 5] = [Interface::Pod, Interface::Ipip, Interface::Vxlan, ETH0, ETH1];

/// Objects, each in the forms that it may take; it may also be gone.
fn objects() -> Vec<Vec<Change>> {
    let endpoint = |name: &str, forms: &[(&str, &str)]| -> Vec<String> {
        forms.iter().map(|(role, spec)| host_endpoint(name, role, &format!("node: {spec}"))).collect()
    };
    let policies = |name: &str, forms: &[&str]| -> Vec<String> {
        forms.iter().map(|spec| policy(name, &format!("selector: {spec}"))).collect()
    };
    let forward = "applyOnForward: true";
    let udp = "{action: Allow, protocol: UDP, destination: {ports: [53]}}";
    let texts: Vec<Vec<String>> = vec![
        endpoint(
            "a",
            &[
                ("x", "gw\ninterfaceName: '*'"),
                ("y", "gw\ninterfaceName: '*'"),
                ("x", "gw\ninterfaceName: eth1"),
            ],
        ),
        endpoint(
            "b",
            &[
                ("x", "gw\ninterfaceName: eth0"),
                ("y", "gw\nexpectedIPs: [192.0.2.10]"),
                ("y", "gw\ninterfaceName: '*'"),
            ],
        ),
        endpoint(
            "peer",
            &[
                (
                    "peer",
                    "other\ninterfaceName: e\nexpectedIPs: [10.69.11.5]\nports: [{name: dns, protocol: UDP, port: 53}]",
                ),
                (
                    "peer",
                    "other\ninterfaceName: e\nexpectedIPs: [10.70.11.5]\nports: [{name: dns, protocol: UDP, port: 53}]",
                ),
                (
                    "peer",
                    "gw\ninterfaceName: vxlan.calico\nexpectedIPs: [10.70.11.5]\nports: [{name: dns, protocol: UDP, port: 54}]",
                ),
            ],
        ),
        policies(
            "p",
            &[
                &format!("role == 'x'\n{forward}\ningress: [{udp}]"),
                &format!("role == 'x'\n{forward}\ningress: [{udp}, {{action: Deny, protocol: TCP}}]"),
                &format!("role == 'y'\n{forward}\negress: [{udp}]"),
                &format!("all()\ningress: [{udp}]"),
            ],
        ),
        policies(
            "q",
            &[
                &format!(
                    "has(role)\norder: 1\n{forward}\ningress: [{{action: Deny, source: {{selector: role == 'peer'}}}}, {{action: Pass}}]"
                ),
                &format!(
                    "has(role)\norder: 1\n{forward}\negress: [{{action: Allow, protocol: UDP, destination: {{ports: [dns]}}}}]"
                ),
                &format!(
                    "has(role)\norder: 1\npreDNAT: true\n{forward}\ningress: [{{action: Deny, source: {{selector: role == 'peer'}}}}, {udp}]"
                ),
            ],
        ),
        policies(
            "early.r",
            &[
                &format!("role == 'x'\ntier: early\n{forward}\ningress: [{{action: Log}}]"),
                &format!("role == 'y'\ntier: early\n{forward}\ntypes: [Egress]"),
                &format!("all()\ntier: early\ndoNotTrack: true\n{forward}\ningress: [{udp}]"),
            ],
        ),
        [
            "{order: 10, defaultAction: Deny}",
            "{order: 10, defaultAction: Pass}",
            "{order: 2000000, defaultAction: Deny}",
        ]
        .map(|spec| tier("early", spec))
        .into(),
        ["[10.69.0.0/16]", "[10.0.0.0/8]", "[10.70.11.5/32]"]
            .map(|nets| network_set("s", "peer", nets))
            .into(),
        ["10.65.10.1", "192.0.2.10"].map(node).into(),
    ];
    let texts = texts.into_iter().chain(staged_objects());
    texts.map(|forms| forms.into_iter().map(|form| change(&form)).collect()).collect()
}

/// Staged policies beside the others, and in the place of one.
fn staged_objects() -> [Vec<String>; 2] {
    let policies = |name: &str, forms: [&str; 3]| {
        forms.map(|spec| staged_policy(name, &format!("selector: {spec}"))).into()
    };
    let (forward, udp) =
        ("applyOnForward: true", "{action: Allow, protocol: UDP, destination: {ports: [53]}}");
    [
        policies(
            "late",
            [
                &format!("role == 'x'\n{forward}\norder: 1\ningress: [{udp}]"),
                &format!("all()\npreDNAT: true\n{forward}\ningress: [{udp}, {{action: Deny}}]"),
                &format!("role == 'y'\ndoNotTrack: true\n{forward}\ningress: [{udp}]"),
            ],
        ),
        policies(
            "p",
            [
                "all()\nstagedAction: Delete",
                &format!("role == 'x'\n{forward}\negress: [{udp}]"),
                &format!("role == 'x'\nstagedAction: Ignore\n{forward}\ningress: [{udp}]"),
            ],
        ),
    ]
}

pub(crate) fn change(text: &str) -> Change {
    let mut changes = load(&[text.to_owned()]).into_changes();
    assert_eq!(changes.len(), 1, "{text}");
    changes.remove(0)
}

pub(crate) fn removal(change: &Change) -> Change {
    match change {
        Change::HostEndpoint(edit) => Change::HostEndpoint(Edit::remove(edit.key.clone())),
        Change::Policy(edit) => Change::Policy(Edit::remove(edit.key.clone())),
        Change::Tier(edit) => Change::Tier(Edit::remove(edit.key.clone())),
        Change::NetworkSet(edit) => Change::NetworkSet(Edit::remove(edit.key.clone())),
        Change::Node(edit) => Change::Node(Edit::remove(edit.key.clone())),
        other => panic!("{other:?}"),
    }
}

fn packets() -> Vec<Tuple> {
    let there = [(17, 53), (17, 54), (6, 53), (6, 22)].map(|(protocol, port)| tuple(protocol, port));
    let back = there.map(|packet| Tuple { src: packet.dst, dst: packet.src, ..packet });
    there.into_iter().chain(back).collect()
}

/// Whether flows of the packet that were judged before `snapshot` have to be judged again.
fn is_touched(snapshot: &Snapshot, entry: Interface, exit: Interface, packet: &Tuple) -> bool {
    let (epochs, before) = (&snapshot.epochs, snapshot.generation - 1);
    !epochs.is_current(packet.src, packet.dst, before)
        || ![entry, exit].iter().all(|interface| epochs.is_current_at(*interface, before))
}

fn follow(steps: &[(usize, usize)]) -> Result<(), TestCaseError> {
    let objects = objects();
    let mut compiler = Compiler::new(identity());
    let mut state = State { cluster: Cluster::default(), kernel: kernel(false), ports: ports(false) };
    let mut snapshot = compiler.snapshot(&Snapshot::default());
    for &(what, form) in steps {
        if let Some(forms) = objects.get(what % (objects.len() + 1)) {
            let form = forms.get(form % (forms.len() + 1));
            compiler.apply(vec![form.cloned().unwrap_or_else(|| removal(&forms[0]))]);
        } else {
            (state.kernel, state.ports) = (kernel(form & 1 != 0), ports(form & 2 != 0));
        }
        state.cluster = compiler.cluster().clone();
        compiler.set_underlay(&Arc::new(state.kernel.clone()), &state.ports.as_slice().into());
        let next = compiler.snapshot(&snapshot);
        let plain = World::of(&state);
        for packet in packets().iter().skip(form % 4).step_by(4) {
            explain::agrees(&compiler, &next, packet)?;
        }
        for entry in INTERFACES {
            for (exit, packet) in
                INTERFACES.into_iter().flat_map(|e| packets().into_iter().map(move |p| (e, p)))
            {
                let is = said(&compiler, &next, entry, exit, &packet);
                prop_assert_eq!(
                    &is,
                    &plain.said(entry, exit, &packet),
                    "{:?} {:?} {:?}",
                    entry,
                    exit,
                    packet
                );
                let would_be = staged(&compiler, &next, entry, exit, &packet);
                prop_assert_eq!(
                    &would_be,
                    &plain.staged(entry, exit, &packet),
                    "staged: {:?} {:?} {:?}",
                    entry,
                    exit,
                    packet
                );
                let was = said(&compiler, &snapshot, entry, exit, &packet);
                let is_untracked = [&is, &was].iter().any(|said| said.starts_with("untracked"));
                // What is staged counts the packets of flows, and flows have to know when that is another rule.
                let is_other = !is_untracked
                    && (is.starts_with("deny") != was.starts_with("deny")
                        || would_be != staged(&compiler, &snapshot, entry, exit, &packet));
                prop_assert!(
                    !is_other || is_touched(&next, entry, exit, &packet),
                    "{:?} {:?} {:?}: {}, then {}",
                    entry,
                    exit,
                    packet,
                    was,
                    is
                );
            }
        }
        snapshot = next;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_are_a_compile_from_nothing(steps in prop::collection::vec((0..1000usize, 0..12usize), 1..60)) {
        follow(&steps)?;
    }
}
