// SPDX-License-Identifier: GPL-2.0

//! The fast path: what a packet does, and what it must not do.

mod common;

use common::*;
use legomem_core::core::{
    control::VA_BASE,
    slow::Fast,
    wire::{flags, lock_word, rights, Header, Op, Status, MAX_READ},
};

fn node() -> (Node, u64) {
    (
        Node::new(1, Shape::default()).with_region(ras(1), 0),
        ras(1),
    )
}

#[test]
fn what_is_written_is_read_back_byte_by_byte() {
    let (node, ras) = node();
    let addr = node.alloc(ras, 3 * PAGE);
    assert_eq!(node.write(ras, addr + PAGE - 3, b"across"), Status::Ok);
    assert_eq!(node.read(ras, addr + PAGE - 4, 8).unwrap(), b"\0across\0");
}

#[test]
fn what_was_never_written_is_zero_and_takes_no_page() {
    let (node, ras) = node();
    let addr = node.alloc(ras, 3 * PAGE);
    let free = node.fast(|board| board.free_pages().len());
    assert_eq!(node.read(ras, addr, 4096).unwrap(), vec![0; 4096]);
    assert_eq!(node.fast(|board| board.free_pages().len()), free);
    assert_eq!(node.write(ras, addr, &[1]), Status::Ok);
    assert_eq!(node.fast(|board| board.free_pages().len()), free - 1);
    assert_eq!(node.read(ras, addr, 4).unwrap(), [1, 0, 0, 0]);
}

#[test]
fn a_page_that_was_freed_comes_back_as_zeroes() {
    let (node, ras) = node();
    for _ in 0..600 {
        // More often than there are pages, so that each is used again.
        let addr = node.alloc(ras, PAGE);
        // One byte touches the page, the others are what the page brings along.
        assert_eq!(node.write(ras, addr + 20, &[1]), Status::Ok);
        assert_eq!(node.read(ras, addr, 20).unwrap(), [0; 20]);
        assert_eq!(node.write(ras, addr, &[0xff; 32]), Status::Ok);
        assert_eq!(node.free(ras, addr, PAGE), Status::Ok);
    }
}

#[test]
fn a_first_touch_without_a_prepared_page_is_busy_and_changes_nothing() {
    let (node, ras) = node();
    let addr = node.alloc(ras, 2 * PAGE);
    let mut taken = Vec::new();
    while node.fast(|board| board.free_pages().prepared()) > 1 {
        taken.push(node.fast(|board| board.free_pages().take().unwrap()));
    }
    // Two pages are missing, and one is there: none is taken.
    assert_eq!(node.write(ras, addr + PAGE - 1, b"xx"), Status::Busy);
    assert_eq!(node.fast(|board| board.free_pages().prepared()), 1);
    for frame in taken {
        node.fast(|board| board.free_pages().give_back(frame));
    }
    node.clean();
    assert_eq!(node.write(ras, addr + PAGE - 1, b"xx"), Status::Ok);
}

#[test]
fn nothing_is_reached_outside_of_an_allocation_or_across_its_end() {
    let (node, ras) = node();
    let one = node.alloc(ras, PAGE);
    let two = node.alloc(ras, PAGE);
    assert_eq!(two, one + PAGE);
    assert_eq!(node.write(ras, one + PAGE - 2, b"over"), Status::Fault);
    assert_eq!(node.read(ras, one + PAGE - 2, 4), Err(Status::Fault));
    assert_eq!(node.read(ras, two + PAGE, 1), Err(Status::Fault));
    assert_eq!(node.read(ras, two + PAGE - 1, 2), Err(Status::Fault));
    assert_eq!(node.read(ras, VA_BASE - 1, 1), Err(Status::Fault));
    assert_eq!(node.read(ras, u64::MAX - 3, 8), Err(Status::Fault));
    assert_eq!(node.read(ras, 0, 8), Err(Status::Fault));
    assert_eq!(node.word(Op::Faa, ras, two + PAGE, 1).0, Status::Fault);
    // Nothing of the write that was refused is there.
    assert_eq!(node.read(ras, one + PAGE - 2, 2).unwrap(), [0, 0]);
}

#[test]
fn an_access_may_go_on_over_the_border_of_regions_only_where_the_allocation_does() {
    let (node, ras) = node();
    let node = node.with_region(ras, 1).with_region(ras, 2);
    let (border, other) = (VA_BASE + REGION, VA_BASE + 2 * REGION);
    let all = rights::ALL | rights::FIXED;
    node.alloc_at(ras, border - PAGE, PAGE, all).unwrap();
    node.alloc_at(ras, border, PAGE, all | rights::CONTINUES)
        .unwrap();
    node.alloc_at(ras, other, PAGE, all).unwrap();
    let continued = |addr| Header {
        flags: flags::CONTINUED,
        ..node.request(Op::Read, ras, addr, 8)
    };
    assert_eq!(node.execute(&continued(border), &[]).0, Status::Ok);
    assert_eq!(node.execute(&continued(other), &[]).0, Status::Fault);
    assert_eq!(node.read(ras, other, 8).unwrap(), [0; 8]);
    // One request is for one region.
    assert_eq!(node.read(ras, border - 4, 8), Err(Status::Fault));
}

#[test]
fn rights_are_those_of_the_allocation() {
    let (node, ras) = node();
    let read_only = node.try_alloc(ras, PAGE, rights::READ).unwrap();
    assert_eq!(node.write(ras, read_only, b"x"), Status::Denied);
    assert_eq!(node.word(Op::Faa, ras, read_only, 1).0, Status::Denied);
    assert_eq!(node.word(Op::Lock, ras, read_only, 0).0, Status::Denied);
    assert!(node.read(ras, read_only, 1).is_ok());
    let write_only = node.try_alloc(ras, PAGE, rights::WRITE).unwrap();
    assert_eq!(node.write(ras, write_only, b"x"), Status::Ok);
    assert_eq!(node.read(ras, write_only, 1), Err(Status::Denied));
    let protect = |rights| {
        let request = Header {
            argument: rights,
            operand: PAGE,
            ..node.request(Op::Protect, ras, read_only, 0)
        };
        node.execute(&request, &[]).0
    };
    assert_eq!(protect(rights::ALL), Status::Ok);
    assert_eq!(node.write(ras, read_only, b"x"), Status::Ok);
    assert_eq!(protect(0), Status::Ok);
    assert_eq!(node.read(ras, read_only, 1), Err(Status::Denied));
}

#[test]
fn address_spaces_do_not_see_each_other() {
    let (node, one) = node();
    let two = ras(2);
    let node = node.with_region(two, 0);
    let addr = node.alloc(one, PAGE);
    assert_eq!(node.write(one, addr, b"mine"), Status::Ok);
    assert_eq!(node.read(two, addr, 4), Err(Status::Fault));
    assert_eq!(node.alloc(two, PAGE), addr);
    assert_eq!(node.read(two, addr, 4).unwrap(), [0; 4]);
    // There is a key for each space that is here, and for no other.
    assert!(node.fast(|board| board.key(two)).is_some());
    assert!(node.fast(|board| board.key(ras(3))).is_none());
}

#[test]
fn a_region_that_is_not_here_is_somewhere_else() {
    let (node, ras) = node();
    assert_eq!(node.read(ras, VA_BASE + REGION, 8), Err(Status::Moved));
    assert_eq!(
        node.alloc_at(ras, VA_BASE + 5 * REGION, 1, rights::ALL),
        Err(Status::Moved)
    );
}

#[test]
fn a_large_read_comes_in_packets_of_the_size_that_was_asked_for() {
    let (node, ras) = node();
    let addr = node.alloc(ras, 2 * PAGE);
    let bytes: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
    for (at, part) in bytes.chunks(1400).enumerate() {
        let write = Header {
            offset: (at * 1400) as u32,
            ..request(Op::Write, ras, 5000, addr + 30_000, 40_000)
        };
        assert_eq!(node.execute(&write, part).0, Status::Ok);
    }
    assert_eq!(node.read(ras, addr + 30_000, 40_000).unwrap(), bytes);
    assert_eq!(
        node.read(ras, addr, MAX_READ).unwrap()[30_000..],
        bytes[..35_536]
    );
}

#[test]
fn atomics_return_what_was_there_and_change_it_once() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    assert_eq!(node.word(Op::Tas, ras, addr, 0), (Status::Ok, 0));
    assert_eq!(node.word(Op::Tas, ras, addr, 0), (Status::Ok, 1));
    assert_eq!(node.word(Op::Faa, ras, addr, 41), (Status::Ok, 1));
    assert_eq!(node.word(Op::Faa, ras, addr, u64::MAX), (Status::Ok, 42));
    let cas = |expected, desired: u64| {
        let request = Header {
            operand: expected,
            ..node.request(Op::Cas, ras, addr, 8)
        };
        node.execute(&request, &desired.to_le_bytes()).1
    };
    assert_eq!(cas(7, 8), 41);
    assert_eq!(cas(41, 8), 41);
    assert_eq!(cas(8, 9), 8);
    assert_eq!(node.read(ras, addr, 8).unwrap(), 9u64.to_le_bytes());
    assert_eq!(node.word(Op::Faa, ras, addr + 4, 1).0, Status::Invalid);
}

#[test]
fn a_retry_of_what_was_executed_is_answered_and_not_executed() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    let add = Header {
        operand: 5,
        ..node.request(Op::Faa, ras, addr, 8)
    };
    let retry = Header {
        id: 900,
        flags: flags::RETRY,
        ..add
    };
    // The retry overtakes the first try, and a copy of that comes later still.
    for request in [&retry, &add, &retry, &add] {
        assert_eq!(node.execute(request, &[]), (Status::Ok, 0, vec![]));
    }
    assert_eq!(node.word(Op::Faa, ras, addr, 0).1, 5);
    let write = node.request(Op::Write, ras, addr, 1);
    assert_eq!(node.execute(&write, b"A").0, Status::Ok);
    assert_eq!(node.write(ras, addr, b"B"), Status::Ok);
    assert_eq!(node.execute(&write, b"A").0, Status::Ok);
    assert_eq!(node.read(ras, addr, 1).unwrap(), b"B");
}

#[test]
fn fragments_of_a_write_are_remembered_each_on_its_own() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    let fragment = |offset, id, first| Header {
        offset,
        first,
        flags: if id == first { 0 } else { flags::RETRY },
        ..request(Op::Write, ras, id, addr, 8)
    };
    assert_eq!(node.execute(&fragment(0, 700, 700), b"AAAA").0, Status::Ok);
    // The second was lost; the retry brings both.
    assert_eq!(node.execute(&fragment(0, 701, 700), b"XXXX").0, Status::Ok);
    assert_eq!(node.execute(&fragment(4, 701, 700), b"BBBB").0, Status::Ok);
    assert_eq!(node.read(ras, addr, 8).unwrap(), b"AAAABBBB");
}

#[test]
fn one_that_is_too_old_to_be_remembered_is_refused_and_not_executed_twice() {
    let shape = Shape {
        dedup: 8,
        ..Shape::default()
    };
    let ras = ras(1);
    let node = Node::new(1, shape).with_region(ras, 0);
    let addr = node.alloc(ras, PAGE);
    let add = Header {
        operand: 1,
        ..node.request(Op::Faa, ras, addr, 8)
    };
    assert_eq!(node.execute(&add, &[]).0, Status::Ok);
    for _ in 0..8 {
        assert_eq!(node.execute(&add, &[]).0, Status::Ok);
        assert_eq!(node.word(Op::Faa, ras, addr + 8, 1).0, Status::Ok);
    }
    let retry = Header {
        id: 900,
        flags: flags::RETRY,
        ..add
    };
    assert_eq!(node.execute(&retry, &[]).0, Status::Forgotten);
    assert_eq!(node.word(Op::Faa, ras, addr, 0).1, 1);
}

#[test]
fn what_was_refused_may_be_tried_again() {
    let (node, ras) = node();
    let write = node.request(Op::Write, ras, VA_BASE, 1);
    assert_eq!(node.execute(&write, b"x").0, Status::Fault);
    node.alloc(ras, PAGE);
    assert_eq!(node.execute(&write, b"x").0, Status::Ok);
    assert_eq!(node.read(ras, VA_BASE, 1).unwrap(), b"x");
}

#[test]
fn a_lock_has_one_holder_until_it_gives_it_back() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    let ask = |op, who| {
        let request = Header {
            argument: who,
            ..node.request(op, ras, addr, 8)
        };
        node.execute(&request, &[]).0
    };
    assert_eq!(ask(Op::Unlock, 1), Status::NotHolder);
    assert_eq!(ask(Op::Lock, 1), Status::Ok);
    assert_eq!(ask(Op::Lock, 2), Status::Held);
    assert_eq!(ask(Op::Lock, 1), Status::Held);
    assert_eq!(ask(Op::Unlock, 2), Status::NotHolder);
    assert_eq!(ask(Op::Unlock, 1), Status::Ok);
    assert_eq!(ask(Op::Lock, 2), Status::Ok);
    let word = lock_word(CLIENT, CLIENT_LIFE, 2).to_le_bytes();
    assert_eq!(node.read(ras, addr, 8).unwrap(), word);
}

#[test]
fn a_late_copy_of_a_lock_that_was_refused_does_not_take_it() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    let lock = |who| Header {
        argument: who,
        ..node.request(Op::Lock, ras, addr, 8)
    };
    let (mine, late) = (lock(1), lock(2));
    assert_eq!(node.execute(&mine, &[]).0, Status::Ok);
    assert_eq!(node.execute(&late, &[]).0, Status::Held);
    let unlock = Header {
        argument: 1,
        ..node.request(Op::Unlock, ras, addr, 8)
    };
    assert_eq!(node.execute(&unlock, &[]).0, Status::Ok);
    assert_eq!(node.execute(&late, &[]).0, Status::Held);
    assert_eq!(node.read(ras, addr, 8).unwrap(), [0; 8]);
}

#[test]
fn the_lock_of_a_node_that_the_map_dropped_is_free() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    node.publish(2, &[(CLIENT, CLIENT_LIFE), (200, 5)]);
    let lock = |from: u32, incarnation, epoch| {
        let request = Header {
            node: from,
            incarnation,
            epoch,
            ..node.request(Op::Lock, ras, addr, 8)
        };
        node.execute(&request, &[]).0
    };
    assert_eq!(lock(200, 5, 2), Status::Ok);
    assert_eq!(lock(CLIENT, CLIENT_LIFE, 2), Status::Held);
    // It came back in another life, which does not have the lock.
    node.publish(3, &[(CLIENT, CLIENT_LIFE), (200, 6)]);
    assert_eq!(lock(CLIENT, CLIENT_LIFE, 3), Status::Ok);
    assert_eq!(lock(200, 6, 3), Status::Held);
    assert_eq!(node.fast(|board| board.stats.stolen_locks), 1);
}

#[test]
fn only_nodes_of_the_map_are_served_and_only_under_it() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    let ask = |from, incarnation, epoch| {
        let request = Header {
            node: from,
            incarnation,
            epoch,
            ..node.request(Op::Write, ras, addr, 1)
        };
        node.execute(&request, b"x").0
    };
    node.publish(5, &[(CLIENT, CLIENT_LIFE)]);
    assert_eq!(ask(CLIENT, CLIENT_LIFE, 5), Status::Ok);
    assert_eq!(ask(CLIENT, CLIENT_LIFE, 6), Status::Ok);
    assert_eq!(ask(CLIENT, CLIENT_LIFE, 4), Status::Stale);
    assert_eq!(ask(CLIENT, 999, 5), Status::Stale);
    assert_eq!(ask(200, 1, 5), Status::Stale);
    // It may have joined by a map that is not here yet.
    assert_eq!(ask(200, 1, 6), Status::Busy);
}

#[test]
fn flush_and_fetch_does_both_or_neither() {
    let (node, ras) = node();
    let addr = node.alloc(ras, 2 * PAGE);
    assert_eq!(node.write(ras, addr, b"old line"), Status::Ok);
    let both = |to, from| Header {
        operand: to,
        ..node.request(Op::FlushFetch, ras, from, 8)
    };
    let request = both(addr + 4096, addr);
    for _ in 0..2 {
        let (status, _, bytes) = node.execute(&request, b"new line");
        assert_eq!((status, bytes.as_slice()), (Status::Ok, &b"old line"[..]));
    }
    assert_eq!(node.read(ras, addr + 4096, 8).unwrap(), b"new line");
    let nowhere = both(addr + 8192, addr + 2 * PAGE);
    assert_eq!(node.execute(&nowhere, b"new line").0, Status::Fault);
    assert_eq!(node.read(ras, addr + 8192, 8).unwrap(), [0; 8]);
    assert_eq!(
        node.execute(&both(addr + 4, addr), b"new line").0,
        Status::Invalid
    );
}

#[test]
fn a_fence_waits_for_workers() {
    let (node, ras) = node();
    let alloc = Header {
        argument: rights::ALL,
        operand: PAGE,
        ..node.request(Op::Alloc, ras, VA_BASE, 0)
    };
    let mut reply = [0; 64];
    node.fast(|board| {
        let pool = legomem_core_pool();
        board.execute(&pool, &alloc, &[], 0, &mut reply);
    });
    let fence = || node.execute(&node.request(Op::Fence, ras, 0, 0), &[]).0;
    assert_eq!(fence(), Status::Busy);
    // A retry of what a worker has does not begin it again.
    let retry = Header {
        id: 800,
        flags: flags::RETRY,
        ..alloc
    };
    assert_eq!(node.execute(&retry, &[]).0, Status::Busy);
    let (status, addr, _) = node.work(legomem_core::core::wire::Path::Slow, &alloc, &[]);
    assert_eq!(status, Status::Ok);
    assert_eq!(fence(), Status::Ok);
    assert_eq!(node.execute(&retry, &[]), (Status::Ok, addr, vec![]));
}

fn legomem_core_pool() -> VecPool {
    VecPool::new(1)
}

#[test]
fn hints_are_given_to_some_and_not_to_a_flood() {
    let (node, _) = node();
    node.fast(|board| board.allow_hints(3));
    let given = (0..100)
        .filter(|_| node.fast(|board| board.unknown_space()))
        .count();
    assert_eq!(given, 3);
    assert_eq!(node.fast(|board| board.stats.unknown_space), 100);
}

#[test]
fn a_thousand_clients_take_no_memory() {
    let (node, ras) = node();
    let addr = node.alloc(ras, PAGE);
    let size = || {
        node.fast(|board| {
            (
                board.table().bytes(),
                board.dedup_bytes(),
                board.table().len(),
            )
        })
    };
    let before = size();
    for who in 0..1000u32 {
        let request = Header {
            argument: who,
            ..node.request(Op::Faa, ras, addr, 8)
        };
        assert_eq!(node.execute(&request, &[]).0, Status::Ok);
    }
    assert_eq!(size(), before);
}
