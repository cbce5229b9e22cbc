//! Several queues of one port that one worker owns, as one: where a device has more queues than there are workers.

use std::os::fd::{AsFd, BorrowedFd};

use margay_flowtable::PortId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::{Census, Port};
use crate::frame::Burst;
use crate::umem::{FramePool, Umem};

#[derive(Debug)]
pub struct Queues {
    id: PortId,
    members: Vec<Box<dyn Port>>,
    /// The queue that is asked first for frames: each in turn, so that none starves.
    first: usize,
    /// Readable when a queue is. `None` where the kernel gave none: the worker then finds frames when it next looks.
    ready: Option<Epoll>,
}

impl Queues {
    /// One port of these queues of port `id`; a single queue stays itself.
    pub fn of(id: PortId, mut queues: Vec<Box<dyn Port>>) -> Box<dyn Port> {
        if queues.len() == 1 {
            return queues.remove(0);
        }
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok();
        let ready = ready.filter(|epoll| {
            let watch = |fd| epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).is_ok();
            queues.iter().filter_map(|queue| queue.fd()).all(watch)
        });
        Box::new(Self { id, members: queues, first: 0, ready })
    }
}

impl Port for Queues {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx(&mut self, umem: &Umem, burst: &mut Burst, pool: &mut FramePool) {
        let count = self.members.len();
        for turn in 0..count {
            if burst.room() == 0 {
                break;
            }
            self.members[(self.first + turn) % count].rx(umem, burst, pool);
        }
        self.first = (self.first + 1) % count.max(1);
    }

    fn tx(&mut self, umem: &Umem, burst: &mut Burst) {
        // One queue sends, so that the frames of a flow keep their order; the next only where that one is full.
        for queue in &mut self.members {
            queue.tx(umem, burst);
            if burst.is_empty() {
                break;
            }
        }
    }

    fn reclaim(&mut self, umem: &Umem, pool: &mut FramePool) {
        for queue in &mut self.members {
            queue.reclaim(umem, pool);
        }
    }

    fn census(&self) -> Census {
        self.members.iter().map(|queue| queue.census()).fold(Census::default(), |sum, census| Census {
            fill: sum.fill + census.fill,
            rx: sum.rx + census.rx,
            tx: sum.tx + census.tx,
            completion: sum.completion + census.completion,
        })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ready.as_ref().map(|epoll| epoll.0.as_fd())
    }

    fn drain(&mut self, umem: &Umem, pool: &mut FramePool) -> usize {
        self.members.iter_mut().map(|queue| queue.drain(umem, pool)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::memory::MemoryPort;
    use crate::umem::Layout;

    const PORT: PortId = PortId(3);

    fn queue(input: impl Iterator<Item = crate::Frame>) -> Box<dyn Port> {
        let queue = MemoryPort::new(PORT, 2);
        input.for_each(|frame| queue.wire().inject(frame).expect("room on the wire"));
        Box::new(queue)
    }

    #[test]
    fn every_queue_is_received_from_and_a_full_one_gives_way_to_the_next() {
        let (umem, mut frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 8 });
        let mut frame = || frames.pop().into_iter();
        let mut port = Queues::of(PORT, vec![queue(frame()), queue(frame().chain(frame()))]);
        assert_eq!((port.id(), port.census().rx), (PORT, 3));
        let (mut burst, mut pool) = (Burst::default(), FramePool::default());
        port.rx(&umem, &mut burst, &mut pool);
        assert_eq!((burst.len(), port.census().total()), (3, 0));
        port.tx(&umem, &mut burst);
        assert!(burst.is_empty());
        assert_eq!((port.census().tx, port.drain(&umem, &mut pool), pool.len()), (3, 0, 3));
    }

    #[test]
    fn no_queue_starves_behind_a_busy_one() {
        let (umem, frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 256 });
        let mut frames = frames.into_iter();
        let busy = queue(frames.by_ref().take(200));
        let mut port = Queues::of(PORT, vec![busy, queue(frames.take(1))]);
        let mut pool = FramePool::default();
        for _ in 0..2 {
            let mut burst = Burst::default();
            port.rx(&umem, &mut burst, &mut pool);
            pool.extend(burst.drain_front(burst.len()));
        }
        // A burst of the busy one, then the other's one frame and the rest of a burst.
        assert_eq!((pool.len(), port.census().rx), (128, 73));
        assert_eq!((port.drain(&umem, &mut pool), pool.len()), (0, 201));
    }
}
