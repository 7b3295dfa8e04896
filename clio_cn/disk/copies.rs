// SPDX-License-Identifier: GPL-2.0

//! The copies of a disk in the memory of nodes. All of this may sleep.

use super::{part::Wait, space_name, Settings};
use crate::{
    control::ask,
    core::{
        control::{Create, NodeStat, Stat, VA_BASE},
        disk::{
            assemble::Found,
            record::{record_at, Record, DATA, LOCK, RECORD_LEN},
        },
        op::{Kind, NewOp},
        table::Key,
        wire::{rights, WORD},
    },
    job::Half,
    lite,
    station::Station,
};
use kernel::{prelude::*, sync::Arc};

/// Places where the beginning of a copy is looked for. It is the first allocation of its address
/// space, so it is at the first place, or not far behind where that did not fit into the page table.
const PLACES: u64 = 256;
/// Regions of its address space.
const REGION_SHIFT: u8 = 30;

/// A copy that our node is attached to.
pub(super) struct Place {
    pub(super) node: u16,
    /// The life of the node that has it.
    pub(super) incarnation: u64,
    pub(super) ras: u64,
    pub(super) space: Key,
    pub(super) stream: Key,
    /// Where it begins.
    pub(super) base: u64,
    /// Who we are to its lock; 0: we do not have it.
    who: u32,
}

/// Memory nodes that are up, with what they say of themselves.
pub(super) fn memory_nodes(station: &Station, timeout_ms: u32) -> Result<KVec<NodeStat>> {
    let (_, peers) = station.node.peers()?;
    let mut stats = KVec::with_capacity(peers.len(), GFP_KERNEL)?;
    for peer in &peers {
        if peer.state != lite::NODE_UP || peer.roles & lite::ROLE_MEMORY == 0 {
            continue;
        }
        match ask(&station.node, peer.id, &Stat {}, timeout_ms) {
            Ok(stat) => stats.push(stat, GFP_KERNEL)?,
            Err(e) => pr_warn!("memory node {} does not say what it has: {e:?}\n", peer.id),
        }
    }
    Ok(stats)
}

/// Bytes that a node can still promise.
pub(super) fn room(stat: &NodeStat) -> u64 {
    stat.limit.saturating_sub(stat.promised) << stat.page_shift.min(40)
}

impl Place {
    /// Attaches to the copy at a node. `ENOENT`: it has none.
    fn attach(station: &Arc<Station>, settings: &Settings, stat: &NodeStat) -> Result<Self> {
        let name = space_name(settings.name.as_bytes(), stat.node)?;
        let info = station.attach(name, &settings.key, settings.timeout_ms)?;
        let made = station.with(|inner| {
            let engine = &mut inner.engine;
            let space = engine.add_space(info.id, settings.key.key(), info.region_shift)?;
            match engine.add_stream() {
                Ok(stream) => Ok((space, stream)),
                Err(e) => {
                    engine.remove_space(space);
                    Err(e)
                }
            }
        });
        let (space, stream) = made.inspect_err(|_| station.detach(info.id))?;
        Ok(Self {
            node: stat.node,
            incarnation: stat.incarnation,
            ras: info.id,
            space,
            stream,
            base: VA_BASE,
            who: 0,
        })
    }

    /// Leaves the copy alone, locked by nobody. Its operations are over.
    pub(super) fn leave(mut self, station: &Arc<Station>, timeout_ms: u32) {
        if self.who != 0 {
            let who = ::core::mem::take(&mut self.who);
            // A lock that cannot be given back goes with our incarnation.
            let _ = self.call(
                station,
                Kind::Unlock { who },
                LOCK,
                WORD,
                KVec::new(),
                timeout_ms,
            );
        }
        station.with(|inner| {
            inner.engine.close_stream(self.stream);
            inner.engine.remove_stream(self.stream);
            inner.engine.remove_space(self.space);
        });
        station.detach(self.ras);
    }

    /// Does an operation at an offset of the copy, and waits for its end.
    fn call(
        &self,
        station: &Arc<Station>,
        kind: Kind,
        at: u64,
        len: u64,
        out: KVec<u8>,
        timeout_ms: u32,
    ) -> Result<(u64, KVec<u8>)> {
        let came = if kind == Kind::Read { len as usize } else { 0 };
        let wait = Wait::new(out, came)?;
        station.submit(NewOp {
            stream: self.stream,
            space: self.space,
            kind,
            addr: self.base + at,
            len,
            until: station.deadline(timeout_ms),
            data: Half(wait.clone()),
        })?;
        wait.wait()
    }

    /// Takes the lock of the copy. `EBUSY`: another compute node has the disk.
    pub(super) fn lock(&mut self, station: &Arc<Station>, timeout_ms: u32) -> Result {
        let who = station.next_who();
        let taken = self.call(
            station,
            Kind::Lock { who },
            LOCK,
            WORD,
            KVec::new(),
            timeout_ms.min(2000),
        );
        match taken {
            Ok(_) => {
                self.who = who;
                Ok(())
            }
            Err(ETIMEDOUT) => Err(EBUSY),
            Err(e) => Err(e),
        }
    }

    /// Reads the record that counts.
    fn record(&self, station: &Arc<Station>, timeout_ms: u32) -> Result<(u8, Record)> {
        let read = |place| {
            let at = record_at(place);
            let len = RECORD_LEN as u64;
            let (_, bytes) = self.call(station, Kind::Read, at, len, KVec::new(), timeout_ms)?;
            Record::decode(&bytes)
        };
        Record::newer(read(0), read(1))
    }

    /// Looks where the copy begins, and what it says.
    fn find(&mut self, station: &Arc<Station>, step: u64, timeout_ms: u32) -> Result<(u8, Record)> {
        let mut error = ENODATA;
        for place in 0..PLACES {
            self.base = VA_BASE + place * step;
            match self.record(station, timeout_ms) {
                Ok(found) => return Ok(found),
                // Nothing is allocated there; nothing was written there.
                Err(e) if e == EFAULT || e == ENODATA => {}
                Err(e) if e == EBADMSG || e == EPROTONOSUPPORT => error = e,
                Err(e) => return Err(e),
            }
        }
        Err(error)
    }

    /// Makes a copy at a node: an address space that is nowhere else, with one allocation. What the
    /// node has of this disk is given up, if `replace`, else that is `EEXIST`.
    pub(super) fn make(
        station: &Arc<Station>,
        settings: &Settings,
        stat: &NodeStat,
        size: u64,
        replace: bool,
    ) -> Result<Self> {
        let (node, timeout_ms) = (stat.node, settings.timeout_ms);
        let name = space_name(settings.name.as_bytes(), node)?;
        if replace {
            match station.destroy(name, &settings.key, timeout_ms) {
                Err(e) if e == EBUSY || e == EACCES => return Err(e),
                // Whether it is still there, the next call tells.
                _ => {}
            }
        }
        let bytes = size.checked_add(DATA).ok_or(EFBIG)?;
        ask(
            &station.node,
            node,
            &Create {
                name,
                key: settings.key,
                region_shift: REGION_SHIFT,
                pin: node,
                owner: 0,
                quota: u64::MAX,
            },
            timeout_ms,
        )?;
        let place = Self::attach(station, settings, stat).and_then(|mut place| {
            let kind = Kind::Alloc {
                rights: rights::ALL,
            };
            match place.call(station, kind, 0, bytes, KVec::new(), timeout_ms) {
                Ok((base, _)) => {
                    place.base = base;
                    Ok(place)
                }
                Err(e) => {
                    place.leave(station, timeout_ms);
                    Err(e)
                }
            }
        });
        place.inspect_err(|_| {
            let _ = station.destroy(name, &settings.key, timeout_ms);
        })
    }

    /// Looks for the copies of a disk at all memory nodes that are up.
    pub(super) fn find_all(
        station: &Arc<Station>,
        settings: &Settings,
        nodes: &[NodeStat],
    ) -> Result<(KVec<Self>, KVec<Found>)> {
        let mut places = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
        let mut found = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
        for stat in nodes {
            let mut place = match Self::attach(station, settings, stat) {
                Ok(place) => place,
                Err(EACCES) => {
                    give_up(station, places, settings.timeout_ms);
                    return Err(EACCES);
                }
                Err(ENOENT) => continue,
                // If it counts, it will be missed.
                Err(e) => {
                    settings.warn(fmt!("node {} cannot be asked for a copy: {e:?}", stat.node));
                    continue;
                }
            };
            match place.find(station, 1 << stat.page_shift, settings.timeout_ms) {
                Ok((slot, record)) => {
                    found.push_within_capacity(Found {
                        node: stat.node.into(),
                        record,
                        place: slot,
                    })?;
                    places.push_within_capacity(place)?;
                }
                Err(e) => {
                    let node = stat.node;
                    pr_warn!("disk copy at node {node} is not usable: {e:?}\n");
                    place.leave(station, settings.timeout_ms);
                }
            }
        }
        Ok((places, found))
    }
}

/// Leaves copies alone.
pub(super) fn give_up(station: &Arc<Station>, places: KVec<Place>, timeout_ms: u32) {
    for place in places {
        place.leave(station, timeout_ms);
    }
}

/// Ends all copies of a disk that is off, with what is on them. `ENOENT`: there are none.
pub(super) fn destroy(station: &Arc<Station>, settings: &Settings) -> Result {
    let mut result = Err(ENOENT);
    for stat in &memory_nodes(station, settings.timeout_ms)? {
        let name = space_name(settings.name.as_bytes(), stat.node)?;
        match station.destroy(name, &settings.key, settings.timeout_ms) {
            Ok(()) if result == Err(ENOENT) => result = Ok(()),
            Ok(()) | Err(ENOENT) => {}
            Err(e) => result = Err(e),
        }
    }
    result
}
