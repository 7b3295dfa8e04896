// SPDX-License-Identifier: GPL-2.0

//! ExCache: which pages of a RAS have a frame here, which frame, and which page
//! goes when another one comes (sections 3.4.2 to 3.4.4).
//!
//! A line is one frame and the page in it. Lines are set-associative: a page may
//! lie in any line of its set. The cache decides; the edge has the frames, maps
//! them, and moves bytes.
//!
//! # How to drive it
//!
//! - A fault: [`Cache::touch`]. [`Touch::Hit`]: map the frame. [`Touch::Busy`]:
//!   wait until a line became idle, and touch again. [`Touch::Fill`]: the line is
//!   ours; unmap the victim from all processes and write it back if it is dirty,
//!   bring the page (zeros without a round trip when `zeros` says so), then
//!   [`Cache::filled`], or [`Cache::unfilled`] when the victim could not leave.
//! - msync, munmap: [`Cache::begin_flush`] until it returns `None`: unmap the page
//!   (so that nobody stores to it), write it back, [`Cache::flushed`].
//! - A line that was stored to is dirty from the moment it was mapped writable
//!   until it has been unmapped and written back.
//!
//! # Which page goes
//!
//! The one that came first ([`Policy::Fifo`]), or was not used for longest
//! ([`Policy::Lru`]). Loads and stores of mapped pages are not seen here. So with
//! LRU a part of each set is *resting*: still here but unmapped, so that a use
//! faults, and makes it the youngest. [`Fill::rest`] names a page to unmap.

mod fresh;

use self::fresh::Fresh;
use kernel::prelude::*;

/// Which page of a set goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// First in, first out.
    Fifo,
    /// Least recently used.
    Lru,
}

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Frames there are; at least `ways`.
    pub lines: usize,
    /// Lines of a set.
    pub ways: usize,
    /// Which page goes.
    pub policy: Policy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No page.
    Empty,
    /// The page is here, and mapped as far as we let it.
    Idle,
    /// The edge moves bytes into or out of it.
    Busy,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    page: u64,
    /// The page that is being brought, while busy; else as `page`.
    coming: u64,
    state: State,
    dirty: bool,
    resting: bool,
    stamp: u64,
}

/// A page that leaves a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The page.
    pub page: u64,
    /// It has to be written back.
    pub dirty: bool,
}

/// A line to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The line, which is the number of its frame.
    pub line: usize,
    /// The page to bring.
    pub page: u64,
    /// It was never written: its bytes are zeros.
    pub zeros: bool,
    /// What is in the frame now.
    pub victim: Option<Victim>,
    /// A page to unmap, which stays.
    pub rest: Option<u64>,
}

/// What to do about an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The page is in this line.
    Hit(usize),
    /// Bytes are being moved; again when that is done.
    Busy,
    /// Bring it.
    Fill(Fill),
}

/// A dirty line that is being written back, and stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// The line.
    pub line: usize,
    /// Its page.
    pub page: u64,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Faults on pages that were here.
    pub hits: u64,
    /// Pages fetched.
    pub fetches: u64,
    /// Pages that were zeros on first touch.
    pub zeros: u64,
    /// Pages that went.
    pub evictions: u64,
    /// Pages written back, when they went or on demand.
    pub write_backs: u64,
}

/// The lines of one mapping of a RAS.
#[derive(Debug)]
pub struct Cache {
    lines: KVVec<Line>,
    ways: usize,
    sets: u64,
    policy: Policy,
    clock: u64,
    fresh: Fresh,
    stats: Stats,
}

impl Cache {
    /// An empty cache. `EINVAL` if it would have no set.
    pub fn new(config: Config) -> Result<Self> {
        let sets = config.lines.checked_div(config.ways).unwrap_or(0);
        if sets == 0 {
            return Err(EINVAL);
        }
        let empty = Line {
            page: 0,
            coming: 0,
            state: State::Empty,
            dirty: false,
            resting: false,
            stamp: 0,
        };
        let count = sets * config.ways;
        Ok(Self {
            lines: KVVec::from_elem(empty, count, GFP_KERNEL)?,
            ways: config.ways,
            sets: sets as u64,
            policy: config.policy,
            clock: 0,
            fresh: Fresh::new(),
            stats: Stats::default(),
        })
    }

    /// Lines there are.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// How often what happened.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Pages `first .. first + count` were just allocated and never written.
    pub fn add_fresh(&mut self, first: u64, count: u64) -> Result {
        self.fresh.add(first, count)
    }

    /// Somebody else may have written pages `first .. first + count`.
    pub fn forget_fresh(&mut self, first: u64, count: u64) {
        self.fresh.clear(first, count);
    }

    fn set(&self, page: u64) -> core::ops::Range<usize> {
        let first = (page % self.sets) as usize * self.ways;
        first..first + self.ways
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The line that has a page, or is about to have it, or to lose it.
    fn find(&self, page: u64) -> Option<usize> {
        self.set(page).find(|&at| {
            self.lines.get(at).is_some_and(|line| match line.state {
                State::Empty => false,
                State::Idle => line.page == page,
                State::Busy => line.page == page || line.coming == page,
            })
        })
    }

    /// The line that gives way in a set: an empty one, else the oldest idle one.
    fn candidate(&self, page: u64) -> Option<usize> {
        self.set(page)
            .filter_map(|at| Some((at, self.lines.get(at)?)))
            .filter(|(_, line)| line.state != State::Busy)
            .min_by_key(|(_, line)| (line.state != State::Empty, line.stamp))
            .map(|(at, _)| at)
    }

    /// Puts the oldest mapped line of a set to rest, when fewer than a quarter rest.
    fn rest(&mut self, page: u64, except: usize) -> Option<u64> {
        if self.policy == Policy::Fifo {
            return None;
        }
        let (mut resting, mut oldest) = (0, None);
        for at in self.set(page).filter(|at| *at != except) {
            let Some(line) = self.lines.get(at) else {
                continue;
            };
            if line.state != State::Idle {
                continue;
            }
            if line.resting {
                resting += 1;
            } else if oldest.is_none_or(|(stamp, _)| line.stamp < stamp) {
                oldest = Some((line.stamp, at));
            }
        }
        if resting > self.ways / 4 {
            return None;
        }
        let line = self.lines.get_mut(oldest?.1)?;
        line.resting = true;
        Some(line.page)
    }

    /// A process accesses a page that it has not mapped for that.
    pub fn touch(&mut self, page: u64, store: bool) -> Touch {
        if let Some(at) = self.find(page) {
            let (policy, stamp) = (self.policy, self.tick());
            let Some(line) = self.lines.get_mut(at) else {
                return Touch::Busy;
            };
            if line.state == State::Busy {
                return Touch::Busy;
            }
            if policy == Policy::Lru {
                line.stamp = stamp;
            }
            line.resting = false;
            line.dirty |= store;
            self.stats.hits += 1;
            return Touch::Hit(at);
        }
        let Some(at) = self.candidate(page) else {
            return Touch::Busy;
        };
        let rest = self.rest(page, at);
        let zeros = self.fresh.contains(page);
        let Some(line) = self.lines.get_mut(at) else {
            return Touch::Busy;
        };
        let victim = (line.state == State::Idle).then_some(Victim {
            page: line.page,
            dirty: line.dirty,
        });
        if victim.is_none() {
            line.page = page;
        }
        line.coming = page;
        line.state = State::Busy;
        Touch::Fill(Fill {
            line: at,
            page,
            zeros,
            victim,
            rest,
        })
    }

    /// The page is in its frame. It is not mapped before this.
    pub fn filled(&mut self, fill: &Fill, store: bool) {
        if let Some(victim) = fill.victim {
            self.stats.evictions += 1;
            if victim.dirty {
                self.wrote_back(victim.page);
            }
        }
        if fill.zeros {
            self.stats.zeros += 1;
        } else {
            self.stats.fetches += 1;
        }
        let stamp = self.tick();
        if let Some(line) = self.lines.get_mut(fill.line) {
            *line = Line {
                page: fill.page,
                coming: fill.page,
                state: State::Idle,
                dirty: store,
                resting: false,
                stamp,
            };
        }
    }

    /// The page did not come. `victim_left`: what was in the frame was written
    /// back, or did not need to be; else it stays.
    pub fn unfilled(&mut self, fill: &Fill, victim_left: bool) {
        if let (true, Some(Victim { page, dirty: true })) = (victim_left, fill.victim) {
            self.wrote_back(page);
        }
        if let Some(line) = self.lines.get_mut(fill.line) {
            line.state = match (fill.victim, victim_left) {
                (Some(_), false) => State::Idle,
                _ => State::Empty,
            };
            if line.state == State::Empty {
                line.dirty = false;
            }
        }
    }

    fn wrote_back(&mut self, page: u64) {
        self.stats.write_backs += 1;
        self.fresh.clear(page, 1);
    }

    /// The next dirty page among `first ..= last`, at or behind line `from`.
    /// `Err(())` when one is being moved: again when that is done.
    pub fn begin_flush(&mut self, first: u64, last: u64, from: usize) -> Option<Result<Flush, ()>> {
        let (at, line) =
            self.lines
                .iter_mut()
                .enumerate()
                .skip(from)
                .find(|(_, line)| match line.state {
                    State::Empty => false,
                    State::Idle => line.dirty && (first..=last).contains(&line.page),
                    // It may be a victim: what it holds is not yet where it belongs.
                    State::Busy => true,
                })?;
        if line.state == State::Busy {
            return Some(Err(()));
        }
        line.state = State::Busy;
        line.coming = line.page;
        Some(Ok(Flush {
            line: at,
            page: line.page,
        }))
    }

    /// The page was written back, or could not be.
    pub fn flushed(&mut self, flush: &Flush, written: bool) {
        if let Some(line) = self.lines.get_mut(flush.line) {
            line.state = State::Idle;
            line.resting = true;
            line.dirty = !written;
        }
        if written {
            self.wrote_back(flush.page);
        }
    }

    /// Drops the pages among `first ..= last` without writing them back; the
    /// edge has unmapped them. False when one is being moved: again when that is done.
    pub fn drop_pages(&mut self, first: u64, last: u64) -> bool {
        let mut all = true;
        for line in self.lines.iter_mut() {
            match line.state {
                State::Idle if (first..=last).contains(&line.page) => {
                    line.state = State::Empty;
                    line.dirty = false;
                }
                State::Busy => all = false,
                _ => {}
            }
        }
        all
    }

    /// Pages among `first ..= last` that are here.
    pub fn pages_in(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        self.lines
            .iter()
            .filter(move |line| line.state == State::Idle && (first..=last).contains(&line.page))
            .map(|line| line.page)
    }

    /// Lines whose pages have to be written back.
    pub fn dirty(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| line.state != State::Empty && line.dirty)
            .count()
    }
}
