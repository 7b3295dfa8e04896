// SPDX-License-Identifier: GPL-2.0

//! Two threads of a node, of which one goes on whenever the other has just let the mutex of the
//! state go. The world's operations end a step before another one begins; threads on two
//! processors need not.

use super::host::{Ask, Life, SimHost};
use hotpot_core::core::{
    cluster::Sender,
    format::PAGE_SIZE,
    handler,
    host::{Action, Call, Host, Level, Mapping, PageKey, Sleep, Ticket},
    node::Node,
};
use kernel::error::Result;
use std::{
    cell::RefCell,
    fmt::Arguments,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// The handler of a request, which may have to wait.
pub struct Handler {
    life: Rc<Life>,
    future: Pin<Box<dyn Future<Output = Result<Vec<u8>>>>>,
    /// What it waits for, once it has begun.
    ticket: Option<Ticket>,
    /// Its reply, when it has ended.
    pub reply: Option<Result<Vec<u8>>>,
}

impl Handler {
    /// Not begun.
    pub fn new(life: &Rc<Life>, from: Sender, request: Vec<u8>) -> Self {
        let host = SimHost(life.clone());
        let handle = async move {
            let mut reply = vec![0; 64 + PAGE_SIZE];
            let len = handler::handle(&host, from, &request, &mut reply).await?;
            reply.truncate(len);
            Ok(reply)
        };
        Self {
            life: life.clone(),
            future: Box::pin(handle),
            ticket: None,
            reply: None,
        }
    }

    /// Goes on, if it was woken, until it waits again.
    pub fn go_on(&mut self) {
        let is_due = |ticket| self.life.node.borrow().is_due(ticket);
        if self.reply.is_some() || !self.ticket.is_none_or(is_due) {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.future.as_mut().poll(&mut context) {
            Poll::Ready(reply) => self.reply = Some(reply),
            Poll::Pending => match self.life.ask.borrow_mut().take() {
                Some(Ask::Wait(ticket, _)) => self.ticket = Some(ticket),
                ask => panic!("it asks for {ask:?}"),
            },
        }
    }
}

/// The host of a thread beside another one, on another processor: that one goes on each time it
/// can.
pub struct Beside {
    host: SimHost,
    other: Rc<RefCell<Handler>>,
}

impl Beside {
    /// Of the same life of a node as the other thread.
    pub fn new(life: &Rc<Life>, other: &Rc<RefCell<Handler>>) -> Self {
        Self {
            host: SimHost(life.clone()),
            other: other.clone(),
        }
    }
}

impl Host for Beside {
    fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        let result = self.host.with(f);
        self.other.borrow_mut().go_on();
        result
    }

    fn now(&self) -> u64 {
        self.host.now()
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result {
        self.host.read(offset, to)
    }

    async fn run(&self, actions: &[Action<'_>]) -> Result {
        self.host.run(actions).await
    }

    async fn call(&self, calls: &mut [Call<'_>]) {
        self.host.call(calls).await;
    }

    async fn map(&self, key: PageKey, to: Mapping) -> Result {
        self.host.map(key, to).await
    }

    async fn wait(&self, ticket: Ticket, until: u64, sleep: Sleep) -> Result {
        self.host.wait(ticket, until, sleep).await
    }

    fn log(&self, level: Level, line: Arguments<'_>) {
        self.host.log(level, line);
    }
}
