// SPDX-License-Identifier: GPL-2.0

//! Commits that are undone: what their data nodes have staged counts as long as they have not heard
//! of it. So nobody else has their pages meanwhile.

use hotpot_core::core::{
    cluster::{Sender, State},
    commit::{self as core_commit, Committed},
    handler,
    msg::{Fetch, Forget, Inventory, Prepare, Request, Settle},
};
use kernel::{
    alloc::{flags::GFP_KERNEL, KVec},
    error::{code::*, Result},
};
use sim::{
    hotpot::{
        beside::{Beside, Handler},
        host::Ask,
        script::*,
        world::{Plan, Second, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{
    cell::RefCell,
    future::Future,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Places in two chunks, and one in the same page as the first.
const PLACES: [u64; 2] = [8, 16 * PAGE + 8];
const BESIDE: u64 = 64;
const OLD: [u8; 8] = *b"old.....";
const UNDONE: [u8; 8] = *b"undone..";
const NEXT: [u8; 8] = *b"next....";
const COPIES: u32 = 3;

type Told = Rc<RefCell<Option<Committed>>>;

/// Four nodes that all have copies of the pages; nodes are counted from 0.
struct Cluster {
    world: World,
    /// The owners of the two places.
    owners: [usize; 2],
    /// Owns neither.
    data: usize,
    /// Owns nothing.
    cn: usize,
}

impl Cluster {
    fn new() -> Self {
        let mut world = cluster(Plan {
            loss: true,
            second: Second::AtOnce,
            ..Plan::quiet(4)
        });
        let owners = PLACES.map(|at| owner_at(&world, at));
        let data = owner_at(&world, 32 * PAGE);
        let cn = 6 - owners[0] - owners[1] - data;
        let places = [PLACES[0], PLACES[1], BESIDE];
        for at in places {
            store(&mut world, cn, 1, at, &OLD).expect("a store");
        }
        let committed = commit(&mut world, cn, file(1), 1, &places, COPIES);
        assert_eq!(committed.result, Ok(()));
        for node in 0..4 {
            for at in places {
                assert_eq!(load(&mut world, node, 1, at), Ok(OLD));
            }
        }
        world.pass(500 * MS);
        Self {
            world,
            owners,
            data,
            cn,
        }
    }

    /// A node stores in places, and begins to commit them.
    fn begin(&mut self, node: usize, places: &[u64], bytes: [u8; 8], time: Time) -> Told {
        for at in places {
            store(&mut self.world, node, 1, *at, &bytes).expect("a store");
        }
        let told = Told::default();
        let until = self.world.now() + time;
        let ranges = cells(places);
        self.world
            .begin_result(node, told.clone(), move |host| async move {
                core_commit::commit(&host, file(1), 1, &ranges, COPIES, until).await
            });
        told
    }

    /// A commit that both owners promise, of which the promise of one does not come: it is given
    /// up, which that one does not hear. The other has undone it, which the nodes that are to be
    /// left do not hear.
    /// If it `restarts` that one has lost power since it promised.
    fn undone_by_one(&mut self, restarts: bool) -> Told {
        let [one, silent] = self.owners;
        let (world, cn, data) = (&mut self.world, self.cn, self.data);
        world.hold(silent, Prepare::OPCODE);
        for node in [silent, data] {
            world.hold(node, Settle::OPCODE);
        }
        let told = self.begin(cn, &PLACES, UNDONE, 20 * MS);
        let world = &mut self.world;
        world.pass(5 * MS);
        assert_eq!(world.release(silent, Prepare::OPCODE), 1);
        let is_staged = |world: &World| {
            let mut others = [one, data, cn].into_iter();
            others.all(|node| staged_at(world, node, PLACES[1]) == 1)
        };
        for _ in 0..5000 {
            if is_staged(world) {
                break;
            }
            world.pass(US);
        }
        assert!(is_staged(world));
        world.set_cut(cn, true);
        world.pass(MS);
        world.set_cut(cn, false);
        world.set_deaf_to(silent, cn, true);
        if restarts {
            world.crash_now(one);
            // Until it serves again the silent one does not learn by asking that it is undone.
            world.set_deaf_to(cn, silent, true);
            world.set_deaf_to(one, silent, true);
            world.pass(70 * MS);
        }
        world.pass(14 * MS);
        assert_eq!(staged_at(world, one, PLACES[0]), 0, "undone by its owner");
        for node in [silent, data] {
            assert_eq!(staged_at(world, node, PLACES[0]), 1, "not yet there");
        }
        told
    }
}

/// Versions of a place's page that are staged at a node, durably.
fn staged_at(world: &World, node: usize, at: u64) -> usize {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    let page = core.pages.get(key(1, at / PAGE)).expect("a copy");
    page.staged.iter().filter(|of| of.ready).count()
}

fn found(told: &Told) -> Option<Result> {
    told.borrow().as_ref().map(|of| of.result)
}

/// The owner that has undone a commit is lost, with its committing node, at any time after another
/// commit has begun.
fn is_lost_after_the_next(restarts: bool) {
    for time in 0..40 {
        let mut cluster = Cluster::new();
        cluster.undone_by_one(restarts);
        let ([one, late], data, cn) = (cluster.owners, cluster.data, cluster.cn);
        let next = cluster.begin(data, &[BESIDE], NEXT, SEC);
        let world = &mut cluster.world;
        world.pass(time * 50 * US);
        let was_told = found(&next);
        world.lose_at_once(&[one, cn]);
        for node in [late, data] {
            world.lose_held(node, Settle::OPCODE);
        }
        world.pass(5 * SEC);
        let case = format!("lost {time} after the next began, which was told {was_told:?}");
        let at = |world: &mut World, at| {
            let here = committed_at(world, late, at);
            assert_eq!(committed_at(world, data, at), here, "{case}: {at}");
            here
        };
        let [first, second] = PLACES.map(|place| at(world, place));
        assert_eq!(first, second, "{case}: all or nothing");
        let beside = at(world, BESIDE);
        match found(&next).expect("it ends") {
            Ok(()) => assert_eq!(beside, NEXT, "{case}"),
            Err(EINPROGRESS) => {}
            Err(error) => assert_eq!(beside, OLD, "{case}: {error:?}"),
        }
        nothing_left(world);
    }
}

#[test]
fn nobody_publishes_what_was_undone_in_the_place_of_what_came_after_it() {
    is_lost_after_the_next(false);
}

#[test]
fn nor_when_the_owner_that_has_undone_it_had_forgotten_who_its_data_nodes_are() {
    is_lost_after_the_next(true);
}

#[test]
fn a_silent_data_node_keeps_the_pages_of_an_undone_commit_until_the_map_drops_it() {
    let mut cluster = Cluster::new();
    cluster.undone_by_one(false);
    let ([one, silent], data) = (cluster.owners, cluster.data);
    // Who goes on asking it whether all have heard would have it find out by itself that they are down.
    cluster.world.set_deaf_to(one, cluster.cn, true);
    store(&mut cluster.world, one, 1, BESIDE, &NEXT).expect("a store");
    let next = Told::default();
    let world = &mut cluster.world;
    let until = world.now() + 2 * SEC;
    let ranges = cells(&[BESIDE]);
    world.begin_result(one, next.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 1, &ranges, 2, until).await
    });
    world.pass(500 * MS);
    assert_eq!(found(&next), None, "they have not heard of it");
    for node in [silent, data] {
        world.declare(node, State::Down);
    }
    world.pass(500 * MS);
    assert_eq!(found(&next), Some(Ok(())));
    world.set_deaf_to(silent, cluster.cn, false);
    world.set_deaf_to(one, cluster.cn, false);
    for node in [silent, data] {
        assert!(world.release(node, Settle::OPCODE) > 0);
    }
    world.pass(2 * SEC);
    for node in [silent, data] {
        assert_eq!(load(world, node, 1, BESIDE), Ok(NEXT));
        assert_eq!(load(world, node, 1, PLACES[0]), Ok(OLD));
    }
    nothing_left(world);
}

/// A node that began a new life reads a page of an undone commit. Requests of one kind do not come to the owner:
/// by others it learns what its copy is worth. How long that takes.
fn reads_an_undone_page(without: u16) -> Time {
    let mut cluster = Cluster::new();
    cluster.undone_by_one(false);
    let ([one, silent], data, cn) = (cluster.owners, cluster.data, cluster.cn);
    let world = &mut cluster.world;
    world.hold(one, without);
    world.crash_now(cn);
    world.pass(100 * MS);
    assert_eq!(staged_at(world, data, PLACES[0]), 1, "not yet there");
    let begun = world.now();
    assert_eq!(load(world, cn, 1, PLACES[0]), Ok(OLD));
    let took = world.now() - begun;
    world.lose_held(one, without);
    world.set_deaf_to(silent, cn, false);
    for node in [silent, data] {
        assert!(world.release(node, Settle::OPCODE) > 0);
    }
    nothing_left(world);
    took
}

#[test]
fn who_reads_does_not_wait_for_data_nodes_of_an_undone_commit() {
    assert!(reads_an_undone_page(Inventory::OPCODE) < 10 * MS);
}

#[test]
fn copies_of_pages_of_an_undone_commit_are_valid_again_before_its_data_nodes_have_heard_of_it() {
    assert!(reads_an_undone_page(Fetch::OPCODE) < 10 * MS);
}

fn sender(world: &World, node: usize) -> Sender {
    let life = world.nodes[node].life.clone().expect("alive");
    let epoch = life.node.borrow().map.epoch;
    Sender {
        node: life.id,
        incarnation: life.incarnation,
        epoch,
    }
}

/// Once what is staged is dropped who waits looks, on another processor, and finds the commit not yet undone.
#[test]
fn who_waits_for_a_page_has_it_as_soon_as_its_commit_is_undone() {
    let mut cluster = Cluster::new();
    let ([one, silent], data, cn) = (cluster.owners, cluster.data, cluster.cn);
    cluster.world.hold(silent, Prepare::OPCODE);
    let told = cluster.begin(cn, &PLACES, UNDONE, 20 * MS);
    let world = &mut cluster.world;
    world.pass(5 * MS);
    assert_eq!(staged_at(world, data, PLACES[0]), 1, "promised");
    let life = world.nodes[one].life.clone().expect("alive");
    let page = key(1, PLACES[0] / PAGE);
    let (epoch, cid) = {
        let core = life.node.borrow();
        let page = core.pages.get(page).expect("a copy");
        (core.map.epoch, page.staged[0].cid)
    };

    let fetch = Fetch { key: page, have: 0 };
    let fetch = fetch.encode(epoch).expect("memory").to_vec();
    let reader = Handler::new(&life, sender(world, data), fetch);
    let reader = Rc::new(RefCell::new(reader));
    reader.borrow_mut().go_on();
    assert!(reader.borrow().reply.is_none(), "it waits");

    let mut aborted = KVec::new();
    aborted.push(cid, GFP_KERNEL).expect("memory");
    let forget = Forget {
        aborted,
        released: KVec::new(),
    };
    let forget = forget.encode(epoch).expect("memory").to_vec();
    let host = Beside::new(&life, &reader);
    let from = sender(world, cn);
    {
        let mut reply = [0; 64];
        let giving_up = pin!(handler::handle(&host, from, &forget, &mut reply));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(giving_up.poll(&mut context), Poll::Pending);
        let ask = life.ask.borrow_mut().take();
        assert!(matches!(ask, Some(Ask::Call(_))), "it tells data nodes");
    }
    reader.borrow_mut().go_on();
    let reply = reader.borrow_mut().reply.take();
    let reply = reply.expect("it is woken").expect("what was before");
    let bytes = &reply[reply.len() - PAGE as usize..];
    assert_eq!(bytes[PLACES[0] as usize..][..8], OLD);

    let world = &mut cluster.world;
    world.lose_held(silent, Prepare::OPCODE);
    world.pass(SEC);
    assert!(found(&told).expect("it ends").is_err());
    nothing_left(world);
}
