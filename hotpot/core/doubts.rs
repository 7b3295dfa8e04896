// SPDX-License-Identifier: GPL-2.0

//! Commits of ours that were given up while owners of them may have promised them: those owners, or
//! their successors, may publish them when we are lost. Nobody is told that such a commit was aborted
//! before all who could do that have heard of it.

use super::{
    data_node,
    format::Cid,
    host::Host,
    msg::Outcome,
    node::{Holder, Node, Notice, NoticeKind, WORKER},
    outcome::{trace, Remembered, MAX_REMEMBERED},
};
use kernel::prelude::*;

/// A commit that was given up.
pub(super) struct Doubted {
    pub(super) cid: Cid,
    /// Owners that were asked, and have not said that they have undone it.
    unheard: KVec<Holder>,
    /// An owner was lost with what it knew: its successor may have found it promised before we told
    /// all nodes.
    lost: bool,
    /// The commit itself is just telling them.
    busy: bool,
}

impl Remembered {
    fn doubt(&mut self, of: Doubted) {
        if self.doubted.len() >= MAX_REMEMBERED {
            if let Ok(oldest) = self.doubted.remove(0) {
                self.forget(oldest.cid);
            }
        }
        let cid = of.cid;
        if self.doubted.push(of, GFP_KERNEL).is_err() {
            self.forget(cid);
        }
    }
}

impl Node {
    /// A commit of ours is given up, and its owners `unheard` have not heard of it: who calls tells
    /// them. [`Node::end_doubt`] or [`Node::leave_doubt`] follows.
    pub(super) fn note_doubted(&mut self, cid: Cid, unheard: KVec<Holder>) {
        self.remembered.doubt(Doubted {
            cid,
            unheard,
            lost: false,
            busy: true,
        });
    }

    /// A commit of ours whose only owner has forgotten what it staged: all nodes are being told.
    pub(super) fn note_lost(&mut self, cid: Cid) {
        self.remembered.doubt(Doubted {
            cid,
            unheard: KVec::new(),
            lost: true,
            busy: false,
        });
    }

    /// The worker tells those who have not heard that a commit of ours was given up.
    pub(super) fn leave_doubt(&mut self, cid: Cid) {
        let mut doubted = self.remembered.doubted.iter_mut();
        if let Some(of) = doubted.find(|of| of.cid == cid) {
            of.busy = false;
        }
        self.wake(WORKER);
    }

    /// An owner of a commit that we gave up says that it has undone it. Whether so it stays: not
    /// when it began a new life since it was asked, as then it has nothing of it that its data
    /// nodes have. All are told then.
    pub(super) fn heard(&mut self, owner: u32, cid: Cid) -> bool {
        let is_same = |of: &Holder| self.incarnation(of.node) == Some(of.incarnation);
        let mut doubted = self.remembered.doubted.iter();
        let entry = doubted.find(|of| of.cid == cid);
        let holder = entry.and_then(|of| of.unheard.iter().find(|of| of.node == owner));
        let same = holder.is_none_or(is_same);
        if same || self.tell_all(cid) {
            let mut doubted = self.remembered.doubted.iter_mut();
            if let Some(entry) = doubted.find(|of| of.cid == cid) {
                entry.unheard.retain(|of| of.node != owner);
                entry.lost |= !same;
            }
        }
        same
    }

    /// Nobody can publish a commit of ours any more that was given up.
    pub(super) fn end_doubt(&mut self, cid: Cid) {
        self.remembered.doubted.retain(|of| of.cid != cid);
    }

    /// Has all nodes drop what they have of a commit of ours. Whether there was room to note it.
    pub(super) fn tell_all(&mut self, cid: Cid) -> bool {
        let mut all = true;
        for nr in 0..self.map.peers.len() {
            let Some(peer) = self.map.peers.get(nr).map(|peer| peer.id) else {
                break;
            };
            all &= self.notify(Notice {
                node: peer,
                cid,
                kind: NoticeKind::Aborted,
            });
        }
        all
    }

    /// Sees to it that all hear of commits that we gave up who might publish them without us. Those
    /// of which all have heard.
    fn spread_doubts(&mut self) -> Result<KVec<(Cid, bool)>> {
        let mut over = KVec::with_capacity(self.remembered.doubted.len(), GFP_KERNEL)?;
        // Taken out: what is told is in the node, too.
        let mut doubted = core::mem::take(&mut self.remembered.doubted);
        for of in doubted.iter_mut().filter(|of| !of.busy) {
            let cid = of.cid;
            let lost = &mut of.lost;
            of.unheard.retain(|owner| match self.is_out(owner.node) {
                // Who takes its place finds what it had staged. While the map has us down that one
                // does not wait for us.
                true if self.is_up(self.id()) && self.tell_all(cid) => {
                    *lost = true;
                    false
                }
                true => true,
                false => {
                    self.notify(Notice {
                        node: owner.node,
                        cid,
                        kind: NoticeKind::GiveUp,
                    });
                    true
                }
            });
            let ended = self.txns.get(&cid).is_none() && !self.is_abort_untold(cid);
            if of.unheard.is_empty() && ended {
                let _ = over.push_within_capacity((cid, of.lost));
            }
        }
        self.remembered.doubted = doubted;
        Ok(over)
    }

    /// Whether something can be done about commits that we gave up: nothing about one of which a
    /// node that is down has to hear.
    pub(super) fn has_doubts_to_end(&self) -> bool {
        let is_down = |id: u32| !self.is_up(id);
        let mut doubted = self.remembered.doubted.iter();
        doubted.any(|of| !self.is_abort_untold_at(of.cid, is_down))
    }

    fn incarnation(&self, node: u32) -> Option<u64> {
        self.map.peer(node).map(|peer| peer.incarnation)
    }

    /// A node as the map has it now.
    pub(super) fn holder(&self, node: u32) -> Holder {
        Holder {
            node,
            incarnation: self.incarnation(node).unwrap_or(0),
        }
    }

    /// Whether a node began a new life since.
    pub(super) fn is_other_life(&self, of: Holder) -> bool {
        self.incarnation(of.node) != Some(of.incarnation)
    }
}

/// Brings commits of ours to their ends that were given up, once all have heard of it.
pub(super) async fn end_doubts<H: Host>(host: &H, until: u64) -> Result {
    let over = host.with(|node| node.spread_doubts())?;
    let mut result = Ok(());
    for (cid, lost) in &over {
        // Of one owner, us, which was decided though its user could not be told.
        if host.with(|node| node.fate(*cid)) == Outcome::Committed {
            host.with(|node| node.end_doubt(*cid));
            continue;
        }
        // What they staged with us: nobody else tells us.
        if !data_node::abort(host, *cid).await? {
            result = Err(EAGAIN);
            continue;
        }
        let found = match lost {
            false => Ok(Outcome::Forgotten),
            // Its successor may have found it promised when the map had us down.
            true => trace(host, *cid, until).await,
        };
        match found {
            Ok(Outcome::Pending) => result = Err(EAGAIN),
            Ok(found) => host.with(|node| {
                if found == Outcome::Committed {
                    // Without memory for it we do not say that it was aborted.
                    let _ = node.note_published(*cid);
                }
                node.end_doubt(*cid);
            }),
            Err(error) => result = Err(error),
        }
    }
    result
}
