// SPDX-License-Identifier: GPL-2.0

//! Bits that flip on PM: found when they are read or scrubbed, healed from a good copy, or told
//! as EIO; never read as data.

use hotpot_core::core::{
    cluster::State,
    commit,
    fault::{self, Access},
    format::Timestamp,
    grants::Opener,
    host::PageKey,
    scrub::{self, Scrubbed},
};
use kernel::error::{code::*, Result};
use sim::{
    hotpot::{
        script, workload,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

const DATASET: u64 = 1;
/// An open file; the mount does not come to such numbers.
const OPENER: Opener = Opener(1 << 40);
const PAGE: u64 = 4096;

fn cluster(nodes: usize) -> World {
    let mut world = World::new(3, |_| Plan::quiet(nodes));
    workload::prepare(&mut world);
    world
}

fn key(page: u64) -> PageKey {
    PageKey {
        dataset: DATASET,
        page,
    }
}

/// A dataset's first page that a node owns.
fn page_of(world: &World, node: usize) -> u64 {
    let life = world.nodes[0].life.clone().unwrap();
    let core = life.node.borrow();
    (0..48)
        .find(|page| core.owner(key(*page)) == Ok(node as u32 + 1))
        .expect("each node owns a chunk")
}

fn write(world: &mut World, node: usize, at: u64, bytes: &'static [u8]) -> Result {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        commit::write(
            &host,
            OPENER,
            DATASET,
            at,
            bytes,
            Timestamp::default(),
            until,
        )
        .await
    })
}

fn read(world: &mut World, node: usize, at: u64) -> Result<[u8; 8]> {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let mut page = [0; PAGE as usize];
        let first = at % PAGE;
        fault::read(&host, DATASET, at - first, &mut page, until).await?;
        // These tests store into the first bytes and nowhere else, or all the same.
        let alike = page[16..].iter().all(|byte| *byte == page[16]);
        assert!(
            alike && matches!(page[16], 0 | 0x5a),
            "flipped bits are read"
        );
        let bytes = &page[first as usize..][..8];
        Ok(bytes.try_into().unwrap())
    })
}

fn touch(world: &mut World, node: usize, page: u64, access: Access) -> Result {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        fault::fault(&host, key(page), access, until).await
    })
}

fn scrub_all(world: &mut World, node: usize) -> Scrubbed {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        scrub::scrub(&host, DATASET, 0, 1000, until).await.unwrap()
    })
}

fn nothing_left(world: &mut World) {
    let end = world.now() + 3 * SEC;
    world.run_until(end, World::is_at_rest);
    world.check_at_rest();
}

fn has_copy(world: &World, node: usize, page: u64) -> bool {
    let life = world.nodes[node].life.clone().unwrap();
    let core = life.node.borrow();
    let clean = core.pages.get(key(page)).and_then(|page| page.clean);
    clean.is_some_and(|clean| clean.pm.is_some())
}

/// A page that `owner` owns holds "original" there and at `reader`.
fn two_copies(world: &mut World, owner: usize, reader: usize) -> u64 {
    let page = page_of(world, owner);
    assert_eq!(write(world, owner, page * PAGE, b"original"), Ok(()));
    assert_eq!(read(world, reader, page * PAGE), Ok(*b"original"));
    page
}

#[test]
fn a_damaged_copy_of_the_owner_is_healed_before_it_is_served() {
    for slot in [false, true] {
        // Node 0 owns no chunk of four nodes' three.
        let mut world = cluster(4);
        let page = two_copies(&mut world, 1, 2);
        world.flip(1, key(page), slot);
        let fresh = (0..4).find(|node| !has_copy(&world, *node, page)).unwrap();
        assert_eq!(read(&mut world, fresh, page * PAGE), Ok(*b"original"));
        assert_eq!(scrub_all(&mut world, 1).healed, 0, "it is healed already");
        nothing_left(&mut world);
    }
}

#[test]
fn a_damaged_copy_of_a_data_node_is_healed_from_the_owner() {
    for slot in [false, true] {
        let mut world = cluster(3);
        let page = two_copies(&mut world, 0, 1);
        world.flip(1, key(page), slot);
        assert_eq!(read(&mut world, 1, page * PAGE), Ok(*b"original"));
        world.flip(1, key(page), slot);
        assert_eq!(touch(&mut world, 1, page, Access::Read), Ok(()));
        assert_eq!(scrub_all(&mut world, 1).healed, 0, "it is healed already");
        nothing_left(&mut world);
    }
}

#[test]
fn a_copy_that_two_processes_found_damaged_leaves_the_page_table_with_the_next_version() {
    let mut world = cluster(3);
    let page = two_copies(&mut world, 0, 1);
    world.flip(1, key(page), false);
    // Who is first has it healed and maps it; the other one, which waits for that, finds nothing to heal.
    let until = world.now() + SEC;
    let mapped = Rc::new(RefCell::new(None));
    world.begin_result(1, mapped.clone(), move |host| async move {
        fault::fault(&host, key(page), Access::Read, until).await
    });
    assert_eq!(read(&mut world, 1, page * PAGE), Ok(*b"original"));
    world.pass(100 * MS);
    assert_eq!(*mapped.borrow(), Some(Ok(())));
    assert_eq!(write(&mut world, 0, page * PAGE, b"replaced"), Ok(()));
    let life = world.nodes[1].life.clone().unwrap();
    assert_eq!(life.mapped.borrow().get(&key(page)), None);
    nothing_left(&mut world);
}

#[test]
fn what_is_damaged_does_not_become_part_of_a_store_or_a_commit() {
    for damaged in [0, 1] {
        let mut world = cluster(3);
        let page = two_copies(&mut world, 0, 1);
        world.flip(damaged, key(page), false);
        assert_eq!(touch(&mut world, 1, page, Access::Write), Ok(()));
        world.flip(damaged, key(page), false);
        // The new version is laid over the old one, at the owner and at the holder.
        assert_eq!(write(&mut world, 2, page * PAGE + 8, b"replaced"), Ok(()));
        for node in 0..3 {
            if node != 1 {
                assert_eq!(read(&mut world, node, page * PAGE), Ok(*b"original"));
                assert_eq!(read(&mut world, node, page * PAGE + 8), Ok(*b"replaced"));
            }
            assert_eq!(scrub_all(&mut world, node).healed, 0);
        }
    }
}

#[test]
fn without_a_good_copy_the_answer_is_eio_and_a_whole_new_page_ends_it() {
    let mut world = cluster(3);
    let page = page_of(&world, 0);
    assert_eq!(write(&mut world, 0, page * PAGE, b"original"), Ok(()));
    nothing_left(&mut world);
    for node in 0..3 {
        if has_copy(&world, node, page) {
            world.flip(node, key(page), false);
        }
    }
    for node in 0..3 {
        assert_eq!(read(&mut world, node, page * PAGE), Err(EIO), "node {node}");
        for access in [Access::Read, Access::Write] {
            assert_eq!(touch(&mut world, node, page, access), Err(EIO));
        }
    }
    assert_eq!(
        write(&mut world, 1, page * PAGE + 8, b"in vain!"),
        Err(EIO),
        "a commit of a part would publish what is damaged"
    );
    assert_eq!(scrub_all(&mut world, 0).lost, 1);
    assert_eq!(write(&mut world, 1, page * PAGE, &[0x5a; 4096]), Ok(()));
    for node in 0..3 {
        assert_eq!(read(&mut world, node, page * PAGE), Ok([0x5a; 8]));
    }
    nothing_left(&mut world);
}

#[test]
fn scrub_finds_and_heals_what_nobody_reads() {
    let mut world = cluster(3);
    let mut damaged = 0;
    for page in 0..40 {
        assert_eq!(
            write(&mut world, page as usize % 3, page * PAGE, b"original"),
            Ok(())
        );
        for node in 0..3 {
            assert_eq!(read(&mut world, node, page * PAGE), Ok(*b"original"));
        }
    }
    nothing_left(&mut world);
    for page in (0..40).step_by(3) {
        world.flip(page as usize % 3, key(page), page % 2 == 0);
        damaged += 1;
    }
    let mut sum = Scrubbed::default();
    for node in 0..3 {
        let found = scrub_all(&mut world, node);
        assert_eq!((found.checked, found.next), (40, None));
        sum.healed += found.healed;
        sum.lost += found.lost + found.waiting + found.dropped;
    }
    assert_eq!((sum.healed, sum.lost), (damaged, 0));
    for node in 0..3 {
        assert_eq!(scrub_all(&mut world, node).healed, 0);
        for page in 0..40 {
            assert_eq!(read(&mut world, node, page * PAGE), Ok(*b"original"));
        }
    }
    nothing_left(&mut world);
}

#[test]
fn scrub_goes_on_where_it_stopped() {
    let mut world = cluster(2);
    for page in 0..10 {
        assert_eq!(write(&mut world, 0, page * PAGE, b"original"), Ok(()));
        assert_eq!(read(&mut world, 0, page * PAGE), Ok(*b"original"));
    }
    let (mut next, mut checked) = (Some(0), 0);
    while let Some(first) = next {
        let until = world.now() + SEC;
        let found = world.execute(0, move |host| async move {
            scrub::scrub(&host, DATASET, first, 3, until).await.unwrap()
        });
        assert!(found.checked <= 3);
        checked += found.checked;
        next = found.next;
    }
    assert_eq!(checked, 10);
}

#[test]
fn a_copy_whose_other_copy_is_on_a_node_that_is_down_waits_for_it() {
    let mut world = cluster(2);
    let page = two_copies(&mut world, 0, 1);
    world.set_cut(1, true);
    world.declare(1, State::Down);
    world.pass(MS);
    world.flip(0, key(page), false);
    let answer = read(&mut world, 0, page * PAGE);
    assert!(
        matches!(answer, Err(EHOSTDOWN | ETIMEDOUT)),
        "{answer:?}, not EIO: it will be back"
    );
    assert_eq!(scrub_all(&mut world, 0).waiting, 1);
    world.set_cut(1, false);
    world.pass(SEC);
    assert_eq!(read(&mut world, 0, page * PAGE), Ok(*b"original"));
}

#[test]
fn a_bit_that_flips_while_a_power_failure_is_repaired_is_healed_as_well() {
    let mut world = cluster(3);
    let page = two_copies(&mut world, 0, 1);
    world.flip(0, key(page), false);
    world.crash_now(0);
    world.pass(SEC);
    for node in 0..3 {
        assert_eq!(read(&mut world, node, page * PAGE), Ok(*b"original"));
    }
    nothing_left(&mut world);
}

#[test]
fn a_new_owner_passes_over_damaged_copies_of_the_pages_that_it_fetches() {
    for slot in [false, true] {
        let mut world = World::new(3, |_| Plan {
            loss: true,
            ..Plan::quiet(4)
        });
        workload::prepare(&mut world);
        // The next node in the row has none of the lost one's pages, both others have all.
        let (lost, next, others) = (1, 2, [0, 3]);
        let first = page_of(&world, lost);
        let pages = first..first + 16;
        for page in pages.clone() {
            let at = page * PAGE;
            script::store(&mut world, lost, DATASET, at, b"original").expect("a store");
            let committed = script::commit(&mut world, lost, script::file(1), DATASET, &[at], 1);
            assert_eq!(committed.result, Ok(()));
            for node in others {
                assert_eq!(read(&mut world, node, at), Ok(*b"original"));
            }
        }
        let lacks = |page: &u64| !has_copy(&world, next, *page);
        assert_eq!(pages.clone().filter(lacks).count(), 16);
        // Neither node has all of them whole: at the edges of answers and in the middle.
        for page in pages.clone() {
            match page % 5 {
                0 | 3 => world.flip(others[0], key(page), slot),
                1 => world.flip(others[1], key(page), slot),
                _ => {}
            }
        }
        world.lose(lost);
        for page in pages {
            let found = read(&mut world, next, page * PAGE);
            assert_eq!(found, Ok(*b"original"), "page {page}");
            assert!(has_copy(&world, next, page));
        }
        for node in others {
            assert_eq!(scrub_all(&mut world, node).lost, 0);
        }
        nothing_left(&mut world);
    }
}

/// The owner of a page has prepared a commit, and does not hear that it was decided.
#[test]
fn a_damaged_copy_that_was_just_committed_is_not_outdated_because_the_owner_is_in_doubt() {
    let mut in_doubt = 0;
    for time in 0..100 {
        let mut world = cluster(3);
        let (writer, owner, other) = (2, 1, 0);
        let places = [writer, owner].map(|node| page_of(&world, node) * PAGE + 8);
        let of_owner = key(places[1] / PAGE);
        for at in places {
            script::store(&mut world, writer, DATASET, at, b"original").expect("a store");
        }
        let told = Rc::new(RefCell::new(None));
        let (until, begun) = (world.now() + SEC, world.now());
        let ranges = script::cells(&places);
        world.begin_result(writer, told.clone(), move |host| async move {
            commit::commit(&host, script::file(1), DATASET, &ranges, 3, until).await
        });
        world.pass(10 * US * time);
        world.set_deaf_to(owner, writer, true);
        world.pass(MS);
        let is_doubtful = {
            let core = world.nodes[owner].life.as_ref().unwrap().node.borrow();
            let page = core.pages.get(of_owner);
            page.is_some_and(|page| !page.staged.is_empty())
        };
        if is_doubtful && has_copy(&world, other, of_owner.page) {
            world.flip(other, of_owner, false);
            scrub_all(&mut world, other);
            assert!(has_copy(&world, other, of_owner.page), "after {time}0 us");
            in_doubt += 1;
        }
        world.set_deaf_to(owner, writer, false);
        world.pass(2 * SEC);
        let told = told.borrow_mut().take().expect("it has an end");
        if told.result == Ok(()) && told.cid.0 != 0 {
            let copies = world.durable_copies(of_owner, told.cid.0, begun);
            assert_eq!(copies, Some(3), "after {time}0 us");
        }
        nothing_left(&mut world);
    }
    assert!(in_doubt > 0, "the owner is never in doubt");
}
