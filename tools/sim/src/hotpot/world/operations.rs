// SPDX-License-Identifier: GPL-2.0

//! Operations in flight on nodes: begun, polled, woken, ended.

use super::{network::Leg, Event, World};
use crate::{
    hotpot::{
        host::{Answer, Ask, SimHost},
        workload,
    },
    schedule::{MS, SEC, US},
};
use hotpot_core::core::host::Ticket;
use kernel::error::{code::ENOMEM, Result};
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// What an operation ends with.
pub enum Output {
    /// A handler's reply.
    Reply(Result<Vec<u8>>),
    /// A process' operation.
    Done(workload::Done),
    /// A map was taken over, or could not be.
    Map(Result),
    /// The mount is done.
    Mounted(Result),
}

/// An operation in flight.
pub type Operation = Pin<Box<dyn Future<Output = Output>>>;

pub(super) enum Role {
    Handler(Leg),
    Process(usize),
    Map,
    Mount,
    Worker,
}

pub(super) struct Op {
    pub(super) node: usize,
    pub(super) incarnation: u64,
    pub(super) future: Operation,
    pub(super) role: Role,
    /// Changes each time it goes on: what comes for an earlier one is too late.
    pub(super) serial: u64,
    pub(super) ticket: Option<Ticket>,
    pub(super) answers: Vec<Option<Answer>>,
}

impl World {
    pub(super) fn begin(&mut self, node: usize, role: Role, future: Operation) -> u64 {
        self.next_op += 1;
        let id = self.next_op;
        let op = Op {
            node,
            incarnation: self.nodes[node].incarnation,
            future,
            role,
            serial: 0,
            ticket: None,
            answers: Vec::new(),
        };
        self.ops.insert(id, op);
        self.schedule.after(0, Event::Poll(id, 0));
        id
    }

    /// Begins an operation of a process.
    pub fn begin_process(
        &mut self,
        node: usize,
        process: usize,
        future: impl Future<Output = workload::Done> + 'static,
    ) {
        self.begin(
            node,
            Role::Process(process),
            Box::pin(async move { Output::Done(future.await) }),
        );
    }

    /// Begins an operation; its result will be in `result`.
    pub fn begin_result<T: 'static, F>(
        &mut self,
        node: usize,
        result: Rc<RefCell<Option<T>>>,
        operation: impl FnOnce(SimHost) -> F,
    ) where
        F: Future<Output = T> + 'static,
    {
        let life = self.nodes[node].life.clone().expect("alive");
        let future = operation(SimHost(life));
        self.begin_process(node, 0, async move {
            let value = future.await;
            *result.borrow_mut() = Some(value);
            workload::Done::Other("test", Ok(()))
        });
    }

    /// Runs one operation on a node to its end, whatever else happens meanwhile.
    pub fn execute<T: 'static, F>(&mut self, node: usize, operation: impl FnOnce(SimHost) -> F) -> T
    where
        F: Future<Output = T> + 'static,
    {
        let result = Rc::new(RefCell::new(None));
        self.begin_result(node, result.clone(), operation);
        let end = self.now() + 10 * SEC;
        while result.borrow().is_none() {
            let event = self.schedule.next_until(end).expect("the operation ends");
            self.clock.set(self.schedule.now());
            self.handle(event);
        }
        let result = result.borrow_mut().take();
        result.expect("it has just been there")
    }

    /// The process goes on after a while.
    pub fn next_step(&mut self, node: usize, process: usize) {
        let delay = self.rng.range(10..1500) * US;
        let incarnation = self.nodes[node].incarnation;
        self.schedule
            .after(delay, Event::Step(node, process, incarnation));
    }

    pub(super) fn poll(&mut self, id: u64) {
        let Some(mut op) = self.ops.remove(&id) else {
            return;
        };
        let index = op.node;
        let Some(life) = self.nodes[index].life.clone() else {
            return;
        };
        assert_eq!(life.incarnation, op.incarnation);
        op.serial += 1;
        op.ticket = None;
        let answers: Vec<Answer> = std::mem::take(&mut op.answers)
            .into_iter()
            .map(|answer| answer.expect("all legs are answered"))
            .collect();
        *life.answers.borrow_mut() = answers;
        let polled = op
            .future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(output) => self.finish(op, output),
            Poll::Pending => {
                let ask = life.ask.borrow_mut().take().expect("an operation asks");
                match ask {
                    Ask::PowerFails => return self.crash_now(index),
                    Ask::Pause => {
                        let delay = self.rng.range(0..20) * US;
                        self.schedule.after(delay, Event::Poll(id, op.serial));
                    }
                    Ask::Wait(ticket, until) => {
                        op.ticket = Some(ticket);
                        self.schedule.at(until, Event::Poll(id, op.serial));
                    }
                    Ask::Call(requests) => {
                        op.answers = vec![None; requests.len()];
                        self.send(id, &op, requests);
                    }
                }
                self.ops.insert(id, op);
            }
        }
        workload::look_at_copies(self, index);
        self.wake(index);
    }

    /// Lets those go on whose wake has come.
    pub(super) fn wake(&mut self, index: usize) {
        let Some(life) = &self.nodes[index].life else {
            return;
        };
        let node = life.node.borrow();
        for (id, op) in self.ops.iter_mut().filter(|(_, op)| op.node == index) {
            if op.ticket.is_some_and(|ticket| node.is_due(ticket)) {
                op.ticket = None;
                let delay = self.rng.range(0..5) * US;
                self.schedule.after(delay, Event::Poll(*id, op.serial));
            }
        }
    }

    fn finish(&mut self, op: Op, output: Output) {
        match (op.role, output) {
            (Role::Handler(leg), Output::Reply(reply)) => self.reply(op.node, leg, reply),
            (Role::Process(process), Output::Done(done)) => {
                workload::done(self, op.node, process, done);
            }
            // It is mounted again soon.
            (Role::Mount, Output::Mounted(Err(ENOMEM))) => self.crash_now(op.node),
            (Role::Mount, Output::Mounted(result)) => {
                result.expect("mounts");
                self.mounted(op.node);
            }
            // It is published again, as the log asks for.
            (Role::Map, Output::Map(Err(ENOMEM))) => {
                self.schedule.after(MS, Event::NewMap(op.node));
            }
            (Role::Map, Output::Map(result)) => result.expect("takes the map over"),
            _ => {}
        }
    }
}
