// SPDX-License-Identifier: GPL-2.0

//! What operations of the control plane ask of the world around them. The module
//! implements [`Host`] with mutexes and calls; the simulator with simulated ones.
//!
//! An operation is an `async fn`. In the kernel the futures of `Host` do their work
//! at once in the calling thread and are always ready, so [`drive`] runs an operation
//! to its end; the simulator's are pending until its scheduler answers.

use super::{
    control::{self, Request},
    home::Life,
    pool::Pool,
    slow::{Fast, Slow},
};
use ::core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use kernel::prelude::*;

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Data are at stake.
    Error,
    /// An operator should look.
    Warning,
    /// Good to know.
    Info,
}

/// The world, as one operation sees it.
pub trait Host: Fast {
    /// Where the pages are.
    type Pool: Pool;

    /// The pages.
    fn pool(&self) -> &Self::Pool;
    /// Runs `f` with the slow path's mutex held. Never nested; may be called with no
    /// lock held only, and `f` may take the board's.
    fn slow<R>(&self, f: impl FnOnce(&mut Slow) -> R) -> R;
    /// This node, in this life.
    fn me(&self) -> Life;
    /// Our UDP port.
    fn port(&self) -> u16;
    /// Requests of the last second.
    fn load(&self) -> u64;
    /// A random number.
    fn random(&self) -> u64;
    /// The memory nodes that the map says are up, ourselves included.
    fn memory_nodes(&self) -> Result<KVec<u16>>;
    /// Whether a node can still come back in this life: the map has it, up or down.
    fn is_alive(&self, life: Life) -> bool;
    /// Calls the control plane of a node, which may be ourselves.
    fn call(&self, node: u16, request: &[u8]) -> impl Future<Output = Result<KVec<u8>>>;
    /// Calls it at all of these; those that do not answer have no answer.
    fn call_all(
        &self,
        nodes: &[u16],
        request: &[u8],
    ) -> impl Future<Output = Result<KVec<Option<KVec<u8>>>>>;
    /// Sleeps a little.
    fn pause(&self, ms: u32) -> impl Future<Output = ()>;
    /// Has a worker migrate a region. `EBUSY` while it migrates another.
    fn start_migration(&self, ras: u64, index: u32, to: u16) -> Result;
    /// Prints a line for the operator (the host adds which memory node it is).
    fn log(&self, level: Level, line: ::core::fmt::Arguments<'_>);
}

/// Asks a node.
pub(super) async fn ask<R: Request>(host: &impl Host, node: u16, request: &R) -> Result<R::Reply> {
    let bytes = control::encode(request)?;
    let reply = host.call(node, &bytes).await?;
    control::decode_reply(&reply)
}

/// Runs an operation to its end on a host whose futures are always ready.
///
/// `EIO` when one was not: a mistake in the host.
pub fn drive<F: Future + ?Sized>(operation: Pin<&mut F>) -> Result<F::Output> {
    match operation.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(EIO),
    }
}
