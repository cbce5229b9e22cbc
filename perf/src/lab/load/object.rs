//! The lab's BPF objects: loading them, what is read and written in them, and where their programs are attached. All of it
//! ends with its owner.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::{
    Link, Map, MapCore, MapFlags, ObjectBuilder, ProgramMut, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder,
};
use margay_testbed::netns;
use nix::net::if_::if_nametoindex;

/// libbpf reads an object in place, as ELF structs.
#[repr(C, align(8))]
pub(super) struct Aligned<Bytes: ?Sized>(pub(super) Bytes);

/// Of a map that is one value.
pub(super) const ONLY: [u8; 4] = [0; 4];

#[derive(Debug)]
pub(super) struct Object(libbpf_rs::Object);

impl Object {
    /// Loads the object, with these bytes as its constants.
    pub(super) fn load(bytes: &[u8], constants: Option<&[u8]>) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_memory(bytes).context("cannot read a BPF object")?;
        if let Some(constants) = constants {
            let mut map =
                open.maps_mut().find(|map| ends_with(map.name(), ".rodata")).context("no constants")?;
            map.set_initial_value(constants).context("cannot set constants of a BPF program")?;
        }
        let loaded = open.load().context("cannot load BPF programs (root is needed)")?;
        Ok(Self(loaded))
    }

    /// The map of this name, or the section of global variables.
    pub(super) fn map(&self, name: &str) -> Result<Map<'_>> {
        self.0.maps().find(|map| ends_with(map.name(), name)).with_context(|| format!("no BPF map {name}"))
    }

    /// All bytes of a section of global variables.
    pub(super) fn read(&self, section: &str) -> Result<Vec<u8>> {
        let value = self.map(section)?.lookup(&ONLY, MapFlags::ANY);
        value
            .with_context(|| format!("cannot read {section} of a BPF program"))?
            .context("there is one value")
    }

    pub(super) fn write(&self, section: &str, bytes: &[u8]) -> Result<()> {
        let written = self.map(section)?.update(&ONLY, bytes, MapFlags::ANY);
        written.with_context(|| format!("cannot write {section} of a BPF program"))
    }

    pub(super) fn program(&self, name: &str) -> Result<ProgramMut<'_>> {
        self.0
            .progs_mut()
            .find(|program| program.name() == name)
            .with_context(|| format!("no BPF program {name}"))
    }

    /// Has the program see what the device receives, after the kernel has made an skb of it.
    pub(super) fn attach_tc(&self, program: &str, netns: &str, device: &str) -> Result<Hook> {
        netns::within(netns, || {
            let program = self.program(program)?;
            let mut builder = TcHookBuilder::new(program.as_fd());
            let hook = builder.ifindex(index(device)?).handle(1).priority(1).hook(TC_INGRESS);
            // From here on it is taken away, if the rest fails.
            let mut hook = Hook { netns: netns.to_owned(), hook };
            hook.hook.create()?;
            hook.hook.attach()?;
            anyhow::Ok(hook)
        })?
        .with_context(|| format!("cannot attach a program to {device} in {netns}"))
    }

    /// Has the program see what the device receives, before the kernel does anything with it.
    pub(super) fn attach_xdp(&self, program: &str, netns: &str, device: &str) -> Result<Link> {
        netns::within(netns, || anyhow::Ok(self.program(program)?.attach_xdp(index(device)?)?))?
            .with_context(|| format!("cannot attach an XDP program to {device} in {netns}"))
    }
}

/// Sections of global variables have the object's name before theirs.
fn ends_with(name: &OsStr, end: &str) -> bool {
    name.to_str().is_some_and(|name| name.ends_with(end))
}

/// The index of a device of the thread's namespace.
pub(super) fn index(device: &str) -> Result<i32> {
    let index = if_nametoindex(device).with_context(|| format!("no device {device}"))?;
    i32::try_from(index).map_err(|_| anyhow!("device {device} has the index {index}"))
}

/// A program of traffic control at a device. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Hook {
    netns: String,
    hook: TcHook,
}

impl Drop for Hook {
    fn drop(&mut self) {
        // Where the namespace is gone, so is what was in it.
        let _ = netns::within(&self.netns, || self.hook.attach_point(TC_INGRESS | TC_EGRESS).destroy());
    }
}
