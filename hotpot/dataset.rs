// SPDX-License-Identifier: GPL-2.0

//! Datasets as inodes: their numbers are the datasets' ids, and their attributes are those of the
//! records, which the CD decides on and every node keeps.

use super::{
    core::{
        format::{DatasetRecord, PAGE_BYTES},
        info,
        names::{self, Change},
    },
    directory::RootDirectory,
    file::DatasetFile,
    mount::{self, HotpotFs},
    world::{self, World},
};
use kernel::{
    fs::{Attributes, Iget, Inode, Operations, Owner, SetAttr, SuperBlock, Timestamp},
    prelude::*,
    sync::aref::ARef,
};

/// Inode number of the root directory: no dataset has it as its id.
const ROOT: u64 = u64::MAX;

/// Bytes of the blocks that stat(2) counts in.
const STAT_BLOCK: u64 = 512;

fn to_fs_time(time: super::core::format::Timestamp) -> Timestamp {
    Timestamp {
        sec: time.sec,
        nsec: time.nsec,
    }
}

/// The root directory.
pub(crate) fn root(sb: &SuperBlock<HotpotFs>) -> Result<ARef<Inode<HotpotFs>>> {
    match sb.iget(ROOT)? {
        Iget::Cached(inode) => Ok(inode),
        Iget::New(new) => {
            let now = Timestamp::now();
            new.init(
                &Attributes {
                    permissions: 0o1777,
                    owner: Owner::default(),
                    nlink: 2,
                    size: 0,
                    blocks: 0,
                    atime: now,
                    mtime: now,
                    ctime: now,
                },
                Operations::directory::<RootDirectory>(),
                (),
            )
        }
    }
}

fn attributes(record: &DatasetRecord) -> Attributes {
    Attributes {
        // CAST: Records have 12 bits of permissions.
        permissions: record.permissions as u16,
        owner: Owner {
            uid: record.uid,
            gid: record.gid,
        },
        nlink: 1,
        size: record.size,
        blocks: 0,
        atime: to_fs_time(record.modified),
        mtime: to_fs_time(record.modified),
        ctime: to_fs_time(record.changed),
    }
}

/// The inode of a dataset; `ENOENT` when there is none.
pub(crate) fn inode(sb: &SuperBlock<HotpotFs>, id: u64) -> Result<ARef<Inode<HotpotFs>>> {
    match sb.iget(id)? {
        Iget::Cached(inode) => {
            refresh(&inode)?;
            Ok(inode)
        }
        Iget::New(new) => {
            let attributes = sb
                .data()
                .mount
                .with(|node| node.names.get(id).map(attributes))?;
            new.init(&attributes, Operations::regular::<DatasetFile>(), ())
        }
    }
}

/// Whether `name` still means this inode.
pub(crate) fn is_named(inode: &Inode<HotpotFs>, name: &[u8]) -> Result<bool> {
    Ok(mount::of(inode).with(|node| {
        node.names
            .lookup(name)
            .is_some_and(|record| record.id == inode.ino())
    }))
}

/// Gives the inode the attributes of its record: other nodes change them too.
///
/// A dataset that was removed keeps the last ones, with no name.
pub(crate) fn refresh(inode: &Inode<HotpotFs>) -> Result {
    if inode.is_directory() {
        return Ok(());
    }
    let now = mount::of(inode).with(|node| node.names.get(inode.ino()).map(attributes));
    let mut guard = inode.lock_attributes();
    match now {
        Ok(now) => {
            guard
                .set_size(now.size)
                .set_permissions(now.permissions)
                .set_mtime(now.mtime)
                .set_ctime(now.ctime)
                .set_owner(now.owner)?;
        }
        Err(_) => {
            guard.set_nlink(0);
        }
    }
    Ok(())
}

/// Says how much room a dataset takes here: its pages on this node.
pub(crate) fn count_blocks(inode: &Inode<HotpotFs>) {
    if inode.is_directory() {
        return;
    }
    let pages = mount::of(inode).with(|node| info::pages(node, inode.ino()));
    let pages = pages.committed + pages.redundant + pages.dirty;
    inode
        .lock_attributes()
        .set_blocks(pages * (PAGE_BYTES / STAT_BLOCK));
}

/// chmod, chown, truncate, utimes.
pub(crate) fn set_attributes(inode: &Inode<HotpotFs>, attr: &SetAttr<'_, HotpotFs>) -> Result {
    if inode.is_directory() {
        // The root is not on PM: its attributes are those of every mount.
        return Err(EPERM);
    }
    let mount = mount::of(inode);
    let owner = attr.owner();
    let change = Change {
        size: attr.size(),
        uid: owner.map(|owner| owner.uid),
        gid: owner.map(|owner| owner.gid),
        permissions: attr.permissions().map(u32::from),
        modified: attr.mtime().map(mount::to_record_time),
        time: mount::time(),
        ..Change::default()
    };
    change_record(mount, inode.ino(), &change)
}

/// Has the CD change a record.
pub(crate) fn change_record(mount: &mount::Mount, id: u64, change: &Change) -> Result {
    let world = World::new(mount);
    world::run(|| names::change(&world, id, change, mount.deadline(0)))?
}

/// The size now, on whichever node it changed last.
pub(crate) fn size(inode: &Inode<HotpotFs>) -> Result<u64> {
    mount::of(inode)
        .with(|node| node.names.get(inode.ino()).map(|record| record.size))
        .or(Err(ESTALE))
}

/// Base address and reservation.
pub(crate) fn range(inode: &Inode<HotpotFs>) -> Result<(u64, u64)> {
    mount::of(inode)
        .with(|node| {
            node.names
                .get(inode.ino())
                .map(|record| (record.base, record.reserve))
        })
        .or(Err(ESTALE))
}
