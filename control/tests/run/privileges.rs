//! What a running gateway may still do, and who may ask it what.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

use caps::CapsHashSet;
use margay_control::privileges::RUNNING;
use nix::unistd::Group;

use crate::MARGAY;
use crate::world::World;

/// Whom a test program may be beside root: Debian's `nobody`, of `nogroup`.
const NOBODY: &str = "65534";

/// By name of the thread: effective capabilities, and how system calls are filtered (2: by a program).
fn threads(pid: u32) -> BTreeMap<String, (u64, u32)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let thread = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
        Some((field("Name:"), (capabilities, field("Seccomp:").parse().unwrap())))
    };
    tasks.filter_map(|task| thread(task.unwrap())).collect()
}

#[test]
fn a_gateway_keeps_what_it_needs_and_its_workers_nothing() {
    let mut world = World::new();
    world.start();
    world.until("ready", |status| status.ready);
    let needed = RUNNING.iter().fold(0, |mask, capability| mask | capability.bitmask());
    let pid = world.running.as_ref().unwrap().id();
    let begin = std::time::Instant::now();
    // What the start alone needs goes when the first ports are open, at the next look.
    while threads(pid)["margay"].0 != needed {
        assert!(begin.elapsed().as_secs() < 60, "{:x?}", threads(pid));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let threads = threads(pid);
    assert_eq!(threads["margay-worker-0"], (0, 2), "{threads:x?}");
    assert_eq!(threads["margay-source"].0, 0, "{threads:x?}");
    assert!(caps::all().difference(&CapsHashSet::from(RUNNING)).count() > 30);
    // Ports still come, and packets pass.
    world.gateway.ip(&format!("link del {}", world.device));
    world.until("the pod's device is gone", |status| status.ports.iter().any(|port| port.queues.is_none()));
    world.plug_pod();
    world.until("the pod's device is back", |status| status.ports.iter().all(|port| port.queues.is_some()));
    assert!(world.pings());
}

fn ask(world: &World, user: Option<&str>, command: &str) -> Output {
    // Root's home is closed to others.
    let program = world.path("margay");
    if !program.exists() {
        fs::hard_link(MARGAY, &program).or_else(|_| fs::copy(MARGAY, &program).map(drop)).unwrap();
    }
    let mut asking = match user {
        Some(user) => {
            let mut asking = Command::new("setpriv");
            asking.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
            asking
        }
        None => Command::new(program),
    };
    asking.args([command, "--socket"]).arg(world.path("socket")).output().unwrap()
}

#[test]
fn the_group_reads_and_root_alone_changes() {
    let nogroup = Group::from_gid(65534.into()).unwrap().expect("a group of that number");
    let mut world = World::new();
    fs::set_permissions(world.home.path(), Permissions::from_mode(0o755)).unwrap();
    world.start();
    world.until("ready", |status| status.ready);
    let refused = ask(&world, Some(NOBODY), "status");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    world.signal(nix::sys::signal::Signal::SIGTERM);

    let text = fs::read_to_string(world.path("margay.toml")).unwrap();
    world.write("margay.toml", &format!("admin.group = \"{}\"\n{text}", nogroup.name));
    world.start();
    world.until("ready", |status| status.ready);
    let socket = fs::metadata(world.path("socket")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, 65534));
    let status = ask(&world, Some(NOBODY), "status");
    assert!(status.status.success(), "{status:?}");
    let reload = ask(&world, Some(NOBODY), "reload");
    assert_eq!(reload.status.code(), Some(2), "{reload:?}");
    assert!(String::from_utf8_lossy(&reload.stderr).contains("which is for root"), "{reload:?}");
    let reload = ask(&world, None, "reload");
    assert!(reload.status.success(), "{reload:?}");
    assert_eq!(reload.stdout, b"the configuration is as it was\n");
}
