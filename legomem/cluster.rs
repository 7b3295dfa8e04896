// SPDX-License-Identifier: GPL-2.0

//! A memory node among others: the control plane over rdma_lite's calls, and the maps it hears of.

use crate::{
    core::{
        board::Board,
        handler,
        home::Life,
        host::{drive, Host, Level},
        members::{Member, Members},
        slow::{Fast, Slow},
    },
    node::MemoryNode,
    pages::Pages,
    rdma_lite::{self, Call, Message, Piece, ReplyBuf, ReplyWriter},
};
use ::core::{fmt, future::Future};
use kernel::{
    new_mutex,
    prelude::*,
    random::get_random_u64,
    sync::{atomic::Relaxed, Arc, Mutex},
    time::{delay::fsleep, Delta},
};

/// Room for the reply of a call.
const REPLY: usize = 8192;

/// How long to wait for nodes that are asked all at once.
const ASK_MS: u32 = 1000;

/// Runs an operation of the core to its end, in the calling thread, off its stack.
pub(crate) fn run<F: Future>(operation: F) -> Result<F::Output> {
    let mut operation = KBox::pin(operation, GFP_KERNEL)?;
    drive(operation.as_mut())
}

/// Executes the calls of other nodes, and hears of maps.
struct Peers(Arc<MemoryNode>);

impl rdma_lite::Handler for Peers {
    fn handle(&self, message: &Message<'_>, reply: &mut ReplyWriter<'_>) -> Result {
        let from = Life {
            node: message.src,
            incarnation: message.src_incarnation,
        };
        let answer = run(handler::handle(&self.0, from, message.data))??;
        reply.write(&answer)
    }
}

impl rdma_lite::MapNotify for Peers {
    fn new_map(&self, epoch: u64) {
        if let Err(error) = take_map(&self.0) {
            pr_err!(
                "{}: the map of epoch {epoch} could not be taken over ({error:?}): publish it \
                 again\n",
                self.0.name()
            );
        }
    }
}

/// What was last known of the nodes of the map.
#[pin_data]
pub(crate) struct Known {
    /// Held while a map is taken over, so that none is by an older one.
    #[pin]
    taking: Mutex<()>,
    #[pin]
    last: Mutex<(u64, KVec<rdma_lite::Peer>)>,
}

impl Known {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            taking <- new_mutex!((), "legomem_taking"),
            last <- new_mutex!((0, KVec::new()), "legomem_known"),
        })
    }
}

fn is_same(one: &rdma_lite::Peer, two: &rdma_lite::Peer) -> bool {
    (one.id, one.state, one.incarnation) == (two.id, two.state, two.incarnation)
}

/// Hands the present map of our node to the core, if anything changed: a map, or what rdma_lite
/// has found out since about the life of a node.
pub(crate) fn take_map(node: &Arc<MemoryNode>) -> Result {
    let _taking = node.known.taking.lock();
    let (epoch, peers) = node.lite.peers()?;
    let mut members = KVec::with_capacity(peers.len(), GFP_KERNEL)?;
    for peer in peers.iter().filter(|peer| peer.state == rdma_lite::NODE_UP) {
        members.push(Member::new(peer.id.into(), peer.incarnation), GFP_KERNEL)?;
    }
    members.sort_unstable_by_key(|member| member.node);
    let before = {
        let mut last = node.known.last.lock();
        let same = last.1.len() == peers.len()
            && last
                .1
                .iter()
                .zip(&peers)
                .all(|(one, two)| is_same(one, two));
        if same && last.0 == epoch {
            return Ok(());
        }
        ::core::mem::replace(&mut *last, (epoch, peers))
    };
    drop(before);
    handler::new_map(node, Members::new(epoch as u32, members));
    Ok(())
}

/// How a memory node serves the control plane, until this is dropped (which waits for handlers).
pub(crate) struct Service {
    _port: rdma_lite::PortRegistration<Peers>,
    _maps: rdma_lite::MapNotifyRegistration<Peers>,
}

impl Service {
    pub(crate) fn start(node: &Arc<MemoryNode>) -> Result<Self> {
        let peers = Arc::new(Peers(node.clone()), GFP_KERNEL)?;
        let service = Self {
            _port: rdma_lite::PortRegistration::new(
                node.lite.clone(),
                rdma_lite::PORT_LEGOMEM,
                peers.clone(),
            )
            .inspect_err(|_| {
                pr_err!(
                    "{}: node {} is a memory node already: one node, one pool\n",
                    node.name(),
                    node.me.node
                );
            })?,
            _maps: rdma_lite::MapNotifyRegistration::new(node.lite.clone(), peers)?,
        };
        take_map(node)?;
        Ok(service)
    }
}

/// The reply of a call, cut to its length.
fn finish(call: &Call<'_>) -> Result<usize> {
    call.answer()?.len()
}

impl Fast for Arc<MemoryNode> {
    fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
        (**self).fast(f)
    }
}

impl Host for Arc<MemoryNode> {
    type Pool = Pages;

    fn pool(&self) -> &Pages {
        &self.pages
    }

    fn slow<R>(&self, f: impl FnOnce(&mut Slow) -> R) -> R {
        f(&mut self.slow.lock())
    }

    fn me(&self) -> Life {
        self.me
    }

    fn port(&self) -> u16 {
        self.port_number()
    }

    fn load(&self) -> u64 {
        self.load.load(Relaxed)
    }

    fn random(&self) -> u64 {
        get_random_u64()
    }

    fn memory_nodes(&self) -> Result<KVec<u16>> {
        let (_, peers) = self.lite.peers()?;
        let mut nodes = KVec::new();
        for peer in &peers {
            let serves = peer.roles & rdma_lite::ROLE_MEMORY != 0 || peer.id == self.me.node;
            if serves && peer.state == rdma_lite::NODE_UP {
                nodes.push(peer.id, GFP_KERNEL)?;
            }
        }
        Ok(nodes)
    }

    fn is_alive(&self, life: Life) -> bool {
        let last = self.known.last.lock();
        last.1.iter().any(|peer| {
            let same = peer.incarnation == life.incarnation || peer.incarnation == 0;
            peer.id == life.node && peer.state != rdma_lite::NODE_OUT && same
        })
    }

    async fn call(&self, node: u16, request: &[u8]) -> Result<KVec<u8>> {
        if self.is_stopping() {
            return Err(ESHUTDOWN);
        }
        let mut reply = KVec::from_elem(0u8, REPLY, GFP_KERNEL)?;
        let pieces = [Piece::new(request)];
        let mut call = Call::new(
            node,
            rdma_lite::PORT_LEGOMEM,
            &pieces,
            ReplyBuf::new(&mut reply),
        );
        self.lite.call(&mut call)?;
        let len = finish(&call)?;
        reply.truncate(len);
        Ok(reply)
    }

    async fn call_all(&self, nodes: &[u16], request: &[u8]) -> Result<KVec<Option<KVec<u8>>>> {
        let mut replies = KVec::new();
        for _ in nodes {
            replies.push(KVec::from_elem(0u8, REPLY, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let pieces = [Piece::new(request)];
        let mut lens = KVec::new();
        {
            let mut calls = KVec::new();
            for (node, reply) in nodes.iter().zip(replies.iter_mut()) {
                let call = Call::new(
                    *node,
                    rdma_lite::PORT_LEGOMEM,
                    &pieces,
                    ReplyBuf::new(reply),
                );
                calls.push(call.timeout_ms(ASK_MS), GFP_KERNEL)?;
            }
            self.lite.multicast(&mut calls)?;
            for call in &calls {
                lens.push(finish(call).ok(), GFP_KERNEL)?;
            }
        }
        let mut answers = KVec::new();
        for (mut reply, len) in replies.into_iter().zip(&lens) {
            let answer = len.map(|len| {
                reply.truncate(len);
                reply
            });
            answers.push(answer, GFP_KERNEL)?;
        }
        Ok(answers)
    }

    async fn pause(&self, ms: u32) {
        fsleep(Delta::from_millis(ms.into()));
    }

    fn start_migration(&self, ras: u64, index: u32, to: u16) -> Result {
        self.queue_migration(ras, index, to)
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        match level {
            Level::Error => pr_err!("{}: {line}\n", self.name()),
            Level::Warning => pr_warn!("{}: {line}\n", self.name()),
            Level::Info => pr_info!("{}: {line}\n", self.name()),
        }
    }
}
