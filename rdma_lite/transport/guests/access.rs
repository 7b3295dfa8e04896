// SPDX-License-Identifier: GPL-2.0

//! Accesses to memory that lies in the other kernel: its owner copies, through a part of our lane.

use super::GuestLink;
use crate::{
    core::{
        guests::{
            access::{Accesses, Request},
            bells::Bell,
            layout::ACCESS_LEN,
        },
        Class,
    },
    events::now,
    transport::{
        access::{Access, Way, MS},
        LinkUser,
    },
};
use kernel::{
    prelude::*,
    rdma::{DmaBuffer, RemoteAddr},
    sync::Arc,
};

/// Bytes of a buffer, and of the peer's memory.
struct Part {
    start: usize,
    len: usize,
    remote: RemoteAddr,
}

/// A part of an access that is under way: its place in the lane.
struct Place<'a, U: LinkUser> {
    link: &'a GuestLink<U>,
    nr: usize,
    id: u64,
}

impl<U: LinkUser> Drop for Place<'_, U> {
    fn drop(&mut self) {
        self.link.on_accesses(|all| all.end(self.nr, self.id));
    }
}

impl<U: LinkUser> GuestLink<U> {
    /// Does something about accesses, and lets in those that may begin then.
    pub(super) fn on_accesses<T>(&self, act: impl FnOnce(&mut Accesses<Arc<Access>>) -> T) -> T {
        let mut tx = self.tx.lock();
        let done = act(&mut tx.accesses);
        while let Some((access, nr)) = tx.accesses.admit() {
            access.admit(Ok(nr));
        }
        done
    }

    /// For a class, reads `len` bytes at `remote` into the beginning of `buffer`, or writes them there, piece
    /// by piece, and says how it ended. `Err` outside: the wait was given up. May sleep.
    pub(crate) fn access(
        &self,
        class: Class,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        len: usize,
        remote: RemoteAddr,
        timeout_ms: u32,
    ) -> Result<Result> {
        if len > buffer.len() {
            return Err(ERANGE);
        }
        let deadline = now().saturating_add(u64::from(timeout_ms) * MS);
        let mut done = 0;
        while done < len {
            let part = Part {
                start: done,
                len: (len - done).min(ACCESS_LEN),
                remote: RemoteAddr {
                    addr: remote.addr.wrapping_add(done as u64),
                    ..remote
                },
            };
            let result = self.part(class, way, buffer, &part, deadline)?;
            if result.is_err() {
                return Ok(result);
            }
            done += part.len;
        }
        Ok(Ok(()))
    }

    /// Waits for a place for an access. `Err` outside: the wait was given up.
    fn place(
        &self,
        class: Class,
        bytes: usize,
        access: &Arc<Access>,
        deadline: u64,
    ) -> Result<Result<Place<'_, U>>> {
        let begun = self.tx.lock().accesses.begin(class, bytes, access);
        let nr = access.place(begun, deadline, || self.give_up_place(class, access))?;
        Ok(nr.and_then(|nr| {
            let id = self.tx.lock().accesses.number(nr)?;
            Ok(Place { link: self, nr, id })
        }))
    }

    /// Does not wait for a place any more, whether or not it was given one meanwhile.
    fn give_up_place(&self, class: Class, access: &Arc<Access>) {
        self.on_accesses(|all| {
            if !all.withdraw(class, |other| Arc::ptr_eq(other, access)) {
                all.forget(|other| Arc::ptr_eq(other, access));
            }
        });
    }

    fn part(
        &self,
        class: Class,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        part: &Part,
        deadline: u64,
    ) -> Result<Result> {
        let Part { start, len, remote } = *part;
        let access = Access::make()?;
        let place = match self.place(class, len, &access, deadline)? {
            Ok(place) => place,
            Err(e) => return Ok(Err(e)),
        };
        let nr = place.nr;
        let request = Request {
            id: place.id,
            write: way == Way::Write,
            key: remote.rkey,
            addr: remote.addr,
            len: len as u32,
        };
        // While the lane is ours: a later session may have the same place.
        let asked = self.with_lane(|memory, lane, bells| {
            if way == Way::Write {
                let from = buffer.as_ptr().as_ptr().wrapping_add(start);
                // SAFETY: The buffer has so many bytes from `start` on, as `access()` has checked, and
                // they are not of the shared memory.
                unsafe { memory.write_raw(lane.data(nr), from, len)? };
            }
            request.put(memory, lane.request(nr))?;
            bells.ring(memory, lane, Bell::Request(nr as u32))
        });
        if let Err(e) = asked {
            self.on_accesses(|all| all.take_back(nr, place.id));
            return Ok(Err(e));
        }
        let result = access.wait_for_end(deadline)?;
        if result.is_err() || way == Way::Write {
            return Ok(result);
        }
        Ok(self.with_lane(|memory, lane, _| {
            let from = memory.as_ptr(lane.data(nr), len)?;
            // SAFETY: The shared memory has so many bytes there, as was just checked.
            unsafe { buffer.write_raw(start, from.as_ptr(), len) }
        }))
    }
}
