// SPDX-License-Identifier: GPL-2.0

//! A run over all ranks.
//!
//! Each shares two halves, for the iterations by turns, so that one barrier an iteration is enough: who writes a half
//! knows by the last barrier that all have read it. A half has what its vertices give without an edge, how much their
//! ranks changed, and their gifts (or, at the end, their ranks), as bits of f64.

use super::{
    farthest,
    part::{ranges, Part},
    reference, Graph,
};
use crate::{
    report::Latencies,
    transport::{Shared, Transport, Window},
};
use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};
use std::{ops::Range, sync::atomic::Ordering::Relaxed, time::Instant};

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// At the latest.
    pub iterations: u32,
    /// When the ranks change by less, all together.
    pub tolerance: f64,
}

/// How far a rank may be from that of a single process.
const GOAL: f64 = 1e-9;
const MEMORY: &str = "ranks";
/// Words in front of a half: dangling, changed.
const FRONT: usize = 2;

struct Halves<'a> {
    transport: &'a dyn Transport,
    ranges: Vec<Range<usize>>,
    own: Box<dyn Shared>,
    /// By rank.
    windows: Vec<Box<dyn Window>>,
    /// Of the two: the next to be written.
    half: usize,
}

/// What all ranks wrote into a half, by vertex.
struct All {
    values: Vec<f64>,
    dangling: f64,
    changed: f64,
}

impl<'a> Halves<'a> {
    fn share(transport: &'a dyn Transport, ranges: Vec<Range<usize>>) -> Result<Self> {
        let len = ranges[transport.rank()].len();
        let own = transport
            .share(MEMORY, 2 * (FRONT + len))
            .context("memory")?;
        transport.barrier("shared").context("barrier")?;
        let windows = (0..transport.size()).map(|rank| transport.window(rank, MEMORY));
        let windows = windows
            .collect::<Result<_, _>>()
            .context("memory of others")?;
        Ok(Self {
            transport,
            ranges,
            own,
            windows,
            half: 0,
        })
    }

    fn write(&self, values: &[f64], dangling: f64, changed: f64) {
        let half = self.half * (FRONT + values.len());
        let front = [dangling, changed];
        let all = Iterator::chain(front.iter(), values);
        for (to, from) in self.own.words()[half..].iter().zip(all) {
            to.store(from.to_bits(), Relaxed);
        }
    }

    /// All have written: reads what they wrote. The sums are in the order of the ranks, so that all come to the same.
    fn read(&self) -> Result<All> {
        let mut all = All {
            values: Vec::new(),
            dangling: 0.0,
            changed: 0.0,
        };
        for (rank, (range, window)) in self.ranges.iter().zip(&self.windows).enumerate() {
            let mut words = vec![0; FRONT + range.len()];
            let half = self.half * words.len();
            window
                .read(half, &mut words)
                .with_context(|| format!("ranks of {rank}"))?;
            let mut values = words.into_iter().map(f64::from_bits);
            all.dangling += values.next().unwrap_or(f64::NAN);
            all.changed += values.next().unwrap_or(f64::NAN);
            all.values.extend(values);
        }
        Ok(all)
    }

    fn exchange(&mut self, values: &[f64], dangling: f64, changed: f64) -> Result<All> {
        self.write(values, dangling, changed);
        self.transport.barrier("written").context("barrier")?;
        let all = self.read();
        self.half ^= 1;
        all
    }
}

/// Runs on every rank, with the same graph. The first compares with a single process, and has the figures.
pub fn run(transport: &dyn Transport, graph: &Graph, settings: Settings) -> Result<Option<Value>> {
    ensure!(graph.vertices > 0, "the graph has no vertex");
    let ranges = ranges(graph, transport.size());
    let part = Part::new(graph, ranges[transport.rank()].clone());
    let mut halves = Halves::share(transport, ranges)?;
    let mut exchanges = Latencies::default();
    let mut iterations = Latencies::default();
    let mut ranks = part.first();
    let mut changed = f64::INFINITY;
    let mut turn = 0;
    let begin = Instant::now();
    while turn < settings.iterations {
        let timed = Instant::now();
        let (gifts, dangling) = part.gifts(&ranks);
        let exchanging = Instant::now();
        let all = halves.exchange(&gifts, dangling, changed)?;
        exchanges.add(exchanging.elapsed());
        // All see the same sum, so all stop here, or none.
        if all.changed < settings.tolerance {
            break;
        }
        let next = part.next(&all.values, all.dangling);
        changed = ranks.iter().zip(&next).map(|(a, b)| (a - b).abs()).sum();
        ranks = next;
        turn += 1;
        iterations.add(timed.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let all = halves.exchange(&ranks, 0.0, changed)?;
    let result = match transport.rank() {
        0 => check(graph, turn, &all.values).map(|(sum, error)| {
            Some(json!({
                "app": "pagerank", "ranks": transport.size(), "vertices": graph.vertices,
                "edges": graph.edges.len(), "iterations": turn, "changed": all.changed, "seconds": seconds,
                "iteration": iterations.summary(), "exchange": exchanges.summary(),
                "sum": sum, "farthest": error, "checked": true,
            }))
        }),
        _ => Ok(None),
    };
    // Whatever was found: nobody goes while others still read.
    transport.barrier("checked").context("barrier")?;
    result
}

/// The sum of the ranks, and how far they are from those of a single process.
fn check(graph: &Graph, iterations: u32, ranks: &[f64]) -> Result<(f64, f64)> {
    let sum: f64 = ranks.iter().sum();
    ensure!((sum - 1.0).abs() < GOAL, "the ranks sum up to {sum}");
    let error = farthest(ranks, &reference(graph, iterations));
    ensure!(
        error < GOAL,
        "a rank is off by {error:e} of that of a single process"
    );
    Ok((sum, error))
}
