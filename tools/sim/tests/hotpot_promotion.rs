// SPDX-License-Identifier: GPL-2.0

//! Where the copies of pages are, and what the next owners of a lost node's pages have to fetch of
//! them (section 2.6.4), one sentence each. `--no-capture` shows the figures.

use hotpot_core::core::{
    cluster::Sender,
    commit, fault,
    format::Timestamp,
    handler,
    host::PageKey,
    msg::{AskCopies, ChangeNames, Request, Stage},
    names::{self, NewDataset},
    rooms::{AskRoom, RoomOf},
};
use kernel::error::Result;
use sim::{
    hotpot::{
        script::*,
        workload::CHUNK,
        world::{Plan, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// The dataset of these tests.
const DATASET: u64 = 2;
/// Pages of a chunk, and those of it that are written.
const PER_CHUNK: u64 = CHUNK / PAGE;
const USED: u64 = 8;

/// Who writes the pages.
#[derive(Clone, Copy, Debug)]
enum Writer {
    /// Their owners.
    Owner,
    /// All nodes by turns.
    All,
}

/// Nodes of which each owns `each` chunks of a dataset with so many copies.
fn world(nodes: usize, copies: u32, each: u64) -> World {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(nodes)
    });
    // All know how much room there is.
    world.pass(3 * SEC);
    let until = world.now() + SEC;
    let new = NewDataset {
        replicas: copies,
        chunk_size: CHUNK,
        reserve: 1 << 30,
        ..new_dataset()
    };
    let size = nodes as u64 * each * CHUNK;
    let made = world.execute(0, move |host| async move {
        let id = names::create(&host, b"near", &new, until).await?;
        names::extend(&host, id, size, Timestamp::default(), until).await?;
        Ok::<_, kernel::error::Error>(id)
    });
    assert_eq!(made, Ok(DATASET));
    world
}

/// The pages that are written of `chunks` chunks.
fn pages(chunks: u64) -> impl Iterator<Item = PageKey> {
    (0..chunks * PER_CHUNK)
        .filter(|page| page % PER_CHUNK < USED)
        .map(|page| key(DATASET, page))
}

/// The owner of a page (from 0), as node `asked` sees it.
fn owner(world: &World, asked: usize, key: PageKey) -> usize {
    let life = world.nodes[asked].life.clone().expect("alive");
    let owner = life.node.borrow().owner(key).expect("it has one");
    owner as usize - 1
}

/// Nodes (from 0) that have the newest version of a page.
fn holders(world: &World, key: PageKey) -> Vec<usize> {
    let version = |index: usize| -> u64 {
        let life = world.nodes[index].life.clone();
        let clean = life.and_then(|life| life.node.borrow().pages.get(key)?.clean);
        clean
            .filter(|of| of.pm.is_some())
            .map_or(0, |of| of.version)
    };
    let newest = (0..world.nodes.len()).map(version).max().unwrap_or(0);
    (0..world.nodes.len())
        .filter(|index| newest != 0 && version(*index) == newest)
        .collect()
}

fn put(world: &mut World, node: usize, key: PageKey) {
    let at = key.page * PAGE;
    store(world, node, DATASET, at, &key.page.to_le_bytes()).expect("a store");
    let committed = commit(world, node, file(1), DATASET, &[at], 0);
    assert_eq!(committed.result, Ok(()), "{key:?}");
}

fn fill(world: &mut World, writer: Writer, keys: &[PageKey]) {
    let nodes = world.nodes.len();
    for (nr, key) in keys.iter().enumerate() {
        let node = match writer {
            Writer::Owner => owner(world, 0, *key),
            Writer::All => nr * 7 / 3 % nodes,
        };
        put(world, node, *key);
    }
    nothing_left(world);
}

fn read_at(world: &mut World, node: usize, key: PageKey) -> Result<u64> {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let mut bytes = [0; 8];
        fault::read(&host, DATASET, key.page * PAGE, &mut bytes, until).await?;
        Ok(u64::from_le_bytes(bytes))
    })
}

/// What a loss came to.
struct Promotion {
    /// Pages of the lost node, and those of them that their next owners did not have.
    pages: usize,
    fetched: usize,
    /// Nodes that own them now.
    owners: Vec<usize>,
    /// Bytes over the network until all were served, and how long that took.
    bytes: usize,
    took: Time,
}

/// A node is lost, and each page that it owned is read at its next owner.
fn lose(world: &mut World, lost: usize, keys: &[PageKey]) -> Promotion {
    let mut left = (0..world.nodes.len()).filter(|node| *node != lost && !world.nodes[*node].gone);
    let asked = left.next().expect("one is left");
    let theirs: Vec<PageKey> = keys
        .iter()
        .copied()
        .filter(|key| owner(world, asked, *key) == lost)
        .collect();
    let had: Vec<Vec<usize>> = theirs.iter().map(|key| holders(world, *key)).collect();
    let bytes = world.traffic.bytes();
    world.lose(lost);
    while theirs.iter().any(|key| owner(world, asked, *key) == lost) {
        world.pass(10 * US);
    }
    let begun = world.now();
    let mut owners = Vec::new();
    let mut fetched = 0;
    for (key, had) in theirs.iter().zip(&had) {
        let next = owner(world, asked, *key);
        assert_eq!(read_at(world, next, *key), Ok(key.page), "{key:?}");
        fetched += usize::from(!had.contains(&next));
        owners.push(next);
    }
    owners.sort_unstable();
    owners.dedup();
    Promotion {
        pages: theirs.len(),
        fetched,
        owners,
        bytes: world.traffic.bytes() - bytes,
        took: world.now() - begun,
    }
}

impl Promotion {
    fn show(&self, what: &str) {
        println!(
            "{what}: {} of {} pages fetched, {} bytes, {} us, to {:?}",
            self.fetched,
            self.pages,
            self.bytes,
            self.took / US,
            self.owners
        );
    }
}

/// Copies on each node.
fn copies_at(world: &World, keys: &[PageKey]) -> Vec<usize> {
    let mut copies = vec![0; world.nodes.len()];
    for key in keys {
        for node in holders(world, *key) {
            copies[node] += 1;
        }
    }
    copies
}

/// Bytes that were staged at each node.
fn staged_at(world: &World) -> Vec<usize> {
    let of = |node| (node, Stage::OPCODE as u8);
    let bytes = |node| world.traffic.requests.get(&of(node)).copied();
    (0..world.nodes.len())
        .map(|node| bytes(node).unwrap_or(0))
        .collect()
}

/// No node has an eighth more or less than the mean.
fn are_even(of: &[usize]) -> bool {
    let all: usize = of.iter().sum();
    of.iter()
        .all(|one| (one * of.len()).abs_diff(all) * 8 <= all)
}

#[test]
fn a_promoted_node_has_nearly_all_pages_already() {
    let by_owners = [(2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (8, 2)].map(|of| (of, Writer::Owner));
    // Of two copies one is at the node that committed, whichever that is.
    let by_all = [(2, 2), (3, 3), (4, 3)].map(|of| (of, Writer::All));
    for ((nodes, copies), writer) in by_owners.into_iter().chain(by_all) {
        let what = format!("{nodes} nodes, {copies} copies, {writer:?}");
        let mut world = world(nodes, copies, 3);
        let keys: Vec<PageKey> = pages(3 * nodes as u64).collect();
        fill(&mut world, writer, &keys);
        let lost = lose(&mut world, 1, &keys);
        lost.show(&what);
        assert_eq!(lost.pages, keys.len() / nodes, "{what}");
        assert!(lost.fetched * 20 <= lost.pages, "{what}: {}", lost.fetched);
        nothing_left(&mut world);
    }
}

#[test]
fn a_promotion_is_over_moments_after_the_map_of_the_loss() {
    for nodes in [3, 4, 8] {
        let mut world = world(nodes, 2, 3);
        let keys: Vec<PageKey> = pages(3 * nodes as u64).collect();
        fill(&mut world, Writer::Owner, &keys);
        let lost = lose(&mut world, 1, &keys);
        lost.show(&format!("{nodes} nodes"));
        assert!(lost.took < 40 * MS, "{nodes} nodes: {} us", lost.took / US);
    }
}

#[test]
fn who_takes_over_asks_all_other_nodes_at_once_what_they_have() {
    let mut world = world(5, 2, 1);
    let keys: Vec<PageKey> = pages(5).collect();
    fill(&mut world, Writer::Owner, &keys);
    for node in 0..5 {
        world.hold(node, AskCopies::OPCODE);
    }
    world.lose(1);
    while owner(&world, 0, keys[USED as usize]) == 1 {
        world.pass(MS);
    }
    world.pass(20 * MS);
    // Each that is left, by each of the others, though none has answered yet.
    let asked: Vec<usize> = (0..5)
        .map(|node| world.release(node, AskCopies::OPCODE))
        .collect();
    assert_eq!(asked, [3, 0, 3, 3, 3]);
    nothing_left(&mut world);
}

#[test]
fn copies_stay_even_over_the_nodes() {
    for (nodes, copies) in [(2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (8, 2)] {
        for writer in [Writer::Owner, Writer::All] {
            let what = format!("{nodes} nodes, {copies} copies, {writer:?}");
            let mut world = world(nodes, copies, 3);
            let keys: Vec<PageKey> = pages(3 * nodes as u64).collect();
            for _ in 0..3 {
                fill(&mut world, writer, &keys);
            }
            let (copies, staged) = (copies_at(&world, &keys), staged_at(&world));
            println!("{what}: copies {copies:?}, staged {staged:?}");
            assert!(are_even(&copies), "{what}: {copies:?} copies");
            assert!(are_even(&staged), "{what}: {staged:?} bytes");
        }
    }
}

#[test]
fn copies_of_one_nodes_chunks_are_spread_over_all_others_and_so_is_their_promotion() {
    for nodes in [3, 4, 7] {
        let mut world = world(nodes, 2, 12);
        let all: Vec<PageKey> = pages(12 * nodes as u64).collect();
        let of_one = all.iter().filter(|key| owner(&world, 0, **key) == 1);
        let keys: Vec<PageKey> = of_one.copied().collect();
        fill(&mut world, Writer::Owner, &keys);
        let mut copies = copies_at(&world, &keys);
        assert_eq!(copies.remove(1), keys.len());
        assert!(are_even(&copies), "{nodes} nodes: {copies:?}");
        let lost = lose(&mut world, 1, &keys);
        lost.show(&format!("{nodes} nodes, one is hot"));
        assert_eq!(lost.fetched, 0);
        assert_eq!(lost.owners.len(), nodes - 1);
        nothing_left(&mut world);
    }
}

#[test]
fn who_had_a_chunk_before_it_moved_has_its_pages_when_its_new_owner_is_lost() {
    let mut world = cluster(Plan {
        loss: true,
        moves: 1,
        ..Plan::quiet(4)
    });
    let (chunk, at) = chunk_of(&world, 1);
    let first = at / PAGE;
    let put = |world: &mut World, node, page| {
        let at = page * PAGE + 8;
        store(world, node, 1, at, b"it moved").expect("a store");
        let committed = commit(world, node, file(1), 1, &[at], 2);
        assert_eq!(committed.result, Ok(()));
    };
    for page in first..first + 4 {
        put(&mut world, 1, page);
    }
    assert!(world.move_chunk(chunk, 3));
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 0, chunk), 4);
    for page in first + 4..first + 8 {
        put(&mut world, 3, page);
    }
    nothing_left(&mut world);
    let had: Vec<bool> = (first..first + 8)
        .map(|page| holders(&world, key(1, page)).contains(&1))
        .collect();
    world.lose(3);
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 0, chunk), 2);
    assert!(had.iter().all(|had| *had), "{had:?}");
    for page in first..first + 8 {
        let found = load(&mut world, 1, 1, page * PAGE + 8);
        assert_eq!(found, Ok(*b"it moved"));
    }
    nothing_left(&mut world);
}

/// The next owner of the only chunk of node 2 of four, from 0.
const NEXT: usize = 2;

/// Has node `from` tell node `to` (from 0) how busy it is.
fn tell_load(world: &mut World, from: usize, to: usize, load: u64) {
    let life = world.nodes[from].life.clone().expect("alive");
    let sender = Sender {
        node: life.id,
        incarnation: life.incarnation,
        epoch: life.node.borrow().map.epoch,
    };
    let own = RoomOf {
        pages: 128,
        free: 100,
        load,
    };
    let bytes = AskRoom { own }.encode(sender.epoch).unwrap().to_vec();
    let told = world.execute(to, move |host| async move {
        let mut reply = [0; 64];
        let told = handler::handle(&host, sender, &bytes, &mut reply).await;
        told.map(|_| ())
    });
    assert_eq!(told, Ok(()));
}

#[test]
fn a_successor_gets_no_copies_while_it_is_much_busier_than_the_owner_and_others_are_idle() {
    // The load of the next owner, and of the others; which of them gets the copies.
    for (load, others, is_next) in [
        (1000, 0, true),
        (1100, 0, false),
        (5000, 0, false),
        (5000, 3000, true),
    ] {
        let mut world = world(4, 2, 1);
        let owned = pages(4).filter(|key| owner(&world, 0, *key) == 1);
        let keys: Vec<PageKey> = owned.collect();
        for node in [0, NEXT, 3] {
            let load = if node == NEXT { load } else { others };
            tell_load(&mut world, node, 1, load);
        }
        for key in &keys {
            put(&mut world, 1, *key);
        }
        nothing_left(&mut world);
        let with_next = keys
            .iter()
            .filter(|key| holders(&world, **key).contains(&NEXT));
        let count = with_next.count();
        let expected = if is_next { keys.len() } else { 0 };
        assert_eq!(count, expected, "load {load} beside {others}");
        assert_eq!(lose(&mut world, 1, &keys).owners, [NEXT]);
    }
}

#[test]
fn an_owner_that_has_as_much_to_do_as_its_successor_gives_it_copies() {
    let mut world = world(4, 2, 8);
    let owned = pages(32).filter(|key| owner(&world, 0, *key) == 1);
    let keys: Vec<PageKey> = owned.collect();
    let (before, after) = keys.split_at(60);
    for key in before {
        put(&mut world, 1, *key);
    }
    // 1,024 and twice what the owner gave: 1,144.
    for node in [2, 3] {
        tell_load(&mut world, node, 1, 1140);
    }
    tell_load(&mut world, 0, 1, 0);
    for key in after {
        put(&mut world, 1, *key);
    }
    nothing_left(&mut world);
    let lost = lose(&mut world, 1, &keys);
    assert_eq!(lost.fetched, 0);
}

#[test]
fn a_lost_nodes_chunks_alone_get_other_owners_and_all_nodes_agree_on_them() {
    let mut world = world(4, 3, 6);
    let keys: Vec<PageKey> = pages(24).filter(|key| key.page % PER_CHUNK == 0).collect();
    for key in &keys {
        put(&mut world, key.page as usize % 4, *key);
    }
    nothing_left(&mut world);
    let mut left = vec![0, 1, 2, 3];
    // Of six chunks each; then of eight.
    for (lost, expected) in [(2, [2, 2, 0, 2]), (0, [0, 4, 0, 4])] {
        let before: Vec<usize> = keys.iter().map(|key| owner(&world, 1, *key)).collect();
        lose(&mut world, lost, &keys);
        world.pass(SEC);
        left.retain(|node| *node != lost);
        let mut gets = [0; 4];
        for (key, before) in keys.iter().zip(&before) {
            let now = owner(&world, 1, *key);
            for node in &left {
                assert_eq!(owner(&world, *node, *key), now, "{key:?} at {node}");
                assert_eq!(read_at(&mut world, *node, *key), Ok(key.page));
            }
            match *before == lost {
                true => gets[now] += 1,
                false => assert_eq!(now, *before, "{key:?}"),
            }
        }
        assert_eq!(gets, expected);
        for key in keys.iter().filter(|_| left.len() == 3) {
            put(&mut world, left[key.page as usize % 3], *key);
        }
        nothing_left(&mut world);
    }
}

#[test]
fn a_lost_nodes_chunks_go_to_each_of_the_others_as_often_as_its_room_says() {
    let mut world = cluster(Plan::quiet(3));
    world.leave_room_on(2, 40);
    world.pass(6 * SEC);
    let until = world.now() + SEC;
    let made = world.execute(0, move |host| async move {
        let new = NewDataset {
            chunk_size: CHUNK,
            reserve: 1 << 30,
            ..new_dataset()
        };
        names::create(&host, b"placed", &new, until).await
    });
    assert_eq!(made, Ok(DATASET));
    let firsts = || (0..190).map(|chunk| key(DATASET, chunk * PER_CHUNK));
    let before: Vec<usize> = firsts().map(|key| owner(&world, 1, key)).collect();
    world.lose(0);
    world.pass(SEC);
    let mut gets = [0; 3];
    for (key, before) in firsts().zip(before) {
        let now = owner(&world, 1, key);
        match before {
            0 => gets[now] += 1,
            _ => assert_eq!(now, before),
        }
    }
    // Their chunks were 80 and 30.
    assert_eq!(gets, [0, 58, 22]);
}

#[test]
fn a_commit_is_all_or_nothing_whenever_its_owner_of_several_successors_is_lost() {
    let mut ends = [0; 3];
    for (committer, time) in (0..3).flat_map(|node| (0..120).map(move |time| (node, time))) {
        let mut world = world(3, 2, 2);
        let lost = 1;
        let firsts = pages(6).filter(|key| key.page % PER_CHUNK == 0);
        let owned = firsts.filter(|key| owner(&world, 0, *key) == lost);
        let places: Vec<u64> = owned.map(|key| key.page * PAGE).collect();
        assert_eq!(places.len(), 2);
        let write = |world: &mut World, bytes| {
            for at in &places {
                store(world, committer, DATASET, *at, bytes).expect("a store");
            }
        };
        write(&mut world, b"old.....");
        let committed = commit(&mut world, committer, file(1), DATASET, &places, 2);
        assert_eq!(committed.result, Ok(()));
        world.pass(SEC);
        write(&mut world, b"new.....");
        let told = Rc::new(RefCell::new(None));
        let until = world.now() + SEC;
        let ranges = cells(&places);
        world.begin_result(committer, told.clone(), move |host| async move {
            commit::commit(&host, file(1), DATASET, &ranges, 2, until).await
        });
        world.pass(time * 10 * US);
        world.lose(lost);
        world.pass(3 * SEC);
        let successors = places
            .iter()
            .map(|at| owner(&world, 0, key(DATASET, at / PAGE)));
        let successors: Vec<usize> = successors.collect();
        assert_ne!(successors[0], successors[1]);
        // What the committing node stored and did not commit only it reads.
        let node = if committer == 0 { 2 } else { 0 };
        let what = format!("n{} commits, lost at {time}", committer + 1);
        let found = load(&mut world, node, DATASET, places[0]).expect("it is there");
        assert_eq!(
            load(&mut world, node, DATASET, places[1]),
            Ok(found),
            "{what}"
        );
        let new = found == *b"new.....";
        assert!(new || found == *b"old.....", "{what}");
        match told.borrow_mut().take().map(|of| of.result) {
            Some(Ok(())) => {
                assert!(new, "{what}");
                ends[2] += 1;
            }
            Some(Err(kernel::error::code::EINPROGRESS)) | None => ends[usize::from(new)] += 1,
            Some(Err(_)) => {
                assert!(!new, "{what}");
                ends[0] += 1;
            }
        }
        nothing_left(&mut world);
    }
    assert!(ends.iter().all(|end| *end > 0), "not all happens: {ends:?}");
}

/// An owner commits to a chunk that goes to another node meanwhile. Once the record says so the chunk's next owner,
/// should that one be lost, is the owner that still commits; just then one of its data nodes says that it has no room.
#[test]
fn an_owner_whose_chunk_is_on_its_way_to_another_node_does_not_choose_itself_for_a_copy() {
    let mut world = cluster(Plan {
        loss: true,
        moves: 1,
        ..Plan::quiet(4)
    });
    let [dispatcher, from, to, full] = [0, 1, 2, 3];
    let (chunk, at) = chunk_of(&world, from);
    store(&mut world, from, 1, at, b"before..").expect("a store");
    let committed = commit(&mut world, from, file(1), 1, &[at], 1);
    assert_eq!(committed.result, Ok(()));
    assert_eq!(load(&mut world, full, 1, at), Ok(*b"before.."));
    world.pass(500 * MS);
    world.hold(dispatcher, ChangeNames::OPCODE);
    assert!(world.move_chunk(chunk, to));
    world.pass(500 * MS);
    world.hold(full, Stage::OPCODE);
    world.leave_room_on(full, 0);
    store(&mut world, from, 1, at, b"after...").expect("a store");
    let told = Rc::new(RefCell::new(None));
    let until = world.now() + SEC;
    let ranges = cells(&[at]);
    world.begin_result(from, told.clone(), move |host| async move {
        commit::commit(&host, file(1), 1, &ranges, 3, until).await
    });
    world.pass(500 * US);
    assert_eq!(chunk_owner(&world, from, chunk) as usize, from + 1);
    assert!(world.release(dispatcher, ChangeNames::OPCODE) > 0);
    world.pass(2 * MS);
    assert_eq!(chunk_owner(&world, from, chunk) as usize, to + 1);
    assert!(world.release(full, Stage::OPCODE) > 0, "it commits still");
    world.pass(SEC);
    let committed: commit::Committed = told.borrow_mut().take().expect("it ends");
    assert_eq!(committed.result, Ok(()));
    let has = |node: &usize| holders(&world, key(1, at / PAGE)).contains(node);
    assert!([from, to, dispatcher].iter().all(has));
}
