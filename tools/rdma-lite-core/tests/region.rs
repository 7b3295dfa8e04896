// SPDX-License-Identifier: GPL-2.0

//! Bounds, rights and copies of memory regions.

use kernel::prelude::*;
use proptest::prelude::{any, proptest, Strategy};
use rdma_lite_core::core::{
    holder::{Holder, Life, Name},
    region::{
        keys::{Key, Keys},
        registry::{NewRegion, Placed, Registry},
        shares::Payer,
        steps::Steps,
        wire::{Head, Reply, Request},
        Geometry, Rights,
    },
};
use std::rc::Rc;

fn holder(node: u16, tag: u64) -> Holder {
    let life = Life {
        node,
        incarnation: 7,
    };
    Holder { life, tag }
}

fn new(name: &[u8], others: Rights, keep: bool) -> NewRegion {
    NewRegion {
        name: Name::new(name).unwrap(),
        geometry: Geometry::new(10_000, 12).unwrap(),
        others,
        keep,
        lender: None,
    }
}

type Regions = Registry<&'static str, u32>;

fn with_one(keep: bool) -> Regions {
    let mut all = Regions::new(1 << 20);
    let region = new(b"name", Rights::READ, keep);
    all.create(holder(1, 1), true, region, 99, "bytes").unwrap();
    all
}

proptest! {
    #[test]
    fn pieces_cover_a_range_that_fits_and_no_other(
        len in 1u64..200_000, log2 in 12u8..=21, offset in any::<u64>(), want in any::<u64>(),
        near in any::<bool>(),
    ) {
        let region = Geometry::new(len, log2).unwrap();
        let (offset, want) = match near {
            true => (offset % (len + 2), want % (len + 2)),
            false => (offset, want),
        };
        let fits = u128::from(offset) + u128::from(want) <= u128::from(len);
        match region.pieces(offset, want) {
            Ok(pieces) => {
                assert!(fits && want != 0);
                let mut at = offset;
                for piece in pieces {
                    assert_eq!((u64::from(piece.chunk) << log2) + u64::from(piece.start), at);
                    assert_eq!(piece.at, at - offset);
                    assert!(piece.start + piece.len <= region.chunk_len(piece.chunk));
                    at += u64::from(piece.len);
                }
                assert_eq!(at, offset + want);
            }
            Err(e) => assert!(if want == 0 { e == EINVAL } else { e == ERANGE && !fits }),
        }
    }

    #[test]
    fn steps_move_overlapping_bytes_as_memmove_does(
        from in 0usize..300, to in 0usize..300, len in 1usize..300, most in 1u64..64,
    ) {
        let size = 600;
        let region = Geometry::new(size, 12).unwrap();
        let mut want: std::vec::Vec<u16> = (0..size as u16).collect();
        let mut got = want.clone();
        want.copy_within(from..from + len, to);
        let (src, dst) = ((region, from as u64), (region, to as u64));
        for step in Steps::new(src, dst, len as u64, true, most).unwrap() {
            let (from, to, len) = (step.from as usize, step.to as usize, step.len as usize);
            let block = got[from..from + len].to_vec();
            got[to..to + len].copy_from_slice(&block);
        }
        assert_eq!(want, got);
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error_and_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok((head, request, data)) = Request::decode(&bytes) {
            assert_eq!(&request.encode(head)[..], &bytes[..bytes.len() - data.len()]);
        }
        let _ = Reply::decode(&bytes);
    }

    #[test]
    fn a_request_comes_out_as_it_went_in(
        tag in any::<u64>(), life in any::<u64>(), a in any::<u64>(), b in any::<u64>(),
        small in any::<u32>(), node in any::<u16>(), which in 0usize..8,
        name in proptest::collection::vec(1u8..255, 0..=63).prop_map(|n| Name::new(&n).unwrap()),
    ) {
        let rights = Rights::new(small % 8).unwrap();
        let request = [
            Request::Alloc { len: a, others: rights, keep: small % 2 == 0, payer: Payer(small), name },
            Request::Map { want: rights, name },
            Request::Grant { node, rights },
            Request::Open { chunk: small, rights },
            Request::Read { offset: a, len: small },
            Request::Copy { offset: a, len: b, node, life, tag, secret: a ^ b, to: b },
            Request::CompareSwap { offset: a, expected: b, new: a ^ b },
            Request::Recall { rights, freed: small % 2 == 1 },
        ][which];
        let head = Head { tag, life };
        let bytes = request.encode(head);
        assert_eq!(Request::decode(&bytes).unwrap(), (head, request, &[][..]));
    }
}

#[test]
fn a_region_without_bytes_or_with_too_many_is_none() {
    assert_eq!(Geometry::new(0, 12), Err(EINVAL));
    assert_eq!(Geometry::new(1, 11), Err(EINVAL));
    assert_eq!(Geometry::new(1, 22), Err(EINVAL));
    assert_eq!(Geometry::new(u64::MAX, 12), Err(EFBIG));
    let region = Geometry::new(4096, 12).unwrap();
    assert_eq!(region.check(0, 1 << 63), Err(ERANGE));
    assert_eq!(region.check(u64::MAX, 2), Err(ERANGE));
    assert_eq!(region.check_word(4092), Err(ERANGE));
    assert_eq!(region.check_word(4), Err(EINVAL));
    assert_eq!(region.check_word(4088), Ok(()));
}

#[test]
fn a_mapping_has_no_more_rights_than_its_node_was_given() {
    let mut all = with_one(false);
    let name = Name::new(b"name").unwrap();
    let both = Rights::READ.or(Rights::WRITE);
    assert_eq!(
        all.map(holder(2, 1), true, &name, both, 0).err(),
        Some(EACCES)
    );
    assert!(all.grant(holder(1, 1), 2, both).is_ok());
    assert!(all.map(holder(2, 2), true, &name, both, 0).is_ok());
    assert_eq!(
        all.map(holder(3, 1), true, &name, both, 0).err(),
        Some(EACCES)
    );
    assert!(all.map(holder(3, 2), true, &name, Rights::READ, 0).is_ok());
    assert_eq!(all.access(holder(3, 2), Rights::WRITE).err(), Some(EACCES));
    assert_eq!(all.free(holder(2, 2)).err(), Some(EACCES));
    assert_eq!(
        all.map(holder(3, 3), true, &name, Rights::NONE, 0).err(),
        Some(EINVAL)
    );
}

#[test]
fn a_revocation_recalls_windows_and_leaves_what_was_not_revoked() {
    let mut all = with_one(false);
    let name = Name::new(b"name").unwrap();
    let both = Rights::READ.or(Rights::WRITE);
    all.grant(holder(1, 1), 2, both).unwrap();
    all.map(holder(2, 1), true, &name, both, 0).unwrap();
    all.map(holder(3, 1), true, &name, Rights::READ, 0).unwrap();
    let good = |_: &u32| true;
    assert_eq!(
        all.opened(holder(2, 1), both, 0, 20, good),
        Ok(Placed::First)
    );
    assert_eq!(
        all.opened(holder(3, 1), Rights::READ, 1, 30, good),
        Ok(Placed::First)
    );
    // Opened again by a late request: the one that may be in use stays.
    let again = all.opened(holder(3, 1), Rights::READ, 1, 31, good);
    assert_eq!(again, Ok(Placed::Known(31)));
    // Opened again on another connection: the older one is to be shut.
    let again = all.opened(holder(3, 1), Rights::READ, 1, 32, |_| false);
    assert_eq!(again, Ok(Placed::Instead(30)));
    let down = all.grant(holder(1, 1), 2, Rights::READ).unwrap();
    assert_eq!(down.recalls.len(), 1);
    assert_eq!(&down.recalls[0].windows[..], &[(0, 20)]);
    assert_eq!(down.recalls[0].rights, Rights::READ);
    // A window that was being opened with rights that are gone is not taken.
    let late = all.opened(holder(2, 1), both, 0, 21, good);
    assert_eq!(late, Err((EACCES, 21)));
    assert!(all.access(holder(2, 1), Rights::READ).is_ok());
    let down = all.grant(holder(1, 1), 0, Rights::NONE).unwrap();
    assert_eq!(down.recalls.len(), 2);
    assert_eq!(all.access(holder(3, 1), Rights::READ).err(), Some(EACCES));
    assert!(all.access(holder(1, 1), Rights::ALL).is_ok());
}

#[test]
fn a_region_goes_with_its_last_mapping_unless_it_is_kept() {
    let name = Name::new(b"name").unwrap();
    let mut all = with_one(false);
    all.map(holder(2, 1), true, &name, Rights::READ, 0).unwrap();
    assert!(all.unmap(holder(1, 1)).unwrap().unwrap().memory.is_none());
    let last = all.unmap(holder(2, 1)).unwrap().unwrap();
    assert_eq!(last.memory, Some("bytes"));
    assert_eq!(
        all.map(holder(2, 2), true, &name, Rights::READ, 0).err(),
        Some(ENOENT)
    );
    let mut all = with_one(true);
    assert!(all.unmap(holder(1, 1)).unwrap().unwrap().memory.is_none());
    assert!(all.map(holder(2, 2), true, &name, Rights::READ, 0).is_ok());
}

#[test]
fn what_was_given_up_before_it_was_heard_of_is_refused() {
    let mut all = with_one(false);
    let name = Name::new(b"name").unwrap();
    assert!(all.unmap(holder(2, 5)).unwrap().is_none());
    assert_eq!(
        all.map(holder(2, 5), true, &name, Rights::READ, 0).err(),
        Some(ESTALE)
    );
    assert_eq!(
        all.map(holder(2, 6), false, &name, Rights::READ, 0).err(),
        Some(ESTALE)
    );
}

#[test]
fn another_node_writes_for_a_holder_only_with_its_secret() {
    let all = with_one(false);
    assert!(all.delegated(holder(1, 1), 99, Rights::WRITE).is_ok());
    assert_eq!(
        all.delegated(holder(1, 1), 98, Rights::WRITE).err(),
        Some(EACCES)
    );
    assert_eq!(
        all.delegated(holder(1, 2), 99, Rights::WRITE).err(),
        Some(ESTALE)
    );
}

#[test]
fn memory_that_was_lent_is_withdrawn_with_the_mapping_of_its_lender() {
    let mut all = Regions::new(0);
    let (lender, other) = (holder(1, 1), holder(2, 1));
    let region = NewRegion {
        lender: Some(lender),
        ..new(b"name", Rights::ALL, false)
    };
    all.create(lender, true, region, 99, "mine").unwrap();
    let name = Name::new(b"name").unwrap();
    all.map(other, true, &name, Rights::ALL, 5).unwrap();
    // It is not the other's to withdraw.
    assert!(all.withdraw(other).unwrap().is_none());
    let down = all.withdraw(lender).unwrap().unwrap();
    assert_eq!(&down.memories[..], ["mine"]);
    assert!(down.recalls.iter().all(|recall| recall.freed));
    assert_eq!(down.recalls.len(), 2);
    assert_eq!(all.access(other, Rights::READ).err(), Some(ESTALE));
    assert!(all.unmap(lender).unwrap().is_some());
    assert!(all.withdraw(lender).unwrap().is_none());
}

#[test]
fn a_node_that_goes_off_lets_go_of_windows_first_and_then_of_memory() {
    let window = Rc::new(());
    let mut all = Registry::<&'static str, Rc<()>>::new(1 << 20);
    let region = new(b"name", Rights::READ, false);
    all.create(holder(1, 1), true, region, 99, "bytes").unwrap();
    let opened = all.opened(holder(1, 1), Rights::ALL, 0, window.clone(), |_| true);
    assert!(opened.is_ok());
    let mapped = all.close();
    // Until whoever closed it has dropped them, they are there; the registry has none any more.
    assert_eq!(Rc::strong_count(&window), 2);
    assert_eq!(all.access(holder(1, 1), Rights::READ).err(), Some(ESTALE));
    drop(mapped);
    assert_eq!(Rc::strong_count(&window), 1);
    assert_eq!(all.drop_region(), Some("bytes"));
    assert_eq!(all.drop_region(), None);
    // And none is made.
    let region = new(b"late", Rights::READ, false);
    assert!(all.create(holder(1, 2), true, region, 9, "late").is_err());
}

#[test]
fn a_lender_whose_rights_were_revoked_withdraws_its_memory_all_the_same() {
    let mut all = Regions::new(0);
    let (lender, other) = (holder(1, 1), holder(2, 1));
    let region = NewRegion {
        lender: Some(lender),
        ..new(b"name", Rights::ALL, false)
    };
    all.create(lender, true, region, 99, "mine").unwrap();
    let name = Name::new(b"name").unwrap();
    all.map(other, true, &name, Rights::ALL, 5).unwrap();
    all.grant(other, 1, Rights::NONE).unwrap();
    let down = all.withdraw(lender).unwrap().unwrap();
    assert_eq!(&down.memories[..], ["mine"]);
    assert_eq!(all.access(other, Rights::READ).err(), Some(ESTALE));
}

#[test]
fn regions_take_no_more_than_the_limit() {
    let mut all = Regions::new(100);
    let payer = Payer(0);
    assert_eq!(all.reserve(60, payer, 0), Ok(()));
    assert_eq!(all.reserve(41, payer, 0), Err(ENOSPC));
    assert_eq!(all.reserve(u64::MAX, payer, 0), Err(ENOSPC));
    all.released(60, payer);
    assert_eq!(all.reserve(100, payer, 0), Ok(()));
}

#[test]
fn a_user_takes_no_more_than_its_share_whatever_others_take() {
    let mut all = Regions::new(1000);
    let (ann, bob) = (Payer(1000), Payer(1001));
    assert_eq!(all.reserve(60, ann, 100), Ok(()));
    assert_eq!(all.reserve(100, bob, 100), Ok(()));
    assert_eq!(all.reserve(41, ann, 100), Err(EDQUOT));
    // What was refused took nothing, of the user's share or of the node's memory.
    assert_eq!((all.used(), all.shares().of(ann)), (160, 60));
    assert_eq!(all.reserve(40, ann, 100), Ok(()));
    all.released(100, bob);
    assert!(all.shares().iter().eq([(ann, 100)]));
    // A limit that sank takes nothing away, and allows nothing more.
    assert_eq!(all.reserve(1, ann, 50), Err(EDQUOT));
    all.released(100, ann);
    assert_eq!(all.reserve(50, ann, 50), Ok(()));
}

#[test]
fn modules_and_limits_of_zero_are_not_bounded_by_a_share() {
    let mut all = Regions::new(1000);
    assert_eq!(all.reserve(500, Payer::KERNEL, 100), Ok(()));
    assert_eq!(all.reserve(500, Payer(1), 0), Ok(()));
    assert_eq!(all.reserve(1, Payer(1), 0), Err(ENOSPC));
    assert_eq!(all.shares().of(Payer::KERNEL), 500);
}

#[test]
fn a_recall_waits_for_accesses_that_began_before_it_and_for_no_others() {
    let mut keys: Keys<u8> = Keys::new(Rights::READ.or(Rights::WRITE));
    let first = keys.begin(Rights::WRITE).unwrap();
    let key = Key {
        addr: 5,
        rkey: 6,
        connection: 1,
    };
    assert!(keys.learned(&first, 3, key));
    assert_eq!(keys.key(&first, 3, 1), Some(key));
    assert_eq!(keys.key(&first, 3, 2), None);
    keys.recall(Rights::READ, false);
    assert!(!keys.is_recalled());
    assert_eq!(keys.key(&first, 3, 1), None);
    // A key that was on its way is of no use any more.
    assert!(!keys.learned(&first, 3, key));
    assert_eq!(keys.begin(Rights::WRITE), Err(EACCES));
    let second = keys.begin(Rights::READ).unwrap();
    assert!(keys.end(first));
    assert!(keys.is_recalled());
    assert!(!keys.end(second));
    keys.recall(Rights::NONE, true);
    assert_eq!(keys.begin(Rights::READ), Err(ESTALE));
}

#[test]
fn a_recall_that_overtakes_the_answer_to_a_mapping_stays_in_force() {
    let mut keys: Keys<u8> = Keys::new(Rights::NONE);
    keys.recall(Rights::NONE, false);
    keys.mapped(Rights::ALL);
    assert_eq!(keys.begin(Rights::READ), Err(EACCES));
}
