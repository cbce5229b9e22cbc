//! What systemd is told.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::world::World;

/// What is told until this is.
fn told(socket: &UnixDatagram, until: &str) -> String {
    let mut all = String::new();
    while !all.lines().any(|line| line.starts_with(until)) {
        let mut message = [0; 4096];
        let count = socket.recv(&mut message).unwrap_or_else(|error| panic!("no {until}: {error}\n{all}"));
        all += &String::from_utf8_lossy(&message[..count]);
        all += "\n";
    }
    all
}

#[test]
fn systemd_is_told_what_status_says() {
    let mut world = World::new();
    let path = world.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    world.start_with(&[("NOTIFY_SOCKET", path.as_os_str())]);
    let first = told(&socket, "READY=1");
    for said in ["WATCHDOG=1", "STATUS=forwarding: 2 ports open"] {
        assert!(first.contains(said), "{first}");
    }
    assert!(world.ask().1.unwrap().ready);
    told(&socket, "WATCHDOG=1");
    world.hang_up();
    let reload = told(&socket, "RELOADING=1");
    assert!(reload.contains("MONOTONIC_USEC="), "{reload}");
    told(&socket, "READY=1");
    world.gateway.ip("link del eth0");
    told(&socket, "STATUS=not ready: ");
    world.plug_uplink();
    told(&socket, "STATUS=forwarding: ");
    assert!(world.signal(Signal::SIGTERM).success(), "{}", world.log());
    told(&socket, "STOPPING=1");
}
