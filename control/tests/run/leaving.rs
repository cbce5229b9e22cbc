//! What a gateway leaves behind that has ended.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::world::World;

/// What the kernel's tools show of the gateway's devices.
fn shown(world: &World) -> Vec<String> {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut all = vec![
        world.gateway.ip("-d link show"),
        world.gateway.ip("-4 addr show"),
        world.gateway.ip("route show"),
    ];
    // Groups that the kernel joins by itself come and go.
    all.push(world.gateway.ip("neigh show nud permanent"));
    all.push(run(world.gateway.command("bpftool").args(["net", "show"])));
    for device in ["eth0", &world.device] {
        all.push(run(world.gateway.command("ethtool").args(["-k", device])));
    }
    all
}

#[test]
fn nothing_is_left_behind() {
    let mut world = World::new();
    // Then programs of traffic control are on the pod's device too.
    let text = std::fs::read_to_string(world.path("margay.toml")).unwrap();
    world.write("margay.toml", &format!("policy.endpoint_to_host = \"drop\"\n{text}"));
    // The kernel learns the neighbours that it would learn meanwhile.
    world.gateway.ip("neigh replace 192.0.2.2 dev eth0 lladdr 02:00:00:00:00:01 nud permanent");
    let before = shown(&world);
    world.start();
    world.until("ready", |status| status.ready);
    assert!(shown(&world)[4].contains("margay"), "{:#?}", shown(&world));
    assert!(world.signal(Signal::SIGTERM).success(), "{}", world.log());
    for (before, after) in before.iter().zip(shown(&world)) {
        assert_eq!(*before, after);
    }
}
