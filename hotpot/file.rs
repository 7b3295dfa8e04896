// SPDX-License-Identifier: GPL-2.0

//! Datasets as files: read, write, fsync, fallocate.
//!
//! What write(2) wrote is committed when it returns: visible and durable on every node. fsync(2)
//! and msync(2) commit what was stored through mappings, all or nothing.

use super::{
    control,
    core::{
        area::ByteRange,
        commit::{self, MAX_WRITE},
        fault,
        format::PAGE_BYTES,
        grants::Opener,
        info,
        names::Change,
    },
    dataset, mapping,
    mount::{self, HotpotFs, Mount},
    world::{self, World},
};
use kernel::{
    fs::{FileOperations, Inode, LocalFile, NewMapping, OpenFile},
    iov::{IovIterDest, IovIterSource},
    mm::unmapped_area::AreaRequest,
    prelude::*,
    time::{delay::fsleep, Delta},
};

/// Bytes that one read(2) takes from the core at a time.
const READ_PIECE: usize = 128 << 10;

/// Flags of fallocate(2).
const FALLOC_FL_KEEP_SIZE: u32 = 0x01;
const FALLOC_FL_PUNCH_HOLE: u32 = 0x02;
const FALLOC_FL_ZERO_RANGE: u32 = 0x10;

/// Repeats `commit` while it meets other commits of the same bytes, until the deadline.
///
/// For the system calls of files, whose callers do not expect `EAGAIN`.
pub(crate) fn insist(mount: &Mount, until: u64, mut commit: impl FnMut() -> Result) -> Result {
    let mut pause = 1;
    loop {
        match commit() {
            Err(error) if error == EAGAIN && mount.now() < until => {
                if kernel::current!().fatal_signal_pending() {
                    return Err(EINTR);
                }
                fsleep(Delta::from_millis(pause));
                pause = (pause * 2).min(50);
            }
            done => return done,
        }
    }
}

/// Commits `bytes` at `offset`; the dataset grows if it must.
fn write_piece(mount: &Mount, opener: Opener, id: u64, offset: u64, bytes: &[u8]) -> Result {
    let until = mount.deadline(0);
    insist(mount, until, || {
        let world = World::new(mount);
        world::run(|| commit::write(
            &world,
            opener,
            id,
            offset,
            bytes,
            mount::time(),
            until,
        ))?
    })
}

/// Commits zeros.
fn write_zeros(mount: &Mount, opener: Opener, id: u64, mut offset: u64, end: u64) -> Result {
    let zeros = KVVec::from_elem(0, MAX_WRITE, GFP_KERNEL)?;
    while offset < end {
        let len = (end - offset).min(MAX_WRITE as u64);
        // CAST: At most `MAX_WRITE`.
        write_piece(mount, opener, id, offset, &zeros[..len as usize])?;
        offset += len;
    }
    Ok(())
}

/// A dataset as a file.
pub(crate) struct DatasetFile;

#[vtable]
impl FileOperations for DatasetFile {
    type FileSystem = HotpotFs;
    type Data = KBox<Opener>;

    fn open(inode: &Inode<HotpotFs>, _file: &LocalFile) -> Result<KBox<Opener>> {
        dataset::refresh(inode)?;
        let mount = mount::of(inode);
        let opener = KBox::new(mount.with(|node| node.new_opener()), GFP_KERNEL)?;
        mount.opened(inode)?;
        Ok(opener)
    }

    fn release(opener: KBox<Opener>, inode: &Inode<HotpotFs>, _file: &LocalFile) {
        let mount = mount::of(inode);
        mount.with(|node| node.close_opener(*opener));
        mount.closed(inode);
    }

    fn read(file: OpenFile<'_, Self>, position: u64, to: &mut IovIterDest<'_>) -> Result<usize> {
        let inode = file.inode();
        let mount = mount::of(inode);
        let mut piece = KVVec::from_elem(0, to.len().min(READ_PIECE), GFP_KERNEL)?;
        let mut done = 0;
        while !to.is_empty() {
            let len = to.len().min(piece.len());
            let world = World::new(mount);
            let at = position.saturating_add(done as u64);
            let until = mount.deadline(0);
            let read = world::run(|| fault::read(
                &world,
                inode.ino(),
                at,
                &mut piece[..len],
                until,
            ))
            .and_then(|read| read);
            let read = match read {
                Ok(0) => break,
                Ok(read) => read,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let copied = to.copy_to_iter(&piece[..read]);
            done += copied;
            if copied < read {
                if done == 0 {
                    return Err(EFAULT);
                }
                break;
            }
        }
        Ok(done)
    }

    fn write(
        file: OpenFile<'_, Self>,
        position: u64,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let inode = file.inode();
        let mount = mount::of(inode);
        let mut piece = KVVec::from_elem(0, from.len().min(MAX_WRITE), GFP_KERNEL)?;
        let mut done = 0;
        while !from.is_empty() {
            let at = position.saturating_add(done as u64);
            // Whole pages after the first piece.
            let room = MAX_WRITE - (at % PAGE_BYTES) as usize;
            let len = from.len().min(room).min(piece.len());
            let copied = from.copy_from_iter(&mut piece[..len]);
            let written = match copied {
                0 => Err(EFAULT),
                _ => write_piece(mount, *file.data(), inode.ino(), at, &piece[..copied]),
            };
            match written {
                Ok(()) => done += copied,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if copied < len {
                break;
            }
        }
        dataset::refresh(inode)?;
        Ok(done)
    }

    fn fsync(file: OpenFile<'_, Self>, start: u64, end: u64, _data_only: bool) -> Result {
        let inode = file.inode();
        let mount = mount::of(inode);
        let until = mount.deadline(0);
        let range = ByteRange {
            offset: start,
            len: (end - start).saturating_add(1),
        };
        insist(mount, until, || {
            let world = World::new(mount);
            world::run(|| commit::sync(
                &world,
                *file.data(),
                inode.ino(),
                range,
                until,
            ))?
            .result
        })
    }

    fn fallocate(file: OpenFile<'_, Self>, mode: u32, offset: u64, length: u64) -> Result {
        let inode = file.inode();
        let mount = mount::of(inode);
        let end = offset.checked_add(length).ok_or(EFBIG)?;
        let size = dataset::size(inode)?;
        let keep = mode & FALLOC_FL_KEEP_SIZE != 0;
        match mode & !FALLOC_FL_KEEP_SIZE {
            0 => {
                // Pages are allocated when they are written, on the nodes that hold them; what can
                // be said here is whether this node has the room.
                let free = mount.with(|node| info::room(node)).free;
                if length.div_ceil(PAGE_BYTES) > free {
                    return Err(ENOSPC);
                }
            }
            FALLOC_FL_PUNCH_HOLE if keep => {
                write_zeros(mount, *file.data(), inode.ino(), offset, end.min(size))?;
            }
            FALLOC_FL_ZERO_RANGE => {
                write_zeros(mount, *file.data(), inode.ino(), offset, end.min(size))?;
            }
            _ => return Err(mount.not_yet("this mode of fallocate")),
        }
        if !keep && end > size {
            let now = mount::time();
            let change = Change {
                time: now,
                size: Some(end),
                grow_only: true,
                modified: Some(now),
                ..Change::default()
            };
            dataset::change_record(mount, inode.ino(), &change)?;
            dataset::refresh(inode)?;
        }
        Ok(())
    }

    fn ioctl(file: OpenFile<'_, Self>, cmd: u32, arg: usize) -> Result<isize> {
        control::ioctl(&file, cmd, arg)
    }

    fn mmap(file: OpenFile<'_, Self>, new: NewMapping<'_, HotpotFs>) -> Result {
        mapping::map(file.inode(), new)
    }

    fn get_unmapped_area(file: OpenFile<'_, Self>, request: &AreaRequest<'_>) -> Result<usize> {
        mapping::choose_address(file.inode(), request)
    }
}
