// SPDX-License-Identifier: GPL-2.0

//! Little room on PM: copies are dropped and made elsewhere, never below the degree, and nothing
//! is lost.

use hotpot_core::core::{
    commit,
    fault::{self, Access},
    format::{slot, Timestamp, LINE_SIZE},
    grants::Opener,
    host::PageKey,
    migrate::Offer,
    msg::Request,
    names::{self, Change, NewDataset},
};
use kernel::error::{code::*, Result};
use sim::{
    hotpot::{
        script::new_dataset,
        workload,
        world::{Plan, World},
    },
    schedule::SEC,
};

const DATASET: u64 = 1;
/// An open file; the mount does not come to such numbers.
const OPENER: Opener = Opener(1 << 40);
const PAGE: u64 = 4096;

/// Nodes with so many free pages each; `replicas` copies of what is committed.
fn cluster(nodes: usize, room: u64, replicas: u32, size: u64) -> World {
    let mut world = World::new(5, |_| Plan::quiet(nodes));
    workload::prepare(&mut world);
    world.leave_room(room);
    let until = world.now() + 5 * SEC;
    world.execute(0, move |host| async move {
        let cut = Change {
            size: Some(0),
            ..Change::default()
        };
        names::change(&host, DATASET, &cut, until).await.unwrap();
        let setup = Change {
            replicas: Some(replicas),
            ..Change::default()
        };
        names::change(&host, DATASET, &setup, until).await.unwrap();
        let time = Timestamp::default();
        names::extend(&host, DATASET, size * PAGE, time, until)
            .await
            .unwrap();
    });
    world
}

fn key(page: u64) -> PageKey {
    PageKey {
        dataset: DATASET,
        page,
    }
}

fn content(page: u64) -> [u8; 8] {
    (page * 7 + 1).to_le_bytes()
}

fn write(world: &mut World, node: usize, page: u64, bytes: [u8; 8]) -> Result {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let time = Timestamp::default();
        commit::write(&host, OPENER, DATASET, page * PAGE, &bytes, time, until).await
    })
}

fn read(world: &mut World, node: usize, page: u64) -> Result<[u8; 8]> {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let mut bytes = [0; 8];
        fault::read(&host, DATASET, page * PAGE, &mut bytes, until).await?;
        Ok(bytes)
    })
}

fn touch(world: &mut World, node: usize, page: u64, access: Access) -> Result {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        fault::fault(&host, key(page), access, until).await
    })
}

/// Nodes that hold the newest committed version of a page on their PM.
fn copies(world: &World, page: u64) -> Vec<usize> {
    let mut found = Vec::new();
    for (index, node) in world.nodes.iter().enumerate() {
        let geometry = node.life.as_ref().unwrap().node.borrow().geometry();
        let device = node.pm.borrow();
        for pm in 0..geometry.nr_pages() {
            let line = device.read(geometry.slot(pm) as usize, LINE_SIZE);
            if let Ok(Some((slot::State::Committed, slot))) = slot::Slot::decode(pm, line) {
                if (slot.of.dataset, slot.of.page) == (DATASET, page) {
                    found.push((slot.of.version, index));
                }
            }
        }
    }
    let newest = found.iter().map(|(version, _)| *version).max().unwrap_or(0);
    let mut nodes: Vec<usize> = found
        .into_iter()
        .filter(|(version, _)| *version == newest)
        .map(|(_, index)| index)
        .collect();
    nodes.dedup();
    nodes
}

fn free(world: &World, node: usize) -> u64 {
    let life = world.nodes[node].life.clone().unwrap();
    let core = life.node.borrow();
    core.space.free()
}

fn rest(world: &mut World) {
    let end = world.now() + 6 * SEC;
    world.run_until(end, World::is_at_rest);
}

#[test]
fn a_dataset_larger_than_any_nodes_pm_is_written_and_read_on_every_node() {
    // 3 nodes with room for 40 pages each, 96 pages, every node loads all of them.
    let mut world = cluster(3, 40, 1, 96);
    for page in 0..96 {
        assert_eq!(
            write(&mut world, page as usize % 3, page, content(page)),
            Ok(())
        );
    }
    for node in 0..3 {
        for page in 0..96 {
            assert_eq!(
                touch(&mut world, node, page, Access::Read),
                Ok(()),
                "{page}"
            );
            assert_eq!(read(&mut world, node, page), Ok(content(page)));
        }
    }
    for page in 0..96 {
        assert!(!copies(&world, page).is_empty());
    }
}

#[test]
fn eviction_never_leaves_fewer_copies_than_the_degree() {
    let mut world = cluster(4, 40, 2, 48);
    for page in 0..48 {
        assert_eq!(
            write(&mut world, page as usize % 4, page, content(page)),
            Ok(())
        );
    }
    rest(&mut world);
    for round in 0..3 {
        for node in 0..4 {
            for page in (0..48).rev() {
                assert_eq!(touch(&mut world, node, page, Access::Read), Ok(()));
                assert_eq!(read(&mut world, node, page), Ok(content(page)));
                let copies = copies(&world, page).len();
                assert!(copies >= 2, "page {page} has {copies}, round {round}");
            }
        }
    }
    for page in 0..48 {
        assert!(copies(&world, page).len() >= 2, "page {page}");
    }
}

#[test]
fn the_degree_of_one_commit_is_kept_as_well() {
    let mut world = cluster(3, 30, 1, 48);
    let until = world.now() + SEC;
    assert_eq!(touch(&mut world, 0, 0, Access::Write), Ok(()));
    world.store(0, key(0), &content(0));
    let done = world.execute(0, move |host| async move {
        let range = hotpot_core::core::area::ByteRange { offset: 0, len: 8 };
        commit::commit(&host, OPENER, DATASET, &[range], 2, until).await
    });
    assert_eq!(done.result, Ok(()));
    for node in 0..3 {
        for page in 1..48 {
            assert_eq!(write(&mut world, node, page, content(page)), Ok(()));
            assert_eq!(touch(&mut world, node, page, Access::Read), Ok(()));
        }
    }
    assert!(copies(&world, 0).len() >= 2);
}

#[test]
fn a_dirty_page_is_never_evicted() {
    let mut world = cluster(3, 24, 1, 96);
    for page in 0..8 {
        assert_eq!(touch(&mut world, 0, page, Access::Write), Ok(()));
        world.store(0, key(page), &content(page));
    }
    for page in 8..60 {
        assert_eq!(touch(&mut world, 0, page, Access::Read), Ok(()));
        assert_eq!(write(&mut world, 1, page, content(page)), Ok(()));
    }
    for page in 0..8 {
        assert_eq!(read(&mut world, 0, page), Ok(content(page)));
    }
}

#[test]
fn redundant_copies_go_before_committed_ones() {
    let mut world = cluster(2, 100, 1, 48);
    // Node 1's pages, which node 0 reads: some mapped, some not.
    let theirs: Vec<u64> = {
        let life = world.nodes[0].life.clone().unwrap();
        let core = life.node.borrow();
        (0..48)
            .filter(|page| core.owner(key(*page)) == Ok(2))
            .collect()
    };
    for page in &theirs {
        assert_eq!(write(&mut world, 1, *page, content(*page)), Ok(()));
        let access = match page % 2 {
            0 => touch(&mut world, 0, *page, Access::Read),
            _ => read(&mut world, 0, *page).map(|_| ()),
        };
        assert_eq!(access, Ok(()));
    }
    let want = free(&world, 0) + theirs.len() as u64 / 2;
    let until = world.now() + SEC;
    let done = world.execute(0, move |host| async move {
        hotpot_core::core::eviction::make_room(&host, want, until).await
    });
    assert_eq!(done, Ok(true));
    for page in theirs {
        let here = copies(&world, page).contains(&0);
        assert_eq!(
            here,
            page % 2 == 0,
            "page {page}: those mapped are still here"
        );
    }
}

#[test]
fn a_full_pool_is_enospc_and_loses_nothing() {
    let mut world = cluster(3, 20, 2, 96);
    let mut written = Vec::new();
    let mut full = false;
    for page in 0..96 {
        match write(&mut world, page as usize % 3, page, content(page)) {
            Ok(()) => written.push(page),
            Err(ENOSPC) => full = true,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(full, "60 pages do not hold 96 twice");
    assert!(written.len() >= 20, "{} of 30 fitted", written.len());
    rest(&mut world);
    for page in &written {
        assert!(copies(&world, *page).len() >= 2, "page {page}");
        for node in 0..3 {
            assert_eq!(read(&mut world, node, *page), Ok(content(*page)));
        }
    }
}

#[test]
fn copies_that_a_node_took_with_it_are_made_anew_on_others() {
    let mut world = cluster(4, 100, 2, 48);
    for page in 0..48 {
        assert_eq!(
            write(&mut world, page as usize % 4, page, content(page)),
            Ok(())
        );
    }
    rest(&mut world);
    let lost = 3;
    let owned: Vec<u64> = {
        let life = world.nodes[0].life.clone().unwrap();
        let core = life.node.borrow();
        (0..48)
            .filter(|page| core.owner(key(*page)) != Ok(lost as u32 + 1))
            .collect()
    };
    let with_it = owned
        .iter()
        .filter(|page| copies(&world, **page).contains(&lost));
    assert!(with_it.count() > 0, "it has copies of others' pages");
    world.set_cut(lost, true);
    world.set_gone(lost);
    world.pass(8 * SEC);
    for page in owned {
        let left = copies(&world, page)
            .into_iter()
            .filter(|node| *node != lost);
        assert!(left.count() >= 2, "page {page}");
    }
}

#[test]
fn further_copies_go_to_the_nodes_with_the_most_room() {
    let mut world = cluster(4, 100, 2, 48);
    // Node 3 has little room, and tells.
    world.leave_room_on(3, 20);
    world.pass(6 * SEC);
    for page in 0..48 {
        assert_eq!(
            write(&mut world, page as usize % 3, page, content(page)),
            Ok(())
        );
    }
    rest(&mut world);
    let life = world.nodes[0].life.clone().unwrap();
    for page in 0..48 {
        let owner = life.node.borrow().owner(key(page));
        if owner != Ok(4) {
            assert!(!copies(&world, page).contains(&3), "page {page}");
        }
    }
}

#[test]
fn a_degree_that_there_is_no_room_for_is_an_error_before_anything_is_published() {
    let mut world = cluster(3, 40, 3, 48);
    assert_eq!(write(&mut world, 0, 0, content(0)), Ok(()));
    rest(&mut world);
    world.leave_room_on(2, 0);
    assert_eq!(write(&mut world, 0, 1, content(1)), Err(ENOSPC));
    for node in 0..3 {
        assert_eq!(read(&mut world, node, 1), Ok([0; 8]), "node {node}");
        assert_eq!(read(&mut world, node, 0), Ok(content(0)), "node {node}");
    }
}

#[test]
fn a_node_with_less_room_owns_fewer_chunks_of_a_new_dataset() {
    let mut world = cluster(3, 120, 1, 0);
    world.leave_room_on(2, 40);
    world.pass(6 * SEC);
    let until = world.now() + 5 * SEC;
    let id = world.execute(0, move |host| async move {
        let new = NewDataset {
            chunk_size: 64 << 10,
            reserve: 1 << 30,
            ..new_dataset()
        };
        names::create(&host, b"placed", &new, until).await.unwrap()
    });
    let life = world.nodes[1].life.clone().unwrap();
    let core = life.node.borrow();
    let mut chunks = [0; 4];
    for chunk in 0..190 {
        let key = PageKey {
            dataset: id,
            page: chunk * 16,
        };
        chunks[core.owner(key).unwrap() as usize] += 1;
    }
    assert_eq!((chunks[1], chunks[2], chunks[3]), (80, 80, 30));
}

#[test]
fn no_chunk_moves_to_a_node_of_which_more_than_half_would_be_pages_of_its_own() {
    // A device has 128 pages, and each node owns four chunks of 16.
    let mut world = cluster(3, 128, 1, 192);
    let owner = |world: &World, page: u64| {
        let life = world.nodes[0].life.clone().unwrap();
        let node = life.node.borrow();
        node.owner(key(page)).unwrap()
    };
    let of = |world: &World, node: u32| -> Vec<u64> {
        (0..192)
            .filter(|page| owner(world, *page) == node)
            .collect()
    };
    let (first, third) = (of(&world, 1), of(&world, 3));
    assert_eq!((first.len(), third.len()), (64, 64));
    for page in &third {
        assert_eq!(write(&mut world, 2, *page, content(*page)), Ok(()));
        // Copies of others' pages are no hindrance.
        assert_eq!(touch(&mut world, 1, *page, Access::Read), Ok(()));
    }
    for page in &first[..16] {
        assert_eq!(write(&mut world, 0, *page, content(*page)), Ok(()));
    }
    world.pass(6 * SEC);
    let chunk = first[0] / 16;
    assert!(world.move_chunk(chunk, 2));
    world.pass(SEC);
    assert_eq!(owner(&world, first[0]), 1, "it does not fit there");
    let stayed = {
        let life = world.nodes[0].life.clone().unwrap();
        let node = life.node.borrow();
        node.migration.counts(DATASET).stayed
    };
    assert_eq!(stayed, 1);
    assert!(world.move_chunk(chunk, 1));
    world.pass(SEC);
    assert_eq!(owner(&world, first[0]), 2);
    for page in &first[..16] {
        assert_eq!(read(&mut world, 2, *page), Ok(content(*page)));
    }
}

#[test]
fn a_node_that_is_full_of_its_own_pages_gives_chunks_to_nodes_with_room() {
    // A device has 128 pages; each node owns 144 of the dataset's.
    let mut world = cluster(3, 128, 1, 432);
    let theirs: Vec<u64> = {
        let life = world.nodes[0].life.clone().unwrap();
        let core = life.node.borrow();
        (0..432)
            .filter(|page| core.owner(key(*page)) == Ok(3))
            .collect()
    };
    assert_eq!(theirs.len(), 144);
    for page in &theirs {
        let node = *page as usize % 3;
        assert_eq!(
            write(&mut world, node, *page, content(*page)),
            Ok(()),
            "page {page}"
        );
    }
    for page in &theirs {
        for node in 0..3 {
            assert_eq!(read(&mut world, node, *page), Ok(content(*page)));
        }
    }
}

#[test]
fn there_is_no_room_only_when_the_whole_pool_is_full_and_then_nothing_is_lost() {
    // The pool has 384 pages, and the third node writes all that it owns first.
    let mut world = cluster(3, 128, 1, 480);
    let mut order: Vec<u64> = (0..480).collect();
    {
        let life = world.nodes[0].life.clone().unwrap();
        let core = life.node.borrow();
        order.sort_by_key(|page| std::cmp::Reverse(core.owner(key(*page)).unwrap()));
    }
    let mut written = Vec::new();
    for page in order {
        match write(&mut world, page as usize % 3, page, content(page)) {
            Ok(()) => written.push(page),
            Err(error) => {
                assert_eq!(error, ENOSPC);
                break;
            }
        }
    }
    // The most of it: a chunk has 16 pages, and goes to a node that has a sixteenth less of its own.
    assert!(written.len() >= 336, "{} of 384 fitted", written.len());
    let moves = |world: &World| -> u64 {
        let lives = world.nodes.iter().map(|node| node.life.clone().unwrap());
        lives
            .map(|life| life.node.borrow().migration.counts(DATASET).left)
            .sum()
    };
    let try_all = |world: &mut World| {
        for page in (0..480).filter(|page| !written.contains(page)).take(40) {
            let refused = write(world, 0, page, content(page));
            assert!(matches!(refused, Ok(()) | Err(ENOSPC)), "{refused:?}");
        }
        moves(world)
    };
    try_all(&mut world);
    let settled = try_all(&mut world);
    assert_eq!(try_all(&mut world), settled, "chunks come and go for ever");
    for page in &written {
        assert_eq!(read(&mut world, 0, *page), Ok(content(*page)));
    }
}

#[test]
fn with_moves_switched_off_an_owner_keeps_its_chunks_and_has_no_room_for_more() {
    let mut world = cluster(3, 128, 1, 432);
    for node in &world.nodes {
        let life = node.life.clone().unwrap();
        life.node.borrow_mut().migration.policy.enabled = false;
    }
    let mut results = Vec::new();
    for page in 0..432 {
        let owner = {
            let life = world.nodes[0].life.clone().unwrap();
            let core = life.node.borrow();
            core.owner(key(page))
        };
        if owner == Ok(3) {
            results.push(write(&mut world, 2, page, content(page)));
        }
    }
    assert!(results[..120].iter().all(|result| *result == Ok(())));
    assert_eq!(results[143], Err(ENOSPC));
}

#[test]
fn a_chunk_that_goes_for_another_reason_keeps_none_from_going_for_want_of_room() {
    // A device has 128 pages; each node owns 176 of the dataset's: four chunks have to go.
    let mut world = cluster(3, 128, 1, 528);
    let theirs: Vec<u64> = {
        let life = world.nodes[0].life.clone().unwrap();
        let core = life.node.borrow();
        (0..528)
            .filter(|page| core.owner(key(*page)) == Ok(3))
            .collect()
    };
    let (before, after) = theirs.split_at(120);
    for page in before {
        assert_eq!(write(&mut world, 2, *page, content(*page)), Ok(()));
    }
    world.pass(3 * SEC);
    // The second waits for the first, of which nobody hears, when room is looked for: it is the
    // one that would go.
    world.hold(0, Offer::OPCODE);
    assert!(world.move_chunk(theirs[16] / 16, 0));
    assert!(world.move_chunk(theirs[0] / 16, 0));
    for page in after {
        if *page == after[12] {
            world.release(0, Offer::OPCODE);
        }
        let done = write(&mut world, 2, *page, content(*page));
        assert_eq!(done, Ok(()), "page {page}");
    }
    for page in &theirs {
        assert_eq!(read(&mut world, 0, *page), Ok(content(*page)));
    }
}
