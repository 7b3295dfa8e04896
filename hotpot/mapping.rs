// SPDX-License-Identifier: GPL-2.0

//! Datasets in the memory of processes: always at the dataset's own address [2.4.3], a page at a
//! time, as the core decides on each fault.

use super::{
    core::{
        fault::{self, Access},
        format::PAGE_BYTES,
        host::PageKey,
    },
    dataset,
    mount::{self, HotpotFs},
    world::{self, World},
};
use kernel::{
    fs::{Inode, NewMapping, VmOperations},
    mm::{
        fault::{FaultError, MkWrite, VmFault},
        unmapped_area::AreaRequest,
    },
    prelude::*,
};

/// Where `pages` and what follows of the dataset belong, if `length` bytes from
/// there are within the reservation.
fn address(inode: &Inode<HotpotFs>, first_page: usize, length: usize) -> Result<usize> {
    let (base, reserve) = dataset::range(inode)?;
    let offset = (first_page as u64).checked_mul(PAGE_BYTES).ok_or(EFBIG)?;
    let end = offset.checked_add(length as u64).ok_or(EFBIG)?;
    if end > reserve {
        return Err(EFBIG);
    }
    Ok(usize::try_from(base + offset)?)
}

/// Chooses the address of a mapping: there is but one.
///
/// `EADDRINUSE` when something else is there, `EINVAL` when the process insists on another one.
pub(crate) fn choose_address(inode: &Inode<HotpotFs>, request: &AreaRequest<'_>) -> Result<usize> {
    let address = address(inode, request.first_page(), request.length())?;
    if request.is_fixed() {
        // What is there already is replaced (MAP_FIXED) or refused (MAP_FIXED_NOREPLACE) by the
        // kernel, as the process asked for.
        return match request.address() == address {
            true => Ok(address),
            false => Err(EINVAL),
        };
    }
    match request.is_free(address) {
        true => Ok(address),
        false => Err(EADDRINUSE),
    }
}

/// Sets a mapping up.
pub(crate) fn map(inode: &Inode<HotpotFs>, new: NewMapping<'_, HotpotFs>) -> Result {
    if new.start() != address(inode, new.first_page(), new.end() - new.start())? {
        return Err(EINVAL);
    }
    new.map_pfns::<DatasetMapping>()
        .map_err(|error| match error {
            EOPNOTSUPP => mount::of(inode).not_yet("a private mapping"),
            error => error,
        })
}

/// What happens in a mapping of a dataset.
struct DatasetMapping;

impl DatasetMapping {
    fn resolve(inode: &Inode<HotpotFs>, vmf: &VmFault, access: Access) -> Result<(), FaultError> {
        // mremap(2) may have moved the mapping, and pointers would not be right there.
        let (base, _) = dataset::range(inode)?;
        if base + vmf.page_offset() as u64 * PAGE_BYTES != vmf.address() as u64 {
            return Err(FaultError::Bus);
        }
        let mount = mount::of(inode);
        let key = PageKey {
            dataset: inode.ino(),
            page: vmf.page_offset() as u64,
        };
        let world = World::for_fault(mount, vmf);
        let until = mount.deadline(0);
        match world::run(|| fault::fault(&world, key, access, until))? {
            Ok(()) => Ok(()),
            // The process is being killed; it faults no more.
            Err(error) if error == EINTR => Ok(()),
            Err(error) => Err(world.refused().unwrap_or(error.into())),
        }
    }
}

#[vtable]
impl VmOperations for DatasetMapping {
    type FileSystem = HotpotFs;

    fn fault(inode: &Inode<HotpotFs>, vmf: &VmFault) -> Result<(), FaultError> {
        let access = match vmf.is_write() {
            true => Access::Write,
            false => Access::Read,
        };
        Self::resolve(inode, vmf, access)
    }

    fn pfn_mkwrite(inode: &Inode<HotpotFs>, vmf: &VmFault) -> Result<MkWrite, FaultError> {
        Self::resolve(inode, vmf, Access::Write)?;
        Ok(MkWrite::Installed)
    }
}
