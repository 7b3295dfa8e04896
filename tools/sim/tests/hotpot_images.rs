// SPDX-License-Identifier: GPL-2.0

//! Damaged devices: what nodes had on their PM when their power failed in the middle of commits, and then bits,
//! fields, lines and blocks of it changed, or its end is missing. The core mounts it or says an error; fsck.hotpot
//! mends what can be mended, loses nothing that is whole, and the core mounts what it mended. Neither ever panics.

use hotpot_core::core::{
    cluster::{self, Map, Peer, State},
    fault,
    format::{
        commit_record, crc32c, redo_log, slot, Geometry, Superblock, Timestamp, LINE_SIZE,
        PAGE_BYTES, PAGE_SIZE,
    },
    host::CallError,
    node::{Config, Node},
    recovery,
};
use hotpot_utils::check::{self, Report};
use kernel::{
    alloc::{flags::GFP_KERNEL, KVec},
    error::{code::ETIMEDOUT, Result},
};
use sim::{
    hotpot::{
        host::{Ask, Bug, Life, SimHost},
        script::*,
        world::Plan,
    },
    pm::Pm,
    schedule::{for_each_seed, Rng, MS, SEC, US},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    pin::pin,
    rc::Rc,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

/// At 8 in some pages.
const WRITTEN: &[u8; 8] = b"an image";

/// Devices to damage: of nodes that lost power in the middle of commits of either mode.
fn sources() -> &'static [Vec<u8>] {
    static SOURCES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let mut images = Vec::new();
        for nr in 0..24 {
            let mrsw = nr % 2 == 1;
            let mut world = cluster(Plan {
                mrsw,
                pause_in: 4,
                ..Plan::quiet(3)
            });
            for round in 0..4 {
                let places = [0, 17, 33].map(|page| (page + round) * PAGE + 8);
                if mrsw {
                    assert_eq!(acquire(&mut world, 1, file(1), 1, &places, true), Ok(()));
                }
                for at in places {
                    store(&mut world, 1, 1, at, WRITTEN).expect("a store");
                }
                if round < 3 {
                    let committed = commit(&mut world, 1, file(1), 1, &places, 2);
                    assert_eq!(committed.result, Ok(()));
                    continue;
                }
                let until = world.now() + SEC;
                world.begin_result(1, Rc::new(RefCell::new(None)), move |host| async move {
                    let ranges = cells(&places);
                    hotpot_core::core::commit::commit(&host, file(1), 1, &ranges, 2, until).await
                });
            }
            world.pass(nr * 40 * US);
            for node in 0..3 {
                world.crash_now(node);
                images.push(world.nodes[node].pm.borrow().image().to_vec());
            }
        }
        images
    })
}

fn superblock(image: &[u8]) -> Superblock {
    Superblock::decode(&image[..PAGE_SIZE])
        .or_else(|_| Superblock::decode(&image[PAGE_SIZE..2 * PAGE_SIZE]))
        .expect("one of the two")
}

/// Runs an operation of a node that hears from nobody.
fn alone<T>(life: &Life, operation: impl Future<Output = T>) -> T {
    let mut operation = pin!(operation);
    loop {
        match operation
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(result) => return result,
            Poll::Pending => match life.ask.borrow_mut().take().expect("an operation asks") {
                Ask::Wait(_, until) => life.clock.set(until.max(life.clock.get() + US)),
                Ask::Pause => life.clock.set(life.clock.get() + US),
                Ask::Call(out) => {
                    *life.answers.borrow_mut() = vec![Err(CallError::Lost(ETIMEDOUT)); out.len()];
                }
                Ask::PowerFails => unreachable!("it never does here"),
            },
        }
        assert!(life.clock.get() < 60 * SEC, "it never ends");
    }
}

/// The core mounts a device, alone, as its superblock says whose it was.
fn mounted(image: Vec<u8>, of: &Superblock) -> Result<Rc<Life>> {
    let id = u32::from(of.node);
    let config = Config {
        node: id,
        cluster: of.cluster,
        device_len: image.len() as u64,
        max_msg: 64 << 10,
        timeout: 5 * MS,
    };
    let life = Life::new(
        id,
        1,
        Node::new(config),
        Rc::new(RefCell::new(Pm::from_image(image))),
        Rc::new(Cell::new(0)),
        Rng::new(0),
        0,
        Bug::None,
    );
    // Lines for the operator are no surprise here.
    life.flipped.set(true);
    let mut map = Map {
        epoch: 1,
        peers: KVec::new(),
    };
    for peer in 1..=3 {
        let state = if peer == id { State::Up } else { State::Down };
        let peer = Peer {
            id: peer,
            state,
            incarnation: 1,
            dispatcher: peer == id,
        };
        map.peers.push(peer, GFP_KERNEL).expect("memory");
    }
    let host = SimHost(life.clone());
    alone(&life, async {
        cluster::new_map(&host, map).await?;
        recovery::mount(&host, Timestamp::default()).await
    })?;
    Ok(life)
}

/// Reads the begin of each page: what is found there.
fn contents(life: &Rc<Life>) -> Vec<[u8; 16]> {
    let host = SimHost(life.clone());
    let sizes: Vec<(u64, u64)> = {
        let core = life.node.borrow();
        let mut sizes = Vec::new();
        while let Some(record) = core.names.after(sizes.last().map_or(0, |(id, _)| *id)) {
            sizes.push((record.id, record.size));
        }
        sizes
    };
    let mut found = Vec::new();
    for (dataset, size) in sizes {
        for page in 0..(size / PAGE_BYTES).min(64) {
            let until = life.clock.get() + MS;
            let mut bytes = [0; 16];
            // Others have what it lacks, or nobody has: that is an error, not a surprise.
            let read = alone(
                life,
                fault::read(&host, dataset, page * PAGE_BYTES, &mut bytes, until),
            );
            if read == Ok(bytes.len()) {
                found.push(bytes);
            }
        }
    }
    found
}

/// Whether the state word of a line says that it is nothing.
fn is_free(image: &[u8], at: u64) -> bool {
    image[at as usize..at as usize + 8] == [0; 8]
}

/// Whether a line that is in use is not what it was.
fn is_damaged(before: &[u8], after: &[u8], at: u64) -> bool {
    let line = at as usize..at as usize + LINE_SIZE;
    !is_free(after, at) && before[line.clone()] != after[line]
}

/// Whether a change is in a record of the redo log or of commits: in its descriptor, or in its blocks.
fn damages_a_record(before: &[u8], after: &[u8], of: &Geometry) -> bool {
    let changed = |from: u64, len: u64| {
        let bytes = from as usize..(from + len) as usize;
        before[bytes.clone()] != after[bytes]
    };
    let line = |at: u64| &before[at as usize..at as usize + LINE_SIZE];
    let in_log = (0..of.nr_log_blocks()).any(|block| {
        let at = of.log_descriptor(block);
        match redo_log::Descriptor::decode(of, block, line(at)).expect("whole") {
            Some((_, found)) => {
                let len = found.of.entries_len() + u64::from(found.of.data_len);
                is_damaged(before, after, at)
                    || !is_free(after, at) && changed(of.log_block(block), len)
            }
            None => false,
        }
    });
    let in_commits = (0..of.nr_commit_blocks()).any(|block| {
        let at = of.commit_descriptor(block);
        match commit_record::Descriptor::decode(of, block, line(at)).expect("whole") {
            Some((_, found)) => {
                is_damaged(before, after, at)
                    || !is_free(after, at)
                        && changed(of.commit_block(block), found.of.content_len())
            }
            None => false,
        }
    });
    in_log || in_commits
}

/// What a mounted device was before it was damaged, and is now: nothing that is damaged is taken for what it was,
/// or written over while it may be of use to fsck.hotpot.
fn check_nothing_damaged_is_used(before: &[u8], after: &[u8], life: &Life, of: &Geometry) {
    assert!(
        !damages_a_record(before, after, of),
        "it is mounted with a damaged record"
    );
    let mut core = life.node.borrow_mut();
    let pages = core.pages.iter();
    let copies: BTreeSet<u64> = pages
        .filter_map(|(_, page)| page.clean.and_then(|clean| clean.pm))
        .collect();
    let mut free = BTreeSet::new();
    while let Some(pm) = core.space.take() {
        free.insert(pm);
    }
    for pm in (0..of.nr_pages()).filter(|pm| is_damaged(before, after, of.slot(*pm))) {
        assert!(!copies.contains(&pm), "the damaged slot {pm} is a copy");
        assert!(!free.contains(&pm), "the damaged slot {pm} is used again");
    }
}

/// Nothing is read that nobody wrote: what is damaged is an error.
fn check_found(found: &[[u8; 16]]) {
    for bytes in found {
        let (before, cell) = bytes.split_at(8);
        let written = cell == WRITTEN || cell == [0; 8];
        assert!(before == [0; 8] && written, "nobody wrote {bytes:?}");
    }
}

/// PM pages with an intact slot and intact data.
fn whole(image: &[u8], geometry: &Geometry) -> BTreeSet<u64> {
    (0..geometry.nr_pages())
        .filter(|pm| {
            let at = geometry.slot(*pm) as usize;
            let Ok(Some((slot::State::Committed, found))) =
                slot::Slot::decode(*pm, &image[at..at + LINE_SIZE])
            else {
                return false;
            };
            let data = geometry.page(*pm) as usize;
            crc32c(&image[data..data + PAGE_SIZE]) == found.data_crc
        })
        .collect()
}

/// Where something is: structures, not the vast rest.
fn somewhere(rng: &mut Rng, of: &Geometry) -> usize {
    let all = [
        (0, 2 * PAGE_BYTES),
        (of.records.offset, 4 * PAGE_BYTES),
        (of.commit_descriptors.offset, 8 * 64),
        (of.commit_blocks.offset, 2 * PAGE_BYTES),
        (of.log_descriptors.offset, 8 * 64),
        (of.log_blocks.offset, 4 * PAGE_BYTES),
        (of.slots.offset, 32 * 64),
        (of.pages.offset, 32 * PAGE_BYTES),
    ];
    let (offset, len) = *rng.pick(&all);
    (offset + rng.range(0..len)) as usize
}

/// One change: a bit, a field, a line, a block.
fn damage(rng: &mut Rng, image: &mut [u8], of: &Geometry) {
    let at = somewhere(rng, of);
    let field = at & !7;
    let line = at & !(LINE_SIZE - 1);
    let block = at & !(PAGE_SIZE - 1);
    match rng.range(0..8) {
        0..=2 => image[at] ^= 1 << rng.range(0..8),
        3 => rng.fill(&mut image[field..field + 8]),
        4 => {
            let value = *rng.pick(&[0, 1, u64::MAX, 1 << 63, u64::MAX - 4095, 4096]);
            image[field..field + 8].copy_from_slice(&value.to_le_bytes());
        }
        5 => {
            let from = somewhere(rng, of) & !(LINE_SIZE - 1);
            image.copy_within(from..from + LINE_SIZE, line);
        }
        6 => image[block..block + PAGE_SIZE].fill(0),
        _ => {
            let from = somewhere(rng, of) & !(PAGE_SIZE - 1);
            image.copy_within(from..from + PAGE_SIZE, block);
        }
    }
}

/// A change by somebody who knows the format: the checksum is right.
fn forge(rng: &mut Rng, image: &mut [u8], of: &Geometry) {
    let values = [0, 1, 2, 4095, 4096, 1 << 32, 1 << 63, u64::MAX, rng.u64()];
    let value = *rng.pick(&values);
    if rng.one_in(2) {
        let pm = rng.range(0..32);
        let at = of.slot(pm) as usize;
        if let Ok(Some((state, mut found))) = slot::Slot::decode(pm, &image[at..at + LINE_SIZE]) {
            match rng.range(0..3) {
                0 => found.of.dataset = value,
                1 => found.of.page = value,
                _ => found.of.version = value,
            }
            image[at + 8..at + LINE_SIZE].copy_from_slice(&found.encode(pm));
            image[at..at + 8].copy_from_slice(&found.of.word(pm, state).0.to_le_bytes());
        }
        return;
    }
    let record = of.records.offset as usize / PAGE_SIZE;
    let block = *rng.pick(&[0, 1, record, record + 1]) * PAGE_SIZE;
    let block = &mut image[block..block + PAGE_SIZE];
    let field = rng.index(68) * 8;
    match rng.range(0..3) {
        0 => block[field..field + 8].copy_from_slice(&value.to_le_bytes()),
        1 => block[field..field + 2].copy_from_slice(&(value as u16).to_le_bytes()),
        _ => block[field + rng.index(8)] ^= 1 << rng.range(0..8),
    }
    let sum = crc32c(&block[..PAGE_SIZE - 4]);
    block[PAGE_SIZE - 4..].copy_from_slice(&sum.to_le_bytes());
}

/// Checks and mends; a report of which the size is 0 says that the device is beyond help.
fn mend(image: &mut Vec<u8>) -> Option<Report> {
    let report = check::check(image, &mut check::everything).ok()?;
    (report.summary.size != 0).then_some(report)
}

/// Runs a test on `count` devices (times what the environment says), each drawn with its seed: what chooses the
/// damage, the device, and what its superblock says.
fn for_each_device(test: &str, count: u64, check: impl Fn(Rng, Vec<u8>, Superblock) + Sync) {
    for_each_seed(&format!("--test hotpot_images {test}"), count, |seed| {
        let mut rng = Rng::new(seed);
        let image = rng.pick(sources()).clone();
        let owner = superblock(&image);
        check(rng, image, owner);
    });
}

#[test]
fn what_fsck_mended_is_mounted_and_nothing_that_was_whole_is_lost() {
    for_each_device(
        "what_fsck_mended_is_mounted_and_nothing_that_was_whole_is_lost",
        500,
        |mut rng, mut image, owner| {
            let of = owner.geometry;
            let undamaged = image.clone();
            for _ in 0..rng.range(1..8) {
                damage(&mut rng, &mut image, &of);
            }
            // As it is: an error or a mount.
            if let Ok(life) = mounted(image.clone(), &owner) {
                check_found(&contents(&life));
                check_nothing_damaged_is_used(&undamaged, &image, &life, &of);
            }
            let before = whole(&image, &of);
            let Some(first) = mend(&mut image) else {
                return;
            };
            let again = mend(&mut image).expect("it was readable");
            assert_eq!(again.exit_status(), 0, "-y left {:?}", again.findings);
            match mounted(image.clone(), &owner) {
                Ok(life) => check_found(&contents(&life)),
                Err(error) => panic!("{error:?} after {:?}", first.findings),
            }
            let dropped: Vec<u64> = before.difference(&whole(&image, &of)).copied().collect();
            for pm in dropped {
                // It had a reason, and said it.
                let told = first.findings.iter().any(|of| of.index == Some(pm));
                assert!(told, "PM page {pm} is gone: {:?}", first.findings);
            }
        },
    );
}

#[test]
fn a_device_whose_end_is_missing_is_refused_and_not_changed() {
    for_each_device(
        "a_device_whose_end_is_missing_is_refused_and_not_changed",
        100,
        |mut rng, mut image, owner| {
            let len = rng.index(image.len() / LINE_SIZE) * LINE_SIZE;
            image.truncate(len);
            assert!(mounted(image.clone(), &owner).is_err(), "{len} bytes");
            let before = image.clone();
            assert!(mend(&mut image).is_none_or(|report| report.exit_status() != 0));
            assert!(image == before, "{len} bytes");
        },
    );
}

#[test]
fn forged_structures_with_right_checksums_make_nothing_panic() {
    for_each_device(
        "forged_structures_with_right_checksums_make_nothing_panic",
        500,
        |mut rng, mut image, owner| {
            let of = owner.geometry;
            for _ in 0..rng.range(1..5) {
                forge(&mut rng, &mut image, &of);
                if rng.one_in(3) {
                    damage(&mut rng, &mut image, &of);
                }
            }
            let _ = mounted(image.clone(), &owner).map(|life| contents(&life));
            if mend(&mut image).is_some() {
                // What is left cannot be mended: a feature may forbid to write.
                let mended = image.clone();
                mend(&mut image).expect("it was readable");
                assert!(image == mended, "it mends for ever");
            }
            let _ = mounted(image, &owner).map(|life| contents(&life));
        },
    );
}

/// A device of `sources` that has what `find` finds on it, and where that is.
fn with(find: impl Fn(&[u8], &Geometry) -> Option<Vec<(u64, u64)>>) -> (Vec<u8>, Vec<(u64, u64)>) {
    let mut images = sources().iter();
    images
        .find_map(|image| Some((image.clone(), find(image, &superblock(image).geometry)?)))
        .expect("one of them has it")
}

/// Flips each bit of `places`, offsets and lengths, of a device, one at a time.
fn each_bit(image: &[u8], places: &[(u64, u64)], check: impl Fn(&[u8], u64)) {
    for at in places.iter().flat_map(|(at, len)| *at..at + len) {
        for bit in 0..8 {
            let mut damaged = image.to_vec();
            damaged[at as usize] ^= 1 << bit;
            check(&damaged, at);
        }
    }
}

fn line(image: &[u8], at: u64) -> &[u8] {
    &image[at as usize..at as usize + LINE_SIZE]
}

#[test]
fn a_slot_with_a_flipped_bit_is_no_copy_and_is_not_used_again() {
    let (image, places) = with(|image, of| {
        let slots = (0..of.nr_pages()).map(|pm| (pm, of.slot(pm)));
        let committed = slots.filter(|(pm, at)| {
            let found = slot::Slot::decode(*pm, line(image, *at));
            matches!(found, Ok(Some((slot::State::Committed, _))))
        });
        let places: Vec<_> = committed.map(|(_, at)| (at, LINE_SIZE as u64)).collect();
        (!places.is_empty()).then(|| places[..1].to_vec())
    });
    let owner = superblock(&image);
    each_bit(&image, &places, |damaged, at| {
        let life = mounted(damaged.to_vec(), &owner).expect("the others are whole");
        let of = &owner.geometry;
        assert!(is_damaged(&image, damaged, places[0].0), "byte {at}");
        check_nothing_damaged_is_used(&image, damaged, &life, of);
        // Not a bit of it is lost to fsck.hotpot.
        let device = life.pm.borrow();
        assert_eq!(
            line(device.image(), places[0].0),
            line(damaged, places[0].0)
        );
    });
}

#[test]
fn a_device_with_a_flipped_bit_in_a_record_of_the_redo_log_is_refused() {
    let (image, places) = with(|image, of| {
        (0..of.nr_log_blocks()).find_map(|block| {
            let at = of.log_descriptor(block);
            let found = redo_log::Descriptor::decode(of, block, line(image, at));
            let (_, found) = found.ok()??;
            let len = found.of.entries_len() + u64::from(found.of.data_len);
            // With the ids of several owners behind the entries.
            let places = vec![(at, LINE_SIZE as u64), (of.log_block(block), len)];
            (found.of.data_len != 0).then_some(places)
        })
    });
    let owner = superblock(&image);
    assert!(mounted(image.clone(), &owner).is_ok());
    each_bit(&image, &places, |damaged, at| {
        assert!(mounted(damaged.to_vec(), &owner).is_err(), "byte {at}");
    });
}

#[test]
fn a_device_with_a_flipped_bit_in_a_record_of_a_commit_is_refused() {
    let (image, places) = with(|image, of| {
        (0..of.nr_commit_blocks()).find_map(|block| {
            let at = of.commit_descriptor(block);
            let found = commit_record::Descriptor::decode(of, block, line(image, at));
            let (_, found) = found.ok()??;
            let content = (of.commit_block(block), found.of.content_len());
            Some(vec![(at, LINE_SIZE as u64), content])
        })
    });
    let owner = superblock(&image);
    assert!(mounted(image.clone(), &owner).is_ok());
    each_bit(&image, &places, |damaged, at| {
        assert!(mounted(damaged.to_vec(), &owner).is_err(), "byte {at}");
    });
}
