// SPDX-License-Identifier: GPL-2.0

//! What the map says of a peer, and its connections, one after the other.

use super::{
    super::{
        connection::{Generation, State},
        membership::{NodeState, View},
        ring::max_message,
        wire::{Hello, Reject, RejectReason, HEADER_LEN},
    },
    Peer,
};
use kernel::prelude::*;

impl<C, R> Peer<C, R> {
    // The map.

    /// A map is in force (or, with the same epoch, the peer was met). A view
    /// that a newer one overtook is ignored.
    pub fn set_view(&mut self, now: u64, view: View) {
        let order = (view.epoch, view.incarnation).cmp(&(self.view.epoch, self.view.incarnation));
        if view.epoch < self.view.epoch || view.epoch == self.view.epoch && order.is_lt() {
            return;
        }
        let new_epoch = view.epoch > self.view.epoch;
        if self.view.epoch == 0 {
            // Another object may have stood for the peer before.
            self.session.forgets_before(view.epoch);
        }
        self.view = view;
        if view.incarnation != 0 && self.life != 0 && view.incarnation != self.life {
            self.new_life(now, view.incarnation);
        }
        if new_epoch {
            self.calls.new_epoch(view.epoch);
        }
        let up = view.is_up() && !self.shut_down;
        if !up {
            self.calls.fail_all(EHOSTDOWN);
            if self.connection.state() == State::Connected {
                self.disconnected();
            }
        }
        if matches!(view.state, Some(NodeState::Out) | None) {
            self.session.void();
            self.session.forgets_before(view.epoch);
            self.life = 0;
        }
        self.connection.want(now, up);
        self.heartbeat.watch(now, up);
    }

    fn new_life(&mut self, now: u64, incarnation: u64) {
        self.life = incarnation;
        self.session.void();
        self.calls.new_life();
        if self.connection.state() == State::Connected {
            self.disconnected();
        }
        self.connection.break_off(now);
    }

    /// Our node is switched off: all calls end by `ESHUTDOWN`.
    pub fn shut_down(&mut self, now: u64) {
        self.shut_down = true;
        self.calls.fail_all(ESHUTDOWN);
        self.session.void();
        self.connection.want(now, false);
        self.heartbeat.watch(now, false);
        self.disconnected();
    }

    // The connection.

    /// The peer asks for a connection; [`super::membership::Membership::admit`]
    /// said yes to its hello, with this view. On success: tear the second
    /// generation down if there is one, then accept the first with our hello.
    pub fn connect_request(
        &mut self,
        now: u64,
        hello: &Hello,
        view: View,
    ) -> Result<(Generation, Option<Generation>), Reject> {
        self.set_view(now, view);
        let reject = |reason| Reject {
            reason,
            epoch: self.view.epoch,
        };
        if !self.view.is_up() || self.shut_down {
            return Err(reject(RejectReason::NotMember));
        }
        if self.view.incarnation != hello.incarnation {
            return Err(reject(RejectReason::Incarnation));
        }
        let Some((generation, old)) = self.connection.request(now) else {
            return Err(reject(RejectReason::Direction));
        };
        self.disconnected();
        self.welcome(now, hello);
        Ok((generation, old))
    }

    /// The peer accepted our attempt with this hello, and `admit` said yes.
    /// When it said no, report [`Self::lost`] instead.
    pub fn connect_reply(&mut self, now: u64, generation: Generation, hello: &Hello, view: View) {
        self.set_view(now, view);
        if !self.connection.is_attempt(generation) {
            return;
        }
        if self.view.incarnation == hello.incarnation {
            self.welcome(now, hello);
        } else {
            self.connection.break_off(now);
        }
    }

    fn welcome(&mut self, now: u64, hello: &Hello) {
        // Another life than the last was noticed by `set_view`. Calls that were
        // made before any was known are for this one.
        self.life = hello.incarnation;
        self.see_epoch(hello.epoch);
        let size = hello.ring.size();
        self.max_payload = max_message(size) - HEADER_LEN as u32;
        self.calls.limit(1 << hello.ring.slots_log2);
        self.tx.open(size, 1 << hello.ring.depth_log2);
        self.rx
            .open(1 << self.config.ring_log2, 1 << self.config.depth_log2);
        self.heartbeat.heard(now);
    }

    /// The connection is established: both hellos were exchanged.
    pub fn established(&mut self, now: u64, generation: Generation) {
        if self.rx.is_open() && self.connection.established(generation) {
            self.heartbeat.sent(now);
            self.calls.resend();
        }
    }

    /// Whether messages of this connection count. The first one may overtake
    /// the word that the connection is established, and says as much.
    pub(super) fn flows(&mut self, now: u64, generation: Generation) -> bool {
        self.established(now, generation);
        self.connection.is_connected(generation)
    }

    /// An attempt failed, or a connection broke; the edge has torn it down.
    /// `reject` is what the peer said, if it did.
    pub fn lost(&mut self, now: u64, generation: Generation, reject: Option<Reject>) {
        if self.connection.lost(now, generation) {
            self.disconnected();
            self.heartbeat.disconnected();
        }
        if let Some(reject) = reject {
            self.see_epoch(reject.epoch);
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.tx.close();
        self.rx.close();
        self.session.disconnected();
    }

    pub(super) fn see_epoch(&mut self, epoch: u64) {
        if epoch > self.view.epoch && epoch > self.fenced_epoch {
            self.fenced_epoch = epoch;
            self.fenced = Some(epoch);
        }
    }
}
