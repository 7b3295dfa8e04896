// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/config/clio: a directory for each disk.
//!
//! Attributes can be written while the disk is off; `power` switches it on and off. The directory of
//! a disk that is on cannot be removed. Removing it leaves the disk where it is: `destroy` ends it.

#[path = "../../rdma_lite/configfs/text.rs"]
mod text;

use self::text::{number_in, show, trimmed};
use super::{
    copies,
    volume::{Volume, Watch, DEPTH, MAX_BYTES, QUEUES},
    Settings, ShortName,
};
use crate::{
    core::{control::Secret, disk::record::MAX_COPIES},
    lite::{MapNotifyRegistration, Node},
    station::{Station, Use},
    THIS_MODULE,
};
use kernel::{
    block::disk::{Disk, Limits},
    configfs::{self, AttributeOperations, Directory, Group, Keep, Subsystem},
    configfs_attrs,
    fmt::Write as _,
    net::Net,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::{BStr, CString, Formatter},
    sync::{aref::ARef, Arc, ArcBorrow, Mutex},
};

kernel::sync::global_lock! {
    // SAFETY: The module's `init` initialises it before anything else.
    pub(crate) unsafe(uninit) static NUMBERS: Mutex<KVec<u32>> = KVec::new();
}

/// The number of a block device.
struct Number(u32);

impl Number {
    /// The least that no other disk has.
    fn take() -> Result<Self> {
        let mut numbers = NUMBERS.lock();
        let mut free = 0;
        while numbers.contains(&free) {
            free += 1;
        }
        numbers.push(free, GFP_KERNEL)?;
        Ok(Self(free))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let mut numbers = NUMBERS.lock();
        numbers.retain(|number| *number != self.0);
        if numbers.is_empty() {
            // Nothing drops a static: the last one gives the memory back.
            *numbers = KVec::new();
        }
    }
}

/// What there is while a disk is on, in the order in which it goes.
struct On {
    device: Disk<Volume>,
    maps: MapNotifyRegistration<Watch>,
    volume: Arc<Volume>,
    _station: Use,
    number: Number,
    _kept: Keep,
}

struct Switch {
    settings: Settings,
    on: Option<On>,
}

/// The directory of the module.
#[pin_data]
pub(crate) struct Root {
    _none: (),
}

/// The directory of a disk.
#[pin_data]
pub(crate) struct DiskDirectory {
    /// The namespace of who made it.
    net: ARef<Net>,
    #[pin]
    switch: Mutex<Switch>,
}

/// Registers the directory of the module.
pub(crate) fn subsystem() -> impl PinInit<Subsystem<Root>, Error> {
    let item_type = configfs_attrs! {
        container: Subsystem<Root>,
        data: Root,
        child: DiskDirectory,
        attributes: [
            version: 0,
        ],
    };
    Subsystem::new(c"clio", item_type, try_pin_init!(Root { _none: () }))
}

#[vtable]
impl AttributeOperations<0> for Root {
    type Data = Root;

    fn show(_root: &Root, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("1"))
    }
}

#[vtable]
impl configfs::GroupOperations for Root {
    type Child = DiskDirectory;

    fn make_group(&self, name: &CStr) -> Result<impl PinInit<Group<DiskDirectory>, Error>> {
        let item_type = configfs_attrs! {
            container: Group<DiskDirectory>,
            data: DiskDirectory,
            attributes: [
                node: 1,
                size: 2,
                replicas: 3,
                key: 4,
                timeout_ms: 5,
                force: 6,
                repair: 7,
                power: 8,
                device: 9,
                copies: 10,
                state: 11,
                destroy: 12,
            ],
        };
        // Names of address spaces have a node's number behind it.
        if name.to_bytes().len() > 56 {
            return Err(ENAMETOOLONG);
        }
        let settings = Settings {
            name: ShortName::new(name.to_bytes())?,
            node: ShortName::new(&[])?,
            size: 0,
            replicas: 2,
            key: Secret([0; 2]),
            timeout_ms: 5000,
            force: false,
            repair: true,
        };
        Ok(Group::new(
            name.try_into()?,
            item_type,
            try_pin_init!(DiskDirectory {
                net: Net::current(),
                switch <- new_mutex!(Switch { settings, on: None }, "clio_switch"),
            }),
        ))
    }

    fn drop_item(&self, _child: ArcBorrow<'_, Group<DiskDirectory>>) {}
}

impl DiskDirectory {
    /// Changes a setting; [`EBUSY`] while the disk is on.
    fn set(&self, change: impl FnOnce(&mut Settings) -> Result) -> Result {
        let mut switch = self.switch.lock();
        if switch.on.is_some() {
            return Err(EBUSY);
        }
        change(&mut switch.settings)
    }

    fn station(&self, settings: &Settings) -> Result<Use> {
        if settings.node.as_bytes().is_empty() {
            return Station::of(&self.net);
        }
        let name = CString::try_from_fmt(fmt!("{}", BStr::from_bytes(settings.node.as_bytes())))?;
        Station::of(Node::get(&name, &THIS_MODULE)?.net())
    }

    fn switch_on(&self, switch: &mut Switch, directory: &Directory<'_>) -> Result {
        let kept = directory.keep()?;
        let number = Number::take()?;
        let station = self.station(&switch.settings)?;
        let volume = Volume::start(&station, &switch.settings)?;
        let limits = Limits {
            size: volume.size(),
            max_bytes: MAX_BYTES,
            max_discard: 1 << 30,
            discard_granularity: 4096,
            max_write_zeroes: 1 << 30,
            write_cache: true,
            queues: QUEUES,
            depth: DEPTH,
            ..Limits::DEFAULT
        };
        let made = volume.watch().and_then(|maps| {
            let device = Disk::new(fmt!("clio-blk{}", number.0), &limits, volume.clone())?;
            Ok((device, maps))
        });
        match made {
            Ok((device, maps)) => {
                switch.on = Some(On {
                    device,
                    maps,
                    volume,
                    _station: station,
                    number,
                    _kept: kept,
                });
                Ok(())
            }
            Err(e) => {
                let _ = volume.stop();
                Err(e)
            }
        }
    }

    /// [`EBUSY`] while somebody has the device open.
    fn switch_off(&self, switch: &mut Switch) -> Result {
        let Some(on) = switch.on.take_if(|on| on.device.close().is_ok()) else {
            return Err(EBUSY);
        };
        drop(on.device);
        drop(on.maps);
        on.volume.stop()
    }
}

macro_rules! attribute {
    ($id:literal, |$switch:ident| $show:expr $(, |$new:ident, $page:ident| $store:expr)?) => {
        #[vtable]
        impl AttributeOperations<$id> for DiskDirectory {
            type Data = DiskDirectory;

            fn show(this: &DiskDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
                let $switch = this.switch.lock();
                show(page, $show)
            }
            $(
                fn store(this: &DiskDirectory, $page: &[u8]) -> Result {
                    this.set(|$new| $store)
                }
            )?
        }
    };
}

attribute!(
    1,
    |s| fmt!("{}", BStr::from_bytes(s.settings.node.as_bytes())),
    |s, page| {
        s.node = ShortName::new(trimmed(page)?.as_bytes())?;
        Ok(())
    }
);
attribute!(
    2,
    |s| fmt!(
        "{}",
        s.on.as_ref().map_or(s.settings.size, |on| on.volume.size())
    ),
    |s, page| {
        let size = number_in(page, 4096..=1 << 56)?;
        if size % 4096 != 0 {
            return Err(EINVAL);
        }
        s.size = size;
        Ok(())
    }
);
attribute!(3, |s| fmt!("{}", s.settings.replicas), |s, page| {
    s.replicas = number_in(page, 1..=MAX_COPIES as u64)? as usize;
    Ok(())
});
// Whoever has the key has the disk: it is not shown.
attribute!(
    4,
    |s| match s.settings.key.0 {
        [0, 0] => fmt!("none"),
        _ => fmt!("set"),
    },
    |s, page| {
        let text = trimmed(page)?;
        let key = u128::from_str_radix(text, 16).map_err(|_| EINVAL)?;
        if text.len() != 32 {
            return Err(EINVAL);
        }
        s.key = Secret([(key >> 64) as u64, key as u64]);
        Ok(())
    }
);
attribute!(5, |s| fmt!("{}", s.settings.timeout_ms), |s, page| {
    s.timeout_ms = number_in(page, 10..=600_000)? as u32;
    Ok(())
});
attribute!(6, |s| fmt!("{}", u8::from(s.settings.force)), |s, page| {
    s.force = text::switch(page)?;
    Ok(())
});
attribute!(7, |s| fmt!("{}", u8::from(s.settings.repair)), |s, page| {
    s.repair = text::switch(page)?;
    Ok(())
});

#[vtable]
impl AttributeOperations<8> for DiskDirectory {
    type Data = DiskDirectory;

    fn show(this: &DiskDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("{}", u8::from(this.switch.lock().on.is_some())))
    }

    fn store_at(this: &DiskDirectory, page: &[u8], directory: &Directory<'_>) -> Result {
        let on = text::switch(page)?;
        let mut switch = this.switch.lock();
        if on == switch.on.is_some() {
            return Ok(());
        }
        let result = match on {
            true => this.switch_on(&mut switch, directory),
            false => this.switch_off(&mut switch),
        };
        result.inspect_err(|e| {
            let name = BStr::from_bytes(switch.settings.name.as_bytes());
            let what = if on { "on" } else { "off" };
            pr_err!("disk {name}: cannot be switched {what}: {e:?}\n");
        })
    }
}

#[vtable]
impl AttributeOperations<9> for DiskDirectory {
    type Data = DiskDirectory;

    fn show(this: &DiskDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        match &this.switch.lock().on {
            Some(on) => show(page, fmt!("/dev/clio-blk{}", on.number.0)),
            None => show(page, fmt!("none")),
        }
    }
}

#[vtable]
impl AttributeOperations<10> for DiskDirectory {
    type Data = DiskDirectory;

    fn show(this: &DiskDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        let switch = this.switch.lock();
        let Some(on) = &switch.on else {
            return Ok(0);
        };
        let status = on.volume.status();
        let percent = (status.filled / (on.volume.size() / 100).max(1)).min(100);
        let mut writer = Formatter::new(page);
        for (node, in_sync) in on.volume.copies() {
            match (node, in_sync) {
                (0, _) => {}
                (_, true) => writeln!(writer, "{node} in sync")?,
                (_, false) => writeln!(writer, "{node} filling {percent} %")?,
            }
        }
        Ok(writer.bytes_written())
    }
}

attribute!(11, |s| match &s.on {
    None => fmt!("off"),
    Some(on) => {
        let status = on.volume.status();
        match (status.in_sync == s.settings.replicas, status.unsynced) {
            (_, 1..) => fmt!("resyncing"),
            (true, _) => fmt!("whole"),
            (false, _) => fmt!("degraded"),
        }
    }
});

#[vtable]
impl AttributeOperations<12> for DiskDirectory {
    type Data = DiskDirectory;

    fn show(_this: &DiskDirectory, page: &mut [u8; PAGE_SIZE]) -> Result<usize> {
        show(page, fmt!("0"))
    }

    fn store(this: &DiskDirectory, page: &[u8]) -> Result {
        if !text::switch(page)? {
            return Ok(());
        }
        this.set(|settings| {
            let result = copies::destroy(&*this.station(settings)?, settings);
            result.inspect_err(|e| {
                let name = BStr::from_bytes(settings.name.as_bytes());
                pr_err!("disk {name}: cannot be destroyed: {e:?}\n");
            })
        })
    }
}
