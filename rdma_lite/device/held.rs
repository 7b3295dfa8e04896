// SPDX-License-Identifier: GPL-2.0

//! Requests of a program about regions, locks and barriers.

use super::{handles::Thing, Opened};
use crate::{
    core::{
        account::Charge,
        holder::Name,
        region::{wire::Request, Rights},
        sync::wire::What,
    },
    region::{
        bounce::LARGEST,
        mapping::{deadline, Mapping},
        memory::Memory,
    },
    sync::Wish,
    uapi::{self, held},
};
use kernel::{
    mm::{pinned::PinnedPages, virt::VmaNew},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    uaccess::{UserPtr, UserSlice},
};

/// The node of a request: [`EHOSTDOWN`] for one that cannot be.
fn node_id(id: u32) -> Result<u16> {
    match u16::try_from(id) {
        Ok(0) | Err(_) => Err(EHOSTDOWN),
        Ok(id) => Ok(id),
    }
}

fn user(addr: u64, len: u64) -> Result<UserSlice> {
    let len = usize::try_from(len).map_err(|_| EFAULT)?;
    let addr = usize::try_from(addr).map_err(|_| EFAULT)?;
    addr.checked_add(len).ok_or(EFAULT)?;
    Ok(UserSlice::new(UserPtr::from_addr(addr), len))
}

/// An access to so many bytes, which go through a buffer part by part.
fn bounced(len: u64) -> Charge {
    Charge::call(len.min(LARGEST as u64))
}

impl Opened {
    /// Does what a request asks for; [`ENOTTY`] when it is none of these.
    pub(super) fn held_ioctl(&self, cmd: u32, arg: usize) -> Result {
        match cmd {
            held::IOC_ALLOC => self.alloc(arg),
            held::IOC_MAP => self.map(arg),
            held::IOC_UNMAP => self.unmap(arg),
            held::IOC_FREE => self.free(arg),
            held::IOC_GRANT => self.grant(arg),
            held::IOC_READ => self.read_region(arg),
            held::IOC_WRITE => self.write_region(arg),
            held::IOC_FILL => self.fill(arg),
            held::IOC_COPY => self.copy(arg),
            held::IOC_ATOMIC => self.atomic(arg),
            held::IOC_REGION => self.region_info(arg),
            held::IOC_LEND => self.lend(arg),
            held::IOC_LOCK => self.lock(arg),
            held::IOC_UNLOCK => self.unlock(arg),
            held::IOC_BARRIER => self.barrier(arg),
            _ => Err(ENOTTY),
        }
    }

    /// The region of a handle. [`ESHUTDOWN`] while the node is off, [`ESTALE`] when it was off
    /// meanwhile.
    pub(super) fn region(&self, handle: u64) -> Result<Arc<Mapping>> {
        let mapping = self.handles.region(handle)?;
        self.check_life(&mapping)?;
        mapping.set_class(self.class());
        Ok(mapping)
    }

    fn check_life(&self, mapping: &Mapping) -> Result {
        match Arc::ptr_eq(&self.node.host()?, &mapping.host) {
            true => Ok(()),
            false => Err(ESTALE),
        }
    }

    fn alloc(&self, arg: usize) -> Result {
        let region: held::Region = uapi::read(arg)?;
        let name = Name::from_field(&region.name)?;
        let keep = region.flags & held::REGION_KEEP != 0;
        if region.flags & !held::REGION_KEEP != 0 || region.handle != 0 || region.len == 0 {
            return Err(EINVAL);
        }
        let request = Request::Alloc {
            len: region.len,
            others: Rights::new(region.rights)?,
            keep,
            payer: self.user.payer(),
            name,
        };
        self.new_region(arg, region, request)
    }

    fn map(&self, arg: usize) -> Result {
        let region: held::Region = uapi::read(arg)?;
        let name = Name::from_field(&region.name)?;
        let unused = region.flags == 0 && region.handle == 0 && region.len == 0;
        if !unused || name.is_none() || region.rights == 0 {
            return Err(EINVAL);
        }
        let want = Rights::new(region.rights)?;
        self.new_region(arg, region, Request::Map { want, name })
    }

    fn new_region(&self, arg: usize, mut region: held::Region, request: Request) -> Result {
        if region.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let host = self.node.host()?;
        let until = deadline(&host, region.timeout_ms);
        let handle = self.user.take(Charge::HANDLE)?;
        let _call = self.user.take(Charge::call(0))?;
        let mapping = Mapping::new(&host, node_id(region.node)?, request, until)?;
        region.rights = mapping.rights().bits();
        region.len = match mapping.facts() {
            Ok(facts) => facts.geometry.len,
            Err(e) => {
                mapping.drop_later();
                return Err(e);
            }
        };
        match self.handles.add(Thing::Region(mapping.clone()), handle) {
            Ok(handle) => region.handle = handle,
            Err((e, _)) => {
                mapping.drop_later();
                return Err(e);
            }
        }
        uapi::write(arg, &region).inspect_err(|_| {
            if let Ok(mapping) = self.handles.take_region(region.handle) {
                mapping.drop_later();
            }
        })
    }

    /// Makes a region of the caller's own memory.
    fn lend(&self, arg: usize) -> Result {
        let mut lend: held::Lend = uapi::read(arg)?;
        let name = Name::from_field(&lend.name)?;
        if lend.flags != 0 || lend.handle != 0 || lend.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let others = Rights::new(lend.rights)?;
        let host = self.node.host()?;
        let handle = self.user.take(Charge::HANDLE)?;
        let bad = |_| EFAULT;
        let (addr, len) = (lend.addr.try_into(), lend.len.try_into());
        let pages = PinnedPages::new(addr.map_err(bad)?, len.map_err(bad)?)?;
        let memory = Memory::lent(pages, self.user.payer())?;
        let mapping = Mapping::lend(&host, memory, others, name)?;
        lend.handle = match self.handles.add(Thing::Region(mapping.clone()), handle) {
            Ok(handle) => handle,
            Err((e, _)) => {
                mapping.drop_later();
                return Err(e);
            }
        };
        uapi::write(arg, &lend).inspect_err(|_| {
            if let Ok(mapping) = self.handles.take_region(lend.handle) {
                mapping.drop_later();
            }
        })
    }

    fn unmap(&self, arg: usize) -> Result {
        let handle: held::Handle = uapi::read(arg)?;
        if handle.flags != 0 {
            return Err(EINVAL);
        }
        let mapping = self.handles.take_region(handle.handle)?;
        // What is of an earlier life of the node is gone already.
        if self.check_life(&mapping).is_err() {
            mapping.drop_later();
            return Ok(());
        }
        mapping.unmap(deadline(&mapping.host, handle.timeout_ms))
    }

    fn free(&self, arg: usize) -> Result {
        let handle: held::Handle = uapi::read(arg)?;
        if handle.flags != 0 {
            return Err(EINVAL);
        }
        let mapping = self.region(handle.handle)?;
        mapping.free(deadline(&mapping.host, handle.timeout_ms))?;
        // Another thread may have been quicker.
        let _ = self.handles.take_region(handle.handle);
        Ok(())
    }

    fn grant(&self, arg: usize) -> Result {
        let grant: held::Grant = uapi::read(arg)?;
        let node = u16::try_from(grant.node).map_err(|_| EINVAL)?;
        if grant.flags != 0 {
            return Err(EINVAL);
        }
        let mapping = self.region(grant.handle)?;
        let _call = self.user.take(Charge::call(0))?;
        let until = deadline(&mapping.host, grant.timeout_ms);
        mapping.grant(node, Rights::new(grant.rights)?, until)
    }

    fn read_region(&self, arg: usize) -> Result {
        let mut io: held::Io = uapi::read(arg)?;
        if io.flags != 0 {
            return Err(EINVAL);
        }
        let mapping = self.region(io.handle)?;
        mapping.facts()?.geometry.check(io.offset, io.len)?;
        let until = deadline(&mapping.host, io.timeout_ms);
        let mut to = user(io.buf, io.len)?.writer();
        let mut call = self.user.take(bounced(io.len))?;
        io.done = 0;
        let result = mapping.read(io.offset, io.len, until, |bytes| {
            to.write_slice(bytes)?;
            io.done += bytes.len() as u64;
            Ok(())
        });
        call.moved(io.done);
        uapi::write(arg, &io)?;
        result
    }

    fn write_region(&self, arg: usize) -> Result {
        let mut io: held::Io = uapi::read(arg)?;
        if io.flags != 0 {
            return Err(EINVAL);
        }
        let mapping = self.region(io.handle)?;
        mapping.facts()?.geometry.check(io.offset, io.len)?;
        let until = deadline(&mapping.host, io.timeout_ms);
        let mut from = user(io.buf, io.len)?.reader();
        let mut call = self.user.take(bounced(io.len))?;
        // What was given before the last part has been written.
        let (mut given, mut done) = (0, 0);
        let result = mapping.write(io.offset, io.len, until, |bytes| {
            done = given;
            from.read_slice(bytes)?;
            given += bytes.len() as u64;
            Ok(())
        });
        io.done = if result.is_ok() { given } else { done };
        call.moved(io.done);
        uapi::write(arg, &io)?;
        result
    }

    fn fill(&self, arg: usize) -> Result {
        let fill: held::Fill = uapi::read(arg)?;
        let value = u8::try_from(fill.value).map_err(|_| EINVAL)?;
        if fill.reserved != 0 {
            return Err(EINVAL);
        }
        let mapping = self.region(fill.handle)?;
        let _call = self.user.take(Charge::call(0))?;
        let until = deadline(&mapping.host, fill.timeout_ms);
        mapping.set(fill.offset, fill.len, value, until)
    }

    fn copy(&self, arg: usize) -> Result {
        let copy: held::Copying = uapi::read(arg)?;
        if copy.flags != 0 {
            return Err(EINVAL);
        }
        let from = self.region(copy.from)?;
        let to = self.region(copy.to)?;
        let _call = self.user.take(Charge::call(0))?;
        let until = deadline(&from.host, copy.timeout_ms);
        from.copy_to(copy.from_offset, &to, copy.to_offset, copy.len, until)
    }

    fn atomic(&self, arg: usize) -> Result {
        let mut op: held::AtomicOp = uapi::read(arg)?;
        let mapping = self.region(op.handle)?;
        let _call = self.user.take(Charge::call(0))?;
        let until = deadline(&mapping.host, op.timeout_ms);
        op.old = match op.op {
            held::FETCH_ADD if op.expected != 0 => return Err(EINVAL),
            held::FETCH_ADD => mapping.fetch_add(op.offset, op.operand, until)?,
            held::COMPARE_SWAP => {
                mapping.compare_swap(op.offset, op.expected, op.operand, until)?
            }
            _ => return Err(EINVAL),
        };
        uapi::write(arg, &op)
    }

    fn region_info(&self, arg: usize) -> Result {
        let mut info: held::RegionInfo = uapi::read(arg)?;
        if info.reserved != 0 {
            return Err(EINVAL);
        }
        let mapping = self.region(info.handle)?;
        let _call = self.user.take(Charge::call(0))?;
        let reply = mapping.info(deadline(&mapping.host, info.timeout_ms))?;
        info.node = mapping.owner.into();
        info.rights = reply.rights;
        info.others = u32::from(reply.flags as u8);
        info.flags = if reply.flags >> 8 & 1 != 0 {
            held::REGION_KEEP
        } else {
            0
        };
        info.chunk_size = 1u32.checked_shl(reply.small).unwrap_or(0);
        info.len = reply.value;
        info.handles = reply.other;
        info.mmap_offset = match mapping.pages() {
            Ok(pages) => self.handles.window(info.handle, pages)? * PAGE_SIZE as u64,
            Err(_) => 0,
        };
        uapi::write(arg, &info)
    }

    /// mmap(2): the offset is what [`Self::region_info`] told.
    pub(super) fn map_region(&self, vma: &VmaNew) -> Result {
        let count = (vma.end() - vma.start()) / PAGE_SIZE;
        let (mapping, page) = self.handles.shown(vma.page_offset() as u64, count as u64)?;
        self.check_life(&mapping)?;
        mapping.map_area(vma, page)
    }

    fn lock(&self, arg: usize) -> Result {
        let mut lock: held::Lock = uapi::read(arg)?;
        let name = Name::from_field(&lock.name)?;
        let unused = lock.reserved == 0 && lock.handle == 0 && lock.grant == 0;
        if lock.flags & !held::TRY != 0 || !unused || name.is_none() {
            return Err(EINVAL);
        }
        let host = self.node.host()?;
        let wish = Wish {
            owner: node_id(lock.node)?,
            what: What::Lock,
            name,
            now_or_never: lock.flags & held::TRY != 0,
            deadline: match lock.timeout_ms {
                held::FOREVER => u64::MAX,
                ms => deadline(&host, ms),
            },
            class: self.class(),
        };
        let handle = self.user.take(Charge::HANDLE)?;
        let _call = self.user.take(Charge::call(0))?;
        let held = host.enter(wish)?.ok_or(EIO)?;
        lock.grant = held.grant;
        let added = self.handles.add(Thing::Lock(held), handle);
        lock.handle = added.map_err(|(e, _)| e)?;
        uapi::write(arg, &lock).inspect_err(|_| {
            // What is dropped is given back.
            drop(self.handles.take_lock(lock.handle));
        })
    }

    fn unlock(&self, arg: usize) -> Result {
        let handle: held::Handle = uapi::read(arg)?;
        if handle.flags != 0 {
            return Err(EINVAL);
        }
        self.handles
            .take_lock(handle.handle)?
            .leave(handle.timeout_ms)
    }

    fn barrier(&self, arg: usize) -> Result {
        let barrier: held::Barrier = uapi::read(arg)?;
        let name = Name::from_field(&barrier.name)?;
        if barrier.flags != 0 || barrier.count == 0 || name.is_none() {
            return Err(EINVAL);
        }
        let host = self.node.host()?;
        let wish = Wish {
            owner: node_id(barrier.node)?,
            what: What::Barrier {
                count: barrier.count,
            },
            name,
            now_or_never: false,
            deadline: match barrier.timeout_ms {
                held::FOREVER => u64::MAX,
                ms => deadline(&host, ms),
            },
            class: self.class(),
        };
        let _call = self.user.take(Charge::call(0))?;
        host.enter(wish).map(|_| ())
    }
}
