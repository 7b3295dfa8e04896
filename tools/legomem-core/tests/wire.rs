// SPDX-License-Identifier: GPL-2.0

//! Packets: what is sealed is parsed and verified, and nothing else is.

use kernel::siphash::Key;
use legomem_core::core::wire::{
    self, flags, lock_holder, lock_word, Header, Offload, Op, Path, Remedy, Status, WireError,
    HEADER_LEN, MAX_PAYLOAD, MAX_READ, MAX_WRITE,
};
use proptest::prelude::*;

const KEY: Key = Key::new([1, 2]);

fn request(op: Op) -> Header {
    let len = match op {
        Op::Read | Op::Write | Op::FlushFetch | Op::Offload => 100,
        op if op.is_word() => 8,
        _ => 0,
    };
    let argument = match op {
        Op::Read | Op::Offload => 1400,
        _ => 0,
    };
    Header {
        epoch: 7,
        node: 3,
        argument,
        incarnation: 99,
        ..Header::request(op, 5, 1000, 1 << 40, len)
    }
}

fn payload(op: Op) -> Vec<u8> {
    match op {
        Op::Write | Op::FlushFetch | Op::Offload => vec![0x5a; 100],
        Op::Cas => vec![0x5a; 8],
        _ => Vec::new(),
    }
}

fn packet(header: &Header, payload: &[u8]) -> Vec<u8> {
    [header.seal(&KEY, payload).as_slice(), payload].concat()
}

fn parse(header: &Header, payload: &[u8]) -> Result<Header, WireError> {
    Header::parse(&packet(header, payload)).map(|parsed| parsed.0)
}

#[test]
fn each_request_and_each_answer_is_read_as_it_was_written() {
    for op in Op::ALL {
        let header = request(op);
        let bytes = packet(&header, &payload(op));
        assert_eq!(Header::parse(&bytes), Ok((header, payload(op).as_slice())));
        assert_eq!(Header::verify(&bytes, &KEY), Ok(()));
        for (status, ..) in Status::TABLE {
            let answer = header.answer(status, 8);
            assert!(answer.is_response());
            assert_eq!(parse(&answer, b"result"), Ok(answer));
        }
    }
}

#[test]
fn the_layout_is_the_one_of_the_documentation() {
    let header = Header {
        op: Op::Write,
        flags: flags::RETRY,
        status: Status::Ok,
        epoch: 0x0102_0304,
        ras: 0x1112_1314_1516_1718,
        id: 0x2122_2324_2526_2728,
        first: 0x2122_2324_2526_2720,
        addr: 0x3132_3334_3536_3738,
        len: 0x0000_4244,
        offset: 0x0000_0054,
        node: 0x6364,
        argument: 0x7172_7374,
        incarnation: 0x8182_8384_8586_8788,
        operand: 0x9192_9394_9596_9798,
    };
    let bytes = header.seal(&KEY, &[1, 2, 3]);
    let le = |at: usize, len: usize| {
        bytes[at..at + len]
            .iter()
            .rev()
            .fold(0u64, |n, b| (n << 8) | u64::from(*b))
    };
    assert_eq!(bytes[..4], [1, 2, flags::RETRY, 0]);
    assert_eq!(le(4, 4), u64::from(header.epoch));
    assert_eq!(le(8, 8), header.ras);
    assert_eq!(le(16, 8), header.id);
    assert_eq!(le(24, 8), header.first);
    assert_eq!(le(32, 8), header.addr);
    assert_eq!(le(40, 4), u64::from(header.len));
    assert_eq!(le(44, 4), u64::from(header.offset));
    assert_eq!(le(48, 4), u64::from(header.node));
    assert_eq!(le(52, 4), u64::from(header.argument));
    assert_eq!(le(56, 8), header.incarnation);
    assert_eq!(le(64, 8), header.operand);
    assert_eq!(le(72, 8), KEY.hash(&[&bytes[..72], &[0; 8], &[1, 2, 3]]));
}

#[test]
fn the_tag_covers_every_bit_of_header_and_payload() {
    let header = request(Op::Write);
    let good = packet(&header, &payload(Op::Write));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::verify(&bad, &KEY), Err(WireError::Tag), "bit {bit}");
    }
    assert_eq!(
        Header::verify(&good, &Key::new([1, 3])),
        Err(WireError::Tag)
    );
}

#[test]
fn short_oversized_and_foreign_packets_are_told_apart() {
    let good = packet(&request(Op::Read), &[]);
    for len in 0..HEADER_LEN {
        assert_eq!(Header::parse(&good[..len]), Err(WireError::Truncated));
    }
    let long = [good.as_slice(), &vec![0; MAX_PAYLOAD + 1]].concat();
    assert_eq!(Header::parse(&long), Err(WireError::Oversized));
    let mut other = good.clone();
    other[0] = 2;
    assert_eq!(Header::parse(&other), Err(WireError::Version(2)));
    other[0] = 1;
    other[1] = 250;
    assert_eq!(Header::parse(&other), Err(WireError::Op(250)));
    other[1] = 1;
    other[3] = 200;
    assert_eq!(Header::parse(&other), Err(WireError::Op(200)));
}

#[test]
fn requests_whose_fields_contradict_each_other_are_refused() {
    let mut bad: Vec<(Header, Vec<u8>)> = Vec::new();
    let mut add = |op: Op, change: &dyn Fn(&mut Header), bytes: Option<usize>| {
        let mut header = request(op);
        change(&mut header);
        let bytes = bytes.map_or_else(|| payload(op), |len| vec![0; len]);
        bad.push((header, bytes));
    };
    for op in Op::ALL {
        add(op, &|h| h.node = 0, None);
        add(op, &|h| h.node = 1 << 16, None);
        add(op, &|h| h.incarnation = 0, None);
        add(op, &|h| h.flags = 0x80, None);
        add(op, &|h| h.flags = flags::UNSIGNED, None);
        add(op, &|h| h.status = Status::Fault, None);
        // An older first id without the flag, the flag without one, a first id from the future.
        add(op, &|h| h.first -= 1, None);
        add(op, &|h| h.flags = flags::RETRY, None);
        add(op, &|h| (h.first, h.flags) = (h.id + 1, flags::RETRY), None);
    }
    add(Op::Read, &|h| h.len = 0, None);
    add(Op::Read, &|h| h.len = MAX_READ + 1, None);
    add(Op::Read, &|h| h.argument = 0, None);
    add(Op::Read, &|h| h.offset = 1, None);
    add(Op::Read, &|_| (), Some(1));
    for op in [Op::Write, Op::FlushFetch] {
        add(op, &|_| (), Some(0));
        add(op, &|_| (), Some(101));
        add(op, &|h| h.offset = 1, None);
        add(op, &|h| h.offset = u32::MAX, None);
        add(op, &|h| h.len = MAX_WRITE + 1, None);
    }
    add(Op::Cas, &|_| (), Some(0));
    add(Op::Faa, &|h| h.len = 4, None);
    add(Op::Tas, &|h| h.offset = 8, None);
    add(Op::Offload, &|h| h.operand = u64::from(MAX_READ) + 1, None);
    add(Op::Offload, &|h| h.len = 99, None);
    for (header, bytes) in bad {
        assert_eq!(parse(&header, &bytes), Err(WireError::Field), "{header:?}");
    }
}

#[test]
fn the_table_of_statuses_is_in_the_order_of_their_codes() {
    for (code, (status, error, remedy)) in Status::TABLE.into_iter().enumerate() {
        assert_eq!(status as usize, code);
        assert_eq!(status.to_result().err(), error);
        assert_eq!(status.remedy(), remedy);
        // What is tried again was not executed, so it is no success.
        assert!(remedy == Remedy::None || error.is_some());
    }
    assert_eq!(Status::Ok.to_result(), Ok(()));
}

#[test]
fn a_hint_has_no_tag_and_says_so() {
    let hint = request(Op::Read).answer(Status::NoSpaceId, 1).hint();
    assert_eq!(hint[72..], [0; 8]);
    let (header, _) = Header::parse(&hint).unwrap();
    assert_eq!(header.flags, flags::RESPONSE | flags::UNSIGNED);
    assert_eq!(Header::verify(&hint, &KEY), Err(WireError::Tag));
}

#[test]
fn each_operation_has_one_path() {
    assert_eq!(Op::Read.path(), Path::Fast);
    assert_eq!(Op::FlushFetch.path(), Path::Fast);
    assert_eq!(Op::Alloc.path(), Path::Slow);
    assert_eq!(Op::Offload.path(), Path::Extend);
}

proptest! {
    #[test]
    fn no_bytes_confuse_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((header, payload)) = Header::parse(&bytes) {
            prop_assert_eq!(payload.len(), bytes.len() - HEADER_LEN);
            prop_assert_eq!(parse(&header, payload), Ok(header));
        }
        prop_assert!(Header::verify(&bytes, &KEY).is_err());
    }

    #[test]
    fn a_damaged_packet_is_either_refused_or_still_within_its_bounds(
        op in 0..Op::ALL.len(),
        damage in prop::collection::vec((0usize..HEADER_LEN, any::<u8>()), 1..4),
    ) {
        let op = Op::ALL[op];
        let mut bytes = packet(&request(op), &payload(op));
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        if let Ok((header, payload)) = Header::parse(&bytes) {
            if !header.is_response() {
                prop_assert!(header.len <= MAX_WRITE);
                if matches!(header.op, Op::Write | Op::FlushFetch) {
                    prop_assert!(u64::from(header.offset) + payload.len() as u64 <= u64::from(header.len));
                }
            }
        }
    }

    #[test]
    fn a_lock_word_names_its_holder(node in 1u32..65536, incarnation: u64, who in 0u32..1 << 24) {
        let word = lock_word(node, incarnation, who);
        prop_assert_ne!(word, 0);
        prop_assert_eq!(lock_holder(word), (node, wire::fold(incarnation), who));
    }

    #[test]
    fn the_operand_of_an_offload_holds_its_three_parts(id: u16, function: u16, output: u32) {
        let offload = Offload { id, function, output };
        let header = Header { operand: wire::offload_operand(offload), ..request(Op::Offload) };
        prop_assert_eq!(header.offload(), offload);
    }
}
