// SPDX-License-Identifier: GPL-2.0

//! The iterations, and how they begin again.

use super::{
    layout::{identity, places, Place, MAGIC},
    Space, VertexProgram,
};
use crate::pagerank::{ranges, Graph, Part};
use anyhow::{ensure, Context, Result};
use std::{
    ops::Range,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// At the latest; counted over all runs.
    pub iterations: u64,
    /// When the values change by less, all together.
    pub tolerance: f64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The iteration that it began with: 0 when nothing was there.
    pub resumed_from: u64,
    /// The iteration whose values these are.
    pub iteration: u64,
    /// By how much they differ from those before, all together.
    pub changed: f64,
    /// Of all vertices.
    pub values: Vec<f64>,
}

/// A half of each part, of the same iteration.
struct All {
    values: Vec<f64>,
    aggregate: f64,
    changed: f64,
}

struct Engine<'a, P> {
    space: &'a dyn Space,
    program: &'a P,
    part: Part,
    out_degrees: Vec<u32>,
    ranges: Vec<Range<usize>>,
    places: Vec<Place>,
    identity: u64,
}

/// Runs a program on every rank, with the same graph, from where an earlier run of it left off. `told` hears of each
/// iteration that is durable on all ranks, and how long it took.
pub fn run<P: VertexProgram>(
    space: &dyn Space,
    graph: &Graph,
    program: &P,
    settings: Settings,
    told: &mut dyn FnMut(u64, Duration),
) -> Result<Outcome> {
    ensure!(graph.vertices > 0, "the graph has no vertex");
    let needed = super::words_needed(graph, space.size());
    ensure!(
        space.words().len() >= needed,
        "the dataset has {} bytes, the graph needs {}",
        space.words().len() * 8,
        needed * 8
    );
    let ranges = ranges(graph, space.size());
    let engine = Engine {
        space,
        program,
        part: Part::new(graph, ranges[space.rank()].clone()),
        out_degrees: graph.out_degrees(),
        places: places(&ranges),
        ranges,
        identity: identity(graph, space.size()),
    };
    engine.run(settings, told)
}

impl<P: VertexProgram> Engine<'_, P> {
    fn run(&self, settings: Settings, told: &mut dyn FnMut(u64, Duration)) -> Result<Outcome> {
        let mut iteration = self.resume()?;
        let resumed_from = iteration;
        loop {
            let all = self.gathered(iteration);
            if iteration >= settings.iterations || all.changed < settings.tolerance {
                // Nobody goes, and begins anew, while others still read.
                self.meet("read", iteration)?;
                return Ok(Outcome {
                    resumed_from,
                    iteration,
                    changed: all.changed,
                    values: all.values,
                });
            }
            let begin = Instant::now();
            let values = self.applied(&all);
            let before = &all.values[self.ranges[self.space.rank()].clone()];
            let changed = before.iter().zip(&values).map(|(a, b)| (a - b).abs()).sum();
            iteration += 1;
            self.scatter(iteration, &values, changed)?;
            self.meet("scattered", iteration)?;
            told(iteration, begin.elapsed());
        }
    }

    /// The iteration that all parts have. A part that is none of this graph's becomes one.
    fn resume(&self) -> Result<u64> {
        if self.iteration_of(self.space.rank()).is_none() {
            let first = vec![self.program.first(); self.ranges[self.space.rank()].len()];
            self.scatter(0, &first, f64::INFINITY)?;
        }
        self.meet("begun", 0)?;
        let iterations = (0..self.space.size()).map(|rank| self.iteration_of(rank));
        let iterations: Option<Vec<_>> = iterations.collect();
        let iterations = iterations.context("a part is of no iteration")?;
        let least = iterations.iter().copied().min().unwrap_or_default();
        let most = iterations.iter().copied().max().unwrap_or_default();
        // What is one ahead still has the half before; it will scatter the same once more. Who has begun anew, beside
        // others who have not, lost its part: all begin anew.
        if most - least <= 1 {
            // Nobody scatters before all have looked.
            self.meet("resumed", least)?;
            return Ok(least);
        }
        self.meet("behind", least)?;
        let first = vec![self.program.first(); self.ranges[self.space.rank()].len()];
        self.scatter(0, &first, f64::INFINITY)?;
        self.meet("anew", 0)?;
        Ok(0)
    }

    fn load(&self, at: usize) -> u64 {
        self.space.words()[at].load(Relaxed)
    }

    fn iteration_of(&self, rank: usize) -> Option<u64> {
        let header = self.places[rank].header();
        let ours = self.load(header.start) == MAGIC && self.load(header.start + 1) == self.identity;
        ours.then(|| self.load(header.start + 2))
    }

    /// The values of all vertices. Sums are in the order of the ranks, so that all come to the same.
    fn gathered(&self, iteration: u64) -> All {
        let mut all = All {
            values: Vec::with_capacity(self.out_degrees.len()),
            aggregate: 0.0,
            changed: 0.0,
        };
        for place in &self.places {
            let words = &self.space.words()[place.half(iteration)];
            let mut values = words.iter().map(|word| f64::from_bits(word.load(Relaxed)));
            all.aggregate += values.next().unwrap_or(f64::NAN);
            all.changed += values.next().unwrap_or(f64::NAN);
            all.values.extend(values);
        }
        all
    }

    /// Gather along each edge to our vertices, and apply.
    fn applied(&self, all: &All) -> Vec<f64> {
        let along = |&from: &u32| {
            let from = from as usize;
            self.program
                .gather(all.values[from], self.out_degrees[from])
        };
        let value = |sources: &[u32]| {
            let gathered = sources
                .iter()
                .map(along)
                .reduce(|a, b| self.program.sum(a, b));
            self.program.apply(gathered, all.aggregate)
        };
        self.part.sources().map(value).collect()
    }

    /// Our part becomes that of `iteration`, durably, or stays as it was.
    fn scatter(&self, iteration: u64, values: &[f64], changed: f64) -> Result<()> {
        let rank = self.space.rank();
        let place = &self.places[rank];
        let ranges = [place.header(), place.half(iteration)];
        let degrees = &self.out_degrees[self.ranges[rank].clone()];
        let sums = values
            .iter()
            .zip(degrees)
            .map(|(value, degree)| self.program.aggregate(*value, *degree));
        let front = [sums.sum(), changed];
        self.space.acquire(&ranges).context("acquire")?;
        let header = [MAGIC, self.identity, iteration];
        let half = Iterator::chain(front.iter(), values).map(|value| value.to_bits());
        let words = Iterator::chain(header.into_iter(), half);
        let [to_header, to_half] = ranges.clone();
        for (at, word) in Iterator::chain(to_header, to_half).zip(words) {
            self.space.words()[at].store(word, Relaxed);
        }
        let scattered = self.space.commit(&ranges);
        scattered.with_context(|| format!("commit of iteration {iteration}"))
    }

    fn meet(&self, why: &str, iteration: u64) -> Result<()> {
        let name = format!("gas {why} {iteration}");
        self.space
            .barrier(&name)
            .with_context(|| format!("barrier '{name}'"))
    }
}
