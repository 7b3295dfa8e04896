// SPDX-License-Identifier: GPL-2.0

//! What the owner of regions executes.

use super::{
    memory::{footprint, Memory},
    Opened, PORT,
};
use crate::{
    ask::{ask_until, tell_all, To},
    call::Signals,
    core::{
        holder::Holder,
        region::{
            registry::{Mapped, NewRegion, Placed, Recall, Teardown},
            shares::Payer,
            wire::{Head, Reply, Request},
            Geometry, Rights,
        },
        Allowed, Class,
    },
    events::now,
    host::Host,
    node::Node,
    port::Message,
    trace,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
};

/// How long holders have to answer a recall. Who does not loses its connection when it uses its key.
const RECALL_MS: u32 = 2000;
/// Bytes of a copy to another node that go with one message.
const DELIVERY: usize = 128 * 1024;

/// Executes a request of another node or of ours.
///
/// # Safety
///
/// As [`crate::port::Handler`] says; `ctx` must point to the [`Node`] that has the port.
pub(crate) unsafe extern "C" fn handle(
    ctx: *mut c_void,
    msg: *const Message,
    reply: *mut c_void,
    reply_cap: usize,
) -> c_long {
    // SAFETY: By this function's requirement; whoever calls a port keeps its node.
    let (node, msg) = unsafe { (&*ctx.cast::<Node>(), &*msg) };
    let data = match msg.len {
        0 => &[][..],
        // SAFETY: The message has that many bytes.
        len => unsafe { ::core::slice::from_raw_parts(msg.data.cast::<u8>(), len as usize) },
    };
    let reply = match reply_cap {
        0 => &mut [][..],
        // SAFETY: The reply has that much room, which its owner has initialised.
        cap => unsafe { ::core::slice::from_raw_parts_mut(reply.cast::<u8>(), cap) },
    };
    let result = node.host().and_then(|host| {
        let (head, request, data) = Request::decode(data)?;
        let who = Holder {
            life: crate::core::holder::Life {
                node: msg.src as u16,
                incarnation: msg.src_incarnation,
            },
            tag: head.tag,
        };
        host.execute(who, head, request, data, reply)
    });
    match result {
        Ok(len) => len as c_long,
        Err(e) => e.to_errno() as c_long,
    }
}

impl Host {
    fn execute(
        self: &Arc<Self>,
        who: Holder,
        head: Head,
        request: Request,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        if let Request::Recall { rights, freed } = request {
            return self.recalled(who, head, rights, freed).map(|()| 0);
        }
        if head.life != 0 && head.life != self.local.incarnation {
            return Err(ESTALE);
        }
        let mut reply = Reply::default();
        match request {
            Request::Alloc {
                len,
                others,
                keep,
                payer,
                name,
            } => {
                let mapped = self.alloc(who, len, payer, others, keep, name)?;
                reply = self.mapped(mapped);
            }
            Request::Map { want, name } => {
                let secret = kernel::random::get_random_u64();
                let mut registry = self.regions.registry.lock();
                let alive = self.is_alive(who.life);
                let mapped = registry.map(who, alive, &name, want, secret)?;
                reply = self.mapped(mapped);
            }
            Request::Unmap => self.give_up(who)?,
            Request::Free => {
                let down = self.regions.registry.lock().free(who)?;
                self.tear_down(down);
            }
            Request::Grant { node, rights } => {
                let down = self.regions.registry.lock().grant(who, node, rights)?;
                let name = self.node.name();
                trace::region_grant(name, node.into(), who.tag, rights.bits());
                self.tear_down(down);
            }
            Request::Open { chunk, rights } => reply = self.open_chunk(who, chunk, rights)?,
            Request::Read { offset, len } => {
                let into = out.get_mut(..len as usize).ok_or(EMSGSIZE)?;
                let (_, memory) = self.memory(who, Rights::READ)?;
                memory.read(offset, into)?;
                return Ok(len as usize);
            }
            Request::Write { offset } => {
                self.memory(who, Rights::WRITE)?.1.write(offset, data)?;
            }
            Request::Deliver {
                holder,
                secret,
                offset,
            } => {
                let memory = {
                    let registry = self.regions.registry.lock();
                    let access = registry.delegated(holder, secret, Rights::WRITE)?;
                    access.memory.clone()
                };
                memory.write(offset, data)?;
            }
            Request::Set { offset, len, value } => {
                self.memory(who, Rights::WRITE)?.1.set(offset, len, value)?;
            }
            Request::Copy {
                offset,
                len,
                node,
                life,
                tag,
                secret,
                to,
            } => {
                let (_, memory) = self.memory(who, Rights::READ)?;
                memory.geometry().check(offset, len)?;
                if node == self.local.id {
                    if life != self.local.incarnation {
                        return Err(ESTALE);
                    }
                    let other = Holder {
                        life: who.life,
                        tag,
                    };
                    let (_, target) = self.memory(other, Rights::WRITE)?;
                    target.copy_from(to, &memory, offset, len)?;
                } else {
                    let holder = Holder {
                        life: who.life,
                        tag,
                    };
                    let at = (node, life);
                    self.deliver(&memory, offset, len, at, holder, secret, to)?;
                }
            }
            Request::FetchAdd { offset, add } => {
                let (_, memory) = self.memory(who, Rights::READ.or(Rights::WRITE))?;
                reply.value = memory.fetch_add(offset, add)?;
            }
            Request::CompareSwap {
                offset,
                expected,
                new,
            } => {
                let (_, memory) = self.memory(who, Rights::READ.or(Rights::WRITE))?;
                reply.value = memory.compare_swap(offset, expected, new)?;
            }
            Request::Info => {
                let info = self.regions.registry.lock().info(who)?;
                reply.value = info.geometry.len;
                reply.small = info.geometry.chunk_log2.into();
                reply.rights = info.rights.bits();
                reply.other = info.mappings;
                reply.flags = u64::from(info.others.bits()) | u64::from(info.keep) << 8;
            }
            Request::Recall { .. } => return Err(EINVAL),
        }
        let bytes = reply.encode();
        // Who has no room for it does not want it.
        let Some(room) = out.get_mut(..bytes.len()) else {
            return Ok(0);
        };
        room.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn mapped(&self, mapped: Mapped) -> Reply {
        Reply {
            value: mapped.geometry.len,
            life: self.local.incarnation,
            other: mapped.secret,
            small: mapped.geometry.chunk_log2.into(),
            rights: mapped.rights.bits(),
            flags: 0,
        }
    }

    /// What a mapping gives access to.
    pub(super) fn memory(&self, who: Holder, need: Rights) -> Result<(Rights, Arc<Memory>)> {
        let registry = self.regions.registry.lock();
        let access = registry.access(who, need)?;
        Ok((access.rights, access.memory.clone()))
    }

    /// Takes bytes of what we offer and of what a user may have.
    fn reserve(&self, who: Holder, bytes: u64, payer: Payer) -> Result {
        let most = self.node.users.limits.memory.load(Relaxed);
        let reserved = self.regions.registry.lock().reserve(bytes, payer, most);
        if reserved == Err(EDQUOT) && self.node.users.may_tell() {
            pr_warn!(
                "{}: user {} at node {} is refused {bytes} bytes: limit user_memory is {most}\n",
                self.node.name(),
                payer.0,
                who.life.node
            );
        }
        reserved
    }

    fn alloc(
        self: &Arc<Self>,
        who: Holder,
        len: u64,
        payer: Payer,
        others: Rights,
        keep: bool,
        name: crate::core::holder::Name,
    ) -> Result<Mapped> {
        // What can be told before anything is allocated.
        Geometry::new(len, *Geometry::CHUNK_LOG2.start())?;
        if keep && name.is_none() {
            return Err(EINVAL);
        }
        let bytes = footprint(len)?;
        self.reserve(who, bytes, payer)?;
        let device = self.device();
        let made = device.and_then(|device| Memory::new(&device, len, payer));
        let memory = match made {
            Ok(memory) => memory,
            Err(e) => {
                self.regions.registry.lock().released(bytes, payer);
                pr_warn!(
                    "{}: no memory for a region of {len} bytes for node {}: {e:?}\n",
                    self.node.name(),
                    who.life.node
                );
                return Err(e);
            }
        };
        let new = NewRegion {
            name,
            geometry: memory.geometry(),
            others,
            keep,
            lender: None,
        };
        let secret = kernel::random::get_random_u64();
        let created = {
            let mut registry = self.regions.registry.lock();
            let alive = self.is_alive(who.life);
            registry.create(who, alive, new, secret, memory)
        };
        created.map_err(|(e, memory)| {
            self.drop_memory(memory);
            e
        })
    }

    /// A holder gives its mapping up, and what it lent with it.
    pub(super) fn give_up(self: &Arc<Self>, who: Holder) -> Result {
        let withdrawn = self.regions.registry.lock().withdraw(who)?;
        if let Some(down) = withdrawn {
            self.tear_down(down);
        }
        let detached = self.regions.registry.lock().unmap(who)?;
        if let Some(detached) = detached {
            self.drop_detached(detached);
        }
        Ok(())
    }

    /// Makes a region of memory that a process here lends, which `who` maps.
    pub(super) fn lend(
        &self,
        who: Holder,
        memory: Arc<Memory>,
        others: Rights,
        name: crate::core::holder::Name,
    ) -> Result<Mapped> {
        let new = NewRegion {
            name,
            geometry: memory.geometry(),
            others,
            keep: false,
            lender: Some(who),
        };
        let secret = kernel::random::get_random_u64();
        let created = {
            let mut registry = self.regions.registry.lock();
            registry.create(who, true, new, secret, memory)
        };
        created.map_err(|(e, memory)| {
            self.drop_memory(memory);
            e
        })
    }

    /// Opens a chunk for RDMA by a holder on another node.
    fn open_chunk(self: &Arc<Self>, who: Holder, chunk: u32, expected: Rights) -> Result<Reply> {
        let (rights, memory) = self.memory(who, Rights::NONE)?;
        if !rights.includes(expected) {
            // A recall is on its way.
            return Err(EAGAIN);
        }
        let memory = memory.chunk(chunk)?;
        let peer = self.peer(who.life.node).ok_or(EOPNOTSUPP)?;
        let link = peer.link().ok_or(EAGAIN)?;
        let is_good = |opened: &Opened| opened.link.is(&link);
        let known = {
            let registry = self.regions.registry.lock();
            let window = registry.window(who, chunk).filter(|window| is_good(window));
            window.and_then(Opened::key)
        };
        if let Some(key) = known {
            return Ok(key);
        }
        let allowed = Allowed {
            read: rights.includes(Rights::READ),
            write: rights.includes(Rights::WRITE),
        };
        let opened = Opened {
            window: link.open(&memory, allowed)?,
            link: link.clone(),
        };
        let mut registry = self.regions.registry.lock();
        let (placed, key) = match registry.opened(who, rights, chunk, opened, is_good) {
            Ok(placed) => {
                let key = registry.window(who, chunk).and_then(Opened::key);
                (placed, key.ok_or(EAGAIN))
            }
            Err((e, opened)) => (Placed::Known(opened), Err(e)),
        };
        drop(registry);
        match placed {
            Placed::First => {}
            Placed::Known(opened) => opened.shut(),
            Placed::Instead(old) => {
                // Of a connection that is gone, or is going.
                let queue = &self.queues().handlers;
                let _ = queue.try_spawn(GFP_KERNEL, move || old.shut());
            }
        }
        key
    }

    /// Writes bytes of ours to a region of another node, for the holder of both.
    #[expect(clippy::too_many_arguments, reason = "two places, and whose they are")]
    fn deliver(
        self: &Arc<Self>,
        memory: &Memory,
        from: u64,
        len: u64,
        (node, life): (u16, u64),
        holder: Holder,
        secret: u64,
        to: u64,
    ) -> Result {
        let most = DELIVERY.min(self.config.max_payload() as usize / 2) as u64;
        let mut block = KVec::from_elem(0u8, most.min(len) as usize, GFP_KERNEL)?;
        let mut reply = KVec::new();
        let deadline = now().saturating_add(u64::from(self.timeout_ms) * 1_000_000);
        let mut done = 0;
        while done < len {
            let part = &mut block[..most.min(len - done) as usize];
            memory.read(from + done, part)?;
            let request = Request::Deliver {
                holder,
                secret,
                offset: to.checked_add(done).ok_or(ERANGE)?,
            };
            let head = request.encode(Head { tag: 0, life });
            let to = To {
                node,
                port: PORT,
                timeout_ms: self.timeout_ms,
                signals: Signals::Fatal,
                class: Class::Normal,
            };
            ask_until(self, to, deadline, &head, part, &mut reply)??;
            done += part.len() as u64;
        }
        Ok(())
    }

    /// Tells holders what they lost, shuts their windows, and lets go of the memory.
    fn tear_down(self: &Arc<Self>, down: Teardown<Arc<Memory>, Opened>) {
        for recall in &down.recalls {
            self.take_areas_away(recall.holder, recall.freed);
        }
        if let Err(e) = self.tell_holders(&down.recalls) {
            // They find out by an access that breaks their connection.
            pr_warn!(
                "{}: no memory to recall mappings: {e:?}\n",
                self.node.name()
            );
        }
        for Recall { windows, .. } in down.recalls {
            for (_, opened) in windows {
                opened.shut();
            }
        }
        for memory in down.memories {
            self.drop_memory(memory);
        }
    }

    fn tell_holders(self: &Arc<Self>, recalls: &[Recall<Opened>]) -> Result {
        let mut all = KVec::with_capacity(recalls.len(), GFP_KERNEL)?;
        for recall in recalls {
            trace::region_revoke(
                self.node.name(),
                recall.holder.life.node.into(),
                recall.holder.tag,
                recall.rights.bits(),
            );
            let request = Request::Recall {
                rights: recall.rights,
                freed: recall.freed,
            };
            let head = request.encode(Head {
                tag: recall.holder.tag,
                life: recall.holder.life.incarnation,
            });
            let mut bytes = KVec::new();
            bytes.extend_from_slice(&head, GFP_KERNEL)?;
            all.push((recall.holder.life.node, bytes), GFP_KERNEL)?;
        }
        if all.is_empty() {
            return Ok(());
        }
        tell_all(self, PORT, RECALL_MS, &all)
    }
}
