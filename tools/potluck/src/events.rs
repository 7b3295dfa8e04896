// SPDX-License-Identifier: GPL-2.0

//! Events of /dev/rdma_lite.

use crate::{
    cli, netns,
    node::{Node, DEVICE},
    uapi::{event_type, suspect_reason, Event},
};
use anyhow::{Context, Result};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

/// As JSON has it.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Who reports.
    at: String,
    event: &'static str,
    /// Whom it is about.
    node: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    epoch: u64,
    incarnation: u64,
    time_ns: u64,
}

impl Report {
    fn new(at: &str, event: &Event) -> Report {
        Report {
            at: at.to_string(),
            event: match event.kind {
                event_type::SUSPECT => "suspect",
                event_type::ALIVE => "alive",
                event_type::MAP => "map",
                event_type::FENCED => "fenced",
                event_type::LOST => "lost",
                _ => "unknown",
            },
            node: event.node,
            reason: match event.reason {
                suspect_reason::HEARTBEAT => Some("heartbeat"),
                suspect_reason::TIMEOUT => Some("timeout"),
                suspect_reason::DISCONNECT => Some("disconnect"),
                _ => None,
            },
            epoch: event.epoch,
            incarnation: event.incarnation,
            time_ns: event.time_ns,
        }
    }

    fn text(&self) -> String {
        let what = match self.event {
            "suspect" => format!(
                "suspects node {} ({})",
                self.node,
                self.reason.unwrap_or("no reason given")
            ),
            "alive" => format!("node {} answers again", self.node),
            "map" => format!("map with epoch {} is in force", self.epoch),
            "fenced" => format!("refused by node {}: its epoch is {}", self.node, self.epoch),
            "lost" => "events were lost here: read sooner".to_string(),
            _ => "unknown event".to_string(),
        };
        format!(
            "{}.{:06} {}: {what}",
            self.time_ns / 1_000_000_000,
            self.time_ns / 1000 % 1_000_000,
            self.at
        )
    }
}

/// Whole events in what a read gave.
fn decode(bytes: &[u8]) -> Vec<Event> {
    bytes
        .chunks_exact(std::mem::size_of::<Event>())
        .map(|raw| {
            // SAFETY: Event consists of integers only, any bytes are one, and `raw` has its size.
            unsafe { std::ptr::read_unaligned(raw.as_ptr().cast::<Event>()) }
        })
        .collect()
}

pub fn run(args: &cli::Events) -> Result<ExitCode> {
    let nodes = Node::select(&args.nodes)?;
    let mut devices = Vec::new();
    for node in &nodes {
        let device = netns::within(
            node.namespace.as_deref(),
            Duration::from_secs(10),
            move || File::open(DEVICE).with_context(|| format!("cannot open {DEVICE}")),
        )
        .with_context(|| format!("node {}", node.name))?;
        devices.push(device);
    }
    let begin = Instant::now();
    let limit = args.timeout.map(Duration::from_secs_f64);
    let mut seen = 0;
    loop {
        if args.count.is_some_and(|count| seen >= count) {
            return Ok(ExitCode::SUCCESS);
        }
        let wait = match limit {
            Some(limit) => match limit.checked_sub(begin.elapsed()) {
                Some(left) => PollTimeout::try_from(left.min(Duration::from_secs(3600)))
                    .unwrap_or(PollTimeout::MAX),
                None => return Ok(ExitCode::from(u8::from(args.count.is_some()))),
            },
            None => PollTimeout::NONE,
        };
        let mut fds: Vec<_> = devices
            .iter()
            .map(|d| PollFd::new(d.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut fds, wait).context("poll")?;
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for ((node, device), ready) in nodes.iter().zip(&devices).zip(ready) {
            if !ready {
                continue;
            }
            let mut bytes = [0; 64 * std::mem::size_of::<Event>()];
            let mut device = device;
            let n = device
                .read(&mut bytes)
                .with_context(|| format!("cannot read events of {}", node.name))?;
            for event in decode(&bytes[..n]) {
                if args.count.is_some_and(|count| seen >= count) {
                    break;
                }
                seen += 1;
                let report = Report::new(&node.name, &event);
                if args.json {
                    println!("{}", serde_json::to_string(&report)?);
                } else {
                    println!("{}", report.text());
                }
            }
            io::stdout().flush()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_cut_into_whole_events() {
        let event = Event {
            kind: event_type::SUSPECT,
            node: 2,
            reason: suspect_reason::DISCONNECT,
            epoch: 4,
            incarnation: 77,
            time_ns: 1_500_000_000,
            ..Default::default()
        };
        let size = std::mem::size_of::<Event>();
        // SAFETY: Event is plain integers without padding.
        let raw = unsafe { std::slice::from_raw_parts((&raw const event).cast::<u8>(), size) };
        let mut bytes = raw.to_vec();
        bytes.extend_from_slice(raw);
        bytes.extend_from_slice(&raw[..7]);
        let events = decode(&bytes);
        assert_eq!(events.len(), 2);
        let report = Report::new("n1", &events[1]);
        assert_eq!(report.text(), "1.500000 n1: suspects node 2 (disconnect)");
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"at":"n1","event":"suspect","node":2,"reason":"disconnect","epoch":4,"incarnation":77,"time_ns":1500000000}"#
        );
    }
}
