// SPDX-License-Identifier: GPL-2.0

//! Names that come and go.

use super::{opener, spawn, Done, CHUNK};
use crate::{hotpot::world::World, schedule::Time};
use hotpot_core::core::{
    commit,
    format::Timestamp,
    host::Host,
    names::{self, Change, NewDataset},
};

pub(super) fn change_names(world: &mut World, node: usize, process: usize, until: Time) {
    let names: [&'static [u8]; 3] = [b"one", b"two", b"three"];
    let name = *world.rng.pick(&names);
    let other = *world.rng.pick(&names);
    let kind = world.rng.range(0..5);
    let size = world.rng.range(0..40) * 1000;
    spawn(world, node, process, |host| async move {
        let time = Timestamp::default();
        let new = NewDataset {
            uid: 0,
            gid: 0,
            permissions: 0o600,
            replicas: 1,
            mode: 0,
            chunk_size: CHUNK,
            reserve: 1 << 20,
            time,
        };
        let id = host.with(|node| node.names.lookup(name).map(|record| record.id));
        let result = match (kind, id) {
            (0, _) => names::create(&host, name, &new, until).await.map(|_| ()),
            (1, _) => names::unlink(&host, name, time, until).await,
            (2, _) => names::rename(&host, name, other, true, time, until).await,
            (3, Some(id)) => {
                let change = Change {
                    size: Some(size),
                    ..Change::default()
                };
                names::change(&host, id, &change, until).await
            }
            (_, Some(id)) => {
                commit::write(&host, opener(process), id, size, &[1; 5000], time, until).await
            }
            _ => Ok(()),
        };
        Done::Other("names", result)
    });
}
