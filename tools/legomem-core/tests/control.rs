// SPDX-License-Identifier: GPL-2.0

//! Messages of the control plane: what is encoded is decoded, and garbage is not.

use kernel::{alloc::flags::GFP_KERNEL, alloc::KVec, error::code::*};
use legomem_core::core::control::*;
use proptest::prelude::*;

fn list<T>(items: impl IntoIterator<Item = T>) -> KVec<T> {
    let mut list = KVec::new();
    for item in items {
        list.push(item, GFP_KERNEL).unwrap();
    }
    list
}

fn region(index: u32) -> Region {
    Region {
        index,
        node: 3,
        port: 5225,
        allowance: 1 << 24,
        incarnation: 77,
    }
}

fn info(id: u64) -> RasInfo {
    RasInfo {
        id,
        name: Name::new(b"words").unwrap(),
        region_shift: 24,
        pin: 0,
        owner: 1000,
        quota: 1 << 30,
        granted: 1 << 24,
        regions: 1,
        attached: 2,
        version: 5,
    }
}

fn descriptor() -> Descriptor {
    Descriptor {
        ras: 9,
        key: Secret([1, 2]),
        region_shift: 24,
        home: 8,
    }
}

/// One request of each type, as bytes.
fn samples() -> Vec<KVec<u8>> {
    let name = Name::new(b"words").unwrap();
    let (ras, index, token, incarnation) = (9, 4, 6, 77);
    vec![
        encode(&Create {
            name,
            key: Secret([1, 2]),
            region_shift: 24,
            pin: 0,
            owner: 0,
            quota: 1 << 30,
        }),
        encode(&Attach {
            name,
            nonce: 1,
            proof: 2,
        }),
        encode(&Detach { ras }),
        encode(&Destroy {
            ras,
            nonce: 1,
            proof: 2,
        }),
        encode(&Table { ras, from: 3 }),
        encode(&Grow {
            ras,
            bytes: 1 << 26,
            not: 0,
        }),
        encode(&Stat {}),
        encode(&List { after: 3 }),
        encode(&Drain { on: true }),
        encode(&Migrate { ras, index, to: 2 }),
        encode(&Remove { ras, force: true }),
        encode(&Resize {
            ras,
            quota: 1 << 30,
        }),
        encode(&Grant {
            space: descriptor(),
            index,
            allowance: 5,
            incarnation,
        }),
        encode(&Revoke { ras, index }),
        encode(&Drop { ras }),
        encode(&Place {
            ras,
            index,
            bytes: 1,
            wish: 0,
        }),
        encode(&Import {
            space: descriptor(),
            index,
            allowance: 5,
            incarnation,
            token,
        }),
        encode(&ImportRange {
            ras,
            index,
            token,
            addr: VA_BASE,
            len: 5,
            rights: 3,
        }),
        encode(&ImportBytes {
            ras,
            index,
            token,
            addr: VA_BASE,
            crc: 7,
            bytes: Bytes(list(0..100)),
        }),
        encode(&ImportEnd {
            ras,
            index,
            token,
            complete: true,
        }),
        encode(&ImportEffects {
            ras,
            index,
            token,
            effects: list([Effect {
                node: 1,
                incarnation,
                first: 5,
                offset: 0,
                status: 0,
                operand: 7,
            }]),
            horizons: list([Horizon {
                node: 1,
                incarnation,
                first: 3,
            }]),
        }),
        encode(&Swing {
            ras,
            index,
            to: 2,
            incarnation,
            port: 5225,
        }),
    ]
    .into_iter()
    .map(Result::unwrap)
    .collect()
}

#[test]
fn each_request_is_read_as_it_was_written() {
    let mut decoded = Vec::new();
    for bytes in samples() {
        decoded.push(Any::decode(&bytes).unwrap());
    }
    assert_eq!(
        decoded[5],
        Any::Grow(Grow {
            ras: 9,
            bytes: 1 << 26,
            not: 0
        })
    );
    assert_eq!(
        decoded[12],
        Any::Grant(Grant {
            space: descriptor(),
            index: 4,
            allowance: 5,
            incarnation: 77
        })
    );
    for (one, two) in decoded.iter().zip(decoded.iter().skip(1)) {
        assert_ne!(one, two);
    }
}

#[test]
fn each_reply_is_read_as_it_was_written() {
    let table = TableReply {
        version: 5,
        regions: list((0..9).map(region)),
        more: true,
    };
    assert_eq!(decode_reply(&encode_reply(&table).unwrap()), Ok(table));
    let spaces = ListReply {
        spaces: list((1..4).map(info)),
        more: false,
    };
    assert_eq!(decode_reply(&encode_reply(&spaces).unwrap()), Ok(spaces));
    assert_eq!(decode_reply::<()>(&encode_reply(&()).unwrap()), Ok(()));
}

#[test]
fn a_message_that_is_cut_or_has_more_behind_it_is_refused() {
    for bytes in samples() {
        for len in 0..bytes.len() {
            assert_eq!(Any::decode(&bytes[..len]).unwrap_err(), EBADMSG);
        }
        let longer = list(bytes.iter().copied().chain([0]));
        assert_eq!(Any::decode(&longer).unwrap_err(), EBADMSG);
    }
}

#[test]
fn other_versions_and_unknown_requests_are_told_apart() {
    let mut bytes = samples().remove(6);
    bytes[2] = 2;
    assert_eq!(Any::decode(&bytes).unwrap_err(), EPROTONOSUPPORT);
    bytes[2] = 1;
    bytes[0] = 200;
    assert_eq!(Any::decode(&bytes).unwrap_err(), EOPNOTSUPP);
}

#[test]
fn a_count_that_no_message_can_hold_is_refused_without_room_for_it() {
    let mut bytes = encode_reply(&TableReply {
        version: 1,
        regions: list([]),
        more: false,
    })
    .unwrap();
    bytes[8..12].fill(0xff);
    assert_eq!(decode_reply::<TableReply>(&bytes).unwrap_err(), EBADMSG);
}

#[test]
fn names_are_short_and_printable() {
    for bad in [&b""[..], b"a/b", b"a\nb", b"a\0", &[b'x'; 64]] {
        assert_eq!(Name::new(bad).unwrap_err(), EINVAL);
    }
    assert_eq!(Name::new(&[b'x'; 63]).unwrap().as_bytes(), [b'x'; 63]);
}

#[test]
fn a_proof_is_good_for_one_node_one_nonce_and_one_name() {
    let key = Secret([1, 2]);
    let good = proof(&key, 5, 1, b"words");
    assert_ne!(good, proof(&Secret([1, 3]), 5, 1, b"words"));
    assert_ne!(good, proof(&key, 6, 1, b"words"));
    assert_ne!(good, proof(&key, 5, 2, b"words"));
    assert_ne!(good, proof(&key, 5, 1, b"word"));
}

#[test]
fn keys_stay_out_of_logs() {
    assert_eq!(format!("{:?}", Secret([7, 8])), "Secret(..)");
}

proptest! {
    #[test]
    fn no_bytes_confuse_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Any::decode(&bytes);
        let _ = decode_reply::<TableReply>(&bytes);
        let _ = decode_reply::<ListReply>(&bytes);
    }

    #[test]
    fn damage_behind_the_opcode_never_panics(
        which in 0usize..22,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = samples().remove(which);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Any::decode(&bytes);
    }
}
