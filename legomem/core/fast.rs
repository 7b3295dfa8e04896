// SPDX-License-Identifier: GPL-2.0

//! The fast path: one packet in, one answer out, in the order of arrival. Nothing
//! here waits or allocates.

use super::{
    board::{Board, Novelty, Span},
    dedup::Record,
    offload,
    pool::Pool,
    space::RegionState,
    wire::{lock_word, rights, Header, Op, Path, Status},
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered.
    Answer(Answer),
    /// A worker of this path executes it, then calls [`Board::finish`] and answers.
    Worker(Path),
}

/// An answer: `len` bytes of the reply buffer behind this header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Not sealed yet.
    pub header: Header,
    /// Bytes of payload.
    pub len: usize,
    /// The answer goes on: [`Board::execute`] again with this part.
    pub next: Option<u32>,
}

type Executed = Result<(usize, u64), Status>;

impl Board {
    /// Executes a request that was parsed and verified. `part` is 0, then what
    /// [`Answer::next`] says. `reply` has room for what one packet may carry.
    pub fn execute(
        &mut self,
        pool: &impl Pool,
        request: &Header,
        payload: &[u8],
        part: u32,
        reply: &mut [u8],
    ) -> Outcome {
        if let Err(status) = self.check_requester(request) {
            return self.refuse(request, status);
        }
        if Self::is_remembered(request) {
            match self.novelty(request) {
                Novelty::Done(status, operand) => {
                    // The bytes are read again: they depend on nothing that a retry changes.
                    let len = match request.op {
                        Op::FlushFetch => self
                            .read(pool, request, request.offset, payload.len(), reply)
                            .unwrap_or(0),
                        _ => 0,
                    };
                    return self.done(request, status, len, operand);
                }
                Novelty::Refuse(status) => return self.refuse(request, status),
                Novelty::New => {}
            }
        }
        if request.op.path() != Path::Fast {
            // A region that moves first waits for the workers: no new ones then.
            if let Err(status) = self.check_region(request) {
                return self.refuse(request, status);
            }
            self.hand_over(request);
            return Outcome::Worker(request.op.path());
        }
        let executed = match request.op {
            Op::Read => return self.read_part(pool, request, part, reply),
            Op::Write => self.write(pool, request, request.addr, payload),
            Op::FlushFetch => self.flush_fetch(pool, request, payload, reply),
            Op::Fence if self.is_pending(request) => Err(Status::Busy),
            Op::Fence => Ok((0, 0)),
            _ => self.word(pool, request, payload),
        };
        match executed {
            Ok((len, operand)) => {
                self.remember_done(request, Status::Ok, operand);
                self.done(request, Status::Ok, len, operand)
            }
            // That somebody has the lock was the outcome: a second copy of this request must not
            // take it later, when nobody waits for it any more.
            Err(Status::Held) => {
                self.remember_done(request, Status::Held, 0);
                self.done(request, Status::Held, 0, 0)
            }
            Err(status) => self.refuse(request, status),
        }
    }

    fn check_region(&self, request: &Header) -> Result<(), Status> {
        let space = self.spaces.get(request.ras).ok_or(Status::Moved)?;
        let index = space.region_of(request.addr, 1).ok_or(Status::Fault)?;
        match space.region(index).state {
            RegionState::Live => Ok(()),
            RegionState::Paused => Err(Status::Paused),
            RegionState::Elsewhere => Err(Status::Moved),
        }
    }

    fn remember_done(&mut self, request: &Header, status: Status, operand: u64) {
        if Self::is_remembered(request) {
            self.remember(request, Record::Done { status, operand });
        }
    }

    /// Whether executing a request twice could differ from executing it once.
    pub(super) fn is_remembered(request: &Header) -> bool {
        match request.op {
            Op::Offload => offload::kind(request) == offload::Kind::Writes,
            op => op.is_remembered(),
        }
    }

    fn refuse(&mut self, request: &Header, status: Status) -> Outcome {
        self.done(request, status, 0, 0)
    }

    fn done(&mut self, request: &Header, status: Status, len: usize, operand: u64) -> Outcome {
        Outcome::Answer(Answer {
            header: self.answer(request, status, operand),
            len,
            next: None,
        })
    }

    /// As much of a read as one packet carries.
    fn read_part(
        &mut self,
        pool: &impl Pool,
        request: &Header,
        part: u32,
        reply: &mut [u8],
    ) -> Outcome {
        let most = (request.argument as usize).min(reply.len());
        let len = (request.len.saturating_sub(part) as usize).min(most);
        if len == 0 {
            return self.refuse(request, Status::Invalid);
        }
        // The whole must be readable, not only this part: nobody gets half an answer for an
        // address that is wrong.
        let whole = self.translate(request, request.addr, request.len.into(), rights::READ);
        let read = whole.and_then(|_| self.read(pool, request, part, len, reply));
        match read {
            Ok(len) => {
                let end = part.saturating_add(len as u32);
                let header = self.answer(request, Status::Ok, 0);
                Outcome::Answer(Answer {
                    header: Header {
                        offset: part,
                        ..header
                    },
                    len,
                    next: (end < request.len).then_some(end),
                })
            }
            Err(status) => self.refuse(request, status),
        }
    }

    fn read(
        &mut self,
        pool: &impl Pool,
        request: &Header,
        offset: u32,
        len: usize,
        reply: &mut [u8],
    ) -> Result<usize, Status> {
        let addr = request
            .addr
            .checked_add(offset.into())
            .ok_or(Status::Fault)?;
        let to = reply.get_mut(..len).ok_or(Status::TooLarge)?;
        let request = &Header {
            // The parts behind the first begin in the middle.
            flags: if offset == 0 { request.flags } else { 0 },
            ..*request
        };
        let span = self.translate(request, addr, len as u64, rights::READ)?;
        self.copy_out(pool, &span, to);
        Ok(len)
    }

    pub(super) fn copy_out(&mut self, pool: &impl Pool, span: &Span, to: &mut [u8]) {
        let mut rest = to;
        for part in span.parts() {
            let (here, behind) = rest.split_at_mut(part.len.min(rest.len()));
            match part.frame {
                Some(frame) => pool.read(frame, part.offset, here),
                // Nobody wrote here yet.
                None => here.fill(0),
            }
            self.stats.bytes_read += here.len() as u64;
            rest = behind;
        }
    }

    pub(super) fn copy_in(&mut self, pool: &impl Pool, span: &Span, from: &[u8]) {
        let mut rest = from;
        for part in span.parts() {
            let (here, behind) = rest.split_at(part.len.min(rest.len()));
            if let Some(frame) = part.frame {
                pool.write(frame, part.offset, here);
            }
            self.stats.bytes_written += here.len() as u64;
            rest = behind;
        }
    }

    /// A fragment of a write, to `base` and its offset.
    fn write(&mut self, pool: &impl Pool, request: &Header, base: u64, payload: &[u8]) -> Executed {
        let addr = base
            .checked_add(request.offset.into())
            .ok_or(Status::Fault)?;
        let request = &Header {
            flags: if request.offset == 0 {
                request.flags
            } else {
                0
            },
            ..*request
        };
        let mut span = self.translate(request, addr, payload.len() as u64, rights::WRITE)?;
        self.touch(&mut span)?;
        self.copy_in(pool, &span, payload);
        Ok((0, 0))
    }

    fn flush_fetch(
        &mut self,
        pool: &impl Pool,
        request: &Header,
        payload: &[u8],
        reply: &mut [u8],
    ) -> Executed {
        let distance = request.operand.abs_diff(request.addr);
        if distance < request.len.into() {
            return Err(Status::Invalid);
        }
        if payload.len() > reply.len() {
            return Err(Status::TooLarge);
        }
        // Both or neither: what cannot be read must not have been written.
        let from = request
            .addr
            .checked_add(request.offset.into())
            .ok_or(Status::Fault)?;
        self.translate(request, from, payload.len() as u64, rights::READ)?;
        self.write(pool, request, request.operand, payload)?;
        let len = self.read(pool, request, request.offset, payload.len(), reply)?;
        Ok((len, 0))
    }

    /// Atomics and locks: the word is read, and written if that changes it.
    fn word(&mut self, pool: &impl Pool, request: &Header, payload: &[u8]) -> Executed {
        if request.addr % super::wire::WORD != 0 {
            return Err(Status::Invalid);
        }
        let mut span = self.translate(request, request.addr, super::wire::WORD, rights::ALL)?;
        let (frame, offset) = (span.head.frame, span.head.offset);
        let old = frame.map_or(0, |frame| pool.load(frame, offset));
        let mine = lock_word(request.node, request.incarnation, request.argument);
        let (new, result) = match request.op {
            Op::Tas => (1, old),
            Op::Cas => {
                let desired = payload.first_chunk().ok_or(Status::Invalid)?;
                let swap = old == request.operand;
                (
                    if swap {
                        u64::from_le_bytes(*desired)
                    } else {
                        old
                    },
                    old,
                )
            }
            Op::Faa => (old.wrapping_add(request.operand), old),
            Op::Lock if old == 0 => (mine, 0),
            Op::Lock if old != mine && self.members.dropped(old) => {
                self.stats.stolen_locks += 1;
                (mine, old)
            }
            Op::Lock => return Err(Status::Held),
            Op::Unlock if old == mine => (0, 0),
            Op::Unlock => return Err(Status::NotHolder),
            _ => return Err(Status::NotSupported),
        };
        if new != old {
            self.touch(&mut span)?;
            if let Some(frame) = span.head.frame {
                pool.store(frame, offset, new);
            }
        }
        Ok((0, result))
    }
}
