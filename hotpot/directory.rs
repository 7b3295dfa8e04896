// SPDX-License-Identifier: GPL-2.0

//! The one directory of a mount: the names of all datasets, the same on every node.

use super::{
    core::names::{self, NewDataset},
    dataset,
    mount::{self, HotpotFs},
    world::{self, World},
};
use kernel::{
    fs::{DirEmitter, DirEntryType, DirectoryOperations, Inode, NewFile, Rename},
    prelude::*,
    sync::aref::ARef,
};

/// The root directory.
pub(crate) struct RootDirectory;

#[vtable]
impl DirectoryOperations for RootDirectory {
    type FileSystem = HotpotFs;

    fn lookup(dir: &Inode<HotpotFs>, name: &[u8]) -> Result<Option<ARef<Inode<HotpotFs>>>> {
        let id = mount::of(dir).with(|node| node.names.lookup(name).map(|record| record.id));
        let Some(id) = id else { return Ok(None) };
        match dataset::inode(dir.super_block(), id) {
            // Removed meanwhile by another node.
            Err(error) if error == ENOENT => Ok(None),
            found => found.map(Some),
        }
    }

    fn create(dir: &Inode<HotpotFs>, name: &[u8], new: &NewFile) -> Result<ARef<Inode<HotpotFs>>> {
        let mount = mount::of(dir);
        let world = World::new(mount);
        let dataset = NewDataset {
            uid: new.owner.uid,
            gid: new.owner.gid,
            permissions: u32::from(new.permissions),
            replicas: mount.new.replicas,
            mode: mount.new.mode,
            chunk_size: mount.new.chunk_size,
            reserve: mount.new.reserve,
            time: mount::time(),
        };
        let created = world::run(|| names::create(&world, name, &dataset, mount.deadline(0)))?;
        let id = match created {
            // Another node was faster; without O_EXCL its dataset is as good as ours.
            Err(error) if error == EEXIST && !new.exclusive => mount
                .with(|node| node.names.lookup(name).map(|record| record.id))
                .ok_or(EEXIST)?,
            created => created?,
        };
        dataset::inode(dir.super_block(), id)
    }

    fn unlink(dir: &Inode<HotpotFs>, name: &[u8], inode: &Inode<HotpotFs>) -> Result {
        let mount = mount::of(dir);
        let world = World::new(mount);
        let deadline = mount.deadline(0);
        world::run(|| names::unlink(&world, name, mount::time(), deadline))??;
        inode.lock_attributes().set_nlink(0);
        Ok(())
    }

    fn rename(rename: &Rename<'_, HotpotFs>) -> Result {
        let mount = mount::of(rename.old_dir);
        let world = World::new(mount);
        world::run(|| names::rename(
            &world,
            rename.old_name,
            rename.new_name,
            !rename.no_replace,
            mount::time(),
            mount.deadline(0),
        ))??;
        if let Some(replaced) = rename.replaced {
            replaced.lock_attributes().set_nlink(0);
        }
        Ok(())
    }

    fn iterate(dir: &Inode<HotpotFs>, emitter: &mut DirEmitter<'_>) -> Result {
        let mount = mount::of(dir);
        // Positions are ids: they stay right while names come and go.
        while let Some((id, name)) = mount.with(|node| {
            node.names
                .after(emitter.position())
                .map(|record| (record.id, record.name))
        }) {
            if !emitter.emit(name.as_bytes(), id, DirEntryType::Regular, id) {
                break;
            }
        }
        Ok(())
    }
}
