// SPDX-License-Identifier: GPL-2.0

//! Slots of PM pages.

use super::*;

#[test]
fn is_read_as_it_was_written() {
    for state in [slot::State::Staged, slot::State::Committed] {
        let of = page_version();
        let read = Slot::decode(5, &slot_line(5, of, state)).unwrap();
        assert_eq!(read, Some((state, slot(of))));
    }
}

#[test]
fn with_any_flipped_bit_is_refused() {
    for state in [slot::State::Staged, slot::State::Committed] {
        for bytes in flips(&slot_line(5, page_version(), state)) {
            assert!(Slot::decode(5, &bytes).is_err());
        }
    }
}

#[test]
fn of_zeros_is_free_and_a_flipped_bit_in_its_word_is_seen() {
    assert_eq!(Slot::decode(5, &[0; LINE_SIZE]), Ok(None));
    for bytes in flips(&[0; LINE_SIZE]).take(64) {
        assert!(Slot::decode(5, &bytes).is_err());
    }
}

#[test]
fn in_the_wrong_place_is_refused() {
    let line = slot_line(5, page_version(), slot::State::Committed);
    assert!(Slot::decode(6, &line).is_err());
}

#[test]
fn whose_word_was_swung_before_its_body_arrived_is_refused() {
    let old = page_version();
    for change in [
        |of: &mut PageVersion| of.dataset = 8,
        |of: &mut PageVersion| of.page = 12,
        |of: &mut PageVersion| of.version += 0x1_0000,
        |of: &mut PageVersion| of.cid = Cid::new(3, 100),
    ] {
        let mut new = old;
        change(&mut new);
        let body = slot(old).encode(5);
        let line = line(new.word(5, slot::State::Committed), body);
        assert_eq!(Slot::decode(5, &line), Err(Damage::Word));
    }
}

#[test]
fn never_seen_torn_when_the_word_is_swung_last() {
    let old = slot_line(5, page_version(), slot::State::Committed);
    let mut freed = old;
    freed[..8].fill(0);
    let of = PageVersion {
        version: 9,
        ..page_version()
    };
    let new = slot_line(5, of, slot::State::Staged);
    for n in 1..=8 {
        let mut line = freed;
        line[8..n * 8].copy_from_slice(&new[8..n * 8]);
        assert_eq!(Slot::decode(5, &line), Ok(None));
    }
}

#[test]
fn changes_state_in_its_word_alone() {
    let staged = slot_line(5, page_version(), slot::State::Staged);
    let committed = slot_line(5, page_version(), slot::State::Committed);
    assert_eq!(staged[8..], committed[8..]);
}

fn with_stager(stager: Stager) -> [u8; LINE_SIZE] {
    let of = page_version();
    let slot = Slot {
        stager: Some(stager),
        ..slot(of)
    };
    line(of.word(5, slot::State::Staged), slot.encode(5))
}

#[test]
fn tells_who_staged_it_and_which_others_there_are() {
    let stager = Stager::new(3, 1 << 31, &[1, 3, 32, 33], false);
    let (_, read) = Slot::decode(5, &with_stager(stager)).unwrap().unwrap();
    assert_eq!(read.stager, Some(stager));
    assert_eq!((stager.nr_owners, stager.pages), (4, 1 << 31));
    assert!(stager.named().eq([1, 3, 32]), "33 has no bit");
    let far = Stager::new(40, 1, &[40, 2], true);
    assert!(
        far.named().eq([2, 40]),
        "it names itself whatever its id is"
    );
    let only = Stager::new(3, 1, &[], false);
    assert_eq!((only.nr_owners, only.owners), (1, Stager::bit(3)));
}

#[test]
fn with_nothing_about_its_stager_is_of_nobody_known() {
    let of = page_version();
    let none = Slot {
        stager: None,
        ..slot(of)
    };
    let body = none.encode(5);
    assert_eq!(body[40..52], [0; 12]);
    let line = line(of.word(5, slot::State::Staged), body);
    assert_eq!(
        Slot::decode(5, &line),
        Ok(Some((slot::State::Staged, none)))
    );
}

#[test]
fn whose_stager_cannot_be_is_refused() {
    let right = Stager::new(3, 7, &[2, 3], false);
    for (field, change) in [
        ("owner node", (|of| of.owner = 0) as fn(&mut Stager)),
        ("pages of its owner", |of| of.pages = 0),
        ("owner nodes", |of| of.nr_owners = 1),
        ("owner nodes", |of| of.nr_owners = 0),
        ("owner nodes", |of| of.owners = Stager::bit(2)),
        ("owner nodes", |of| of.owner = 40),
    ] {
        let mut wrong = right;
        change(&mut wrong);
        assert_eq!(
            Slot::decode(5, &with_stager(wrong)),
            Err(Damage::Field(field)),
            "{wrong:?}"
        );
    }
}
