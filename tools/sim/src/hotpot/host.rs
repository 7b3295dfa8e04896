// SPDX-License-Identifier: GPL-2.0

//! The world as one operation sees it.

use crate::{
    pm::Pm,
    schedule::{tracing, Rng},
};
use hotpot_core::core::{
    host::{Action, Call, CallError, Host, Level, Mapping, PageKey, Piece, Sleep, Ticket},
    node::Node,
};
use kernel::error::Result;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    task::Poll,
};

/// What an operation waits for.
#[derive(Debug)]
pub enum Ask {
    /// A moment between two actions.
    Pause,
    /// A wake, or a time.
    Wait(Ticket, u64),
    /// Answers to these requests.
    Call(Vec<Outgoing>),
    /// Nothing any more: power failed before its next action.
    PowerFails,
}

/// A request on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// To which node.
    pub dst: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Room for the reply.
    pub room: usize,
    /// Deadline.
    pub until: u64,
}

/// What comes back.
pub type Answer = Result<Vec<u8>, CallError>;

/// Bugs that tests put in between the core and its world, to see that checkers find them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bug {
    /// None.
    #[default]
    None,
    /// The fence before a swing is left out.
    NoFenceBeforeSwing,
    /// Nothing is ever written back.
    NoFlush,
    /// Pages stay mapped.
    NoUnmap,
    /// Data nodes say that they have what they have not.
    LostReplica,
    /// The node forgets which commit ids it has used.
    ReusedCid,
    /// Nobody hears that a node began a new life.
    NoHello,
    /// A decided commit looks aborted to who asks.
    WrongOutcome,
    /// An owner publishes as soon as it has promised, before the others have.
    EarlyPublish,
    /// Messages of older epochs are taken for new ones.
    NoEpochCheck,
    /// Who has a chunk tells its next owner what it has before it knows that it has moved, and goes
    /// on with it.
    EarlyHandOver,
}

/// One life of a node: from a start to a crash.
pub struct Life {
    /// Node id.
    pub id: u32,
    /// Incarnation.
    pub incarnation: u64,
    /// The core's state.
    pub node: RefCell<Node>,
    /// The device, which outlives the life.
    pub pm: Rc<RefCell<Pm>>,
    /// What processes of the node have mapped.
    pub mapped: RefCell<BTreeMap<PageKey, Mapping>>,
    /// What the operation that runs asks for.
    pub ask: RefCell<Option<Ask>>,
    /// The answers to its last call.
    pub answers: RefCell<Vec<Answer>>,
    /// Actions until power fails.
    pub fuse: Cell<u64>,
    /// Swings behind a fence until power fails, right after one.
    pub swings: Cell<u64>,
    /// Power has failed.
    pub dead: Cell<bool>,
    /// Actions done.
    pub actions: Cell<u64>,
    /// Rounds of the worker.
    pub looks: Cell<u64>,
    /// Virtual time.
    pub clock: Rc<Cell<u64>>,
    /// Where operations stop between actions.
    pub rng: RefCell<Rng>,
    /// Once in so many actions.
    pub pause_in: u64,
    /// A planted bug.
    pub bug: Bug,
    /// Bits have flipped: lines for the operator are no surprise.
    pub flipped: Cell<bool>,
    /// Lines for the operator that are more than good to know.
    pub lines: RefCell<Vec<String>>,
    /// It takes long to clear all page tables.
    pub slow_unmap: Cell<bool>,
    fence_owed: Cell<bool>,
}

impl Life {
    /// The life begins.
    #[expect(clippy::too_many_arguments)]
    pub fn new(
        id: u32,
        incarnation: u64,
        node: Node,
        pm: Rc<RefCell<Pm>>,
        clock: Rc<Cell<u64>>,
        rng: Rng,
        pause_in: u64,
        bug: Bug,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            incarnation,
            node: RefCell::new(node),
            pm,
            mapped: RefCell::default(),
            ask: RefCell::default(),
            answers: RefCell::default(),
            fuse: Cell::new(u64::MAX),
            swings: Cell::new(u64::MAX),
            dead: Cell::new(false),
            actions: Cell::new(0),
            looks: Cell::new(0),
            clock,
            rng: RefCell::new(rng),
            pause_in,
            bug,
            flipped: Cell::new(false),
            lines: RefCell::default(),
            slow_unmap: Cell::new(false),
            fence_owed: Cell::new(false),
        })
    }

    fn execute(&self, action: &Action<'_>) {
        let mut pm = self.pm.borrow_mut();
        match *action {
            Action::Write { offset, data } => {
                let bytes = bytes_of(&pm, &data);
                pm.store(offset as usize, &bytes);
            }
            Action::Swing { offset, word } => {
                if tracing() {
                    let now = self.clock.get() / 1000;
                    println!("{now:>9} n{} swings {offset:#x} to {word:#x}", self.id);
                }
                self.fence_owed.set(false);
                pm.store_u64(offset as usize, word);
            }
            Action::Flush { offset, len } => {
                if self.bug != Bug::NoFlush {
                    pm.flush(offset as usize, len as usize);
                }
            }
            Action::Fence => pm.fence(),
            Action::Unmap { first, count } => {
                let last = PageKey {
                    page: first.page.saturating_add(count - 1),
                    ..first
                };
                if self.bug != Bug::NoUnmap {
                    self.mapped
                        .borrow_mut()
                        .retain(|key, _| *key < first || *key > last);
                }
            }
            Action::UnmapAll => self.mapped.borrow_mut().clear(),
        }
    }
}

fn bytes_of(pm: &Pm, piece: &Piece<'_>) -> Vec<u8> {
    match *piece {
        Piece::Bytes(bytes) => bytes.to_vec(),
        Piece::Pm { offset, len } => pm.read(offset as usize, len).to_vec(),
        Piece::Zeros(len) => vec![0; len],
    }
}

/// The host of one operation.
pub struct SimHost(pub Rc<Life>);

impl SimHost {
    async fn ask(&self, ask: Ask) {
        let mut ask = Some(ask);
        poll_fn(|_| match ask.take() {
            Some(ask) => {
                *self.0.ask.borrow_mut() = Some(ask);
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    }

    async fn pause_sometimes(&self) {
        let pause = self.0.rng.borrow_mut().one_in(self.0.pause_in);
        if pause {
            self.ask(Ask::Pause).await;
        }
    }
}

impl Host for SimHost {
    fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        let mut node = self.0.node.borrow_mut();
        let result = f(&mut node);
        node.take_wakes();
        result
    }

    fn now(&self) -> u64 {
        self.0.clock.get()
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result {
        to.copy_from_slice(self.0.pm.borrow().read(offset as usize, to.len()));
        Ok(())
    }

    async fn run(&self, actions: &[Action<'_>]) -> Result {
        let life = &self.0;
        for (nr, action) in actions.iter().enumerate() {
            self.pause_sometimes().await;
            if life.slow_unmap.get() && matches!(action, Action::UnmapAll) {
                // Some 20 ms.
                for _ in 0..2000 {
                    self.ask(Ask::Pause).await;
                }
            }
            if life.fuse.get() == 0 {
                self.ask(Ask::PowerFails).await;
            }
            life.fuse.set(life.fuse.get() - 1);
            life.actions.set(life.actions.get() + 1);
            let swing_follows = actions[nr..]
                .iter()
                .find(|a| !matches!(a, Action::Fence))
                .is_some_and(|a| matches!(a, Action::Swing { .. }));
            if life.bug == Bug::NoFenceBeforeSwing
                && matches!(action, Action::Fence)
                && swing_follows
            {
                life.fence_owed.set(true);
                continue;
            }
            life.execute(action);
            let is_fenced = matches!(actions[nr.saturating_sub(1)], Action::Fence);
            if is_fenced && matches!(action, Action::Swing { .. }) {
                match life.swings.get() {
                    0 => life.fuse.set(0),
                    left => life.swings.set(left - 1),
                }
            }
        }
        Ok(())
    }

    async fn call(&self, calls: &mut [Call<'_>]) {
        if calls.is_empty() {
            return;
        }
        let out = calls
            .iter()
            .map(|call| Outgoing {
                dst: call.dst,
                bytes: {
                    let pm = self.0.pm.borrow();
                    call.request
                        .iter()
                        .flat_map(|piece| bytes_of(&pm, piece))
                        .collect()
                },
                room: call.reply.len(),
                until: call.until,
            })
            .collect();
        self.ask(Ask::Call(out)).await;
        let answers = std::mem::take(&mut *self.0.answers.borrow_mut());
        assert_eq!(answers.len(), calls.len());
        for (call, answer) in calls.iter_mut().zip(answers) {
            call.answer = answer.map(|bytes| {
                call.reply[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            });
        }
    }

    async fn map(&self, key: PageKey, to: Mapping) -> Result {
        self.pause_sometimes().await;
        self.0.mapped.borrow_mut().insert(key, to);
        self.pause_sometimes().await;
        Ok(())
    }

    async fn wait(&self, ticket: Ticket, until: u64, _: Sleep) -> Result {
        self.ask(Ask::Wait(ticket, until)).await;
        Ok(())
    }

    fn log(&self, level: Level, line: std::fmt::Arguments<'_>) {
        if tracing() {
            println!("      n{} {level:?}: {line}", self.0.id);
        }
        if level != Level::Info {
            self.0.lines.borrow_mut().push(line.to_string());
        }
        let is_damage = line.to_string().contains("the copy here (PM page");
        assert!(
            !is_damage || self.0.flipped.get(),
            "node {}, where no bits flip: {line}",
            self.0.id
        );
        assert!(
            level != Level::Error || self.0.bug != Bug::None || self.0.flipped.get(),
            "node {}: {line}",
            self.0.id
        );
    }
}
