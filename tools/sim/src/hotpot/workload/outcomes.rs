// SPDX-License-Identifier: GPL-2.0

//! HOTPOT_IOC_OUTCOME, asked for all commits once everything has come to rest: it agrees with what users were
//! told and with what is there.

use super::{spawn, Done};
use crate::{
    hotpot::{
        model::{Attempt, End},
        world::World,
    },
    schedule::{Time, MS},
};
use hotpot_core::core::{
    format::Cid,
    host::{Host, Sleep},
    msg::Outcome,
    node::GENERAL,
    outcome,
};
use kernel::error::code::ESTALE;
use std::{cell::RefCell, rc::Rc};

/// Before it is asked again.
const PAUSE: Time = 20 * MS;

/// Asks for each commit whose id a user was told, on each node that is there.
pub fn check_outcomes(world: &mut World) {
    let until = world.now() + 2000 * MS;
    let results = Rc::new(RefCell::new(Vec::new()));
    for node in 0..world.nodes.len() {
        if world.nodes[node].gone {
            continue;
        }
        for attempt in 0..world.model.attempts.len() {
            let cid = Cid(world.model.attempts[attempt].cid);
            if cid.0 == 0 {
                continue;
            }
            let results = results.clone();
            spawn(world, node, 0, |host| async move {
                // A map may be on its way: who has an older one is asked again.
                let mut found = outcome::outcome(&host, cid, until).await;
                while found == Err(ESTALE) && host.now() + PAUSE < until {
                    let ticket = host.with(|node| node.ticket(GENERAL));
                    let soon = host.now() + PAUSE;
                    let _ = host.wait(ticket, soon, Sleep::Killable).await;
                    found = outcome::outcome(&host, cid, until).await;
                }
                results.borrow_mut().push((node, attempt, found));
                Done::Other("outcome", found.map(|_| ()))
            });
        }
    }
    world.run_until(until, World::is_at_rest);
    for (node, attempt, found) in results.borrow().iter() {
        let of = &world.model.attempts[*attempt];
        let id = world.nodes[*node].id;
        let found = found.unwrap_or_else(|error| panic!("n{id}: {error:?}, no outcome of {of:?}"));
        assert!(agrees(of, found), "n{id} says {found:?} of {of:?}");
    }
}

/// FORGOTTEN also says of what was published that it was overwritten since.
fn agrees(of: &Attempt, found: Outcome) -> bool {
    match (of.end, found) {
        (End::Acked(_), outcome) => matches!(outcome, Outcome::Committed | Outcome::Forgotten),
        (End::Failed, outcome) => matches!(outcome, Outcome::Aborted | Outcome::Forgotten),
        (End::Unknown, outcome) => outcome != Outcome::Pending,
    }
}
