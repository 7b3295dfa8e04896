// SPDX-License-Identifier: GPL-2.0

//! Giving pages back: their owners hear of it in the background, until they have answered.

use super::{
    super::{
        format::Cid,
        handler,
        host::{Call, Host, PageKey, Piece},
        msg::{Release, Request},
        node::{Node, GENERAL, WORKER},
    },
    Opener, Unreleased, MAX_CLAIMS,
};
use kernel::prelude::*;

impl Node {
    /// Notes that the owner of a page has to free it; there is room for the note.
    pub(super) fn unrelease(&mut self, key: PageKey, grant: Cid) {
        let us = self.id();
        match self.owner(key) {
            Ok(owner) if owner == us => {
                let _ = self.free_grant(grant, &[key]);
            }
            Ok(owner) => {
                let note = Unreleased {
                    owner,
                    grant,
                    key: Some(key),
                };
                let _ = self.grants.unreleased.push(note, GFP_KERNEL);
            }
            // Nobody owns it: the dataset is no more.
            Err(_) => {}
        }
    }

    /// Gives pages that an open file holds back. The owners hear of it in the background.
    pub(in super::super) fn give_back(&mut self, opener: Opener, keys: &[PageKey]) -> Result {
        self.grants.unreleased.reserve(keys.len(), GFP_KERNEL)?;
        for key in keys {
            let theirs = self.grants.pages.get(key).copied();
            if let Some(grant) = theirs.filter(|grant| grant.opener == opener) {
                self.grants.pages.remove(key);
                self.unrelease(*key, grant.id);
            }
        }
        self.wake(WORKER);
        self.wake(GENERAL);
        Ok(())
    }
}

/// Tells owners what they have not heard of yet: some at a time.
pub(in super::super) async fn tell_releases<H: Host>(host: &H, until: u64) -> Result {
    let (batch, epoch) = host.with(|node| {
        let mut batch: KVec<Unreleased> = KVec::new();
        for note in node.grants.unreleased.iter().take(MAX_CLAIMS) {
            batch.push(*note, GFP_KERNEL)?;
        }
        Ok::<_, Error>((batch, node.map.epoch))
    })?;
    let mut releases: KVec<(u32, KVec<u8>, KVec<Unreleased>)> = KVec::new();
    for note in &batch {
        if releases.iter().any(|(_, _, notes)| notes.contains(note)) {
            continue;
        }
        let mut notes = KVec::new();
        let mut pages = KVec::new();
        let same = |other: &&Unreleased| {
            other.owner == note.owner
                && other.grant == note.grant
                && other.key.is_some() == note.key.is_some()
        };
        for other in batch.iter().filter(same) {
            notes.push(*other, GFP_KERNEL)?;
            if let Some(key) = other.key {
                pages.push(key, GFP_KERNEL)?;
            }
        }
        let release = Release {
            grant: note.grant,
            pages,
        };
        releases.push((note.owner, release.encode(epoch)?, notes), GFP_KERNEL)?;
    }
    let mut calls: KVec<Call<'_>> = KVec::with_capacity(releases.len(), GFP_KERNEL)?;
    for (owner, header, _) in &releases {
        let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
        request.push(Piece::Bytes(header), GFP_KERNEL)?;
        calls.push(handler::call(*owner, request, 64, until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    let mut result = Ok(());
    host.with(|node| {
        for (call, (owner, _, notes)) in calls.iter().zip(&releases) {
            let answer = handler::reply_of::<Release>(call).map_err(handler::errno);
            let out = node.is_out(*owner);
            if let (Err(error), false) = (answer, out) {
                result = Err(error);
                continue;
            }
            node.grants.unreleased.retain(|note| !notes.contains(note));
        }
    });
    result
}
