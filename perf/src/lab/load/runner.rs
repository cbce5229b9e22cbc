//! Runs a program of BPF that makes packets: over and over in the kernel, on a core of its own, until it says that it is done.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use libbpf_rs::{ErrorKind, Link, ProgramInput};
use margay_testbed::ip::Batch;
use margay_testbed::netns;

use super::object::{self, Object};
use crate::lab::site::End;

/// What the program is to do, which it reads.
const ORDER: &str = ".data.order";
/// How far it is, which it writes: first of all, as 8 bytes, whether it is done.
const PROGRESS: &str = ".bss";

/// Longest frame in memory: it shares a page with what the kernel keeps for it.
pub(super) const LONGEST_FRAME: usize = 3392;
/// Runs of the program a system call: a program that is done runs through what is left in less than 100 ms.
const RUNS: u32 = 1 << 20;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`
const LIVE_FRAMES: u32 = 1 << 1;

#[derive(Debug)]
pub(super) struct Runner {
    object: Object,
    program: &'static str,
    netns: String,
    device: &'static str,
    /// What the program is given to write in.
    frame: Vec<u8>,
    core: usize,
    _attached: Link,
    _spare: Spare,
}

impl Runner {
    /// Sends from the end's device, on this core. `length` bytes are what the program is given to write in.
    pub(super) fn open(
        object: Object,
        program: &'static str,
        end: &End,
        length: usize,
        core: usize,
    ) -> Result<Self> {
        let netns = end.netns.clone();
        let spare = Spare::add(&netns)?;
        let attached = object.attach_xdp(program, &netns, &spare.name)?;
        let frame = vec![0; length];
        Ok(Self {
            object,
            program,
            netns,
            device: end.device,
            frame,
            core,
            _attached: attached,
            _spare: spare,
        })
    }

    /// Has the program do this, and returns how far it is when it is done.
    pub(super) fn run(&self, order: &[u8]) -> Result<Vec<u8>> {
        self.object.write(ORDER, order)?;
        let nothing = vec![0; self.object.read(PROGRESS)?.len()];
        self.object.write(PROGRESS, &nothing)?;
        netns::within(&self.netns, || self.run_here())?
    }

    /// The kernel looks for the device in the thread's namespace.
    fn run_here(&self) -> Result<Vec<u8>> {
        core_affinity::set_for_current(core_affinity::CoreId { id: self.core });
        let program = self.object.program(self.program)?;
        let mut context = self.context(object::index(self.device)?.cast_unsigned());
        loop {
            let input = ProgramInput {
                context_in: Some(&mut context),
                data_in: Some(&self.frame),
                repeat: RUNS,
                flags: LIVE_FRAMES,
                ..Default::default()
            };
            match program.test_run(input) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error)
                        .with_context(|| format!("cannot send from {} in {}", self.device, self.netns));
                }
                _ => {}
            }
            let progress = self.object.read(PROGRESS)?;
            if progress.iter().take(mem::size_of::<u64>()).any(|&byte| byte != 0) {
                return Ok(progress);
            }
        }
    }

    /// `struct xdp_md`: a packet that the device has received.
    fn context(&self, index: u32) -> Vec<u8> {
        let (data, data_end, meta, queue, egress) = (0, self.frame.len() as u32, 0, 0, 0);
        [data, data_end, meta, index, queue, egress]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect()
    }
}

/// A device without traffic that the program is attached to. The kernel patches its way to programs that are somewhere
/// attached; for one that is not, it does so at the beginning and the end of each system call, and waits 10 ms both times
/// until no core is on the old way.
#[derive(Debug)]
struct Spare {
    netns: String,
    name: String,
}

impl Spare {
    fn add(netns: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("spare{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Batch::new().extend([format!("link add {name} type veth peer name {name}-peer")]).run(Some(netns))?;
        Ok(Self { netns: netns.to_owned(), name })
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Where the namespace is gone, so is the device.
        let _ = Batch::new().extend([format!("link del {}", self.name)]).run(Some(&self.netns));
    }
}
