// SPDX-License-Identifier: GPL-2.0

//! The protocol core of hotpot: pure code, the same in the module and in the
//! simulator. How hotpot works is in `Documentation/design/hotpot.md`.
//!
//! # How to drive it
//!
//! A mount has one [`Node`](node::Node): its volatile state, behind one mutex. Everything
//! that happens to the mount is an *operation*: an `async fn` of this core, generic over
//! [`Host`](host::Host), begun by the thread to which it happens (a fault, an ioctl, an RPC
//! handler, the mount's worker). An operation changes the state inside `Host::with` (mutex
//! held, no sleeping, no I/O) and between that awaits [`Action`](host::Action)s, calls and
//! waits, which the host executes *without* the mutex, many operations at once. So an
//! operation is a state machine that emits actions and takes their answers as events,
//! written down as straight code.
//!
//! In the kernel the futures of `Host` do their work at once in the calling thread
//! and are always ready: implement them as `async fn`s without an `await`, make the
//! operation's future with [`boxed`] (it may be a few KiB: keep it off the kernel stack)
//! and poll it once with [`drive`]. The simulator's are pending until its scheduler
//! answers, and a crash just drops them.
//!
//! One `Host` value belongs to one operation: it is where the edge keeps the `vm_fault`
//! that [`Host::map`](host::Host::map) resolves, for example. It is a reference to the
//! mount for all others.
//!
//! # Operations
//!
//! Times are ns on [`Host::now`](host::Host::now)'s clock; `until` is a deadline.
//! Errors are errnos for the user as they stand.
//!
//! ```ignore
//! // Mount: Node::new, then the RPC port and the map notifier, then mount.
//! Node::new(Config { node, cluster, device_len, max_msg, timeout }) -> Node
//! recovery::mount(&host, time: Timestamp) -> Result          // any error: mount fails, drop the Node
//! recovery::unmount(&host) -> Result                         // no operation left; dirty pages are dropped
//! cluster::new_map(&host, Map { epoch, peers }) -> Result    // first before mount, then at each new map
//! // Worker thread of the mount: again at the returned time, or when queue 0 is woken.
//! background::run(&host) -> u64
//! // RPC handler: request in, length of the reply out. Replies fit into config.max_msg.
//! handler::handle(&host, Sender { node, incarnation, epoch }, request: &[u8], reply: &mut [u8]) -> Result<usize>
//!
//! // fault, pfn_mkwrite. EFAULT beyond the end; calls host.map once when it succeeds.
//! fault::fault(&host, PageKey, Access::{Read, Write}, until) -> Result
//! // read(2) of at most one call's worth; stops at the end of the dataset.
//! fault::read(&host, dataset, offset, to: &mut [u8], until) -> Result<usize>
//!
//! // HOTPOT_IOC_COMMIT, msync and fsync, write(2) in pieces of at most MAX_WRITE (may grow the dataset).
//! // The opener is the open file: it matters to MRSW datasets only.
//! commit::commit(&host, Opener, dataset, areas: &[ByteRange], replicas, until) -> Committed { cid, result }
//! commit::sync(&host, Opener, dataset, ByteRange, until) -> Committed
//! commit::write(&host, Opener, dataset, offset, bytes: &[u8], time, until) -> Result
//!
//! // HOTPOT_IOC_ACQUIRE, HOTPOT_IOC_ABORT; in Host::with at close: node.close_opener(Opener)
//! grants::acquire(&host, Opener, dataset, areas: &[ByteRange], wait, until) -> Result
//! // HOTPOT_IOC_OUTCOME
//! outcome::outcome(&host, Cid, until) -> Result<Outcome>
//! grants::abort(&host, Opener, dataset, areas: &[ByteRange], until) -> Result
//!
//! // Namespace; at the CD or sent to it.
//! names::create(&host, name: &[u8], &NewDataset, until) -> Result<u64 /* id */>
//! names::unlink(&host, name: &[u8], time, until) -> Result
//! names::rename(&host, from: &[u8], to: &[u8], replace: bool, time, until) -> Result
//! names::change(&host, dataset, &Change { size, uid, gid, permissions, times, setup fields: all Option }, until) -> Result
//! // In Host::with: node.names.lookup(name), .get(id), .after(id) (readdir); info::pages, info::chunk, info::room
//!
//! // HOTPOT_IOC_SCRUB: checks the copies that are here, some at a time.
//! scrub::scrub(&host, dataset, first: u64 /* page */, most: u32, until) -> Result<Scrubbed>
//!
//! barrier::meet(&host, name: &[u8], count, until) -> Result
//! ```
//!
//! Every operation may be begun at any time after `Node::new`; before the mount
//! is complete handlers answer ENOTCONN.

// The module keeps the core to itself; tools and the simulator see it from other crates.
#![allow(unreachable_pub)]

mod appoint;
pub mod area;
pub mod background;
pub mod barrier;
pub mod cluster;
pub mod commit;
pub mod commit_node;
pub mod data_node;
mod dispatcher;
mod doubts;
mod draft;
mod ending;
pub mod eviction;
pub mod fault;
pub mod format;
pub mod freeze;
pub mod grants;
pub mod guest;
pub mod halt;
pub mod handler;
pub mod host;
pub mod info;
pub mod integrity;
mod lives;
pub mod migrate;
pub mod msg;
mod name_change;
pub mod names;
pub mod node;
pub mod outcome;
pub mod owner;
pub mod pages;
mod participant;
pub mod persist;
mod placement;
mod rebase;
mod records;
pub mod recovery;
mod remains;
pub mod replicate;
mod resolve;
pub mod rooms;
pub mod scrub;
pub mod space;
pub mod spread;
mod succession;
mod survey;
mod take;
mod takeover;
mod tombstones;
mod transaction;
mod truncate;
mod unreadable;
pub mod writers;

use core::{
    future::{poll_fn, Future},
    ops::DerefMut,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use kernel::prelude::*;

/// Runs the part of an operation that `make` makes, with its state on the heap and its variables in a
/// stack frame of their own, so that what it takes of the stack is not taken from the other parts, too:
/// kernel stacks have 16 KiB, and a compiler that inlines parts adds their frames up.
async fn apart<F: Future<Output = Result<T>>, T>(make: impl FnOnce() -> F) -> Result<T> {
    #[inline(never)]
    fn poll<F: Future>(part: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        part.poll(context)
    }
    let mut part = boxed(make)?;
    poll_fn(|context| poll(part.as_mut(), context)).await
}

/// A future on the heap. It is made in a frame that is gone when it runs.
#[inline(never)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Result<Pin<impl DerefMut<Target = F>>> {
    let room = KBox::new_uninit(GFP_KERNEL)?;
    Ok(KBox::into_pin(KBox::write(room, make())))
}

/// Runs an operation to its end on a host whose futures are always ready.
///
/// `EIO` when one was not: a mistake in the host.
#[inline(never)]
pub fn drive<F: Future + ?Sized>(operation: Pin<&mut F>) -> Result<F::Output> {
    match operation.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(EIO),
    }
}
