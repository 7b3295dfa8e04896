// SPDX-License-Identifier: GPL-2.0

//! The timer of a station: its engine hears of time in softirq context, as of packets, without
//! waiting for a worker or for the next jiffy: a packet that was lost is sent again after
//! milliseconds, most of which would be that.
//!
//! The timer runs while the engine has anything to wait for. What comes up meanwhile may be due
//! earlier than what it was set to, so it never waits for longer than [`MOST`].

use crate::station::{now, Inner, Station};
use kernel::{
    impl_has_hr_timer,
    sync::{Arc, ArcBorrow},
    time::{
        hrtimer::{
            ArcHrTimerHandle, HrTimerCallback, HrTimerCallbackContext, HrTimerPointer,
            HrTimerRestart, RelativeSoftMode,
        },
        Delta, Monotonic,
    },
};

/// How late the engine may hear of time, and how soon after the last time, ns.
const MOST: u64 = 1_000_000;
const LEAST: u64 = 100_000;

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Station {
        mode: RelativeSoftMode<Monotonic>, field: self.timer
    }
}

/// The timer that was started last.
#[derive(Default)]
pub(crate) struct Started {
    handle: Option<ArcHrTimerHandle<Station>>,
    /// There will be none any more.
    stopped: bool,
}

impl Inner {
    /// Whether the timer has to be started, which the caller does then.
    pub(crate) fn begins_to_wait(&mut self) -> bool {
        let begins = !self.waiting && self.engine.next_tick() != u64::MAX;
        self.waiting |= begins;
        begins
    }

    /// How long until the timer is due; none when there is nothing to wait for.
    fn wait(&mut self) -> Option<Delta> {
        let next = self.engine.next_tick();
        self.waiting = next != u64::MAX;
        let left = next.saturating_sub(now()).clamp(LEAST, MOST);
        self.waiting.then(|| Delta::from_nanos(left as i64))
    }
}

impl Station {
    /// Starts the timer, which is not running: [`Inner::begins_to_wait`] said so, to us only.
    pub(crate) fn start_timer(self: &Arc<Self>) {
        let mut started = self.started.lock();
        // Waits for the callback to return, if it has not yet done so.
        drop(started.handle.take());
        if !started.stopped {
            let first = Delta::from_nanos(MOST as i64);
            started.handle = Some(self.clone().start(first));
        }
    }

    /// The timer does not run any more, nor again.
    pub(crate) fn stop_timer(&self) {
        let handle = {
            let mut started = self.started.lock();
            started.stopped = true;
            started.handle.take()
        };
        drop(handle);
    }
}

impl HrTimerCallback for Station {
    type Pointer<'a> = Arc<Self>;

    fn run(
        this: ArcBorrow<'_, Self>,
        mut context: HrTimerCallbackContext<'_, Self>,
    ) -> HrTimerRestart {
        let this: Arc<Self> = this.into();
        this.with(|inner| inner.engine.tick(now()));
        let wait = this.inner.lock().wait();
        match wait {
            Some(wait) => {
                context.forward_now(wait);
                HrTimerRestart::Restart
            }
            None => HrTimerRestart::NoRestart,
        }
    }
}
