// SPDX-License-Identifier: GPL-2.0

use crate::memory::{together, Mortal, Shared};
use kernel::error::{code::*, Result};
use rdma_lite_core::core::guests::{
    layout::Layout,
    slots::{
        beat, occupant, release, Claim, Identity, Watch, CLAIM_WITHIN, DEAD_AFTER, OWN_DEAD_AFTER,
    },
    Memory,
};

const MS: u64 = 1_000_000;

fn who(node: u16, life: u64) -> Identity {
    Identity {
        node,
        cluster: [9; 16],
        incarnation: life * 10,
        life,
    }
}

fn made() -> (Shared, Layout) {
    let memory = Shared::new(8 << 20);
    let layout = Layout::open(&memory, 17, [1; 16]).unwrap();
    (memory, layout)
}

/// Claims, with looks 10 ms apart, during which `meanwhile` happens; how it ended, and when.
fn claim(
    memory: &impl Memory,
    layout: &Layout,
    who: Identity,
    mut now: u64,
    mut meanwhile: impl FnMut(),
) -> (Result<usize>, u64) {
    let mut claim = Claim::new(who);
    for _ in 0..2000 {
        match claim.step(memory, layout, now) {
            Ok(Some(slot)) => return (Ok(slot), now),
            Ok(None) => {}
            Err(e) => return (Err(e), now),
        }
        meanwhile();
        now += 10 * MS;
    }
    panic!("no end");
}

#[test]
fn nodes_take_the_free_slots_in_their_order_and_are_found_there() {
    let (memory, layout) = made();
    let mut watch = Watch::new();
    for node in 1..=3 {
        let life = 100 + u64::from(node);
        let (slot, at) = claim(&memory, &layout, who(node, life), 0, || ());
        assert_eq!((slot, at), (Ok(usize::from(node) - 1), 0));
    }
    watch.look(&memory, &layout, 5).unwrap();
    let find = |cluster, node| watch.find(&memory, &layout, &cluster, node, 6);
    assert_eq!(find([9; 16], 2), Ok(Some((1, 102))));
    assert_eq!(find([9; 16], 4), Ok(None));
    assert_eq!(find([8; 16], 2), Ok(None));
    assert_eq!(occupant(&memory, &layout, 1), Ok(Some(who(2, 102))));
}

#[test]
fn a_slot_that_was_given_back_is_free_at_once() {
    let (memory, layout) = made();
    claim(&memory, &layout, who(1, 11), 0, || ()).0.unwrap();
    release(&memory, &layout, 0, 11).unwrap();
    assert_eq!(claim(&memory, &layout, who(1, 12), 50, || ()), (Ok(0), 50));
    // Of a life that is over: not its to give.
    release(&memory, &layout, 0, 11).unwrap();
    assert_eq!(occupant(&memory, &layout, 0), Ok(Some(who(1, 12))));
}

#[test]
fn the_next_life_of_a_node_that_was_killed_takes_its_slot_once_it_has_seen_it_stand_still() {
    let (memory, layout) = made();
    claim(&memory, &layout, who(1, 11), 0, || ()).0.unwrap();
    claim(&memory, &layout, who(2, 21), 0, || ()).0.unwrap();
    let (slot, at) = claim(&memory, &layout, who(1, 12), 0, || {
        beat(&memory, &layout, 1, 21).unwrap();
    });
    assert_eq!(slot, Ok(0));
    assert!(at >= OWN_DEAD_AFTER);
    // What is left of the life before is told that the slot is not its own.
    assert_eq!(beat(&memory, &layout, 0, 11), Err(ESTALE));
}

#[test]
fn a_node_that_lives_elsewhere_is_not_thrown_out() {
    let (memory, layout) = made();
    claim(&memory, &layout, who(1, 11), 0, || ()).0.unwrap();
    let (slot, _) = claim(&memory, &layout, who(1, 12), 0, || {
        beat(&memory, &layout, 0, 11).unwrap();
    });
    assert_eq!(slot, Err(EEXIST));
    assert_eq!(occupant(&memory, &layout, 0), Ok(Some(who(1, 11))));
}

#[test]
fn of_two_that_claim_under_one_id_at_once_one_gets_a_slot() {
    for seed in 1..60 {
        let (memory, layout) = made();
        let one = |life| {
            move |memory| {
                let mut slot = None;
                let mut claim = Claim::new(who(1, life));
                let mut now = 0;
                loop {
                    match slot {
                        Some(slot) => {
                            // Lives for longer than the other watches.
                            if now > 2 * OWN_DEAD_AFTER {
                                return Result::<usize>::Ok(slot);
                            }
                            beat(&memory, &layout, slot, life)?;
                        }
                        None => slot = claim.step(&memory, &layout, now)?,
                    }
                    now += 400 * MS;
                }
            }
        };
        let (a, b) = together(&memory, seed * 104_729, one(11), one(12));
        let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
        assert_eq!(won, Ok(0), "seed {seed}");
        assert!(
            lost.is_err() || lost == Ok(0),
            "seed {seed}: two slots, {lost:?}"
        );
    }
}

#[test]
fn somebody_who_comes_anew_all_the_time_keeps_nobody_for_ever() {
    let (memory, layout) = made();
    let mut life = 1;
    memory.store(layout.life(0), life).unwrap();
    let (slot, at) = claim(&memory, &layout, who(3, 31), 0, || {
        life += 1;
        memory.store(layout.life(0), life).unwrap();
    });
    assert_eq!(slot, Err(ETIMEDOUT));
    assert!(at > CLAIM_WITHIN);
}

#[test]
fn a_full_table_gives_the_slot_of_a_dead_node_and_else_says_so() {
    let (memory, layout) = made();
    for slot in 0..layout.slots {
        let node = slot as u16 + 1;
        claim(&memory, &layout, who(node, u64::from(node)), 0, || ())
            .0
            .unwrap();
    }
    let beat_all = |but: usize| {
        for slot in (0..layout.slots).filter(|slot| *slot != but) {
            beat(&memory, &layout, slot, slot as u64 + 1).unwrap();
        }
    };
    let late = who(99, 999);
    let (slot, at) = claim(&memory, &layout, late, 0, || beat_all(usize::MAX));
    assert_eq!(slot, Err(ENOSPC));
    assert!(at >= DEAD_AFTER);
    let (slot, at) = claim(&memory, &layout, late, 0, || beat_all(1));
    assert_eq!(slot, Ok(1));
    assert!(at >= DEAD_AFTER);
}

#[test]
fn a_node_that_is_killed_while_it_claims_leaves_a_slot_that_others_get_over() {
    for stores in 0..10 {
        let (memory, layout) = made();
        let mortal = Mortal::new(&memory, stores);
        let _ = Claim::new(who(1, 11)).step(&mortal, &layout, 0);
        let (slot, _) = claim(&memory, &layout, who(2, 21), 0, || ());
        let slot = slot.unwrap();
        assert_eq!(occupant(&memory, &layout, slot), Ok(Some(who(2, 21))));
        let (slot, _) = claim(&memory, &layout, who(1, 12), 0, || {
            beat(&memory, &layout, slot, 21).unwrap();
        });
        assert_eq!(
            occupant(&memory, &layout, slot.unwrap()),
            Ok(Some(who(1, 12)))
        );
    }
}

#[test]
fn who_does_not_move_is_dead_and_who_moves_again_lives() {
    let (memory, layout) = made();
    claim(&memory, &layout, who(1, 11), 0, || ()).0.unwrap();
    let mut watch = Watch::new();
    watch.look(&memory, &layout, 0).unwrap();
    assert!(watch.lives(0, 11, DEAD_AFTER - 1));
    assert!(!watch.lives(0, 11, DEAD_AFTER));
    assert!(!watch.lives(0, 12, 0));
    assert!(!watch.lives(0, 0, 0));
    assert!(!watch.lives(99, 11, 0));
    beat(&memory, &layout, 0, 11).unwrap();
    watch.look(&memory, &layout, DEAD_AFTER).unwrap();
    assert!(watch.lives(0, 11, DEAD_AFTER));
    let found = watch.find(&memory, &layout, &[9; 16], 1, 2 * DEAD_AFTER);
    assert_eq!(found, Ok(None));
}
