// SPDX-License-Identifier: GPL-2.0

//! Two applications on several nodes, each written once for any [`Transport`] and run over two: regions, calls and
//! barriers of rdma_lite, and TCP sockets. Both check their own results:
//!
//! - [`kv`]: a hash table spread over all nodes, read by one-sided reads and changed by calls, against a model;
//! - [`pagerank`]: PageRank of a graph that is spread over all nodes, against a single process.
//!
//! And two on shared persistent memory of [`hotpot`]: [`gas`], PageRank that goes on where it was killed, and [`ycsb`], a
//! store for YCSB's workloads, which runs on any file system.
//!
//! LITE's evaluation (SOSP'17, section 8) has programs of both kinds.

pub mod gas;
pub mod hotpot;
pub mod kv;
pub mod mapping;
pub mod pagerank;
pub mod report;
pub mod transport;
pub mod ycsb;

pub use self::transport::{Lite, Tcp, Transport};
