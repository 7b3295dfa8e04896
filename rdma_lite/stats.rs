// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rdma_lite: `calls`: what became of the calls of each node, by peer and port;
//! `users`: what the users of each node have and did; `peers`: what carries the connections.

use crate::{
    core::{
        region::shares::Payer,
        stats::{Flow, Histogram},
        Transport,
    },
    node::REGISTRY,
};
use kernel::{
    debugfs::{Dir, File},
    fmt,
    prelude::*,
    sync::atomic::Relaxed,
};

/// The files, while the module is there.
#[pin_data]
pub(crate) struct Files {
    dir: Dir,
    #[pin]
    calls: File<()>,
    #[pin]
    users: File<()>,
    #[pin]
    peers: File<()>,
}

impl Files {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            dir: Dir::new(c"rdma_lite"),
            calls <- dir.read_callback_file(c"calls", (), &show),
            users <- dir.read_callback_file(c"users", (), &show_users),
            peers <- dir.read_callback_file(c"peers", (), &show_peers),
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

/// One line for each node and peer: what carries their connection (`verbs`, `shm`, or `none` when there
/// is none now), whether the peer is suspected, and how many parts of its regions were read or written
/// one-sided, and by calls.
fn show_peers(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("node peer transport suspect one_sided by_calls\n")?;
    let registry = REGISTRY.lock();
    for node in registry.iter() {
        let Ok(peers) = node.host().and_then(|host| host.all_peers()) else {
            continue;
        };
        for peer in &peers {
            let transport = match peer.transport() {
                Some(Transport::Verbs) => "verbs",
                Some(Transport::Shm) => "shm",
                None => "none",
            };
            let suspect = u8::from(peer.is_suspect());
            f.write_fmt(fmt!(
                "{} {} {transport} {suspect} {} {}\n",
                node.name(),
                peer.id(),
                peer.accessed.one_sided.load(Relaxed),
                peer.accessed.by_calls.load(Relaxed)
            ))?;
        }
    }
    Ok(())
}

/// One line for each node and user: its open files; regions and locks, calls under way and their bytes;
/// bytes of regions here; calls that ended, the bytes that they moved, and what was refused. Users that
/// only other nodes have are there for their regions.
fn show_users(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("node uid files handles calls bytes memory total_calls total_bytes refused\n")?;
    let registry = REGISTRY.lock();
    for node in registry.iter() {
        let host = node.host().ok();
        for nr in 0.. {
            let Some(user) = node.users.nth(nr) else {
                break;
            };
            let (files, now, totals) = user.figures();
            let payer = Payer(user.uid);
            let memory = host.as_ref().map_or(0, |host| host.regions.used_by(payer));
            f.write_fmt(fmt!(
                "{} {} {} {} {} {} {} {} {} {}\n",
                node.name(),
                user.uid,
                files,
                now.handles,
                now.calls,
                now.bytes,
                memory,
                totals.calls,
                totals.bytes,
                totals.refused
            ))?;
        }
        let Some(host) = host else { continue };
        let mut last = None;
        while let Some((payer, memory)) = host.regions.next_payer(last) {
            last = Some(payer);
            if payer == Payer::KERNEL {
                f.write_fmt(fmt!("{} kernel 0 0 0 0 {memory} 0 0 0\n", node.name()))?;
            } else if !node.users.has(payer) {
                f.write_fmt(fmt!("{} {} 0 0 0 0 {memory} 0 0 0\n", node.name(), payer.0))?;
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
