// SPDX-License-Identifier: GPL-2.0

//! PageRank over all ranks. Each has a range of the vertices and the edges that lead to them. In every iteration it
//! puts what its vertices give along each of their edges into memory of its own; after a barrier it reads the memory of
//! all others, one-sided, and sums up. LITE's graph engine (SOSP'17, section 8.3) exchanges vertex data like this.

mod debian;
mod graph;
mod part;
mod reference;
mod rmat;
mod run;

pub(crate) use self::part::ranges;
pub use self::{
    debian::debian,
    graph::Graph,
    part::Part,
    reference::{farthest, reference},
    rmat::rmat,
    run::{run, Settings},
};

/// The chance that a walker follows an edge (Brin and Page, 1998).
pub const DAMPING: f64 = 0.85;
