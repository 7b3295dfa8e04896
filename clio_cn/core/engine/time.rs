// SPDX-License-Identifier: GPL-2.0

//! Deadlines, timeouts and pauses.

use super::super::{
    op::{Data, Stage},
    request::State,
};
use super::Engine;
use kernel::prelude::*;

impl<D: Data> Engine<D> {
    /// When [`Engine::tick`] is due, `u64::MAX` for never. May be earlier than
    /// needed, never later.
    pub fn next_tick(&self) -> u64 {
        self.wake
    }

    pub(super) fn wake_at(&mut self, time: u64) {
        self.wake = self.wake.min(time);
    }

    /// A pause after so many attempts: doubling, and not the same for all who wait.
    pub(super) fn pause(&self, attempts: u32) -> u64 {
        let pause = &self.config.pause;
        let most = pause
            .start
            .saturating_mul(1 << attempts.min(16))
            .clamp(1, pause.end.max(1));
        let dice = (self.sequence ^ self.config.incarnation).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        most / 2 + (dice >> 32) % (most / 2 + 1)
    }

    /// Time has passed: gives up what is beyond its deadline, and tries again what
    /// got no answer.
    pub fn tick(&mut self, now: u64) {
        if now < self.wake {
            return;
        }
        self.wake = u64::MAX;
        for index in 0..self.ops.end() {
            let Some((key, op)) = self.ops.at(index) else {
                continue;
            };
            let (stage, until) = (op.stage, op.new.until);
            match stage {
                Stage::Done => continue,
                _ if until <= now => {
                    self.finish(key, Err(ETIMEDOUT));
                    continue;
                }
                Stage::Waiting(again) if again <= now => self.reenter(key),
                Stage::Waiting(again) => self.wake_at(again),
                _ => {}
            }
            self.wake_at(until);
        }
        for index in 0..self.requests.end() {
            let Some((key, request)) = self.requests.at(index) else {
                continue;
            };
            match request.state {
                State::Paused(again) if again <= now => self.try_again(key, now),
                State::Paused(again) => self.wake_at(again),
                State::Sending | State::Waiting if request.in_flight() == 0 => {}
                State::Sending | State::Waiting if request.timeout <= now => {
                    self.stop(key, now, true);
                    self.try_again(key, now);
                }
                State::Sending | State::Waiting => {
                    let timeout = request.timeout;
                    self.wake_at(timeout);
                }
                State::Unrouted => {}
            }
        }
        for (_, space) in self.spaces.iter().filter(|(_, space)| space.stale) {
            self.wake = self.wake.min(space.not_before.max(now));
        }
    }
}
