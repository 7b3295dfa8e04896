// SPDX-License-Identifier: GPL-2.0

//! Named barriers, kept by the CD in memory. A participant says that it is there
//! again and again until it hears that all are; so no message is needed when a
//! barrier opens, and who is not heard of any more does not count.

use super::{
    cluster::Sender,
    fault, handler,
    host::{CallError, Host},
    msg::Arrive,
    node::GENERAL,
};
use kernel::prelude::*;

/// Longest name, as in `struct hotpot_barrier`.
pub const NAME_MAX: usize = 63;

/// How long a participant waits between two questions, ns.
const INTERVAL: u64 = 10_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Participant {
    node: u32,
    incarnation: u64,
    number: u64,
    /// Forgotten then.
    until: u64,
}

struct Barrier {
    name: KVec<u8>,
    count: u32,
    open: bool,
    here: KVec<Participant>,
}

/// All barriers that somebody waits at.
#[derive(Default)]
pub struct Barriers {
    barriers: KVec<Barrier>,
}

impl Barriers {
    /// Participants whose deadline has passed leave.
    pub(super) fn expire(&mut self, now: u64) {
        self.leave(|who| who.until <= now);
    }

    /// Participants of nodes that are gone leave.
    pub(super) fn drop_nodes(&mut self, gone: impl Fn(u32, u64) -> bool) {
        self.leave(|who| gone(who.node, who.incarnation));
    }

    fn leave(&mut self, goes: impl Fn(&Participant) -> bool) {
        for barrier in self.barriers.iter_mut() {
            barrier.here.retain(|who| !goes(who));
        }
        self.barriers.retain(|barrier| !barrier.here.is_empty());
    }

    fn arrive(&mut self, from: Sender, arrive: &Arrive<'_>, now: u64, until: u64) -> Result<bool> {
        self.expire(now);
        let who = Participant {
            node: from.node,
            incarnation: from.incarnation,
            number: arrive.participant,
            until,
        };
        let same = |other: &Participant| {
            (other.node, other.incarnation, other.number) == (who.node, who.incarnation, who.number)
        };
        if let Some(barrier) = self
            .barriers
            .iter_mut()
            .find(|barrier| barrier.here.iter().any(same))
        {
            let open = barrier.open;
            if arrive.leave && !open {
                self.leave(same);
                return Ok(false);
            }
            return Ok(open);
        }
        if arrive.leave {
            return Ok(false);
        }
        let waiting = self
            .barriers
            .iter_mut()
            .find(|barrier| !barrier.open && &barrier.name[..] == arrive.name);
        let barrier = match waiting {
            Some(barrier) if barrier.count != arrive.count => return Err(EINVAL),
            Some(barrier) => barrier,
            None => {
                let mut name = KVec::new();
                name.extend_from_slice(arrive.name, GFP_KERNEL)?;
                self.barriers.push(
                    Barrier {
                        name,
                        count: arrive.count,
                        open: false,
                        here: KVec::new(),
                    },
                    GFP_KERNEL,
                )?;
                self.barriers.last_mut().ok_or(ENOMEM)?
            }
        };
        barrier.here.push(who, GFP_KERNEL)?;
        barrier.open = barrier.here.len() >= barrier.count as usize;
        if barrier.open {
            // They learn it while they still ask, and some time after.
            for who in barrier.here.iter_mut() {
                who.until = who.until.max(now.saturating_add(INTERVAL * 100));
            }
        }
        Ok(barrier.open)
    }
}

/// At the CD: a participant is there, asks again, or leaves. Whether the barrier is open.
pub(super) fn on_arrive<H: Host>(host: &H, from: Sender, arrive: &Arrive<'_>) -> Result<bool> {
    if arrive.name.len() > NAME_MAX || arrive.count == 0 {
        return Err(EINVAL);
    }
    let now = host.now();
    let until = now.saturating_add(u64::from(arrive.budget_ms) * 1_000_000);
    host.with(|node| {
        if node.map.dispatcher()? != node.id() {
            return Err(ESTALE);
        }
        let open = node.barriers.arrive(from, arrive, now, until)?;
        if open {
            node.wake(GENERAL);
        }
        Ok(open)
    })
}

/// Meets `count` participants. EINVAL when they do not agree about the count (or it
/// is 0, or the name too long), ETIMEDOUT when not all came.
pub async fn meet<H: Host>(host: &H, name: &[u8], count: u32, until: u64) -> Result {
    if name.is_empty() || name.len() > NAME_MAX || count == 0 {
        return Err(EINVAL);
    }
    let participant = host.with(|node| {
        node.next_number += 1;
        node.next_number
    });
    let mut arrive = Arrive {
        name,
        count,
        participant,
        leave: false,
        budget_ms: 0,
    };
    let given_up = loop {
        let left = until.saturating_sub(host.now());
        arrive.budget_ms = u32::try_from(left.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let ticket = host.with(|node| node.ticket(GENERAL));
        match say(host, &arrive, handler::call_until(host, until)).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(CallError::Handler(EINVAL)) => return Err(EINVAL),
            Err(_) => {}
        }
        let now = host.now();
        if now >= until {
            break ETIMEDOUT;
        }
        let soon = until.min(now + INTERVAL);
        if let Err(error) = fault::wait(host, ticket, soon).await {
            if error == EINTR {
                break EINTR;
            }
        }
    };
    // Too late by a moment is in time: all others have gone on.
    arrive.leave = true;
    let grace = host.now().saturating_add(INTERVAL);
    match say(host, &arrive, handler::call_until(host, grace)).await {
        Ok(true) => Ok(()),
        _ => Err(given_up),
    }
}

async fn say<H: Host>(host: &H, arrive: &Arrive<'_>, until: u64) -> Result<bool, CallError> {
    let here = host
        .with(|node| {
            let dispatcher = node.map.dispatcher()?;
            let us = Sender {
                node: node.id(),
                incarnation: node.map.peer(node.id()).map_or(0, |peer| peer.incarnation),
                epoch: node.map.epoch,
            };
            Ok::<_, Error>((dispatcher == us.node).then_some(us).ok_or(dispatcher))
        })
        .map_err(CallError::NotExecuted)?;
    match here {
        Ok(us) => on_arrive(host, us, arrive).map_err(CallError::Handler),
        Err(dispatcher) => handler::ask(host, dispatcher, arrive, until).await,
    }
}
