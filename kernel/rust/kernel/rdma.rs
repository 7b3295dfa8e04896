// SPDX-License-Identifier: GPL-2.0

//! RDMA: connections and verbs for kernel users.
//!
//! C headers: [`include/rdma/ib_verbs.h`](srctree/include/rdma/ib_verbs.h),
//! [`include/rdma/rdma_cm.h`](srctree/include/rdma/rdma_cm.h)
//!
//! A user makes a [`CmId`] in a network namespace, which resolves addresses, listens and connects,
//! and tells an [`EventHandler`] what happened. Once bound to a [`Device`] it gets a [`QueuePair`],
//! to which work is posted; each completion goes to a [`CompletionHandler`] with the token that was
//! posted. Memory that a peer may read or write is a [`DmaBuffer`] under a [`FastRegMr`].
//!
//! What keeps this sound: a queue pair holds on to the memory of every work request until that
//! request has completed, and to its protection domain, queue and connection id until it is gone;
//! a memory region holds on to the memory that it exposes until the region is invalidated or gone;
//! all of them hold a reference to the device. On [`Event::DeviceRemoval`] a user must let go of
//! all of them: the removal of the device waits for it.
//!
//! [`EventHandler`]: cm::EventHandler
//! [`Event::DeviceRemoval`]: cm::Event::DeviceRemoval

pub mod cm;
mod device;
mod dma;
mod mr;
mod qp;
mod slots;
mod wr;

pub use cm::CmId;
pub use device::{CompletionQueue, Device, Pd, PollContext};
pub use dma::{DmaBuffer, Segment};
pub use mr::{Access, FastRegMr};
pub use qp::{QueuePair, QueuePairOptions};
pub use slots::{Completion, CompletionHandler};
pub use wr::{RemoteAddr, SendOp};
