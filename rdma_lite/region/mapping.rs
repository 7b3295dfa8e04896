// SPDX-License-Identifier: GPL-2.0

//! A mapping as its holder has it, and what it can do with it.

use super::{areas::Areas, memory::Memory, PORT};
use crate::{
    ask::{ask_until, Answer, To},
    call::Signals,
    core::{
        holder::{Holder, Life, Name},
        region::{
            keys::{Begun, Keys},
            wire::{Head, Reply, Request, REPLY_LEN, REQUEST_LEN},
            Geometry, Rights,
        },
        Class,
    },
    events::now,
    host::Host,
    releases::{Promise, Release},
};
use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    rdma::RemoteAddr,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Completion, CondVar, Mutex,
    },
    time::msecs_to_jiffies,
};

mod io;

const MS: u64 = 1_000_000;
/// How long whoever gives a mapping up waits for accesses that are under way.
const END_MS: u32 = 2000;
/// How long whoever closes a file waits for what it lent: holders to be told, and windows to be shut.
const END_LENT_MS: u32 = 10_000;

/// What the owner told.
#[derive(Copy, Clone)]
pub(crate) struct Facts {
    pub(crate) life: u64,
    pub(crate) geometry: Geometry,
    pub(crate) secret: u64,
}

struct State {
    keys: Keys<RemoteAddr>,
    facts: Option<Facts>,
    promise: Option<Promise>,
    /// The owner never opens chunks of this region.
    closed: bool,
}

/// See the module.
#[pin_data]
pub(crate) struct Mapping {
    pub(crate) host: Arc<Host>,
    pub(crate) owner: u16,
    pub(crate) tag: u64,
    /// [`Class`] of what is done with it, as its number.
    class: Atomic<u32>,
    /// What a process lent as this region: it has that back when the mapping ends, come what may.
    pub(super) lent: Option<Arc<Memory>>,
    /// Where processes here see the region.
    #[pin]
    pub(super) areas: Areas,
    #[pin]
    state: Mutex<State>,
    #[pin]
    recalled: CondVar,
}

/// Ns of CLOCK_MONOTONIC by when something has to be done; `timeout_ms` 0 is the node's default.
pub(crate) fn deadline(host: &Host, timeout_ms: u32) -> u64 {
    let ms = match timeout_ms {
        0 => host.timeout_ms,
        ms => ms,
    };
    now().saturating_add(u64::from(ms) * MS)
}

/// Ms until then.
fn left_ms(deadline: u64) -> u32 {
    let left = deadline.saturating_sub(now()).div_ceil(MS);
    u32::try_from(left).unwrap_or(u32::MAX)
}

impl Mapping {
    /// Makes or maps a region at `owner`.
    pub(crate) fn new(
        host: &Arc<Host>,
        owner: u16,
        request: Request,
        deadline: u64,
    ) -> Result<Arc<Self>> {
        Self::with(host, owner, None, |this, promise| {
            this.make(request, deadline, promise)
        })
    }

    /// Makes a region here of memory that a process lends; it ends when this mapping does.
    pub(crate) fn lend(
        host: &Arc<Host>,
        memory: Arc<Memory>,
        others: Rights,
        name: Name,
    ) -> Result<Arc<Self>> {
        let lent = Some(memory.clone());
        Self::with(host, host.local.id, lent, |this, promise| {
            match host.lend(this.holder(), memory, others, name) {
                Ok(mapped) => {
                    let facts = Facts {
                        life: host.local.incarnation,
                        geometry: mapped.geometry,
                        secret: mapped.secret,
                    };
                    this.made(facts, mapped.rights, promise);
                    Ok(())
                }
                Err(e) => {
                    promise.cancel();
                    Err(e)
                }
            }
        })
    }

    /// A new mapping, which `make` fills with what the owner tells.
    fn with(
        host: &Arc<Host>,
        owner: u16,
        lent: Option<Arc<Memory>>,
        make: impl FnOnce(&Self, Promise) -> Result,
    ) -> Result<Arc<Self>> {
        let tag = host.regions.new_tag();
        let release = Release {
            owner: Life {
                node: owner,
                incarnation: 0,
            },
            port: PORT,
            message: {
                let mut message = KVec::new();
                let head = Head { tag, life: 0 };
                message.extend_from_slice(&Request::Unmap.encode(head), GFP_KERNEL)?;
                message
            },
        };
        let promise = Promise::new(host, release)?;
        let this = Arc::pin_init(
            pin_init!(Self {
                host: host.clone(),
                owner,
                tag,
                class: Atomic::new(Class::Normal as u32),
                lent,
                areas <- Areas::new(),
                state <- new_mutex!(State {
                    keys: Keys::new(Rights::NONE),
                    facts: None,
                    promise: None,
                    closed: false,
                }, "lite_mapping"),
                recalled <- new_condvar!("lite_recalled"),
            }),
            GFP_KERNEL,
        );
        let noted = this.and_then(|this| {
            let mut mappings = host.regions.mappings.lock();
            mappings.try_create_and_insert(tag, this.clone(), GFP_KERNEL)?;
            Ok(this)
        });
        let this = match noted {
            Ok(this) => this,
            Err(e) => {
                promise.cancel();
                return Err(e);
            }
        };
        let made = make(&this, promise);
        if made.is_err() {
            this.forget();
        }
        made.map(|()| this)
    }

    /// Asks the owner. If it may have heard that and did not answer, it is told to forget it.
    fn make(&self, request: Request, deadline: u64, promise: Promise) -> Result {
        let head = request.encode(Head {
            tag: self.tag,
            life: 0,
        });
        let mut reply = KVec::from_elem(0u8, REPLY_LEN, GFP_KERNEL)?;
        match ask_until(&self.host, self.to(), deadline, &head, &[], &mut reply)? {
            Ok(len) => {
                let reply = Reply::decode(&reply[..len])?;
                let chunk_log2 = u8::try_from(reply.small).map_err(|_| EBADMSG)?;
                let facts = Facts {
                    life: reply.life,
                    geometry: Geometry::new(reply.value, chunk_log2).map_err(|_| EBADMSG)?,
                    secret: reply.other,
                };
                let rights = Rights::new(reply.rights)?;
                self.made(facts, rights, promise);
                Ok(())
            }
            Err(e) => {
                promise.cancel();
                Err(e)
            }
        }
    }

    /// The owner has told what there is to know.
    fn made(&self, facts: Facts, rights: Rights, mut promise: Promise) {
        let owner = Life {
            node: self.owner,
            incarnation: facts.life,
        };
        let unmap = Request::Unmap.encode(Head {
            tag: self.tag,
            life: facts.life,
        });
        promise.set_owner(owner, &unmap);
        let mut state = self.state.lock();
        state.keys.mapped(rights);
        state.facts = Some(facts);
        state.promise = Some(promise);
    }

    fn to(&self) -> To {
        To {
            node: self.owner,
            port: PORT,
            timeout_ms: 0,
            signals: Signals::All,
            class: self.class(),
        }
    }

    /// The class of what is done with it.
    fn class(&self) -> Class {
        Class::from_number(self.class.load(Relaxed)).unwrap_or_default()
    }

    /// What is done with it from now on is of this class.
    pub(crate) fn set_class(&self, class: Class) {
        self.class.store(class as u32, Relaxed);
    }

    /// Whether the region is our own.
    pub(super) fn is_local(&self) -> bool {
        self.owner == self.host.local.id
    }

    pub(super) fn holder(&self) -> Holder {
        Holder {
            life: self.host.life(),
            tag: self.tag,
        }
    }

    /// What the owner told; [`ESTALE`] when it told nothing.
    pub(crate) fn facts(&self) -> Result<Facts> {
        self.state.lock().facts.ok_or(ESTALE)
    }

    /// What may be done with it now.
    pub(crate) fn rights(&self) -> Rights {
        self.state.lock().keys.rights()
    }

    fn begin(&self, need: Rights) -> Result<Begun> {
        self.state.lock().keys.begin(need)
    }

    fn end_access(&self, begun: Begun) {
        if self.state.lock().keys.end(begun) {
            self.recalled.notify_all();
        }
    }

    /// Does something that a recall waits for.
    pub(super) fn during<T>(&self, need: Rights, f: impl FnOnce(&Begun) -> Result<T>) -> Result<T> {
        let begun = self.begin(need)?;
        let result = f(&begun);
        self.end_access(begun);
        result
    }

    /// Takes rights away, at once from processes that have the region in their address spaces.
    fn take_rights(&self, rights: Rights, freed: bool) {
        self.state.lock().keys.recall(rights, freed);
        self.areas.take_away(freed);
    }

    /// Takes rights away, and waits for accesses that have them.
    fn recall(&self, rights: Rights, freed: bool, timeout_ms: u32) -> Result {
        let until = now().saturating_add(u64::from(timeout_ms) * MS);
        self.take_rights(rights, freed);
        let mut state = self.state.lock();
        while !state.keys.is_recalled() {
            let left = left_ms(until);
            if left == 0 {
                return Err(ETIMEDOUT);
            }
            self.recalled
                .wait_timeout(&mut state, msecs_to_jiffies(left));
        }
        Ok(())
    }

    /// The map dropped our life: what it mapped of its own is no more.
    pub(super) fn lose_areas(&self) {
        if self.is_local() {
            self.areas.take_away(true);
        }
    }

    fn forget(&self) {
        let removed = self.host.regions.mappings.lock().remove(&self.tag);
        drop(removed);
    }

    /// The node goes off: nothing can be done with it, and nobody has to be told.
    pub(crate) fn end(&self) {
        self.take_rights(Rights::NONE, true);
        let promise = self.state.lock().promise.take();
        if let Some(promise) = promise {
            promise.cancel();
        }
    }

    /// Afterwards nobody uses what was lent.
    fn take_back(&self) {
        if let Some(memory) = &self.lent {
            memory.take_back();
        }
    }

    /// Gives it up; the owner hears it in the background. What was lent is out of everybody's reach when
    /// this returns, unless the task is being killed: then that comes true in the background, and the
    /// pages stay until then.
    pub(crate) fn drop_later(&self) {
        self.forget();
        self.take_rights(Rights::NONE, true);
        let promise = self.state.lock().promise.take();
        if self.lent.is_some() {
            self.give_up_lent();
        }
        drop(promise);
    }

    /// Has holders told, and their windows shut.
    fn give_up_lent(&self) {
        let holder = self.holder();
        let spawned = Arc::pin_init(Completion::new(), GFP_KERNEL).and_then(|done| {
            let (host, told) = (self.host.clone(), done.clone());
            let queue = &self.host.queues().handlers;
            queue.try_spawn(GFP_KERNEL, move || {
                // An error means that it was given up before.
                let _ = host.give_up(holder);
                told.complete_all();
            })?;
            Ok(done)
        });
        match spawned {
            Ok(done) => {
                let jiffies = msecs_to_jiffies(END_LENT_MS);
                let _ = done.wait_for_completion_killable_timeout(jiffies);
            }
            // Without memory for that it is done here.
            Err(_) => {
                let _ = self.host.give_up(holder);
            }
        }
        self.take_back();
    }

    /// Gives it up, and waits until the owner has heard it. On an error it hears it in the background.
    pub(crate) fn unmap(&self, deadline: u64) -> Result {
        let result = self.tell_unmap(deadline);
        self.take_back();
        result
    }

    fn tell_unmap(&self, deadline: u64) -> Result {
        // Who is late loses: the owner shuts its window.
        let _ = self.recall(Rights::NONE, true, END_MS);
        self.forget();
        let Some(promise) = self.state.lock().promise.take() else {
            return Ok(());
        };
        match self.ask(Request::Unmap, &[], deadline, &mut KVec::new())? {
            Ok(_) | Err(ESTALE) => {
                promise.cancel();
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Frees the region, and gives the mapping up.
    pub(crate) fn free(&self, deadline: u64) -> Result {
        // Not an access: the owner recalls this mapping, too.
        self.during(Rights::ADMIN, |_| Ok(()))?;
        self.ask(Request::Free, &[], deadline, &mut KVec::new())??;
        self.unmap(deadline)
    }

    fn ask(
        &self,
        request: Request,
        data: &[u8],
        deadline: u64,
        reply: &mut KVec<u8>,
    ) -> Result<Answer> {
        let head: [u8; REQUEST_LEN] = request.encode(Head {
            tag: self.tag,
            life: self.facts()?.life,
        });
        ask_until(&self.host, self.to(), deadline, &head, data, reply)
    }

    /// Has the owner do something, and returns what it answers.
    fn execute(&self, need: Rights, request: Request, deadline: u64) -> Result<Reply> {
        let mut reply = KVec::from_elem(0u8, REPLY_LEN, GFP_KERNEL)?;
        let len = self.during(need, |_| self.ask(request, &[], deadline, &mut reply)?)?;
        Reply::decode(&reply[..len])
    }

    /// Sets what a node (0: each) may do.
    pub(crate) fn grant(&self, node: u16, rights: Rights, deadline: u64) -> Result {
        let request = Request::Grant { node, rights };
        // Not during an access: mappings of our own node may be recalled as well, not this one.
        self.during(Rights::ADMIN, |_| Ok(()))?;
        self.ask(request, &[], deadline, &mut KVec::new())??;
        Ok(())
    }

    /// What is known about the region.
    pub(crate) fn info(&self, deadline: u64) -> Result<Reply> {
        self.execute(Rights::NONE, Request::Info, deadline)
    }

    /// Fills bytes with a value.
    pub(crate) fn set(&self, offset: u64, len: u64, value: u8, deadline: u64) -> Result {
        self.facts()?.geometry.check(offset, len)?;
        let request = Request::Set { offset, len, value };
        self.execute(Rights::WRITE, request, deadline).map(|_| ())
    }

    /// Copies bytes to `other`, which may be `self`; the ranges may overlap.
    pub(crate) fn copy_to(
        &self,
        offset: u64,
        other: &Self,
        to: u64,
        len: u64,
        deadline: u64,
    ) -> Result {
        let there = other.facts()?;
        self.facts()?.geometry.check(offset, len)?;
        there.geometry.check(to, len)?;
        let request = Request::Copy {
            offset,
            len,
            node: other.owner,
            life: there.life,
            tag: other.tag,
            secret: there.secret,
            to,
        };
        other.during(Rights::WRITE, |_| {
            self.execute(Rights::READ, request, deadline).map(|_| ())
        })
    }

    /// Adds to a word; what it was.
    pub(crate) fn fetch_add(&self, offset: u64, add: u64, deadline: u64) -> Result<u64> {
        self.facts()?.geometry.check_word(offset)?;
        let both = Rights::READ.or(Rights::WRITE);
        let request = Request::FetchAdd { offset, add };
        Ok(self.execute(both, request, deadline)?.value)
    }

    /// Replaces a word that is `expected`; what it was.
    pub(crate) fn compare_swap(
        &self,
        offset: u64,
        expected: u64,
        new: u64,
        deadline: u64,
    ) -> Result<u64> {
        self.facts()?.geometry.check_word(offset)?;
        let both = Rights::READ.or(Rights::WRITE);
        let request = Request::CompareSwap {
            offset,
            expected,
            new,
        };
        Ok(self.execute(both, request, deadline)?.value)
    }
}

impl Host {
    /// Our own node took rights away from a mapping of ours: processes see it no more with these. That
    /// neither fails nor waits.
    pub(super) fn take_areas_away(&self, holder: Holder, freed: bool) {
        if holder.life != self.life() {
            return;
        }
        let mapping = self.regions.mappings.lock().get(&holder.tag).cloned();
        if let Some(mapping) = mapping {
            mapping.areas.take_away(freed);
        }
    }

    /// An owner takes rights away from a mapping of ours.
    pub(super) fn recalled(
        &self,
        owner: Holder,
        head: Head,
        rights: Rights,
        freed: bool,
    ) -> Result {
        if head.life != self.local.incarnation {
            return Ok(());
        }
        let mapping = self.regions.mappings.lock().get(&head.tag).cloned();
        match mapping {
            Some(mapping) if mapping.owner == owner.life.node => {
                mapping.recall(rights, freed, END_MS)
            }
            _ => Ok(()),
        }
    }
}
