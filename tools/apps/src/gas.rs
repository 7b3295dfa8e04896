// SPDX-License-Identifier: GPL-2.0

//! A graph engine in the style of PowerGraph (Gonzalez and others, OSDI 2012) on shared persistent memory, as the paper
//! has one [2.8.3]: the vertices are spread over the nodes, and in every iteration each node *gathers* along the edges
//! that lead to its vertices, *applies* what it gathered, and *scatters* the new values, which is one MRSW commit of its
//! part. A barrier of hotpot ends the iteration.
//!
//! A part has its iteration and the values of two iterations, by turns; a commit changes the one and half of the others, all or
//! nothing. So whatever is killed, whenever, each part is that of an iteration, and since nobody passes a barrier alone,
//! parts are one iteration apart at most: what all have is there, and a run goes on from it.
//!
//! All vertices are active in all iterations, and there is no delta caching.

mod engine;
mod layout;
mod pagerank;
mod space;

pub use self::{
    engine::{run, Outcome, Settings},
    layout::words_needed,
    pagerank::{rank, PageRank},
    space::Space,
};

/// What is computed. Values are numbers, one of each vertex.
pub trait VertexProgram {
    /// The value of each vertex before the first iteration.
    fn first(&self) -> f64;

    /// What comes along an edge from a vertex that has `value`, and as many edges that leave it.
    fn gather(&self, value: f64, out_degree: u32) -> f64;

    /// Of what came along two edges, or more, the one.
    fn sum(&self, a: f64, b: f64) -> f64;

    /// What a vertex adds to a sum over the whole graph.
    fn aggregate(&self, value: f64, out_degree: u32) -> f64;

    /// The new value, of what was gathered (nothing where no edge leads) and the sum over the whole graph.
    fn apply(&self, gathered: Option<f64>, aggregate: f64) -> f64;
}
