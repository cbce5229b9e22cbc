//! Sockets on the loopback device of a network namespace of the test's own.

use nix::sched::{CloneFlags, unshare};

use super::*;

const LOOPBACK: u32 = 1;
const SIZES: RingSizes = RingSizes { fill: 64, rx: 32, tx: 32, completion: 16 };

#[test]
fn a_queue_is_free_once_its_socket_is_closed() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: AF_XDP sockets take root");
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        assert!(is_free(LOOPBACK, 0));
        let layout = Layout { chunk_size: 2048, chunks: 64 };
        let (umem, ..) = crate::xdp::umem::map(layout).expect("memory");
        let wish = Wish { copy_only: true, several_chunks: true, metadata: false };
        let socket = Socket::open(&umem, LOOPBACK, 0, SIZES, wish).expect("a socket");
        assert!(socket.takes_several_chunks());
        assert!(!is_free(LOOPBACK, 0));
        assert!(socket.close());
        assert!(is_free(LOOPBACK, 0));
        assert!(is_free(u32::MAX >> 1, 0), "a device that is gone holds nothing");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
