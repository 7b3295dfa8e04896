// SPDX-License-Identifier: GPL-2.0

//! How a commit ends at an owner: it is published or undone, and its log record is freed. What is
//! undone keeps its pages until its data nodes have heard of it ([`TxnState::Undone`]).
//!
//! Once that has begun nothing may keep it from being done: the pages are locked until then. What fails
//! for want of memory is noted, and the worker goes on with it ([`go_on`]); so each of these can be done
//! again from the beginning, whatever of it was done before.

use super::{
    format::{redo_log, Cid},
    host::{Host, PageKey},
    node::{Ending, Node, Notice, NoticeKind, Txn, TxnState, GENERAL, WORKER},
    persist::{self, Batch},
    transaction::record_of,
};
use kernel::prelude::*;

impl Node {
    /// Lets the pages of a finished commit go.
    fn unlock(&mut self, cid: Cid, keys: impl Iterator<Item = PageKey>) {
        for key in keys {
            if let Some(owned) = self.owned.get_mut(&key) {
                if owned.txn == Some(cid) {
                    owned.txn = None;
                }
                if owned.txn.is_none() && owned.holders.is_empty() {
                    self.owned.remove(&key);
                }
            }
            self.pages.prune(key);
            self.wake_page(key);
        }
        self.wake(GENERAL);
    }

    /// What a commit staged here may be published or dropped from now on. Its pages.
    fn make_ready(&mut self, cid: Cid) -> Result<KVec<PageKey>> {
        let keys = match self.txns.get(&cid) {
            Some(txn) => keys_of(txn)?,
            None => KVec::new(),
        };
        for key in &keys {
            if let Some(page) = self.pages.get_mut(*key) {
                for staged in page.staged.iter_mut().filter(|staged| staged.cid == cid) {
                    staged.ready = true;
                }
            }
        }
        Ok(keys)
    }

    /// The versions of a commit are the committed ones: notes who has them, frees the pages, and tells the
    /// data nodes. Whether the log record is to be kept. On an error nothing has changed.
    fn published(&mut self, cid: Cid, keys: &[PageKey]) -> Result<bool> {
        if let Some(txn) = self.txns.get(&cid) {
            for (nr, key) in keys.iter().enumerate() {
                if let Some(owned) = self.owned.get_mut(key) {
                    let of_page = |staged: &&(u32, _)| staged.0 as usize == nr;
                    let count = txn.staged.iter().filter(of_page).count();
                    owned.holders.reserve(count, GFP_KERNEL)?;
                    owned.kept.reserve(count, GFP_KERNEL)?;
                }
            }
        }
        let us = self.id();
        let cn = u32::from(cid.node());
        let mut staged = KVec::new();
        let mut keep = false;
        let mut several = false;
        let mut replicas = 0;
        if let Some(txn) = self.txns.get_mut(&cid) {
            several = !txn.owners.is_empty();
            // What the record must still tell a lonely committing node; what other owners in doubt must
            // be able to ask for, and successors of lost ones after that.
            keep = several || txn.nr_owners == 1 && cn != us && !txn.orphan;
            // One that is not kept is nobody else's to drop.
            txn.state = match keep {
                true => TxnState::Published,
                false => TxnState::Finishing,
            };
            staged = core::mem::take(&mut txn.staged);
            if txn.release {
                for key in keys {
                    self.writers.remove(*key);
                }
            }
            replicas = txn.replicas;
        }
        if several {
            self.note_settled(cid);
        } else if cn == us {
            // Whenever that is: its user may have been told that it is not known. What is not
            // remembered is not said to be aborted.
            let _ = self.note_published(cid);
        }
        for (nr, key) in keys.iter().enumerate() {
            let version = self.pages.get(*key).and_then(|page| page.clean);
            let version = version.map_or(0, |clean| clean.version);
            if let Some(owned) = self.owned.get_mut(key) {
                owned.degree = replicas;
                owned.kept.clear();
                owned.holders.clear();
                // A node that has gone meanwhile has no copy that counts.
                let map = &self.map;
                let here = |id: u32| map.up().any(|peer| peer.id == id);
                let holders = staged.iter().filter(|(of, _)| *of as usize == nr);
                for (_, holder) in holders.filter(|(_, holder)| here(holder.node)) {
                    // There is room.
                    let _ = owned.holders.push_within_capacity(*holder);
                    let _ = owned.kept.push_within_capacity((holder.node, version));
                }
            }
        }
        self.unlock(cid, keys.iter().copied());
        for (_, holder) in &staged {
            if holder.node != cn {
                self.notify(Notice {
                    node: holder.node,
                    cid,
                    kind: NoticeKind::Committed,
                });
            }
        }
        Ok(keep)
    }

    /// Begins to undo a commit: its data nodes are to be told. Its pages. ENOMEM when not all of
    /// them could be noted: then nothing else has happened.
    fn begin_undo(&mut self, cid: Cid) -> Result<KVec<PageKey>> {
        let keys = self.make_ready(cid)?;
        let Some(txn) = self.txns.get_mut(&cid) else {
            return Ok(keys);
        };
        txn.state = TxnState::Finishing;
        let asked = core::mem::take(&mut txn.asked);
        let noted = asked.iter().fold(true, |noted, node| {
            noted
                & self.notify(Notice {
                    node: *node,
                    cid,
                    kind: NoticeKind::Aborted,
                })
        });
        if let Some(txn) = self.txns.get_mut(&cid) {
            txn.asked = asked;
        }
        match noted {
            true => Ok(keys),
            false => Err(ENOMEM),
        }
    }

    /// Nothing of a commit is left here.
    fn undone(&mut self, cid: Cid, keys: &[PageKey]) {
        if let Some(txn) = self.txns.get_mut(&cid) {
            txn.state = TxnState::Undone;
            let (first, blocks) = core::mem::take(&mut txn.log);
            self.log.give_run(first, blocks);
        }
        // Readers need not wait any more.
        for key in keys {
            self.wake_page(*key);
        }
        self.let_undone_go();
    }

    /// A data node has nothing of an undone commit any more, and will not.
    pub(super) fn confirmed(&mut self, node: u32, cid: Cid) {
        self.notices
            .retain(|of| of.node != node || of.cid != cid || of.kind != NoticeKind::Aborted);
        self.expect_no_more(node, cid);
    }

    /// A node that may have staged some of an undone commit has nothing mounted: nobody's pages
    /// wait for it. It is told still, when it is there.
    pub(super) fn expect_no_more(&mut self, node: u32, cid: Cid) {
        if let Some(txn) = self.txns.get_mut(&cid) {
            txn.asked.retain(|asked| *asked != node);
        }
        self.let_undone_go();
    }

    /// Lets the pages of undone commits go of which no node that is up has anything any more.
    pub(super) fn let_undone_go(&mut self) {
        loop {
            let mut txns = self.txns.iter();
            let over = txns.find(|(_, txn)| {
                txn.state == TxnState::Undone && !txn.asked.iter().any(|node| self.is_up(*node))
            });
            let Some(cid) = over.map(|(cid, _)| *cid) else {
                return;
            };
            if let Some(txn) = self.txns.remove(&cid) {
                self.unlock(cid, txn.pages.iter().map(|page| page.key));
            }
        }
    }

    /// Whether a commit is in flight on a page of ours that may be published.
    pub(super) fn has_commit(&self, key: PageKey) -> bool {
        let cid = self.owned.get(&key).and_then(|owned| owned.txn);
        let txn = cid.map(|cid| self.txns.get(&cid));
        txn.is_some_and(|txn| txn.is_none_or(|txn| txn.state != TxnState::Undone))
    }

    fn forget_txn(&mut self, cid: Cid) {
        if let Some(txn) = self.txns.remove(&cid) {
            self.log.give_run(txn.log.0, txn.log.1);
        }
    }

    /// A commit that could not be ended is the worker's.
    fn note_unfinished(&mut self, cid: Cid, ending: Ending) {
        if let Some(txn) = self.txns.get_mut(&cid) {
            txn.state = TxnState::Finishing;
            txn.unfinished = Some(ending);
            self.wake(WORKER);
        }
    }
}

fn keys_of(txn: &Txn) -> Result<KVec<PageKey>> {
    let mut keys = KVec::with_capacity(txn.pages.len(), GFP_KERNEL)?;
    for page in &txn.pages {
        keys.push(page.key, GFP_KERNEL)?;
    }
    Ok(keys)
}

/// Gives the log record of a commit a state, durably; `None` is EMPTY.
pub(super) async fn swing_log<H: Host>(
    host: &H,
    cid: Cid,
    state: Option<redo_log::State>,
) -> Result {
    let found = host.with(|node| {
        let txn = node.txns.get(&cid)?;
        let word = state.map_or(0, |state| record_of(cid, txn).word(txn.log.0, state).0);
        (txn.log.1 != 0).then(|| (node.geometry().log_descriptor(txn.log.0), word))
    });
    let Some((offset, word)) = found else {
        return Ok(());
    };
    let mut batch = Batch::default();
    batch.swing(offset, word)?;
    batch.fence()?;
    batch.run(host).await
}

/// Does this to a commit whose state is `Finishing`, and leaves it to the worker if it cannot be done.
async fn end<H: Host>(host: &H, cid: Cid, ending: Ending) -> Result {
    let done = match ending {
        Ending::Publish => try_finish(host, cid).await,
        Ending::Undo => try_undo(host, cid).await,
        Ending::DropRecord => try_drop_record(host, cid).await.map_err(|e| (e, ending)),
    };
    done.map_err(|(error, left)| {
        host.with(|node| node.note_unfinished(cid, left));
        error
    })
}

/// Publishes a commit whose state is `Finishing`: decided, or just being decided here. What fails is
/// done soon.
pub(super) async fn finish<H: Host>(host: &H, cid: Cid) -> Result {
    end(host, cid, Ending::Publish).await
}

/// Undoes a commit that was not decided. What fails is done soon.
pub(super) async fn undo<H: Host>(host: &H, cid: Cid) -> Result {
    end(host, cid, Ending::Undo).await
}

/// Frees the log record of a commit that is over, whose state is `Finishing`, and forgets the commit. What
/// fails is done soon.
pub(super) async fn drop_record<H: Host>(host: &H, cid: Cid) -> Result {
    end(host, cid, Ending::DropRecord).await
}

/// Ends the commits that could not be ended before.
pub(super) async fn go_on<H: Host>(host: &H) -> Result {
    loop {
        let next = host.with(|node| {
            let mut txns = node.txns.iter_mut();
            txns.find_map(|(cid, txn)| Some((*cid, txn.unfinished.take()?)))
        });
        match next {
            Some((cid, ending)) => end(host, cid, ending).await?,
            None => return Ok(()),
        }
    }
}

/// An error, and what is still to be done.
type Left = (Error, Ending);

async fn try_finish<H: Host>(host: &H, cid: Cid) -> Result<(), Left> {
    let left = |error| (error, Ending::Publish);
    swing_log(host, cid, Some(redo_log::State::Committed))
        .await
        .map_err(left)?;
    let keys = host.with(|node| node.make_ready(cid)).map_err(left)?;
    persist::settle(host, cid, &keys, true)
        .await
        .map_err(left)?;
    match host.with(|node| node.published(cid, &keys)).map_err(left)? {
        true => Ok(()),
        false => try_drop_record(host, cid)
            .await
            .map_err(|error| (error, Ending::DropRecord)),
    }
}

async fn try_undo<H: Host>(host: &H, cid: Cid) -> Result<(), Left> {
    let left = |error| (error, Ending::Undo);
    let keys = host.with(|node| node.begin_undo(cid)).map_err(left)?;
    swing_log(host, cid, None).await.map_err(left)?;
    persist::settle(host, cid, &keys, false)
        .await
        .map_err(left)?;
    host.with(|node| node.undone(cid, &keys));
    Ok(())
}

async fn try_drop_record<H: Host>(host: &H, cid: Cid) -> Result {
    swing_log(host, cid, None).await?;
    host.with(|node| {
        node.forget_txn(cid);
        node.wake(GENERAL);
    });
    Ok(())
}
