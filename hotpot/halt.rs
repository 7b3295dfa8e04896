// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/hotpot/halt: stops the machine dead at a [point](Point) of the protocol, as a
//! power failure just there would, so that tests of recovery reach the phase that they are about.

use super::core::halt::{Halt, Passing, Point};
use kernel::{
    debugfs, fmt,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    uaccess::UserSliceReader,
};

static HALT: Atomic<u64> = Atomic::new(0);

/// Longest line that is taken.
const LINE: usize = 64;

/// Says that a point is being passed. Does not return when it is the one to stop at.
#[inline]
pub(crate) fn pass(point: Point) {
    let halt = HALT.load(Relaxed);
    if halt != 0 {
        pass_one(Halt(halt), point);
    }
}

#[cold]
fn pass_one(mut halt: Halt, point: Point) {
    loop {
        let next = match halt.pass(point) {
            Passing::On => return,
            Passing::Count(next) => next,
            Passing::Stop => panic!("halted at \"{halt}\", as was asked for in debugfs"),
        };
        match HALT.cmpxchg(halt.0, next.0, Relaxed) {
            Ok(_) => return,
            Err(other) => halt = Halt(other),
        }
    }
}

/// The opcode of a request.
pub(crate) fn opcode(request: &[u8]) -> u16 {
    request
        .first_chunk()
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// The file in debugfs.
#[pin_data]
pub(crate) struct Control {
    #[pin]
    file: debugfs::File<()>,
}

impl Control {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            file <- debugfs::Dir::new(c"hotpot").read_write_callback_file(
                c"halt",
                Ok::<_, Error>(()),
                &|(): &(), f: &mut fmt::Formatter<'_>| writeln!(f, "{}", Halt(HALT.load(Relaxed))),
                &|(): &(), from: &mut UserSliceReader| store(from),
            ),
        })
    }
}

fn store(from: &mut UserSliceReader) -> Result {
    let mut line = [0; LINE];
    let line = line.get_mut(..from.len()).ok_or(EINVAL)?;
    from.read_slice(line)?;
    let text = ::core::str::from_utf8(line).map_err(|_| EINVAL)?;
    let halt: Halt = text.parse()?;
    HALT.store(halt.0, Relaxed);
    Ok(())
}
