// SPDX-License-Identifier: GPL-2.0

//! A node's part in memory that kernels share: its slot, and the work item that looks, in rounds, what
//! the nodes of the other slots have for it.

use super::{
    memory::{Device, SharedMemory},
    GuestLink,
};
use crate::{
    core::guests::{
        control::{Kind, Listener, Record, Session, Speaker},
        layout::{Layout, MAX_SLOTS},
        pace::Pace,
        slots::{self, Claim, Identity, Watch},
    },
    events::now,
    host::Queues,
    poll::yield_or_relax,
    transport::{handshake::End, Down, LinkUser, RingSize},
};
use kernel::{
    impl_has_work, new_mutex, new_spinlock, new_work,
    prelude::*,
    random::{get_random_u64, uuid},
    str::{BStr, CString},
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        Mutex,
        SpinLock, //
    },
    time::{delay::fsleep, Delta},
    workqueue::{self, Work, WorkItem},
};

/// The node beats, and watches others do so, this far apart at least, in ns.
const BEAT: u64 = 20_000_000;

/// Where a peer is found.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(super) slot: usize,
    /// Of the node that has the slot.
    pub(super) life: u64,
}

struct Table<U: LinkUser> {
    links: [Option<Arc<GuestLink<U>>>; MAX_SLOTS],
    /// Who knows whom a peer is to talk to; `None`: none that comes is let in.
    home: Option<Arc<U::Home>>,
    /// No link is made any more.
    closed: bool,
}

/// What only rounds need.
struct Round {
    listeners: [Listener; MAX_SLOTS],
    /// When the node has beaten.
    beaten: u64,
}

/// See the module.
#[pin_data]
pub(crate) struct Attachment<U: LinkUser> {
    name: CString,
    device: Device,
    layout: Layout,
    own_slot: usize,
    who: Identity,
    ring_size: RingSize,
    queues: Arc<Queues>,
    /// 1 when the rounds are to end.
    stopped: Atomic<u32>,
    #[pin]
    table: SpinLock<Table<U>>,
    #[pin]
    watch: SpinLock<Watch>,
    #[pin]
    round: Mutex<Round>,
    #[pin]
    rounds: Work<Attachment<U>>,
}

impl_has_work! {
    impl{U: LinkUser} HasWork<Self> for Attachment<U> { self.rounds }
}

impl<U: LinkUser> Attachment<U> {
    /// Attaches a node to the device of this path, and begins its rounds. Complains if it cannot.
    ///
    /// Takes a second or two when an earlier life of the node was killed: that is seen by watching it.
    pub(crate) fn new(
        name: &CStr,
        path: &[u8],
        node: (u16, [u8; 16], u64),
        ring_size: RingSize,
        queues: &Arc<Queues>,
        home: Arc<U::Home>,
    ) -> Result<Arc<Self>> {
        let at = BStr::from_bytes(path);
        let device = CString::try_from_fmt(fmt!("{at}")).and_then(|path| Device::open(&path));
        let device = device.inspect_err(|e| {
            pr_err!("{name}: cannot open shared_memory {at}: {e:?} (EOPNOTSUPP: it has no DAX)\n");
        })?;
        let layout = Layout::open(device.memory(), ring_size.size_log2, uuid());
        let layout = layout.inspect_err(|e| {
            let why = match *e {
                EMEDIUMTYPE => {
                    "it holds something else: wipe its first 64 KiB if that is not needed"
                }
                EPROTONOSUPPORT => "it has a format of another version",
                EBADMSG => "its header is damaged: wipe its first 64 KiB while no node uses it",
                EMSGSIZE => "its rings are smaller than ring_size",
                ENOSPC => "it is too small for two nodes with such a ring_size",
                _ => "error",
            };
            pr_err!("{name}: cannot use shared_memory {at}: {e:?}: {why}\n");
        })?;
        let (node, cluster, incarnation) = node;
        let who = Identity {
            node,
            cluster,
            incarnation,
            life: get_random_u64().max(1),
        };
        let own_name = name.try_into()?;
        let own_slot = Self::claim(device.memory(), &layout, who).inspect_err(|e| {
            let why = match *e {
                EEXIST => "a node of this id lives in it",
                ENOSPC => "all of its slots are of nodes that live",
                ETIMEDOUT => "others take slots all the time",
                _ => "error",
            };
            pr_err!("{name}: no slot in shared_memory {at}: {e:?}: {why}\n");
        })?;
        let this = Arc::pin_init(
            pin_init!(Self {
                name: own_name,
                device,
                layout,
                own_slot,
                who,
                ring_size,
                queues: queues.clone(),
                stopped: Atomic::new(0),
                table <- new_spinlock!(Table {
                    links: [const { None }; MAX_SLOTS],
                    home: Some(home),
                    closed: false,
                }, "lite_guest_table"),
                watch <- new_spinlock!(Watch::new(), "lite_guest_watch"),
                round <- new_mutex!(Round {
                    listeners: [const { Listener::new() }; MAX_SLOTS],
                    beaten: 0,
                }, "lite_guest_round"),
                rounds <- new_work!("Attachment::rounds"),
            }),
            GFP_KERNEL,
        )?;
        pr_info!(
            "{name}: has slot {own_slot} of {} in shared_memory {at}\n",
            layout.slots
        );
        let _ = queues.rounds.enqueue::<_, 0>(this.clone());
        Ok(this)
    }

    fn claim(memory: &SharedMemory, layout: &Layout, who: Identity) -> Result<usize> {
        let mut claim = KBox::new(Claim::new(who), GFP_KERNEL)?;
        loop {
            if let Some(slot) = claim.step(memory, layout, now())? {
                return Ok(slot);
            }
            fsleep(Delta::from_millis(10));
        }
    }

    /// Lets no peer in any more; links that there are go on.
    pub(crate) fn close_door(&self) {
        let home = self.table.lock().home.take();
        drop(home);
    }

    /// Ends the rounds and gives the slot back. Links were shut down before.
    pub(crate) fn stop(self: &Arc<Self>) {
        self.close_door();
        self.close();
        self.stopped.store(1, Relaxed);
        workqueue::cancel_work_sync::<Self, 0>(self);
        let _ = slots::release(self.memory(), &self.layout, self.own_slot, self.who.life);
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        self.device.memory()
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn slot(&self) -> usize {
        self.own_slot
    }

    pub(super) fn life(&self) -> u64 {
        self.who.life
    }

    pub(super) fn ring_size(&self) -> RingSize {
        self.ring_size
    }

    pub(super) fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }

    /// Where the node of our cluster is that has this id, if it lives and is there.
    pub(crate) fn find(&self, node: u16) -> Option<Place> {
        if self.table.lock().closed {
            return None;
        }
        let (now, memory, layout) = (now(), self.memory(), &self.layout);
        let mut watch = self.watch.lock();
        watch.look(memory, layout, now).ok()?;
        let found = watch.find(memory, layout, &self.who.cluster, node, now);
        let (slot, life) = found.ok()??;
        Some(Place { slot, life })
    }

    /// Waits for the end of the round that there is.
    pub(super) fn between_rounds(&self) {
        drop(self.round.lock());
    }

    /// The link to this slot, if there is one, has the lanes no more.
    pub(super) fn vacate(&self, slot: usize) {
        let old = self.table.lock().links[slot].take();
        if let Some(old) = old {
            old.silence();
        }
    }

    /// This link has the lanes to and from this slot.
    pub(super) fn occupy(&self, slot: usize, link: &Arc<GuestLink<U>>) -> Result {
        let mut table = self.table.lock();
        if table.closed || table.links[slot].is_some() {
            return Err(ECONNREFUSED);
        }
        table.links[slot] = Some(link.clone());
        Ok(())
    }

    /// A link has ended: its peer hears of that, unless another has the lanes.
    pub(super) fn leave(&self, link: &Arc<GuestLink<U>>) {
        let _ = self.say(link, Kind::Close, &[]);
        let mut table = self.table.lock();
        let old = table.links[link.peer_slot].take_if(|present| Arc::ptr_eq(present, link));
        drop(table);
        drop(old);
    }

    /// Says something to the peer of a link. [`ECONNRESET`]: another link has the lanes.
    pub(super) fn say(&self, link: &Arc<GuestLink<U>>, kind: Kind, bytes: &[u8]) -> Result {
        let table = self.table.lock();
        let is_its = |present: &Arc<GuestLink<U>>| Arc::ptr_eq(present, link);
        if !table.links[link.peer_slot].as_ref().is_some_and(is_its) {
            return Err(ECONNRESET);
        }
        self.speak(link.peer_slot, kind, link.session, bytes)
    }

    /// The table is locked, or nobody has the lanes.
    fn speak(&self, slot: usize, kind: Kind, session: Session, bytes: &[u8]) -> Result {
        let (memory, lane) = (self.memory(), self.layout.lane(self.own_slot, slot));
        Speaker::new(memory, lane)?.say(memory, lane, kind, session, bytes)
    }

    /// No link is made any more, and those that there are end.
    fn close(&self) {
        self.table.lock().closed = true;
        for slot in 0..MAX_SLOTS {
            self.vacate(slot);
        }
    }

    /// Looks once. Whether there was anything, and whether there are links.
    fn look(self: &Arc<Self>, round: &mut Round, now: u64) -> Result<(bool, bool)> {
        let (memory, layout) = (self.memory(), &self.layout);
        let watches = now.saturating_sub(round.beaten) >= BEAT;
        if watches {
            slots::beat(memory, layout, self.own_slot, self.who.life)?;
            round.beaten = now;
            self.watch.lock().look(memory, layout, now)?;
        }
        let (mut found, mut sessions) = (false, false);
        for slot in (0..layout.slots).filter(|slot| *slot != self.own_slot) {
            let said = round.listeners[slot].hear(memory, layout.lane(slot, self.own_slot))?;
            if let Some(record) = said {
                found = true;
                // What could not be done about it is asked for again.
                let _ = self.heard(slot, &record);
            }
            let link = self.table.lock().links[slot].clone();
            let Some(link) = link else { continue };
            sessions = true;
            found |= link.poll(self);
            if watches && !self.watch.lock().lives(slot, link.their_life(), now) {
                link.end(Down::Failed(EHOSTDOWN));
            }
        }
        Ok((found, sessions))
    }

    /// A peer has said this. What is not said by a life that we see to one that is ours is no news.
    fn heard(self: &Arc<Self>, slot: usize, record: &Record) -> Result {
        let session = record.session;
        let who = slots::occupant(self.memory(), &self.layout, slot)?;
        let Some(who) = who.filter(|who| who.life == session.from && session.to == self.who.life)
        else {
            return Ok(());
        };
        if record.kind == Kind::Request {
            return self.requested(slot, who, record);
        }
        let link = self.table.lock().links[slot].clone();
        let link =
            link.filter(|link| link.session.id == session.id && link.their_life() == session.from);
        match link {
            Some(link) => link.heard(record.kind, record.bytes()),
            None => Ok(()),
        }
    }

    fn requested(self: &Arc<Self>, slot: usize, who: Identity, record: &Record) -> Result {
        if who.cluster != self.who.cluster {
            return Ok(());
        }
        let Some(home) = self.table.lock().home.clone() else {
            return Ok(());
        };
        let ours = Session {
            id: record.session.id,
            from: self.who.life,
            to: who.life,
        };
        let user = match U::called(&home, who.node) {
            Ok(user) => user,
            Err(why) => {
                self.vacate(slot);
                return self.speak(slot, Kind::Reject, ours, &why);
            }
        };
        let mut hello = KVec::new();
        hello.extend_from_slice(record.bytes(), GFP_KERNEL)?;
        GuestLink::requested(user, self, slot, ours, hello)
    }
}

impl<U: LinkUser> WorkItem for Attachment<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut pace = Pace::new();
        while this.stopped.load(Relaxed) == 0 {
            let began = now();
            let looked = this.look(&mut this.round.lock(), began);
            let (found, sessions) = match looked {
                Ok(looked) => looked,
                Err(e) if e == ENOMEM => (false, true),
                Err(e) => {
                    pr_err!(
                        "{}: leaves its shared memory: {e:?} (ESTALE: it stood still so long that another node \
                         took its slot); verbs from now on\n",
                        this.name()
                    );
                    this.close();
                    return;
                }
            };
            match pace.after(now(), found, sessions) {
                0 => yield_or_relax(),
                pause => fsleep(Delta::from_nanos(pause as i64)),
            }
        }
    }
}

impl<U: LinkUser> Attachment<U> {
    fn name(&self) -> &CStr {
        &self.name
    }
}
