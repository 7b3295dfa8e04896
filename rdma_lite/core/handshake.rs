// SPDX-License-Identifier: GPL-2.0

//! The handshake of a link that no connection manager makes: one between nodes that share memory.
//!
//! Whoever connects says a hello; the other agrees with a hello of its own, or refuses; then the first
//! confirms that it has heard. What the peer says is noted when it comes, and acted on later, by one work
//! item at a time: [`Handshake::step`] says what to do. What comes out of turn is refused, as the other
//! kernel writes what it likes.

use ::core::mem;

/// Where it stands.
#[derive(Debug)]
enum Phase<H> {
    /// We said hello.
    Asking,
    /// The peer agreed with this.
    Agreed(H),
    /// The peer has not said hello yet.
    Listening,
    /// The peer said this hello.
    Requested(H),
    /// We agreed, or refused.
    Answered,
    /// The peer has heard that we agree.
    Confirmed,
    /// Both know that both agree.
    Up,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<H> {
    /// The peer said this hello: agree, or refuse.
    Answer(H),
    /// The peer agreed with this: confirm; the link is up.
    Confirm(H),
    /// The peer confirmed: the link is up.
    Up,
}

/// The peer said something that it could not say now.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfTurn;

/// One end's view of the handshake, and of the link's end. `H` is what a hello is, `D` why a link ends.
#[derive(Debug)]
pub struct Handshake<H, D> {
    phase: Phase<H>,
    /// The first reason that was noted.
    down: Option<D>,
    /// Its user was told that it has ended, or is about to be; or has no interest any more.
    over: bool,
}

impl<H, D> Handshake<H, D> {
    fn new(phase: Phase<H>) -> Self {
        Self {
            phase,
            down: None,
            over: false,
        }
    }

    /// Of the end that says the first hello.
    pub fn ask() -> Self {
        Self::new(Phase::Asking)
    }

    /// Of the end that hears it.
    pub fn listen() -> Self {
        Self::new(Phase::Listening)
    }

    /// The peer said hello.
    pub fn requested(&mut self, hello: H) -> Result<(), OutOfTurn> {
        match self.phase {
            Phase::Listening => {
                self.phase = Phase::Requested(hello);
                Ok(())
            }
            _ => Err(OutOfTurn),
        }
    }

    /// The peer agreed.
    pub fn accepted(&mut self, hello: H) -> Result<(), OutOfTurn> {
        match self.phase {
            Phase::Asking => {
                self.phase = Phase::Agreed(hello);
                Ok(())
            }
            _ => Err(OutOfTurn),
        }
    }

    /// The peer confirmed.
    pub fn confirmed(&mut self) -> Result<(), OutOfTurn> {
        match self.phase {
            Phase::Answered => {
                self.phase = Phase::Confirmed;
                Ok(())
            }
            _ => Err(OutOfTurn),
        }
    }

    /// The link ends, for this reason if it is the first.
    pub fn end(&mut self, why: D) {
        self.down.get_or_insert(why);
    }

    /// The user has no interest any more: nothing is done, and it is not told of the end.
    pub fn abandon(&mut self) {
        self.over = true;
    }

    /// Whether the user was told of the end, or does not want to be.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What is to be done next, once: nothing for a link that ends.
    pub fn step(&mut self) -> Option<Step<H>> {
        if self.over || self.down.is_some() {
            return None;
        }
        let (phase, step) = match mem::replace(&mut self.phase, Phase::Up) {
            Phase::Requested(hello) => (Phase::Answered, Some(Step::Answer(hello))),
            Phase::Agreed(hello) => (Phase::Up, Some(Step::Confirm(hello))),
            Phase::Confirmed => (Phase::Up, Some(Step::Up)),
            waiting => (waiting, None),
        };
        self.phase = phase;
        step
    }

    /// Why the link has ended, once: the user is to be told.
    pub fn ended(&mut self) -> Option<D> {
        if self.over {
            return None;
        }
        let why = self.down.take()?;
        self.over = true;
        Some(why)
    }
}
