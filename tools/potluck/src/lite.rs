// SPDX-License-Identifier: GPL-2.0

//! `potluck lite top`: the calls between nodes, by peer and port, as the kernel counts them.

use crate::{cli, size};
use anyhow::{bail, Context, Result};
use serde::Serialize;
use std::{
    collections::HashMap,
    fs,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};
use tabled::{builder::Builder, settings::Style};

/// What the kernel counts: a line for each node, peer, port and way.
const CALLS: &str = "/sys/kernel/debug/rdma_lite/calls";

/// The first line, which names the fields of the others.
const HEADER: [&str; 14] = [
    "node",
    "peer",
    "port",
    "way",
    "answered",
    "failed",
    "timeouts",
    "errors",
    "request_bytes",
    "reply_bytes",
    "p50_us",
    "p99_us",
    "p999_us",
    "histogram",
];

/// One line; as JSON has it. All numbers since the node was switched on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Flow {
    node: String,
    peer: u32,
    /// 0: all ports that have no counters of their own.
    port: u16,
    /// `made` by the node, or `executed` for the peer.
    way: String,
    answered: u64,
    failed: u64,
    timeouts: u64,
    errors: u64,
    request_bytes: u64,
    reply_bytes: u64,
    /// Half of the calls took less than so many us, a power of two; 0 when none was answered.
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    /// Element n: calls that took 2^n us or more, and less than twice that.
    histogram: Vec<u64>,
}

impl Flow {
    fn parse(line: &str) -> Result<Flow> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [node, peer, port, way, rest @ ..] = &fields[..] else {
            bail!("too few fields");
        };
        let [numbers @ .., histogram] = rest else {
            bail!("too few fields");
        };
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|n| n.parse())
            .collect::<Result<_, _>>()?;
        let &[answered, failed, timeouts, errors, request_bytes, reply_bytes, p50_us, p99_us, p999_us] =
            &numbers[..]
        else {
            bail!("{} numbers", numbers.len());
        };
        Ok(Flow {
            node: node.to_string(),
            peer: peer.parse()?,
            port: port.parse()?,
            way: way.to_string(),
            answered,
            failed,
            timeouts,
            errors,
            request_bytes,
            reply_bytes,
            p50_us,
            p99_us,
            p999_us,
            histogram: histogram
                .split(',')
                .map(|n| n.parse())
                .collect::<Result<_, _>>()?,
        })
    }

    fn key(&self) -> (String, u32, u16, String) {
        (self.node.clone(), self.peer, self.port, self.way.clone())
    }

    fn ended(&self) -> u64 {
        self.answered + self.failed + self.timeouts + self.errors
    }
}

fn parse(text: &str) -> Result<Vec<Flow>> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if !header.split_whitespace().eq(HEADER) {
        bail!("{CALLS}: fields that this potluck does not know: {header:?}");
    }
    lines
        .map(|line| Flow::parse(line).with_context(|| format!("{CALLS}: {line:?}")))
        .collect()
}

fn read() -> Result<Vec<Flow>> {
    let text = fs::read_to_string(CALLS).with_context(|| {
        format!("{CALLS} (is rdma_lite loaded, debugfs mounted, and this root?)")
    })?;
    parse(&text)
}

/// A line and how busy it is.
#[derive(Debug, Serialize)]
struct Row {
    /// Calls that ended in each second since the look before.
    calls_per_s: f64,
    #[serde(flatten)]
    flow: Flow,
}

/// What happened since `before`, `seconds` ago, the busiest first.
fn busiest(now: Vec<Flow>, before: &[Flow], seconds: f64) -> Vec<Row> {
    let old: HashMap<_, _> = before
        .iter()
        .map(|flow| (flow.key(), flow.ended()))
        .collect();
    let mut rows: Vec<_> = now
        .into_iter()
        .map(|flow| {
            let old = old.get(&flow.key()).copied().unwrap_or(0);
            // A node that was switched off and on counts anew.
            let new = flow.ended().checked_sub(old).unwrap_or(flow.ended());
            Row {
                calls_per_s: new as f64 / seconds,
                flow,
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        let rate = b.calls_per_s.total_cmp(&a.calls_per_s);
        rate.then_with(|| a.flow.key().cmp(&b.flow.key()))
    });
    rows
}

/// The first `lines` rows; 0: all.
fn table(rows: &[Row], lines: usize) -> String {
    let mut table = Builder::default();
    table.push_record([
        "node", "peer", "port", "way", "calls/s", "answered", "failed", "timeouts", "errors",
        "requests", "replies", "p50 us", "p99 us",
    ]);
    let shown = match lines {
        0 => rows,
        lines => &rows[..lines.min(rows.len())],
    };
    for Row { calls_per_s, flow } in shown {
        table.push_record([
            flow.node.clone(),
            flow.peer.to_string(),
            port_name(flow.port),
            flow.way.clone(),
            format!("{calls_per_s:.0}"),
            flow.answered.to_string(),
            flow.failed.to_string(),
            flow.timeouts.to_string(),
            flow.errors.to_string(),
            size::about(flow.request_bytes),
            size::about(flow.reply_bytes),
            below(flow.p50_us),
            below(flow.p99_us),
        ]);
    }
    let mut text = format!("{}\n", table.build().with(Style::sharp()));
    if shown.len() < rows.len() {
        let hidden = rows.len() - shown.len();
        text += &format!("{hidden} less busy lines are not shown (--lines)\n");
    }
    text
}

fn below(us: u64) -> String {
    match us {
        0 => "-".into(),
        us => format!("<{us}"),
    }
}

/// Ports of modules by name.
fn port_name(port: u16) -> String {
    match port {
        0 => "others".into(),
        1 => "echo".into(),
        2 => "hotpot".into(),
        3 => "legomem".into(),
        4 => "clio".into(),
        8 => "regions".into(),
        9 => "sync".into(),
        port => port.to_string(),
    }
}

/// Seconds between two looks: often enough to see something, not so often that looking is all that
/// is done.
pub fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("from 0.1 to 3600 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Shows the counters again and again; with JSON one array a line.
pub fn top(args: &cli::Top) -> Result<ExitCode> {
    let mut before = read()?;
    let mut since = Instant::now();
    let mut left = args.count;
    while left != Some(0) {
        thread::sleep(args.interval);
        let now = read()?;
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        let rows = busiest(now.clone(), &before, seconds);
        let mut out = io::stdout().lock();
        if args.json {
            serde_json::to_writer(&mut out, &rows)?;
            writeln!(out)?;
        } else {
            if out.is_terminal() {
                // From the top left corner of an empty screen.
                write!(out, "\x1b[H\x1b[2J")?;
            }
            writeln!(out, "{}", table(&rows, args.lines))?;
        }
        out.flush()?;
        before = now;
        left = left.map(|n| n - 1);
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a guest with two nodes that pinged each other had it, with a timeout.
    const TEXT: &str = "\
node peer port way answered failed timeouts errors request_bytes reply_bytes p50_us p99_us p999_us histogram
n1 2 1 made 10 0 1 0 640 640 2048 262144 262144 0,0,0,0,0,0,0,0,0,3,4,1,0,1,0,0,0,1
n1 2 1 executed 10 0 0 0 640 640 16 32 32 0,0,1,6,3
n2 1 1 made 10 0 0 0 640 640 2048 8192 8192 0,0,0,0,0,0,0,0,0,2,4,1,3
n2 1 1 executed 10 0 0 0 640 640 16 4096 4096 0,0,1,6,1,0,0,0,0,1,0,1
";

    #[test]
    fn the_lines_of_the_kernel_are_understood() {
        let flows = parse(TEXT).unwrap();
        assert_eq!(flows.len(), 4);
        let ends = |flow: &Flow| (flow.answered, flow.failed, flow.timeouts, flow.errors);
        assert_eq!((flows[0].peer, ends(&flows[0])), (2, (10, 0, 1, 0)));
        assert_eq!((flows[0].p50_us, flows[0].p99_us), (2048, 262_144));
        assert_eq!(flows[1].way, "executed");
        assert_eq!(flows[1].histogram, [0, 0, 1, 6, 3]);
    }

    #[test]
    fn a_line_of_another_form_is_an_error_that_shows_it() {
        let error = format!(
            "{:#}",
            parse(&format!("{}\nn1 2 3\n", HEADER.join(" "))).unwrap_err()
        );
        assert!(error.contains("n1 2 3"), "{error}");
    }

    #[test]
    fn another_header_is_an_error_since_fields_would_be_mistaken() {
        let text = TEXT.replacen("failed", "retried", 1);
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(error.contains("retried"), "{error}");
        assert!(parse("").is_err());
    }

    #[test]
    fn the_busiest_comes_first_and_a_restarted_node_counts_anew() {
        let before = parse(TEXT).unwrap();
        let mut now = before.clone();
        now[0].answered = 2;
        now[3].answered += 50;
        let rows = busiest(now, &before, 10.0);
        let rates: Vec<_> = rows
            .iter()
            .map(|row| (row.flow.node.as_str(), row.calls_per_s))
            .collect();
        // Of the restarted: two answers and the timeout, not the ten of its last life less.
        assert_eq!(rates, [("n2", 5.0), ("n1", 0.3), ("n1", 0.0), ("n2", 0.0)]);
    }

    #[test]
    fn the_table_names_the_ports_of_modules_and_says_what_it_hides() {
        let rows = busiest(parse(TEXT).unwrap(), &[], 1.0);
        let text = table(&rows, 0);
        assert!(text.contains("echo") && text.contains("<262144"), "{text}");
        assert!(!text.contains("not shown"), "{text}");
        let text = table(&rows, 1);
        assert!(
            text.contains("made") && !text.contains("executed"),
            "{text}"
        );
        assert!(text.contains("3 less busy lines are not shown"), "{text}");
    }

    #[test]
    fn json_has_the_fields_of_the_file_and_the_rate() {
        let rows = busiest(parse(TEXT).unwrap(), &[], 2.0);
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["calls_per_s"], 5.5);
        for field in HEADER {
            assert!(!json[field].is_null(), "{field}: {json}");
        }
    }

    #[test]
    fn an_interval_that_never_rests_or_never_ends_is_refused() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "soon", "1e9"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
