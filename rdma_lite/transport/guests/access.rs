// SPDX-License-Identifier: GPL-2.0

//! Accesses to memory that lies in the other kernel: its owner copies, through a part of our lane.

use super::GuestLink;
use crate::{
    core::guests::{access::Request, bells::Bell, layout::ACCESS_LEN},
    events::now,
    transport::{
        access::{Access, Accesses, Way},
        LinkUser,
    },
};
use kernel::{
    prelude::*,
    rdma::{DmaBuffer, RemoteAddr},
    sync::Arc,
    time::{delay::fsleep, msecs_to_jiffies, Delta},
};

const MS: u64 = 1_000_000;

/// A part of an access that is under way: its place in the lane.
struct Place<'a, U: LinkUser> {
    link: &'a GuestLink<U>,
    nr: usize,
    id: u64,
}

impl<U: LinkUser> Drop for Place<'_, U> {
    fn drop(&mut self) {
        self.link.tx.lock().accesses.end(self.nr, self.id);
    }
}

impl<U: LinkUser> GuestLink<U> {
    /// Reads `len` bytes at `remote` into the beginning of `buffer`, or writes them there, piece by piece,
    /// and says how it ended. `Err` outside: the wait was given up. May sleep.
    pub(crate) fn access(
        &self,
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
            let part = (len - done).min(ACCESS_LEN);
            let there = RemoteAddr {
                addr: remote.addr.wrapping_add(done as u64),
                ..remote
            };
            let result = self.part(way, buffer, done, part, there, deadline)?;
            if result.is_err() {
                return Ok(result);
            }
            done += part;
        }
        Ok(Ok(()))
    }

    /// Waits for a place for an access; [`ETIMEDOUT`] when there is none until the deadline.
    fn place(&self, access: &Arc<Access>, deadline: u64) -> Result<Place<'_, U>> {
        loop {
            let begun = self.tx.lock().accesses.begin(access);
            match begun {
                Ok((nr, id)) => return Ok(Place { link: self, nr, id }),
                Err(e) if e != EAGAIN => return Err(e),
                Err(_) if now() >= deadline => return Err(ETIMEDOUT),
                Err(_) => fsleep(Delta::from_micros(250)),
            }
        }
    }

    fn part(
        &self,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        start: usize,
        len: usize,
        remote: RemoteAddr,
        deadline: u64,
    ) -> Result<Result> {
        let access = Accesses::make()?;
        let place = match self.place(&access, deadline) {
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
            self.tx.lock().accesses.take_back(nr, place.id);
            return Ok(Err(e));
        }
        let left = deadline.saturating_sub(now()) / MS;
        let jiffies = msecs_to_jiffies(left as u32);
        access.done.wait_for_completion_killable_timeout(jiffies)?;
        let result = access.result();
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
