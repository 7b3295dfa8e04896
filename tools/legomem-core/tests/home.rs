// SPDX-License-Identifier: GPL-2.0

//! What operators do to address spaces, at their home.

use kernel::prelude::*;
use legomem_core::core::{
    control::{proof, Attach, Create, Name, RasInfo, Remove, Resize, Secret},
    home::{Home, Life},
    placement::Candidate,
};

const ME: Life = Life {
    node: 3,
    incarnation: 30,
};
const CLIENT: Life = Life {
    node: 1,
    incarnation: 10,
};
const KEY: Secret = Secret([1, 2]);
const MIB: u64 = 1 << 20;

fn home_with_a_space() -> (Home, RasInfo) {
    let mut home = Home::default();
    let create = Create {
        name: Name::new(b"words").unwrap(),
        key: KEY,
        region_shift: 24,
        pin: 0,
        owner: 0,
        quota: 64 * MIB,
    };
    let info = home.create(ME.node, &create, 0x1234_5678_9abc).unwrap();
    (home, info)
}

fn attach(home: &mut Home) {
    let name = Name::new(b"words").unwrap();
    let attach = Attach {
        name,
        nonce: 7,
        proof: proof(&KEY, 7, CLIENT.node, name.as_bytes()),
    };
    home.attach(CLIENT, &attach).unwrap();
}

fn grow(home: &mut Home, ras: u64, bytes: u64) -> Result {
    let nodes = [Candidate {
        life: ME,
        port: 1,
        page_shift: 16,
        room: 1 << 30,
        load: 0,
    }];
    let growth = home.plan(ME, ras, bytes, &nodes)?;
    home.commit(&growth).map(drop)
}

#[test]
fn an_operator_ends_an_address_space_without_its_key() {
    let (mut home, info) = home_with_a_space();
    grow(&mut home, info.id, MIB).unwrap();
    let remove = Remove {
        ras: info.id,
        force: false,
    };
    let nodes = home.remove(&remove).unwrap();
    assert_eq!(nodes[..], [ME.node]);
    assert_eq!(home.table(info.id, 0).err(), Some(ENOENT));
    // An answer may be lost: it is asked for again.
    assert!(home.remove(&remove).is_ok());
    home.ended(info.id);
    assert_eq!(home.remove(&remove).err(), Some(ENOENT));
}

#[test]
fn one_that_is_in_use_is_only_ended_by_force() {
    let (mut home, info) = home_with_a_space();
    attach(&mut home);
    let ask = |force| Remove {
        ras: info.id,
        force,
    };
    assert_eq!(home.remove(&ask(false)).err(), Some(EBUSY));
    assert!(home.table(info.id, 0).is_ok());
    assert!(home.remove(&ask(true)).is_ok());
}

#[test]
fn a_quota_grows_and_shrinks_but_not_below_what_regions_have() {
    let (mut home, info) = home_with_a_space();
    let ask = |quota| Resize {
        ras: info.id,
        quota,
    };
    grow(&mut home, info.id, 60 * MIB).unwrap();
    assert_eq!(grow(&mut home, info.id, 8 * MIB).err(), Some(EDQUOT));
    assert_eq!(home.resize(&ask(32 * MIB)).err(), Some(EBUSY));
    assert_eq!(home.resize(&ask(0)).err(), Some(EINVAL));
    home.resize(&ask(128 * MIB)).unwrap();
    grow(&mut home, info.id, 8 * MIB).unwrap();
    home.resize(&ask(u64::MAX)).unwrap();
    grow(&mut home, info.id, 512 * MIB).unwrap();
}
