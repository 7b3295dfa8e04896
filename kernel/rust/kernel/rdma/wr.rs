// SPDX-License-Identifier: GPL-2.0

//! Work requests.

use super::{Access, DmaBuffer, FastRegMr, Segment};
use crate::{bindings, prelude::*, sync::Arc};

/// A place in a peer's memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RemoteAddr {
    /// Address, as the peer's region gives it.
    pub addr: u64,
    /// Key of the peer's region.
    pub rkey: u32,
}

/// Something to be done by the send queue.
pub enum SendOp<'a> {
    /// A message into a receive buffer of the peer.
    Send {
        /// What is sent.
        local: Segment,
    },
    /// Local bytes into the peer's memory.
    Write {
        /// What is written.
        local: Segment,
        /// Where to.
        remote: RemoteAddr,
    },
    /// As [`Self::Write`], and completes a receive of the peer with `imm`.
    WriteImm {
        /// What is written; `None` sends the immediate alone.
        local: Option<Segment>,
        /// Where to.
        remote: RemoteAddr,
        /// Handed to the peer with its completion.
        imm: u32,
    },
    /// The peer's bytes into local memory.
    Read {
        /// Where to.
        local: Segment,
        /// What is read.
        remote: RemoteAddr,
    },
    /// Atomic compare-and-swap of an aligned 64-bit word of the peer.
    CompareSwap {
        /// 8 bytes that receive the old value.
        local: Segment,
        /// The word.
        remote: RemoteAddr,
        /// Value to be there.
        compare: u64,
        /// Value to be put there then.
        swap: u64,
    },
    /// Atomic addition to an aligned 64-bit word of the peer.
    FetchAdd {
        /// 8 bytes that receive the old value.
        local: Segment,
        /// The word.
        remote: RemoteAddr,
        /// What is added.
        add: u64,
    },
    /// Lets peers into a mapped memory region.
    RegMr {
        /// The region.
        mr: &'a Arc<FastRegMr>,
        /// What they may do.
        access: Access,
    },
    /// Shuts a memory region again. Later requests of the same queue come after it.
    LocalInv {
        /// The region.
        mr: &'a Arc<FastRegMr>,
    },
}

/// What a work request needs until it has completed.
pub(super) enum Hold {
    Nothing,
    Buffer(#[expect(dead_code, reason = "held, not used")] Arc<DmaBuffer>),
    Registered(#[expect(dead_code, reason = "held, not used")] Arc<FastRegMr>),
    Invalidating(Arc<FastRegMr>),
}

/// The C work requests behind a [`SendOp`], all of which begin with an `ib_send_wr`.
pub(super) union RawSend {
    pub(super) send: bindings::ib_send_wr,
    rdma: bindings::ib_rdma_wr,
    atomic: bindings::ib_atomic_wr,
    reg: bindings::ib_reg_wr,
}

impl SendOp<'_> {
    /// Translates to a C work request without gather list and cqe, a gather list, and a hold.
    pub(super) fn into_raw(self, lkey: u32) -> (RawSend, Option<bindings::ib_sge>, Hold) {
        use bindings::*;

        let mut wr: ib_send_wr = pin_init::zeroed();
        wr.send_flags = ib_send_flags_IB_SEND_SIGNALED as c_int;
        let rdma = |wr: ib_send_wr, remote: RemoteAddr| RawSend {
            rdma: ib_rdma_wr {
                wr,
                remote_addr: remote.addr,
                rkey: remote.rkey,
            },
        };
        let atomic = |wr: ib_send_wr, remote: RemoteAddr, compare_add: u64, swap: u64| RawSend {
            atomic: ib_atomic_wr {
                wr,
                remote_addr: remote.addr,
                compare_add,
                swap,
                rkey: remote.rkey,
                ..pin_init::zeroed()
            },
        };
        let held = |local: Segment| {
            let sge = local.sge(lkey);
            (Some(sge), Hold::Buffer(local.into_buffer()))
        };
        match self {
            SendOp::Send { local } => {
                wr.opcode = ib_wr_opcode_IB_WR_SEND;
                let (sge, hold) = held(local);
                (RawSend { send: wr }, sge, hold)
            }
            SendOp::Write { local, remote } => {
                wr.opcode = ib_wr_opcode_IB_WR_RDMA_WRITE;
                let (sge, hold) = held(local);
                (rdma(wr, remote), sge, hold)
            }
            SendOp::WriteImm { local, remote, imm } => {
                wr.opcode = ib_wr_opcode_IB_WR_RDMA_WRITE_WITH_IMM;
                wr.ex.imm_data = imm.to_be();
                let (sge, hold) = local.map_or((None, Hold::Nothing), held);
                (rdma(wr, remote), sge, hold)
            }
            SendOp::Read { local, remote } => {
                wr.opcode = ib_wr_opcode_IB_WR_RDMA_READ;
                let (sge, hold) = held(local);
                (rdma(wr, remote), sge, hold)
            }
            SendOp::CompareSwap {
                local,
                remote,
                compare,
                swap,
            } => {
                wr.opcode = ib_wr_opcode_IB_WR_ATOMIC_CMP_AND_SWP;
                let (sge, hold) = held(local);
                (atomic(wr, remote, compare, swap), sge, hold)
            }
            SendOp::FetchAdd { local, remote, add } => {
                wr.opcode = ib_wr_opcode_IB_WR_ATOMIC_FETCH_AND_ADD;
                let (sge, hold) = held(local);
                (atomic(wr, remote, add, 0), sge, hold)
            }
            SendOp::RegMr { mr, access } => {
                wr.opcode = ib_wr_opcode_IB_WR_REG_MR;
                let reg = ib_reg_wr {
                    wr,
                    mr: mr.as_raw(),
                    key: mr.rkey(),
                    access: access.as_raw(),
                };
                (RawSend { reg }, None, Hold::Registered(mr.clone()))
            }
            SendOp::LocalInv { mr } => {
                wr.opcode = ib_wr_opcode_IB_WR_LOCAL_INV;
                wr.ex.invalidate_rkey = mr.rkey();
                (RawSend { send: wr }, None, Hold::Invalidating(mr.clone()))
            }
        }
    }
}
