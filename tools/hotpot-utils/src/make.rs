// SPDX-License-Identifier: GPL-2.0

//! Formatting.

use crate::{
    device::{self, Device},
    format::{
        geometry::{Counts, Geometry, Unfit, MIN_DEVICE},
        superblock::{self, Copy, Superblock},
        Timestamp, Uuid, PAGE_SIZE,
    },
    signature, size,
};
use std::{
    fs::File,
    io::{self, Read},
    time::SystemTime,
};

/// What to make.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node that uses the device; else the first mount decides.
    pub node: Option<u16>,
    /// Its cluster; else the first mount decides.
    pub cluster: Option<Uuid>,
    /// Text for people.
    pub label: String,
    /// Sizes of regions.
    pub counts: Counts,
    /// Also over something that is on the device.
    pub force: bool,
}

/// Formats `device`; the error is for the user.
///
/// Until the last step, which writes the superblocks, the device counts as not
/// formatted.
pub fn make(device: &mut dyn Device, options: &Options) -> Result<Superblock, String> {
    let geometry = Geometry::new(device.size(), options.counts).map_err(|unfit| match unfit {
        Unfit::TooSmall => format!(
            "too small: {}; the smallest device is {}",
            size::show(device.size()),
            size::show(MIN_DEVICE)
        ),
        Unfit::Zero => "the log and the number of datasets cannot be 0".into(),
        Unfit::NoRoom => format!(
            "log and dataset records would leave less than half of {} for data",
            size::show(device.size())
        ),
    })?;
    if !options.force {
        if let Some(found) = signature::find(device).map_err(|e| format!("cannot read: {e}"))? {
            return Err(format!(
                "holds {found} data already; use --force to overwrite it"
            ));
        }
    }
    let random = || random_uuid().map_err(|error| format!("no random numbers: {error}"));
    let mut superblock = Superblock::new(
        geometry,
        options.cluster.unwrap_or(Uuid::NIL),
        random()?,
        options.node.unwrap_or(superblock::NO_NODE),
        now(),
    );
    if !superblock.set_label(&options.label) {
        return Err(format!(
            "a label has at most {} bytes and no NUL",
            superblock::LABEL_MAX
        ));
    }
    write(device, &superblock).map_err(|error| format!("cannot write: {error}"))?;
    Ok(superblock)
}

fn write(device: &mut dyn Device, superblock: &Superblock) -> io::Result<()> {
    device::zero(device, 0, superblock::REGION)?;
    device.sync()?;
    let geometry = &superblock.geometry;
    for region in [
        geometry.records,
        geometry.commit_descriptors,
        geometry.log_descriptors,
        geometry.slots,
    ] {
        device::zero(device, region.offset, region.len)?;
    }
    device.sync()?;
    let mut block = [0; PAGE_SIZE];
    superblock.encode(&mut block);
    for copy in [Copy::B, Copy::A] {
        device.write(copy.offset(), &block)?;
        device.sync()?;
    }
    Ok(())
}

/// A random uuid (version 4).
fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Uuid(bytes))
}

fn now() -> Timestamp {
    // A clock before 1970 is as good as none.
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        sec: since.as_secs() as i64,
        nsec: since.subsec_nanos(),
    }
}
