// SPDX-License-Identifier: GPL-2.0

//! The lives of other nodes: each mount of a device begins one, and says so. Who says that it begins a life
//! that others know to be over has a copy of its device of an earlier time.

use super::{
    cluster::Sender,
    host::{Action, Host, Level},
    msg::Hello,
    node::{KnownLife, Node, Phase, GENERAL, WORKER},
    participant, persist,
    recovery::update_superblock,
};
use kernel::prelude::*;

/// Whether a node says that it begins a life which is over by what it told us before, or which it began
/// with another incarnation: its device is a copy of what it was then.
fn is_outdated(node: &Node, from: Sender, hello: &Hello) -> bool {
    let known = node.lives.iter().find(|known| known.node == from.node);
    known.is_some_and(|known| {
        hello.restarted
            && (hello.life < known.life
                || hello.life == known.life && from.incarnation != known.incarnation)
    })
}

impl Node {
    /// Whether our device was formatted just before this life, its first, and nothing came to it since.
    pub(super) fn is_empty(&self, life: u64) -> bool {
        life == 1 && self.pages.iter().all(|(_, page)| page.clean.is_none())
    }

    /// Whether what is ours may be read: another node took our hello, or there is none that could. Before, there may
    /// be another machine that is this node, and our device one of yesterday.
    pub(super) fn is_recognized(&self) -> bool {
        self.recognized
            || !self
                .greetings
                .iter()
                .any(|of| of.restarted && !of.away && self.is_up(of.node))
    }
}

/// Whether we have copies of pages of which a node was the owner from the begin: its device cannot be empty.
fn has_copies_of(node: &Node, owner: u32) -> bool {
    node.pages.iter().any(|(key, page)| {
        page.clean.is_some_and(|clean| clean.version != 0)
            && node.names.is_of_row(*key, owner as u16)
    })
}

/// The highest counter of a commit of `of` that made a copy of ours; 0 is none.
fn highest_counter(node: &Node, of: u32) -> u64 {
    let copies = node.pages.iter().filter_map(|(_, page)| page.clean);
    let theirs = copies.filter(|clean| u32::from(clean.cid.node()) == of);
    theirs.map(|clean| clean.cid.counter()).max().unwrap_or(0)
}

/// A node began a new life, or may have forgotten what it told us. Answers with the highest counter of
/// its commits that is known here, when it begins a life: by that it sees that it forgot some.
///
/// EUCLEAN: its device is older than what it told us, see [`learn_outdated`].
pub(super) async fn on_hello<H: Host>(host: &H, from: Sender, hello: &Hello) -> Result<u64> {
    let (outdated, other, highest) = host.with(|node| {
        let highest = match hello.restarted {
            true => highest_counter(node, from.node),
            false => 0,
        };
        let other = hello.restarted && hello.empty && has_copies_of(node, from.node);
        (is_outdated(node, from, hello), other, highest)
    });
    if other {
        host.log(
            Level::Error,
            fmt!(
                "node {}: its device is empty, and it is the owner of pages of which there are copies here: not its \
                 device, refused",
                from.node
            ),
        );
        return Err(EUCLEAN);
    }
    if outdated {
        host.log(
            Level::Error,
            fmt!(
                "node {}: its device is a copy of an earlier time (mount {}), or there are two machines that are this \
                 node: refused",
                from.node,
                hello.life
            ),
        );
        return Err(EUCLEAN);
    }
    let mut busy = KVec::new();
    host.with(|node| {
        // First what can fail, so that nothing of it has happened when it is said again.
        for (key, page) in node.pages.iter() {
            if page.busy != 0 && node.names.owner(*key) == Ok(from.node) {
                busy.push(*key, GFP_KERNEL)?;
            }
        }
        node.lives.reserve(1, GFP_KERNEL)?;
        // After a first one that got lost and a second one the first may still arrive; what
        // the node was given between them must not be forgotten.
        let new_life = hello.restarted && node.life_of(from.node) < hello.life;
        node.invalidate(|owner| owner == from.node);
        if new_life {
            node.forget(from.node);
        }
        // Also of who began its life before ours, lest it is forgotten with us.
        if node.life_of(from.node) < hello.life {
            let now = KnownLife {
                node: from.node,
                life: hello.life,
                incarnation: from.incarnation,
            };
            match node.lives.iter_mut().find(|of| of.node == from.node) {
                Some(known) => *known = now,
                None => node.lives.push(now, GFP_KERNEL)?,
            }
        }
        if node.greetings.iter().any(|other| other.node == from.node) {
            // It is mounted now.
            node.wake(WORKER);
        }
        if node.map.dispatcher() == Ok(from.node) {
            node.names.stale = true;
            node.wake(WORKER);
        }
        Ok::<_, Error>(())
    })?;
    if hello.restarted {
        // Also when it is said again, as it may have failed the first time.
        participant::drop_commits_of(host, from.node, hello.first).await?;
    }
    // Faults that are just mapping what was right a moment ago.
    let until = host.with(|node| node.config.timeout) + host.now();
    for key in &busy {
        persist::wait_idle(host, *key, until).await?;
    }
    host.run(&[Action::UnmapAll]).await?;
    Ok(highest)
}

/// `by` knows that our device is a copy of an earlier time: we serve nothing of it, our users get ESTALE also
/// of what they have mapped, and the device says so, lest enough further mounts make it look young.
pub(super) async fn learn_outdated<H: Host>(host: &H, by: u32) -> Result {
    let serving = host.with(|node| {
        let serving = node.phase == Phase::Ready;
        if serving {
            node.phase = Phase::Outdated;
            node.wake(GENERAL);
        }
        serving
    });
    if !serving {
        return Ok(());
    }
    host.log(
        Level::Error,
        fmt!(
            "this device is a copy of an earlier time, or another machine is this node, as node {by} knows: unmount \
             it, and bring the right one or have the map drop this node (out)"
        ),
    );
    host.run(&[Action::UnmapAll]).await?;
    update_superblock(host, |superblock| {
        superblock.outdated = true;
        Ok(())
    })
    .await
}
