//! A new configuration for a gateway that runs.

use std::fs;
use std::time::{Duration, Instant};

use margay_control::admin::PortState;
use nix::sys::signal::Signal;

use crate::world::World;
use crate::{port, state};

/// Has the configuration read again, and waits until the log says so.
fn reload(world: &World, change: impl FnOnce(String) -> String, said: &str) -> String {
    let text = fs::read_to_string(world.path("margay.toml")).unwrap();
    world.write("margay.toml", &change(text));
    let before = world.log().len();
    world.hang_up();
    let begin = Instant::now();
    loop {
        let log = world.log()[before..].to_owned();
        if log.contains(said) {
            return log;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {said}\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_new_configuration_is_put_into_force_as_far_as_it_can_be() {
    let mut world = World::new();
    world.start();
    world.until("ready", |status| status.ready);

    // What is wrong changes nothing.
    let log = reload(&world, |text| text.replace("umem.frames", "umem.framse"), "is not taken over");
    assert!(log.contains("unknown key `framse`: did you mean `frames`?"), "{log}");
    assert!(world.pings());

    let change = |text: String| {
        let text = text.replace("umem.framse = 4096", "umem.frames = 8192\nlog.level = \"debug\"");
        text + "name = \"toward-others\"\nmtu = 1400\non_failure = \"drop\"\n"
    };
    let log = reload(&world, change, "umem.frames: 4096 -> 8192 needs a restart");
    for said in [
        "log.level: default -> debug",
        "uplink[eth0].name: default -> toward-others",
        "uplink[eth0].mtu: default -> 1400",
        "uplink[eth0].on_failure: default -> drop",
    ] {
        assert!(log.contains(said), "{said}:\n{log}");
    }
    let status = world.until("the port's new name", |status| port(status, "toward-others").is_some());
    assert_eq!((state(&status, "toward-others"), status.umem.frames), (Some(PortState::Open), 4096));
    assert!(world.pings(), "the port was not opened anew");
    assert_eq!(world.log().matches("port open").count(), 2, "{}", world.log());

    // An uplink goes, and comes.
    let text = fs::read_to_string(world.path("margay.toml")).unwrap();
    let (head, uplink) = text.split_once("[[uplink]]").unwrap();
    let (head, uplink) = (head.to_owned(), format!("[[uplink]]{uplink}"));
    let log = reload(&world, |_| head.clone(), "uplink[eth0]: there -> none");
    assert!(log.contains("umem.frames: 4096 -> 8192 needs a restart"), "told as long as it is so: {log}");
    world.until("no uplink", |status| port(status, "toward-others").is_none());
    reload(&world, |_| head + &uplink, "uplink[eth0]: none -> there");
    world.until("the uplink is back", |status| state(status, "toward-others") == Some(PortState::Open));
    assert!(world.pings());

    // It ends as the new configuration has it.
    assert!(world.signal(Signal::SIGTERM).success(), "{}", world.log());
    assert!(world.has_program("eth0") && !world.has_program(&world.device));
}
