// SPDX-License-Identifier: GPL-2.0

//! The wire format: what is encoded is decoded, and nothing else is.

use kernel::prelude::*;
use proptest::prelude::*;
use rdma_lite_core::core::wire::{
    CallId, Header, Hello, Imm, Kind, Refusal, Reject, RejectReason, ReplyBuffer, RingAddress,
    WireError, HEADER_LEN, HELLO_LEN,
};
use rdma_lite_core::core::Class;

const MAX: u32 = 4096;

prop_compose! {
    fn header()(
        kind in prop_oneof![
            Just(Kind::Call), Just(Kind::Reply), Just(Kind::Refuse), Just(Kind::Heartbeat)
        ],
        (direct, notify, high) in any::<(bool, bool, bool)>(),
        port: u16,
        len in 0..=MAX,
        (cluster, epoch) in any::<(u64, u64)>(),
        (src_incarnation, dst_incarnation) in any::<(u64, u64)>(),
        (slot, seq) in (any::<u16>(), 1..=CallId::MAX_SEQ),
        arg in 1u32..=7,
        credit in 0u32..1 << 24,
        (addr, rkey, cap) in any::<(u64, u32, u32)>(),
    ) -> Header {
        let payload = matches!(kind, Kind::Call | Kind::Reply);
        Header {
            kind,
            direct: direct && kind == Kind::Reply,
            notify: notify && kind == Kind::Call,
            class: if high && kind == Kind::Call { Class::High } else { Class::Normal },
            port,
            len: if payload { len } else { 0 },
            cluster,
            epoch,
            src_incarnation,
            dst_incarnation,
            call: CallId::new(slot, seq),
            arg: if kind == Kind::Reply { (-(arg as i32)) as u32 } else { arg },
            credit,
            reply: ReplyBuffer { addr, rkey, cap },
        }
    }
}

prop_compose! {
    fn hello()(
        (src, dst) in (1..=u16::MAX, any::<u16>()),
        cluster: [u8; 16],
        (incarnation, epoch) in (1..=u64::MAX, any::<u64>()),
        (addr, rkey) in any::<(u64, u32)>(),
        size_log2 in RingAddress::SIZE_LOG2,
        depth_log2 in RingAddress::DEPTH_LOG2,
        slots_log2 in RingAddress::SLOTS_LOG2,
        lane: u8,
    ) -> Hello {
        Hello {
            src, dst, cluster, incarnation, epoch, lane,
            ring: RingAddress { addr, rkey, size_log2, depth_log2, slots_log2 },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_header_is_decoded_as_it_was_encoded(header in header()) {
        prop_assert_eq!(Header::decode(&header.encode(), MAX), Ok(header));
    }

    #[test]
    fn a_hello_is_decoded_as_it_was_encoded(hello in hello(), padding in 0usize..8) {
        let mut bytes = hello.encode().to_vec();
        bytes.resize(HELLO_LEN + padding, 0);
        prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::decode(&bytes, MAX);
        let _ = Hello::decode(&bytes);
        let _ = Reject::decode(&bytes);
    }

    #[test]
    fn any_immediate_data_is_decoded_or_refused(imm: u32) {
        if let Ok(decoded) = Imm::decode(imm) {
            prop_assert_eq!(decoded.encode(), imm);
        }
    }

    #[test]
    fn a_flipped_bit_of_a_header_is_noticed(header in header(), bit in 0..HEADER_LEN * 8) {
        let mut bytes = header.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Header::decode(&bytes, MAX).is_err());
    }

    #[test]
    fn a_truncated_message_is_refused(header in header(), hello in hello(), cut: usize) {
        let bytes = header.encode();
        prop_assert_eq!(
            Header::decode(&bytes[..cut % HEADER_LEN], MAX),
            Err(WireError::Truncated)
        );
        let bytes = hello.encode();
        prop_assert_eq!(Hello::decode(&bytes[..cut % HELLO_LEN]), Err(WireError::Truncated));
    }
}

fn call() -> Header {
    Header {
        kind: Kind::Call,
        direct: false,
        notify: false,
        class: Class::Normal,
        port: 1,
        len: 64,
        cluster: 1,
        epoch: 1,
        src_incarnation: 1,
        dst_incarnation: 1,
        call: CallId::new(0, 1),
        arg: 1000,
        credit: 0,
        reply: ReplyBuffer::default(),
    }
}

fn decode_with(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> Result<Header> {
    let mut bytes = call().encode();
    change(&mut bytes);
    Ok(Header::decode(&bytes, MAX)?)
}

#[test]
fn another_version_is_not_supported() {
    assert_eq!(decode_with(|bytes| bytes[2] = 1), Err(EPROTONOSUPPORT));
}

#[test]
fn an_unknown_kind_is_a_protocol_error() {
    assert_eq!(decode_with(|bytes| bytes[3] = 9), Err(EPROTO));
}

#[test]
fn a_reply_that_wants_no_reply_is_a_protocol_error() {
    let header = Header {
        kind: Kind::Reply,
        notify: true,
        arg: 0,
        ..call()
    };
    assert_eq!(Header::decode(&header.encode(), MAX), Err(WireError::Field));
}

#[test]
fn a_reply_of_a_class_is_a_protocol_error() {
    let header = Header {
        kind: Kind::Reply,
        class: Class::High,
        arg: 0,
        ..call()
    };
    assert_eq!(Header::decode(&header.encode(), MAX), Err(WireError::Field));
}

#[test]
fn foreign_bytes_are_a_bad_message() {
    assert_eq!(decode_with(|bytes| bytes[0] = 0), Err(EBADMSG));
}

#[test]
fn an_oversized_message_is_too_long() {
    let header = Header {
        len: MAX + 1,
        ..call()
    };
    assert_eq!(
        Header::decode(&header.encode(), MAX),
        Err(WireError::Oversized)
    );
    assert_eq!(Error::from(WireError::Oversized), EMSGSIZE);
}

#[test]
fn a_large_reply_that_went_straight_to_its_buffer_is_not_oversized() {
    let header = Header {
        kind: Kind::Reply,
        direct: true,
        len: MAX * 100,
        arg: 0,
        ..call()
    };
    assert_eq!(Header::decode(&header.encode(), MAX), Ok(header));
    assert_eq!(header.ring_payload(), 0);
}

#[test]
fn a_rejection_is_decoded_as_it_was_encoded() {
    let reject = Reject {
        reason: RejectReason::Incarnation,
        epoch: 7,
    };
    assert_eq!(Reject::decode(&reject.encode()), Ok(reject));
}

#[test]
fn a_refusal_keeps_its_code() {
    let header = Header {
        kind: Kind::Refuse,
        len: 0,
        arg: Refusal::NoPort as u32,
        ..call()
    };
    let decoded = Header::decode(&header.encode(), MAX).unwrap();
    assert_eq!(decoded.refusal(), Some(Refusal::NoPort));
}

#[test]
fn a_hello_without_incarnation_or_with_an_impossible_ring_is_refused() {
    let hello = Hello {
        src: 1,
        dst: 2,
        cluster: [0; 16],
        incarnation: 0,
        epoch: 0,
        lane: 0,
        ring: RingAddress {
            addr: 0,
            rkey: 0,
            size_log2: 20,
            depth_log2: 10,
            slots_log2: 8,
        },
    };
    assert_eq!(Hello::decode(&hello.encode()), Err(WireError::Field));
    let mut tiny = Hello {
        incarnation: 1,
        ..hello
    };
    assert_eq!(Hello::decode(&tiny.encode()), Ok(tiny));
    tiny.ring.size_log2 = 63;
    assert_eq!(Hello::decode(&tiny.encode()), Err(WireError::Field));
}
