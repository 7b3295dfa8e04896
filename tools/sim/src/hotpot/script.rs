// SPDX-License-Identifier: GPL-2.0

//! Processes that do what a test says, one thing after the other.

use super::{
    host::SimHost,
    workload,
    world::{Plan, World},
};
use crate::schedule::{Time, SEC};
use hotpot_core::core::{
    area::ByteRange,
    commit::{self, Committed},
    fault::{self, Access},
    format::{Cid, Timestamp},
    grants::{self, Opener},
    host::{Mapping, PageKey},
    names::NewDataset,
};
use kernel::error::Result;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// An open file of a node: numbers that its mount does not come to.
pub fn file(nr: u64) -> Opener {
    Opener((1 << 40) + nr)
}

/// A cluster whose dataset 1 has 48 pages, 16 in a chunk.
pub fn cluster(plan: Plan) -> World {
    let mut world = World::new(1, |_| plan);
    workload::prepare(&mut world);
    world
}

/// A dataset of one copy and many writers, but for what a test wants otherwise.
pub fn new_dataset() -> NewDataset {
    NewDataset {
        uid: 0,
        gid: 0,
        permissions: 0o600,
        replicas: 1,
        mode: 1,
        chunk_size: 0,
        reserve: 0,
        time: Timestamp::default(),
    }
}

/// A page of a dataset.
pub fn key(dataset: u64, page: u64) -> PageKey {
    PageKey { dataset, page }
}

/// The first page of dataset 1 that node `owner` owns, as node `asked` (from 0) sees it.
pub fn page_of(world: &World, asked: usize, owner: u32) -> u64 {
    let life = world.nodes[asked].life.clone().expect("alive");
    let node = life.node.borrow();
    (0..workload::PAGES)
        .find(|page| node.owner(key(1, *page)) == Ok(owner))
        .expect("each node owns a chunk")
}

/// The chunk of dataset 1 that node `index` (from 0) owns by its row, and a place in it.
pub fn chunk_of(world: &World, index: usize) -> (u64, u64) {
    let page = page_of(world, 0, index as u32 + 1);
    (page * PAGE / workload::CHUNK, page * PAGE + 8)
}

/// The owner of a chunk of dataset 1, as node `asked` (from 0) sees it.
pub fn chunk_owner(world: &World, asked: usize, chunk: u64) -> u32 {
    let life = world.nodes[asked].life.clone().expect("alive");
    let node = life.node.borrow();
    let first = key(1, chunk * workload::CHUNK / PAGE);
    node.owner(first).expect("it has one")
}

/// The owner of the page of a place in dataset 1, from 0, as the first node sees it.
pub fn owner_at(world: &World, at: u64) -> usize {
    let life = world.nodes[0].life.clone().expect("alive");
    let owner = life.node.borrow().owner(key(1, at / PAGE));
    owner.expect("it has one") as usize - 1
}

/// What a node's clean copy has at a place in dataset 1, whatever processes have stored there since.
pub fn committed_at(world: &World, node: usize, at: u64) -> [u8; 8] {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    let page = core.pages.get(key(1, at / PAGE));
    let clean = page.and_then(|page| page.clean).expect("a copy");
    let offset = core.geometry().page(clean.pm.expect("with bytes")) + at % PAGE;
    let device = world.nodes[node].pm.borrow();
    device.read(offset as usize, 8).try_into().expect("8 bytes")
}

/// 8 bytes at each place.
pub fn cells(places: &[u64]) -> Vec<ByteRange> {
    places
        .iter()
        .map(|offset| ByteRange {
            offset: *offset,
            len: 8,
        })
        .collect()
}

/// A process' store; what the fault says.
pub fn store(world: &mut World, node: usize, dataset: u64, at: u64, bytes: &[u8]) -> Result {
    let until = world.now() + SEC;
    let page = key(dataset, at / PAGE);
    world.execute(node, move |host| async move {
        fault::fault(&host, page, Access::Write, until).await
    })?;
    let life = world.nodes[node].life.clone().expect("alive");
    let mapped = life.mapped.borrow().get(&page).copied();
    let Some(Mapping::Writable { offset }) = mapped else {
        panic!("not writable: {mapped:?}");
    };
    let mut pm = world.nodes[node].pm.borrow_mut();
    pm.store((offset + at % PAGE) as usize, bytes);
    Ok(())
}

/// What a process of the node finds there.
pub fn load(world: &mut World, node: usize, dataset: u64, at: u64) -> Result<[u8; 8]> {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let mut bytes = [0; 8];
        let len = fault::read(&host, dataset, at, &mut bytes, until).await?;
        assert_eq!(len, 8);
        Ok(bytes)
    })
}

/// A commit of 8 bytes at each place, to `replicas` copies: once it is told they are there.
pub fn commit(
    world: &mut World,
    node: usize,
    opener: Opener,
    dataset: u64,
    places: &[u64],
    replicas: u32,
) -> Committed {
    let begun = world.now();
    let until = begun + SEC;
    let ranges = cells(places);
    let committed = world.execute(node, move |host| async move {
        commit::commit(&host, opener, dataset, &ranges, replicas, until).await
    });
    if committed.result.is_ok() {
        check_durable(world, dataset, places, committed.cid, begun, replicas);
    }
    committed
}

/// Of what a commit that began at `begun` made of each place there are `replicas` copies at least.
pub fn check_durable(
    world: &World,
    dataset: u64,
    places: &[u64],
    cid: Cid,
    begun: Time,
    replicas: u32,
) {
    for at in places {
        let copies = world.durable_copies(key(dataset, at / PAGE), cid.0, begun);
        assert!(
            copies.is_none_or(|copies| copies >= replicas as usize),
            "{copies:?} durable copies of {at} after commit {cid:?} to {replicas}"
        );
    }
}

/// write(2) of 8 bytes.
pub fn write(
    world: &mut World,
    node: usize,
    opener: Opener,
    dataset: u64,
    at: u64,
    bytes: [u8; 8],
) -> Result {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let time = Timestamp::default();
        commit::write(&host, opener, dataset, at, &bytes, time, until).await
    })
}

/// Acquires the pages of 8 bytes at each place.
pub fn acquire(
    world: &mut World,
    node: usize,
    opener: Opener,
    dataset: u64,
    places: &[u64],
    wait: bool,
) -> Result {
    let until = world.now() + SEC / 5;
    let ranges = cells(places);
    world.execute(node, move |host| async move {
        grants::acquire(&host, opener, dataset, &ranges, wait, until).await
    })
}

/// Aborts: the places, or everything.
pub fn abort(
    world: &mut World,
    node: usize,
    opener: Opener,
    dataset: u64,
    places: &[u64],
) -> Result {
    let until = world.now() + SEC;
    let ranges = cells(places);
    world.execute(node, move |host| async move {
        grants::abort(&host, opener, dataset, &ranges, until).await
    })
}

/// close(2).
pub fn close(world: &mut World, node: usize, opener: Opener) {
    world.execute(node, move |host: SimHost| async move {
        use hotpot_core::core::host::Host;
        host.with(|node| node.close_opener(opener));
    });
}

/// Lets everything come to rest; nothing may be left over.
pub fn nothing_left(world: &mut World) {
    let end = world.now() + 5 * SEC;
    world.run_until(end, World::is_at_rest);
    world.check_at_rest();
}
