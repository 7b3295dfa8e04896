// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a dataset; see `include/uapi/linux/hotpot.h`.

use super::{
    core::{
        area::ByteRange, barrier, commit, format::Cid, grants, info, msg::Outcome, names::Change,
        outcome, scrub,
    },
    dataset,
    file::DatasetFile,
    mount::{self, Mount},
    uapi,
    world::{self, World},
};
use kernel::{
    fs::OpenFile,
    prelude::*,
    transmute::{AsBytes, FromBytes},
    uaccess::{UserPtr, UserSlice},
};

fn read<T: FromBytes>(arg: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(arg), size_of::<T>())
        .reader()
        .read()
}

fn write<T: AsBytes>(arg: usize, value: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), size_of::<T>())
        .writer()
        .write(value)
}

fn all_zero(reserved: &[u64]) -> Result {
    match reserved.iter().all(|&word| word == 0) {
        true => Ok(()),
        false => Err(EINVAL),
    }
}

/// Does what an ioctl(2) asks.
pub(crate) fn ioctl(file: &OpenFile<'_, DatasetFile>, cmd: u32, arg: usize) -> Result<isize> {
    let mount = mount::of(file.inode());
    match cmd {
        uapi::IOC_COMMIT => commit(mount, file, arg)?,
        uapi::IOC_SETUP => setup(mount, file, arg)?,
        uapi::IOC_INFO => info(mount, file, arg)?,
        uapi::IOC_BARRIER => barrier(mount, arg)?,
        uapi::IOC_ACQUIRE => acquire(mount, file, arg)?,
        uapi::IOC_ABORT => abort(mount, file, arg)?,
        uapi::IOC_OUTCOME => outcome(mount, arg)?,
        uapi::IOC_SCRUB => scrub(mount, file, arg)?,
        _ => return Err(ENOTTY),
    }
    Ok(0)
}

fn writable(file: &OpenFile<'_, DatasetFile>) -> Result {
    match file.is_writable() {
        true => Ok(()),
        false => Err(EBADF),
    }
}

/// Reads areas, and says where in the dataset they are.
fn areas(file: &OpenFile<'_, DatasetFile>, from: u64, count: u32) -> Result<KVVec<ByteRange>> {
    let (base, _) = dataset::range(file.inode())?;
    let mut reader = UserSlice::new(
        UserPtr::from_addr(usize::try_from(from)?),
        count as usize * size_of::<uapi::Area>(),
    )
    .reader();
    let mut ranges = KVVec::with_capacity(count as usize, GFP_KERNEL)?;
    for _ in 0..count {
        let area: uapi::Area = reader.read()?;
        if area.len == 0 || area.addr.checked_add(area.len).is_none() {
            return Err(EINVAL);
        }
        let offset = area.addr.checked_sub(base).ok_or(EFAULT)?;
        ranges.push(
            ByteRange {
                offset,
                len: area.len,
            },
            GFP_KERNEL,
        )?;
    }
    Ok(ranges)
}

fn commit(mount: &Mount, file: &OpenFile<'_, DatasetFile>, arg: usize) -> Result {
    let mut request: uapi::Commit = read(arg)?;
    writable(file)?;
    all_zero(&request.reserved)?;
    if request.flags != 0 || request.nr_areas == 0 || request.nr_areas > uapi::MAX_AREAS {
        return Err(EINVAL);
    }

    let ranges = areas(file, request.areas, request.nr_areas)?;
    let world = World::new(mount);
    let done = world::run(|| commit::commit(
        &world,
        *file.data(),
        file.inode().ino(),
        &ranges,
        request.replicas,
        mount.deadline(request.timeout_ms),
    ))?;
    request.cid = done.cid.0;
    // The result says more than that the CID could not be stored.
    done.result.and(write(arg, &request)).inspect_err(|_| {
        let _ = write(arg, &request);
    })
}

/// Reads what to acquire or abort; `flags` are those that may be set.
fn acquisition(
    file: &OpenFile<'_, DatasetFile>,
    arg: usize,
    flags: u32,
) -> Result<(uapi::Acquire, KVVec<ByteRange>)> {
    let request: uapi::Acquire = read(arg)?;
    writable(file)?;
    all_zero(&request.reserved)?;
    if request.reserved0 != 0 || request.flags & !flags != 0 || request.nr_areas > uapi::MAX_AREAS {
        return Err(EINVAL);
    }
    let ranges = areas(file, request.areas, request.nr_areas)?;
    Ok((request, ranges))
}

fn acquire(mount: &Mount, file: &OpenFile<'_, DatasetFile>, arg: usize) -> Result {
    let (request, ranges) = acquisition(file, arg, uapi::ACQUIRE_WAIT)?;
    let world = World::interruptible(mount);
    world::run(|| grants::acquire(
        &world,
        *file.data(),
        file.inode().ino(),
        &ranges,
        request.flags & uapi::ACQUIRE_WAIT != 0,
        mount.deadline(request.timeout_ms),
    ))?
}

fn abort(mount: &Mount, file: &OpenFile<'_, DatasetFile>, arg: usize) -> Result {
    let (request, ranges) = acquisition(file, arg, 0)?;
    let world = World::new(mount);
    world::run(|| grants::abort(
        &world,
        *file.data(),
        file.inode().ino(),
        &ranges,
        mount.deadline(request.timeout_ms),
    ))?
}

fn outcome(mount: &Mount, arg: usize) -> Result {
    let mut request: uapi::Outcome = read(arg)?;
    if request.outcome != 0 || request.reserved != 0 {
        return Err(EINVAL);
    }
    let world = World::new(mount);
    let until = mount.deadline(0);
    let found = world::run(|| outcome::outcome(&world, Cid(request.cid), until))??;
    request.outcome = match found {
        Outcome::Aborted => uapi::OUTCOME_ABORTED,
        Outcome::Committed => uapi::OUTCOME_COMMITTED,
        Outcome::Pending => uapi::OUTCOME_PENDING,
        Outcome::Forgotten => uapi::OUTCOME_FORGOTTEN,
    };
    write(arg, &request)
}

fn setup(mount: &Mount, file: &OpenFile<'_, DatasetFile>, arg: usize) -> Result {
    let request: uapi::Setup = read(arg)?;
    writable(file)?;
    all_zero(&request.reserved)?;
    let change = Change {
        time: mount::time(),
        replicas: (request.replicas != 0).then_some(request.replicas),
        mode: (request.mode != 0).then_some(request.mode),
        chunk_size: (request.chunk_size != 0).then_some(request.chunk_size),
        reserve: (request.reserve != 0).then_some(request.reserve),
        ..Change::default()
    };
    dataset::change_record(mount, file.inode().ino(), &change)
}

fn info(mount: &Mount, file: &OpenFile<'_, DatasetFile>, arg: usize) -> Result {
    let mut request: uapi::Info = read(arg)?;
    all_zero(&request.reserved)?;
    let id = file.inode().ino();
    let (room, to) = (request.nr_chunks, request.chunks);

    request = mount.with(|node| -> Result<uapi::Info> {
        let record = node.names.get(id)?;
        let pages = info::pages(node, id);
        let moves = node.migration.counts(id);
        let nr_chunks = record.size.div_ceil(record.chunk_size);
        Ok(uapi::Info {
            id,
            base: record.base,
            size: record.size,
            reserve: record.reserve,
            chunk_size: record.chunk_size,
            epoch: node.map.epoch,
            chunks: to,
            nr_chunks: u32::try_from(nr_chunks).unwrap_or(u32::MAX),
            replicas: record.replicas,
            mode: record.mode as u32,
            node: node.id(),
            nr_committed: pages.committed,
            nr_redundant: pages.redundant,
            nr_dirty: pages.dirty,
            nr_missing: pages.missing,
            nr_came: moves.came,
            nr_left: moves.left,
            nr_stayed: moves.stayed,
            ..uapi::Info::default()
        })
    })?;
    if to != 0 {
        let count = room.min(request.nr_chunks);
        let mut writer = UserSlice::new(
            UserPtr::from_addr(usize::try_from(to)?),
            count as usize * size_of::<uapi::Chunk>(),
        )
        .writer();
        for index in 0..count {
            let chunk = mount.with(|node| info::chunk(node, id, u64::from(index)))?;
            writer.write(&uapi::Chunk {
                owner: chunk.owner,
                nr_local: chunk.nr_local,
                nr_dirty: chunk.nr_dirty,
                nr_pages: chunk.nr_pages,
                min_replicas: chunk.min_replicas,
                reserved: 0,
            })?;
        }
    }
    write(arg, &request)
}

fn barrier(mount: &Mount, arg: usize) -> Result {
    let request: uapi::Barrier = read(arg)?;
    all_zero(&request.reserved)?;
    let len = request
        .name
        .iter()
        .position(|&byte| byte == 0)
        .ok_or(EINVAL)?;
    if len == 0 || request.count == 0 {
        return Err(EINVAL);
    }
    let world = World::interruptible(mount);
    world::run(|| barrier::meet(
        &world,
        &request.name[..len],
        request.count,
        mount.deadline(request.timeout_ms),
    ))?
}

/// Pages that are checked at once when the caller does not say how many.
const SCRUB_PAGES: u32 = 1024;

fn scrub(mount: &Mount, file: &OpenFile<'_, DatasetFile>, arg: usize) -> Result {
    let mut request: uapi::Scrub = read(arg)?;
    all_zero(&request.reserved)?;
    if request.flags != 0 {
        return Err(EINVAL);
    }
    let most = match request.nr_pages {
        0 => SCRUB_PAGES,
        nr => nr.min(scrub::MAX_PAGES),
    };
    let world = World::interruptible(mount);
    let found = world::run(|| scrub::scrub(
        &world,
        file.inode().ino(),
        request.page,
        most,
        mount.deadline(request.timeout_ms),
    ))??;
    request.done = u32::from(found.next.is_none());
    request.page = found.next.unwrap_or(0);
    request.checked = found.checked;
    request.healed = found.healed;
    request.dropped = found.dropped;
    request.lost = found.lost;
    request.waiting = found.waiting;
    write(arg, &request)
}
