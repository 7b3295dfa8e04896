// SPDX-License-Identifier: GPL-2.0

//! /dev/clio. An open acts for the node of the opener's network namespace.

use crate::{
    control::{self, Wish},
    core::control::{Name, Secret, REGION_SHIFT, VA_BASE},
    operation::Operation,
    session::Session,
    uapi::{self, Completion, Info, Op, Poll, Ras, Submit},
    THIS_MODULE,
};
use kernel::{
    bindings,
    fs::File,
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    prelude::*,
    sync::{poll::PollTable, Arc, ArcBorrow},
    ThisModule,
};

/// A region of a RAS whose creator did not say: 1 GiB.
const REGION_SHIFT_DEFAULT: u8 = 30;

#[vtable]
impl MiscDevice for Session {
    type Ptr = Arc<Self>;

    const OWNER: Option<&'static ThisModule> = Some(&THIS_MODULE);

    fn open(_file: &File, _device: &MiscDeviceRegistration<Self>) -> Result<Arc<Self>> {
        Self::new()
    }

    fn release(this: Arc<Self>, _file: &File) {
        Self::close(this);
    }

    fn poll(this: ArcBorrow<'_, Self>, file: &File, table: PollTable<'_>) -> u32 {
        table.register_wait(file, &this.shared.changed);
        if this.count().0 != 0 {
            bindings::POLLIN | bindings::POLLRDNORM
        } else {
            0
        }
    }

    fn ioctl(this: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::IOC_INFO => this.info(arg)?,
            uapi::IOC_CREATE => this.create(arg)?,
            uapi::IOC_ATTACH => this.attach_by(arg)?,
            uapi::IOC_DETACH => this.detach(this.station.deadline(0))?,
            uapi::IOC_DESTROY => this.destroy(arg)?,
            uapi::IOC_SUBMIT => this.submit_all(arg)?,
            uapi::IOC_POLL => this.reap(arg)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

/// Name and key of what is asked for.
fn identity(ras: &Ras) -> Result<(Name, Secret)> {
    if ras.reserved != [0; 4] {
        return Err(EINVAL);
    }
    let end = ras.name.iter().position(|byte| *byte == 0).ok_or(EINVAL)?;
    let name = Name::new(ras.name.get(..end).ok_or(EINVAL)?)?;
    Ok((name, Secret(ras.key)))
}

impl Session {
    fn info(&self, arg: usize) -> Result {
        let node = self.node();
        let attached = self.attached.lock();
        let (ras, region_size) = match attached.as_ref() {
            Some(attached) => (
                attached.info.id,
                1 << attached.info.region_shift.min(*REGION_SHIFT.end()),
            ),
            None => (0, 0),
        };
        drop(attached);
        uapi::write(
            arg,
            &Info {
                abi_version: uapi::ABI_VERSION,
                node: node.id().into(),
                epoch: node.epoch(),
                incarnation: node.incarnation(),
                ras,
                base: VA_BASE,
                region_size,
                outstanding: self.outstanding() as u32,
                ..Info::default()
            },
        )
    }

    fn create(&self, arg: usize) -> Result {
        let mut ras: Ras = uapi::read(arg)?;
        let (name, key) = identity(&ras)?;
        let region_shift = match ras.region_size {
            0 => REGION_SHIFT_DEFAULT,
            size if size.is_power_of_two() => size.trailing_zeros() as u8,
            _ => return Err(EINVAL),
        };
        if !REGION_SHIFT.contains(&region_shift) {
            return Err(EINVAL);
        }
        let wish = Wish {
            name,
            key,
            region_shift,
            home: u16::try_from(ras.home).map_err(|_| EINVAL)?,
            owner: 0,
            quota: match ras.quota {
                0 => u64::MAX,
                quota => quota,
            },
        };
        let info = control::create(self.node(), &wish, ras.timeout_ms).inspect_err(|error| {
            pr_err!("cannot create the RAS {name:?}: {error:?}\n");
        })?;
        ras.id = info.id;
        ras.region_size = 1 << region_shift;
        uapi::write(arg, &ras)
    }

    fn attach_by(&self, arg: usize) -> Result {
        let mut ras: Ras = uapi::read(arg)?;
        let (name, key) = identity(&ras)?;
        if ras.quota != 0 || ras.region_size != 0 || ras.home != 0 {
            return Err(EINVAL);
        }
        ras.id = self
            .attach(name, &key, ras.timeout_ms)
            .inspect_err(|error| pr_err!("cannot attach to the RAS {name:?}: {error:?}\n"))?;
        uapi::write(arg, &ras)
    }

    fn destroy(&self, arg: usize) -> Result {
        let ras: Ras = uapi::read(arg)?;
        let (name, key) = identity(&ras)?;
        self.station
            .destroy(name, &key, ras.timeout_ms)
            .inspect_err(|error| pr_err!("cannot destroy the RAS {name:?}: {error:?}\n"))
    }

    fn submit_all(&self, arg: usize) -> Result {
        let mut submit: Submit = uapi::read(arg)?;
        if submit.reserved != [0; 2]
            || submit.flags & !uapi::ASYNC != 0
            || submit.nr == 0
            || submit.nr > uapi::MAX_BATCH
        {
            return Err(EINVAL);
        }
        let is_async = submit.flags & uapi::ASYNC != 0;
        let mut begun: KVVec<(usize, Op, Result<Arc<Operation>>)> = KVVec::new();
        begun.reserve(if is_async { 0 } else { submit.nr as usize }, GFP_KERNEL)?;
        submit.done = 0;
        let mut refused = Ok(());
        for at in 0..submit.nr as usize {
            let from = (submit.ops as usize)
                .checked_add(at * size_of::<Op>())
                .ok_or(EFAULT)?;
            let operation = uapi::read::<Op>(from)
                .and_then(|op| Ok((op, self.begin_or_wait(&op, is_async, submit.timeout_ms)?)));
            match operation {
                Ok((op, operation)) => {
                    if !is_async {
                        begun.push((from, op, Ok(operation)), GFP_KERNEL)?;
                    }
                }
                Err(error) if is_async || error == EFAULT => {
                    refused = Err(error);
                    break;
                }
                // One that cannot be is over: the others go on.
                Err(error) => {
                    let op = uapi::read::<Op>(from)?;
                    begun.push((from, op, Err(error)), GFP_KERNEL)?;
                }
            }
            submit.done += 1;
        }
        self.station.with(|_| ());
        let mut waited = Ok(());
        for (to, op, operation) in &mut begun {
            let result = match operation {
                Ok(operation) => {
                    let over = || operation.result().is_some();
                    if waited.is_ok() {
                        waited = self.shared.wait(u64::MAX, over);
                    }
                    let result = match waited {
                        Ok(()) => operation.deliver(),
                        Err(error) => Err(error),
                    };
                    self.forget(operation);
                    result
                }
                Err(error) => Err(*error),
            };
            op.value = result.unwrap_or(0);
            op.error = result.err().map_or(0, |error| error.to_errno());
            uapi::write(*to, op)?;
        }
        waited?;
        if submit.done == 0 {
            refused?;
        }
        uapi::write(arg, &submit)
    }

    /// Begins an operation; a synchronous one waits for room.
    fn begin_or_wait(&self, op: &Op, is_async: bool, timeout_ms: u32) -> Result<Arc<Operation>> {
        let until = self.station.deadline(timeout_ms);
        loop {
            match self.begin(op, is_async, timeout_ms) {
                Err(error) if error == EAGAIN && !is_async => {
                    self.station.with(|_| ());
                    let before = self.outstanding();
                    let step = until.min(crate::station::now().saturating_add(10_000_000));
                    match self.shared.wait(step, || self.outstanding() < before) {
                        Err(ETIMEDOUT) if crate::station::now() < until => {}
                        other => other?,
                    }
                }
                other => return other,
            }
        }
    }

    /// Tells of asynchronous operations.
    fn reap(&self, arg: usize) -> Result {
        let mut poll: Poll = uapi::read(arg)?;
        if poll.flags != 0 || poll.reserved != [0; 2] || poll.nr == 0 || poll.min > poll.nr {
            return Err(EINVAL);
        }
        let until = self.station.deadline(poll.timeout_ms);
        let wanted = poll.min as usize;
        let waited = self.shared.wait(until, || {
            let (over, outstanding) = self.count();
            over >= wanted || outstanding == 0
        });
        let room = poll.nr;
        poll.nr = 0;
        while poll.nr < room {
            let Some(operation) = self.next_done() else { break };
            let result = operation.deliver();
            let completion = Completion {
                cookie: operation.request.cookie,
                value: result.unwrap_or(0),
                error: result.err().map_or(0, |error| error.to_errno()),
                opcode: operation.request.opcode,
            };
            let to = (poll.completions as usize)
                .checked_add(poll.nr as usize * size_of::<Completion>())
                .ok_or(EFAULT)?;
            uapi::write(to, &completion)?;
            poll.nr += 1;
        }
        if poll.nr == 0 && wanted != 0 {
            waited?;
        }
        uapi::write(arg, &poll)
    }
}
