// SPDX-License-Identifier: GPL-2.0

//! The extend path: pointer chase and key-value store, by requests.

mod common;

use common::*;
use legomem_core::core::{
    offload::{
        chase::{Chase, Walk},
        store::Store,
        Offload,
    },
    wire::{flags, offload_operand, rights, Header, Op, Status},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn node() -> Node {
    Node::new(1, Shape::default()).with_region(1, 0)
}

/// Space 1 has no home that a map could drop.
fn alloc(node: &Node, bytes: u64) -> u64 {
    node.alloc(1, bytes)
}

fn list(node: &Node, nodes: u64) -> u64 {
    let base = alloc(node, 4 * PAGE);
    for n in 0..nodes {
        let at = base + n * 4096 % (4 * PAGE) + n / 64 * 64;
        let next = base + (n + 1) * 4096 % (4 * PAGE) + (n + 1) / 64 * 64;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(n * 10).to_le_bytes());
        bytes.extend_from_slice(&if n + 1 == nodes { 0 } else { next }.to_le_bytes());
        bytes.extend_from_slice(format!("node {n:03}").as_bytes());
        assert_eq!(node.write(1, at, &bytes), Status::Ok);
    }
    base
}

fn walk(key: u64, depth: u32) -> Walk {
    Walk {
        key,
        key_at: 0,
        next_at: 8,
        depth,
        data_at: 16,
        data_len: 8,
    }
}

fn chase(node: &Node, at: u64, walk: Walk) -> (Status, u64, Vec<u8>) {
    node.offload(at, Chase::ID, Chase::FIND, &walk.encode(), 64)
}

#[test]
fn a_list_is_walked_in_one_request() {
    let node = node();
    let base = list(&node, 100);
    let (status, _, data) = chase(&node, base, walk(160, 200));
    assert_eq!((status, data.as_slice()), (Status::Ok, &b"node 016"[..]));
    let (status, _, data) = chase(&node, base, walk(990, 200));
    assert_eq!((status, data.as_slice()), (Status::Ok, &b"node 099"[..]));
    let steps = Walk {
        key_at: Walk::NO_KEY,
        ..walk(0, 16)
    };
    assert_eq!(chase(&node, base, steps).2, b"node 016");
    assert_eq!(chase(&node, base, walk(5, 200)).0, Status::NotFound);
    assert_eq!(chase(&node, base, walk(160, 15)).0, Status::NotFound);
}

#[test]
fn a_walk_is_bounded_and_sees_only_what_its_caller_may() {
    let node = node();
    let base = list(&node, 3);
    // A ring, without the key in it.
    assert_eq!(node.write(1, base + 8, &base.to_le_bytes()), Status::Ok);
    assert_eq!(chase(&node, base, walk(1, 256)).0, Status::NotFound);
    assert_eq!(chase(&node, base, walk(1, 257)).0, Status::TooLarge);
    assert_eq!(node.write(1, base + 8, &8u64.to_le_bytes()), Status::Ok);
    assert_eq!(chase(&node, base, walk(1, 9)).0, Status::Fault);
    let secret = node.try_alloc(1, PAGE, rights::WRITE).unwrap();
    assert_eq!(node.write(1, base + 8, &secret.to_le_bytes()), Status::Ok);
    assert_eq!(chase(&node, base, walk(1, 9)).0, Status::Denied);
    let wide = Walk {
        data_len: 65,
        ..walk(0, 0)
    };
    assert_eq!(chase(&node, base, wide).0, Status::TooLarge);
    assert_eq!(
        node.offload(base, Chase::ID, 9, &[], 8).0,
        Status::NotSupported
    );
    assert_eq!(node.offload(base, 999, 1, &[], 8).0, Status::NotSupported);
    assert_eq!(
        node.offload(base, Chase::ID, 1, &[0; 5], 8).0,
        Status::Invalid
    );
}

fn format(node: &Node, len: u64, buckets: u64) -> u64 {
    let base = alloc(node, len);
    let input: Vec<u8> = [len, buckets, 3, 4]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    assert_eq!(call(node, base, Store::FORMAT, &input).0, Status::Ok);
    base
}

fn call(node: &Node, base: u64, function: u16, input: &[u8]) -> (Status, u64, Vec<u8>) {
    node.offload(base, Store::ID, function, input, 8192)
}

fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&(key.len() as u32).to_le_bytes(), key, value].concat()
}

#[test]
fn items_are_created_read_changed_and_deleted() {
    let node = node();
    let base = format(&node, 8 * PAGE, 64);
    let create = |key: &[u8], value: &[u8]| call(&node, base, Store::CREATE, &item(key, value)).0;
    let read = |key: &[u8]| call(&node, base, Store::READ, key);
    assert_eq!(read(b"a").0, Status::NotFound);
    assert_eq!(create(b"a", b"one"), Status::Ok);
    assert_eq!(create(b"a", b"two"), Status::Exists);
    assert_eq!(read(b"a"), (Status::Ok, 3, b"one".to_vec()));
    assert_eq!(
        call(&node, base, Store::UPDATE, &item(b"a", &[7; 5000])).0,
        Status::Ok
    );
    assert_eq!(read(b"a"), (Status::Ok, 5000, vec![7; 5000]));
    assert_eq!(
        call(&node, base, Store::UPDATE, &item(b"b", b"")).0,
        Status::NotFound
    );
    assert_eq!(call(&node, base, Store::DELETE, b"a").0, Status::Ok);
    assert_eq!(call(&node, base, Store::DELETE, b"a").0, Status::NotFound);
    assert_eq!(call(&node, base, Store::COUNT, b"").1, 0);
}

#[test]
fn a_retry_of_a_change_does_not_change_again_and_a_retry_of_a_read_reads() {
    let node = node();
    let base = format(&node, 8 * PAGE, 64);
    let request = |function, input: &[u8]| Header {
        operand: offload_operand(legomem_core::core::wire::Offload {
            id: Store::ID,
            function,
            output: 100,
        }),
        argument: 1400,
        ..node.request(Op::Offload, 1, base, input.len() as u32)
    };
    let again = |header: &Header| Header {
        id: header.id + 500,
        flags: flags::RETRY,
        ..*header
    };
    let input = item(b"k", b"v");
    let create = request(Store::CREATE, &input);
    assert_eq!(node.execute(&create, &input).0, Status::Ok);
    assert_eq!(node.execute(&again(&create), &input).0, Status::Ok);
    let read = request(Store::READ, b"k");
    assert_eq!(node.execute(&read, b"k").2, b"v");
    assert_eq!(node.execute(&again(&read), b"k").2, b"v");
}

#[test]
fn a_full_store_says_so_and_keeps_what_it_has() {
    let node = node();
    let base = format(&node, PAGE, 8);
    let mut there = 0u32;
    loop {
        let input = item(&there.to_le_bytes(), &[1; 1000]);
        match call(&node, base, Store::CREATE, &input).0 {
            Status::Ok => there += 1,
            status => {
                assert_eq!(status, Status::NoSpace);
                break;
            }
        }
    }
    assert_eq!(there, 63);
    assert_eq!(
        call(&node, base, Store::DELETE, &5u32.to_le_bytes()).0,
        Status::Ok
    );
    assert_eq!(
        call(&node, base, Store::CREATE, &item(b"new", &[2; 900])).0,
        Status::Ok
    );
    assert_eq!(call(&node, base, Store::READ, &6u32.to_le_bytes()).1, 1000);
}

#[test]
fn what_is_no_store_is_not_taken_for_one() {
    let node = node();
    let base = alloc(&node, PAGE);
    assert_eq!(call(&node, base, Store::READ, b"k").0, Status::Corrupt);
    let good = format(&node, PAGE, 8);
    assert_eq!(
        call(&node, good, Store::CREATE, &item(b"k", b"v")).0,
        Status::Ok
    );
    // Its owner scribbles over it.
    for at in (0..2048).step_by(8) {
        for junk in [u64::MAX, 1, 1 << 40, 4096] {
            let mut old = node.read(1, good + at, 8).unwrap();
            assert_eq!(node.write(1, good + at, &junk.to_le_bytes()), Status::Ok);
            for function in 2..=6 {
                let input = if function == 2 || function == 4 {
                    item(b"k", b"w")
                } else {
                    b"k".to_vec()
                };
                call(&node, good, function, &input);
            }
            old.truncate(8);
            assert_eq!(node.write(1, good + at, &old), Status::Ok);
        }
    }
    let short = [PAGE, 1 << 20, 0, 0].map(u64::to_le_bytes).concat();
    assert_eq!(call(&node, good, Store::FORMAT, &short).0, Status::Invalid);
    let outside = [REGION * 2, 8, 0, 0].map(u64::to_le_bytes).concat();
    assert_eq!(call(&node, good, Store::FORMAT, &outside).0, Status::Fault);
}

#[test]
fn a_store_is_not_left_by_a_pointer_that_its_owner_bent() {
    let node = node();
    let base = alloc(&node, 2 * PAGE);
    let input = [PAGE, 1, 3, 4].map(u64::to_le_bytes).concat();
    assert_eq!(call(&node, base, Store::FORMAT, &input).0, Status::Ok);
    // What looks like an item, behind the store's end, and the only bucket leads to it.
    let fake = [0, 1 | (3 << 32)].map(u64::to_le_bytes).concat();
    let fake = [fake.as_slice(), b"kout"].concat();
    assert_eq!(node.write(1, base + PAGE + 64, &fake), Status::Ok);
    assert_eq!(node.write(1, base + 24, &9u64.to_le_bytes()), Status::Ok);
    assert_eq!(
        node.write(1, base + 256, &(PAGE + 64).to_le_bytes()),
        Status::Ok
    );
    assert_eq!(call(&node, base, Store::READ, b"k").0, Status::Corrupt);
    assert_eq!(call(&node, base, Store::DELETE, b"k").0, Status::Corrupt);
    assert_eq!(node.read(1, base + PAGE + 64, 20).unwrap(), fake);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_is_what_a_map_is(steps in prop::collection::vec(
        (2u16..6, 0u8..12, prop::collection::vec(any::<u8>(), 0..300)), 1..150)
    ) {
        let node = node();
        let base = format(&node, 4 * PAGE, 4);
        let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for (function, key, value) in steps {
            let name = [key; 3];
            let input = item(&name, &value);
            let known = model.contains_key(&key);
            match function {
                Store::CREATE => {
                    let status = call(&node, base, function, &input).0;
                    prop_assert_eq!(status, if known { Status::Exists } else { Status::Ok });
                    model.entry(key).or_insert(value);
                }
                Store::UPDATE => {
                    let status = call(&node, base, function, &input).0;
                    prop_assert_eq!(status, if known { Status::Ok } else { Status::NotFound });
                    if known {
                        model.insert(key, value);
                    }
                }
                Store::DELETE => {
                    let status = call(&node, base, function, &name).0;
                    prop_assert_eq!(status, if known { Status::Ok } else { Status::NotFound });
                    model.remove(&key);
                }
                _ => {
                    let (status, _, bytes) = call(&node, base, Store::READ, &name);
                    match model.get(&key) {
                        Some(value) => prop_assert_eq!(&bytes, value),
                        None => prop_assert_eq!(status, Status::NotFound),
                    }
                }
            }
            prop_assert_eq!(call(&node, base, Store::COUNT, b"").1, model.len() as u64);
        }
    }
}
