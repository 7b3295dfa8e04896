// SPDX-License-Identifier: GPL-2.0

//! Answers: sealed and sent from wherever they are made.

use crate::{
    core::{
        slow::Fast,
        wire::{Header, MAX_PAYLOAD},
    },
    node::MemoryNode,
};
use ::core::net::SocketAddr;
use kernel::{
    cpu, new_spinlock_bh,
    prelude::*,
    siphash::Key,
    sync::{lock::spinlock_bh::SpinLockBhGuard, SpinLockBh},
};

/// Room for the payload of an answer, one for each processor: packets are received on all of them
/// at once, and none waits for another's copy.
pub(crate) struct Buffers(KVec<Pin<KBox<SpinLockBh<KVVec<u8>>>>>);

impl Buffers {
    pub(crate) fn new() -> Result<Self> {
        let mut buffers = KVec::new();
        for _ in 0..cpu::nr_cpu_ids().clamp(1, 64) {
            let bytes = KVVec::from_elem(0u8, MAX_PAYLOAD, GFP_KERNEL)?;
            let buffer = KBox::pin_init(new_spinlock_bh!(bytes, "legomem_answer"), GFP_KERNEL)?;
            buffers.push(buffer, GFP_KERNEL)?;
        }
        Ok(Self(buffers))
    }

    /// One that nobody uses, else the first when it is free.
    pub(crate) fn take(&self) -> Option<SpinLockBhGuard<'_, KVVec<u8>>> {
        let free = self.0.iter().find_map(|buffer| buffer.try_lock());
        free.or_else(|| self.0.first().map(|buffer| buffer.lock()))
    }
}

impl MemoryNode {
    /// Sends an answer; one that cannot be sent is counted, and lost as any packet may be.
    pub(crate) fn send(&self, to: &SocketAddr, key: &Key, header: &Header, payload: &[u8]) {
        let sealed = header.seal(key, payload);
        self.transmit(to, &[&sealed, payload]);
    }

    /// Sends an answer without a tag.
    pub(crate) fn send_hint(&self, to: &SocketAddr, header: &Header) {
        self.transmit(to, &[&header.hint()]);
    }

    fn transmit(&self, to: &SocketAddr, pieces: &[&[u8]]) {
        if self.socket.send(to, pieces).is_err() {
            self.fast(|board| board.stats.unsent += 1);
        }
    }
}
