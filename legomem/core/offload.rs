// SPDX-License-Identifier: GPL-2.0

//! The extend path (section 4.4.6): code that runs beside the memory, in the
//! address space of the one who calls it, with the rights of its allocations.
//!
//! A new offload is a file that implements [`Offload`], and a line in [`call`].

pub mod chase;
pub mod store;

use super::{
    board::{Board, Caller},
    pool::Pool,
    slow::Fast,
    wire::{rights, Header, Status, WORD},
};

/// The caller's address space, as far as this node has it. Each access is checked
/// as a packet's would be, and is atomic if it stays within a page.
pub trait Memory {
    /// Copies bytes out.
    fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), Status>;
    /// Copies bytes in.
    fn write(&self, addr: u64, from: &[u8]) -> Result<(), Status>;

    /// Loads a word.
    fn load(&self, addr: u64) -> Result<u64, Status> {
        let mut word = [0; WORD as usize];
        self.read(addr, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Stores a word, at once if it is aligned.
    fn store(&self, addr: u64, word: u64) -> Result<(), Status> {
        self.write(addr, &word.to_le_bytes())
    }
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which of the offload's functions.
    pub function: u16,
    /// The address of the request.
    pub addr: u64,
    /// Its payload.
    pub input: &'a [u8],
}

/// What a call came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes of output.
    pub len: usize,
    /// The result of the answer. All that a retry of a call gets, whose first try
    /// was executed: so functions that change something have no output beside it.
    pub result: u64,
}

/// What a function is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only reads, and ends soon, whatever its input: it runs where the packet
    /// arrives.
    Short,
    /// It only reads.
    Reads,
    /// It changes something: executed once, and alone.
    Writes,
}

/// An offload: names and functions.
pub trait Offload {
    /// Its id in requests.
    const ID: u16;

    /// What a function is like.
    fn kind(function: u16) -> Kind;

    /// Runs a function. One that fails has changed nothing.
    fn call(memory: &impl Memory, call: Call<'_>, output: &mut [u8]) -> Result<Done, Status>;
}

macro_rules! offloads {
    ($($offload:ty),* $(,)?) => {
        /// Runs the function of the offload that a request names. `output` has the room
        /// that the request gives.
        pub fn call(
            memory: &impl Memory,
            request: &Header,
            input: &[u8],
            output: &mut [u8],
        ) -> Result<Done, Status> {
            let wanted = request.offload();
            let call = Call {
                function: wanted.function,
                addr: request.addr,
                input,
            };
            match wanted.id {
                $(<$offload>::ID => <$offload>::call(memory, call, output),)*
                _ => Err(Status::NotSupported),
            }
        }

        /// What the function that a request names is like.
        pub fn kind(request: &Header) -> Kind {
            let wanted = request.offload();
            match wanted.id {
                $(<$offload>::ID => <$offload>::kind(wanted.function),)*
                _ => Kind::Short,
            }
        }
    };
}

offloads!(chase::Chase, store::Store);

/// The memory of a request's address space.
pub struct Inside<'a, F, P> {
    /// The board.
    pub fast: &'a F,
    /// Its pages.
    pub pool: &'a P,
    /// The address space.
    pub ras: u64,
}

impl<F: Fast, P: Pool> Inside<'_, F, P> {
    /// No access is larger than a page.
    const MOST: usize = 4096;

    /// The region of the request is here as long as its worker has it: another one that
    /// is not cannot be reached from here, and asking again would not help.
    fn unreachable(status: Status) -> Status {
        match status {
            Status::Moved => Status::Fault,
            other => other,
        }
    }

    fn advance(addr: u64, by: usize) -> Result<u64, Status> {
        addr.checked_add(by as u64).ok_or(Status::Fault)
    }
}

impl<F: Fast, P: Pool> Memory for Inside<'_, F, P> {
    fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), Status> {
        let mut at = addr;
        for piece in to.chunks_mut(Self::MOST) {
            self.fast
                .fast(|board: &mut Board| {
                    let len = piece.len() as u64;
                    let span = board.span(self.ras, Caller::Worker, at, len, rights::READ)?;
                    board.copy_out(self.pool, &span, piece);
                    Ok(())
                })
                .map_err(Self::unreachable)?;
            at = Self::advance(at, piece.len())?;
        }
        Ok(())
    }

    fn write(&self, addr: u64, from: &[u8]) -> Result<(), Status> {
        let mut at = addr;
        for piece in from.chunks(Self::MOST) {
            self.fast
                .fast(|board: &mut Board| {
                    let len = piece.len() as u64;
                    let mut span = board.span(self.ras, Caller::Worker, at, len, rights::WRITE)?;
                    board.touch(&mut span)?;
                    board.copy_in(self.pool, &span, piece);
                    Ok(())
                })
                .map_err(Self::unreachable)?;
            at = Self::advance(at, piece.len())?;
        }
        Ok(())
    }
}
