// SPDX-License-Identifier: GPL-2.0

//! The graph engine on a model of shared persistent memory: whoever dies at whichever step, the next run goes on.

use potluck_apps::{
    gas::{self, words_needed, Outcome, PageRank, Settings, Space},
    pagerank::{farthest, reference, rmat, Graph},
};
use std::{
    io,
    ops::Range,
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        Arc, Condvar, Mutex,
    },
    thread,
};

const RANKS: usize = 3;
const SETTINGS: Settings = Settings {
    iterations: 8,
    tolerance: 0.0,
};

/// Who waits at which barrier, and whether all are dead.
#[derive(Default)]
struct Meeting {
    names: Vec<(String, usize)>,
    passed: Vec<(String, usize)>,
    dead: bool,
}

/// Persistent memory, and the power of all ranks, which fails at a certain step.
struct Machine {
    durable: Mutex<Vec<u64>>,
    /// Steps (commits and barriers of all ranks) until the power fails.
    left: AtomicUsize,
    meeting: Mutex<Meeting>,
    news: Condvar,
    views: Vec<Vec<AtomicU64>>,
}

impl Machine {
    fn start(durable: Vec<u64>, steps: usize) -> Arc<Self> {
        let view = || durable.iter().copied().map(AtomicU64::new).collect();
        Arc::new(Self {
            views: (0..RANKS).map(|_| view()).collect(),
            durable: Mutex::new(durable),
            left: AtomicUsize::new(steps),
            meeting: Mutex::default(),
            news: Condvar::new(),
        })
    }

    fn step(&self) -> io::Result<()> {
        let less = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(SeqCst, SeqCst, less).is_err() {
            self.meeting.lock().unwrap().dead = true;
            self.news.notify_all();
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

struct Rank {
    machine: Arc<Machine>,
    rank: usize,
}

impl Space for Rank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        RANKS
    }

    fn words(&self) -> &[AtomicU64] {
        &self.machine.views[self.rank]
    }

    fn acquire(&self, _ranges: &[Range<usize>]) -> io::Result<()> {
        self.machine.step()
    }

    fn commit(&self, ranges: &[Range<usize>]) -> io::Result<()> {
        self.machine.step()?;
        let mut durable = self.machine.durable.lock().unwrap();
        for word in ranges.iter().flat_map(Range::clone) {
            durable[word] = self.words()[word].load(SeqCst);
            for view in &self.machine.views {
                view[word].store(durable[word], SeqCst);
            }
        }
        drop(durable);
        // It may be published, and nobody told.
        self.machine.step()
    }

    fn barrier(&self, name: &str) -> io::Result<()> {
        self.machine.step()?;
        let mut meeting = self.machine.meeting.lock().unwrap();
        let nth = meeting
            .passed
            .iter()
            .filter(|(n, r)| n == name && *r == self.rank)
            .count();
        meeting.passed.push((name.into(), self.rank));
        meeting.names.push((name.into(), nth));
        self.machine.news.notify_all();
        let key = (name.to_string(), nth);
        while meeting.names.iter().filter(|one| **one == key).count() < RANKS {
            if meeting.dead {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            meeting = self.machine.news.wait(meeting).unwrap();
        }
        Ok(())
    }
}

/// One life of the machine: what the ranks came to, and what is on PM.
fn life(graph: &Graph, durable: Vec<u64>, steps: usize) -> (Vec<Option<Outcome>>, Vec<u64>) {
    let machine = Machine::start(durable, steps);
    let outcomes = thread::scope(|scope| {
        let ranks: Vec<_> = (0..RANKS)
            .map(|rank| {
                let machine = machine.clone();
                scope.spawn(move || {
                    let program = PageRank {
                        vertices: graph.vertices,
                    };
                    let space = Rank { machine, rank };
                    gas::run(&space, graph, &program, SETTINGS, &mut |_, _| {}).ok()
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    let durable = machine.durable.lock().unwrap().clone();
    (outcomes, durable)
}

fn nothing(graph: &Graph) -> Vec<u64> {
    vec![0; words_needed(graph, RANKS)]
}

fn check(graph: &Graph, outcomes: &[Option<Outcome>]) -> u64 {
    let expected = reference(graph, SETTINGS.iterations as u32);
    for outcome in outcomes {
        let outcome = outcome
            .as_ref()
            .expect("a rank failed without a power failure");
        assert_eq!(outcome.iteration, SETTINGS.iterations);
        let apart = farthest(&outcome.values, &expected);
        assert!(apart < 1e-12, "{apart}");
    }
    outcomes[0].as_ref().unwrap().resumed_from
}

#[test]
fn parts_come_to_what_one_process_comes_to() {
    let graph = rmat(7, 8, 1);
    let (outcomes, _) = life(&graph, nothing(&graph), usize::MAX);
    assert_eq!(check(&graph, &outcomes), 0);
}

#[test]
fn a_run_goes_on_wherever_the_power_failed() {
    let graph = rmat(6, 8, 2);
    let mut latest = 0;
    for steps in 0.. {
        let (outcomes, durable) = life(&graph, nothing(&graph), steps);
        let over = outcomes.iter().all(Option::is_some);
        let (outcomes, _) = life(&graph, durable, usize::MAX);
        let from = check(&graph, &outcomes);
        // What a barrier has ended is never done again.
        assert!(
            from >= latest || from + 1 >= latest,
            "{from} after {latest}"
        );
        latest = latest.max(from);
        if over {
            assert_eq!(from, SETTINGS.iterations);
            break;
        }
    }
    assert_eq!(latest, SETTINGS.iterations);
}

#[test]
fn a_run_goes_on_however_often_the_power_fails() {
    let graph = rmat(6, 8, 3);
    let mut durable = nothing(&graph);
    let mut lives = 0;
    loop {
        // As many steps as one iteration takes, and some to begin.
        let (outcomes, left) = life(&graph, durable, 11 * RANKS);
        durable = left;
        lives += 1;
        assert!(lives < 100, "it does not get on");
        if outcomes.iter().all(Option::is_some) {
            check(&graph, &outcomes);
            break;
        }
    }
    assert!(lives > 2, "{lives} lives");
}

#[test]
fn a_rank_that_lost_its_part_has_all_begin_anew() {
    let graph = rmat(6, 8, 4);
    let (_, mut durable) = life(&graph, nothing(&graph), usize::MAX);
    durable[0] = 0;
    let (outcomes, _) = life(&graph, durable, usize::MAX);
    assert_eq!(check(&graph, &outcomes), 0);
}

#[test]
fn what_another_graph_left_is_not_gone_on_with() {
    let (old, graph) = (rmat(6, 8, 5), rmat(6, 8, 6));
    let (_, durable) = life(&old, nothing(&old), usize::MAX);
    let mut room = nothing(&graph);
    let len = room.len().min(durable.len());
    room[..len].copy_from_slice(&durable[..len]);
    let (outcomes, _) = life(&graph, room, usize::MAX);
    assert_eq!(check(&graph, &outcomes), 0);
}
