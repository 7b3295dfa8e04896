// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rdma_lite/calls: what became of the calls of each node, by peer and port.

use crate::{
    core::stats::{Flow, Histogram},
    node::REGISTRY,
};
use kernel::{
    debugfs::{Dir, File},
    fmt,
    prelude::*,
};

/// The file, while the module is there.
#[pin_data]
pub(crate) struct CallsFile {
    dir: Dir,
    #[pin]
    file: File<()>,
}

impl CallsFile {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            dir: Dir::new(c"rdma_lite"),
            file <- dir.read_callback_file(c"calls", (), &show),
        })
    }
}

/// One line for each node, peer, port and way, with the upper bounds of the times below which so many
/// calls stayed, and the counts of the histogram from the shortest time to the last that is not 0.
fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(
        "node peer port way answered failed timeouts errors request_bytes reply_bytes \
         p50_us p99_us p999_us histogram\n",
    )?;
    let registry = REGISTRY.lock();
    for node in registry.iter() {
        let peers = match node.host().and_then(|host| host.all_peers()) {
            Ok(peers) => peers,
            // It is off: nobody calls.
            Err(_) => continue,
        };
        for peer in &peers {
            for nr in 0.. {
                let Some(stats) = peer.stats_of(nr) else {
                    break;
                };
                for (way, flow) in [("made", &stats.made), ("executed", &stats.executed)] {
                    if *flow == Flow::default() {
                        continue;
                    }
                    f.write_fmt(fmt!(
                        "{} {} {} {} {} {} {} {} {} {} {} {} {} {}\n",
                        node.name(),
                        peer.id(),
                        stats.port,
                        way,
                        flow.answered,
                        flow.failed,
                        flow.timed_out,
                        flow.errors,
                        flow.request_bytes,
                        flow.reply_bytes,
                        flow.took.below(500),
                        flow.took.below(990),
                        flow.took.below(999),
                        Buckets(&flow.took)
                    ))?;
                }
            }
        }
    }
    Ok(())
}

/// Counts, separated by commas.
struct Buckets<'a>(&'a Histogram);

impl fmt::Display for Buckets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.0.buckets();
        let used = buckets.iter().rposition(|n| *n != 0).map_or(1, |at| at + 1);
        for (at, count) in buckets.iter().take(used).enumerate() {
            if at != 0 {
                f.write_str(",")?;
            }
            write!(f, "{count}")?;
        }
        Ok(())
    }
}
