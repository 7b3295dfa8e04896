// SPDX-License-Identifier: GPL-2.0

//! PageRank as a vertex program, and a run of it that is checked.

use super::{run, Settings, Space, VertexProgram};
use crate::{
    pagerank::{farthest, reference, Graph, DAMPING},
    report::Latencies,
};
use anyhow::{ensure, Result};
use serde_json::{json, Value};

/// How far a rank may be from that of a single process.
const GOAL: f64 = 1e-9;

/// PageRank of a graph of so many vertices; what those have that lead nowhere goes to all.
#[derive(Clone, Copy, Debug)]
pub struct PageRank {
    /// How many.
    pub vertices: u32,
}

impl VertexProgram for PageRank {
    fn first(&self) -> f64 {
        1.0 / f64::from(self.vertices)
    }

    fn gather(&self, value: f64, out_degree: u32) -> f64 {
        value / f64::from(out_degree)
    }

    fn sum(&self, a: f64, b: f64) -> f64 {
        a + b
    }

    fn aggregate(&self, value: f64, out_degree: u32) -> f64 {
        match out_degree {
            0 => value,
            _ => 0.0,
        }
    }

    fn apply(&self, gathered: Option<f64>, dangling: f64) -> f64 {
        let of_all = f64::from(self.vertices);
        (1.0 - DAMPING + DAMPING * dangling) / of_all + DAMPING * gathered.unwrap_or(0.0)
    }
}

/// Runs on every rank, with the same graph, and goes on where an earlier run ended or died. The first rank compares with
/// a single process, and has the figures.
pub fn rank(
    space: &dyn Space,
    graph: &Graph,
    settings: Settings,
    told: &mut dyn FnMut(u64),
) -> Result<Option<Value>> {
    let program = PageRank {
        vertices: graph.vertices,
    };
    let mut iterations = Latencies::default();
    let outcome = run(space, graph, &program, settings, &mut |iteration, took| {
        iterations.add(took);
        told(iteration);
    })?;
    let result = match space.rank() {
        0 => {
            let sum: f64 = outcome.values.iter().sum();
            ensure!((sum - 1.0).abs() < GOAL, "the ranks sum up to {sum}");
            let error = farthest(
                &outcome.values,
                &reference(graph, u32::try_from(outcome.iteration)?),
            );
            ensure!(
                error < GOAL,
                "a rank is off by {error:e} of that of a single process"
            );
            Some(json!({
                "app": "pagerank-hotpot", "ranks": space.size(), "vertices": graph.vertices,
                "edges": graph.edges.len(), "resumed_from": outcome.resumed_from, "iterations": outcome.iteration,
                "changed": outcome.changed, "iteration": iterations.summary(), "sum": sum, "farthest": error,
                "checked": true,
            }))
        }
        _ => None,
    };
    Ok(result)
}
