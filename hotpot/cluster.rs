// SPDX-License-Identifier: GPL-2.0

//! A mount among others: its RPC port, the maps that it hears of, the calls that it makes, and its
//! worker.

use super::{
    core::{
        cluster::{self, Map, Peer, Sender, State},
        halt::Point,
        handler,
        host::{self, CallError, Level},
    },
    halt,
    mount::Mount,
    rdma_lite::{self, Message, ReplyBuf, ReplyWriter},
    world::{self, World},
};
use kernel::{
    new_mutex, new_work,
    prelude::*,
    sync::{Arc, Mutex},
    workqueue::{OwnedQueue, QueueFlags, Work, WorkItem},
};

const NSEC_PER_MSEC: u64 = 1_000_000;

/// Executes the requests of other nodes, and hears of maps.
struct Peers {
    mount: Arc<Mount>,
}

impl rdma_lite::Handler for Peers {
    fn handle(&self, message: &Message<'_>, reply: &mut ReplyWriter<'_>) -> Result {
        let from = Sender {
            node: message.src.into(),
            incarnation: message.src_incarnation,
            epoch: message.epoch,
        };
        let world = World::new(&self.mount);
        let opcode = halt::opcode(message.data);
        halt::pass(Point::Handle(opcode));
        let result = reply
            .write_with(|reply| world::run(|| handler::handle(&world, from, message.data, reply))?);
        halt::pass(Point::Handled(opcode));
        result
    }
}

impl rdma_lite::MapNotify for Peers {
    fn new_map(&self, epoch: u64) {
        if let Err(error) = take_map(&self.mount) {
            self.mount.log(
                Level::Warning,
                format_args!(
                    "the map of epoch {epoch} cannot be taken over now ({error:?}): \
                     the worker tries again"
                ),
            );
            self.mount.miss_map();
        }
    }
}

/// Hands the present map of our node to the core. Until that is done other nodes refuse what we ask for
/// in the epoch before.
pub(crate) fn take_map(mount: &Mount) -> Result {
    let (epoch, nodes) = mount.lite.peers()?;
    let mut peers = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
    for node in &nodes {
        if node.roles & (rdma_lite::ROLE_HOTPOT | rdma_lite::ROLE_HOTPOT_CD) == 0 {
            continue;
        }
        let peer = Peer {
            id: node.id.into(),
            state: match node.state {
                rdma_lite::NODE_UP => State::Up,
                rdma_lite::NODE_DOWN => State::Down,
                _ => State::Out,
            },
            incarnation: node.incarnation,
            dispatcher: node.roles & rdma_lite::ROLE_HOTPOT_CD != 0,
        };
        peers.push(peer, GFP_KERNEL)?;
    }
    let world = World::new(mount);
    world::run(|| cluster::new_map(&world, Map { epoch, peers }))?
}

/// The worker of a mount: one work item that runs until the mount stops.
#[pin_data]
struct Worker {
    mount: Arc<Mount>,
    #[pin]
    work: Work<Worker>,
}

kernel::impl_has_work! {
    impl HasWork<Self> for Worker { self.work }
}

impl WorkItem for Worker {
    type Pointer = Arc<Worker>;

    fn run(this: Arc<Worker>) {
        this.mount.work();
    }
}

/// What runs while the mount is mounted. In this order it ends.
struct Running {
    _port: rdma_lite::PortRegistration<Peers>,
    _maps: rdma_lite::MapNotifyRegistration<Peers>,
    /// Its drop waits for the worker.
    queue: OwnedQueue,
}

/// How a mount serves others, until it is stopped.
#[pin_data]
pub(crate) struct Service {
    #[pin]
    running: Mutex<Option<Running>>,
}

impl Service {
    /// Registers the port and hears of maps, from now on.
    pub(crate) fn start(mount: &Arc<Mount>) -> Result<impl PinInit<Self>> {
        let peers = Arc::new(
            Peers {
                mount: mount.clone(),
            },
            GFP_KERNEL,
        )?;
        let running = Running {
            _port: rdma_lite::PortRegistration::new(
                mount.lite.clone(),
                rdma_lite::PORT_HOTPOT,
                peers.clone(),
            )
            .inspect_err(|_| {
                mount.log(
                    Level::Error,
                    format_args!(
                        "node {} has a hotpot mount already: one node, one device",
                        mount.lite.id()
                    ),
                );
            })?,
            _maps: rdma_lite::MapNotifyRegistration::new(mount.lite.clone(), peers)?,
            queue: OwnedQueue::new(c"hotpot", QueueFlags::UNBOUND, 1)?,
        };
        take_map(mount)?;
        Ok(pin_init!(Self {
            running <- new_mutex!(Some(running), "hotpot::service"),
        }))
    }

    /// Starts the worker, once the mount is complete.
    pub(crate) fn begin_work(&self, mount: &Arc<Mount>) -> Result {
        let worker = Arc::pin_init(
            pin_init!(Worker {
                mount: mount.clone(),
                work <- new_work!("hotpot::worker"),
            }),
            GFP_KERNEL,
        )?;
        if let Some(running) = &*self.running.lock() {
            // A new item can always be queued.
            let _ = running.queue.enqueue::<Arc<Worker>, 0>(worker);
        }
        Ok(())
    }

    /// Ends all of it: no request is executed and no map heard of when this returns.
    pub(crate) fn stop(&self, mount: &Mount) {
        mount.stop();
        let running = self.running.lock().take();
        // Waits for handlers and for the worker.
        drop(running);
    }
}

/// Sends all requests and waits for all answers.
pub(crate) fn call(mount: &Mount, calls: &mut [host::Call<'_>]) -> Result {
    let now = mount.now();
    let opcode = match calls.first().and_then(|call| call.request.first()) {
        Some(host::Piece::Bytes(head)) => halt::opcode(head),
        _ => 0,
    };
    halt::pass(Point::Send(opcode));
    let mut pieces = KVec::with_capacity(calls.len(), GFP_KERNEL)?;
    for call in calls.iter() {
        let mut buffers = KVec::with_capacity(call.request.len(), GFP_KERNEL)?;
        for piece in &call.request {
            world::gather(mount, piece, &mut buffers)?;
        }
        pieces.push(buffers, GFP_KERNEL)?;
    }

    let mut answers = KVec::with_capacity(calls.len(), GFP_KERNEL)?;
    {
        let mut sent = KVec::with_capacity(calls.len(), GFP_KERNEL)?;
        for (call, pieces) in calls.iter_mut().zip(&pieces) {
            let ms = call.until.saturating_sub(now).div_ceil(NSEC_PER_MSEC);
            let timeout = u32::try_from(ms).unwrap_or(u32::MAX).max(1);
            let dst = u16::try_from(call.dst)?;
            sent.push(
                rdma_lite::Call::new(
                    dst,
                    rdma_lite::PORT_HOTPOT,
                    pieces,
                    ReplyBuf::new(&mut call.reply),
                )
                .timeout_ms(timeout),
                GFP_KERNEL,
            )?;
        }
        mount.lite.multicast(&mut sent)?;
        for call in &sent {
            answers.push(answer(call), GFP_KERNEL)?;
        }
    }
    for (call, answer) in calls.iter_mut().zip(answers) {
        call.answer = answer;
    }
    halt::pass(Point::Sent(opcode));
    Ok(())
}

fn answer(call: &rdma_lite::Call<'_>) -> Result<usize, CallError> {
    match call.answer() {
        Ok(answer) => answer.len().map_err(CallError::Handler),
        // It may have been executed.
        Err(error) if error == ETIMEDOUT || error == EINTR => Err(CallError::Lost(ETIMEDOUT)),
        Err(error) => Err(CallError::NotExecuted(error)),
    }
}
