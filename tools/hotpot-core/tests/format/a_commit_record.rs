// SPDX-License-Identifier: GPL-2.0

//! Records of commits.

use super::*;
use commit_record::{Descriptor, State};

#[test]
fn is_read_as_it_was_written() {
    for state in [State::Phase1, State::Decided, State::Done] {
        let (read, descriptor) = Descriptor::decode(&geometry(), 9, &commit_line(9, state))
            .unwrap()
            .unwrap();
        assert_eq!((read, descriptor.of), (state, commit_record()));
    }
}

#[test]
fn with_any_flipped_bit_is_refused() {
    let line = commit_line(9, State::Decided);
    for bytes in flips(&line) {
        assert!(Descriptor::decode(&geometry(), 9, &bytes).is_err());
    }
}

#[test]
fn holds_owner_nodes_and_pages() {
    let record = commit_record();
    let mut content = vec![0xff; record.content_len() as usize];
    record
        .encode_content(&[4, 5, 6], &[70, 80], &mut content)
        .unwrap();
    assert_eq!(record.owners(&content).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(record.pages(&content).collect::<Vec<_>>(), [70, 80]);
    let wrong = record.encode_content(&[4, 5], &[70, 80], &mut content);
    assert_eq!(wrong, Err(Damage::Short));
    let wrong = record.encode_content(&[4, 5, 6], &[70, 80], &mut content[1..]);
    assert_eq!(wrong, Err(Damage::Short));
}

#[test]
fn grows_over_several_blocks() {
    let mut record = commit_record();
    assert_eq!(record.nr_blocks(), 1);
    record.nr_pages = 65_536;
    assert_eq!(record.nr_blocks(), 129);
}
