// SPDX-License-Identifier: GPL-2.0

//! `potluck run`: one command on several nodes at the same time, as mpirun
//! would.

use crate::{cli, command::enter_before_exec, netns, node::Node};
use anyhow::{Context, Result};
use nix::{
    sys::signal::{killpg, Signal},
    unistd::Pid,
};
use signal_hook::iterator::Signals;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What `timeout` of coreutils returns.
const TIMED_OUT: u8 = 124;
/// Between asking and killing.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}

/// As a shell has it: 128 + n for signal n.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|s| 128 + s))
        .unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// Copies lines, each with its node's name in front; a last line without a
/// newline gets one.
fn copy_lines<R: Read>(
    name: &str,
    from: R,
    mut emit: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b": ");
        let prefix = line.len();
        from.read_until(b'\n', &mut line)?;
        if line.len() == prefix {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        emit(&line)?;
    }
}

/// A whole line at once, so that lines of different nodes do not mix.
fn emit<W: Write>(mut to: W, line: &[u8]) -> io::Result<()> {
    to.write_all(line)?;
    to.flush()
}

struct Running {
    node: String,
    pid: Pid,
    status: Option<ExitStatus>,
}

enum News {
    Ended(usize, io::Result<ExitStatus>),
    Signal(i32),
}

fn spawn(args: &cli::Run, node: &Node, rank: usize, size: usize) -> Result<Child> {
    let mut command = Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .env("POTLUCK_NODE", &node.name)
        .env("POTLUCK_RANK", rank.to_string())
        .env("POTLUCK_SIZE", size.to_string())
        .envs(args.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that its children get our signals as well.
        .process_group(0);
    match &node.mount {
        Some(mount) => command.env("POTLUCK_MNT", mount),
        None => command.env_remove("POTLUCK_MNT"),
    };
    if let Some(namespace) = &node.namespace {
        enter_before_exec(&mut command, netns::open(namespace)?);
    }
    command.spawn().with_context(|| {
        format!(
            "cannot start {} on {}",
            args.command[0].to_string_lossy(),
            node.name
        )
    })
}

pub fn run(args: &cli::Run) -> Result<ExitCode> {
    let nodes = Node::select_compute(&args.nodes)?;
    run_on(args, &nodes)
}

fn run_on(args: &cli::Run, nodes: &[Node]) -> Result<ExitCode> {
    let (send, news) = mpsc::channel();
    let mut signals = Signals::new([
        Signal::SIGINT as i32,
        Signal::SIGTERM as i32,
        Signal::SIGHUP as i32,
        Signal::SIGQUIT as i32,
        Signal::SIGUSR1 as i32,
        Signal::SIGUSR2 as i32,
    ])
    .context("cannot catch signals")?;
    let stop_signals = signals.handle();
    let for_signals = send.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            if for_signals.send(News::Signal(signal)).is_err() {
                break;
            }
        }
    });

    let mut running: Vec<Running> = Vec::new();
    let mut copiers = Vec::new();
    for (rank, node) in nodes.iter().enumerate() {
        let mut child = match spawn(args, node, rank, nodes.len()) {
            Ok(child) => child,
            Err(error) => {
                signal_all(&running, Signal::SIGKILL);
                return Err(error);
            }
        };
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let name = node.name.clone();
        copiers.push(thread::spawn(move || {
            out.map_or(Ok(()), |out| {
                copy_lines(&name, out, |line| emit(io::stdout().lock(), line))
            })
        }));
        let name = node.name.clone();
        copiers.push(thread::spawn(move || {
            err.map_or(Ok(()), |err| {
                copy_lines(&name, err, |line| emit(io::stderr().lock(), line))
            })
        }));
        running.push(Running {
            node: node.name.clone(),
            pid: Pid::from_raw(child.id() as i32),
            status: None,
        });
        let send = send.clone();
        thread::spawn(move || send.send(News::Ended(rank, child.wait())));
    }

    let begin = Instant::now();
    let mut end = args.timeout.map(|s| begin + Duration::from_secs_f64(s));
    let mut killed = false;
    let mut timed_out = false;
    let mut failed_first = false;
    while running.iter().any(|r| r.status.is_none()) {
        let wait = end.map_or(Duration::from_secs(3600), |end| {
            end.saturating_duration_since(Instant::now())
        });
        match news.recv_timeout(wait) {
            Ok(News::Signal(number)) => {
                if let Ok(signal) = Signal::try_from(number) {
                    signal_all(&running, signal);
                }
            }
            Ok(News::Ended(rank, status)) => {
                let status = status.context("wait")?;
                running[rank].status = Some(status);
                if !status.success() && !failed_first && !killed {
                    failed_first = true;
                    eprintln!("potluck: {} failed: {status}", running[rank].node);
                    let grace = Instant::now() + Duration::from_secs_f64(args.grace);
                    end = Some(end.map_or(grace, |end| end.min(grace)));
                }
            }
            Err(_) if end.is_none_or(|end| Instant::now() < end) => {}
            Err(_) if !killed => {
                killed = true;
                timed_out = !failed_first;
                let late: Vec<_> = running
                    .iter()
                    .filter(|r| r.status.is_none())
                    .map(|r| r.node.as_str())
                    .collect();
                eprintln!(
                    "potluck: still running after {:.0} s, now killed: {}",
                    begin.elapsed().as_secs_f64(),
                    late.join(", ")
                );
                signal_all(&running, Signal::SIGTERM);
                end = Some(Instant::now() + LAST_WORDS);
            }
            Err(_) => {
                signal_all(&running, Signal::SIGKILL);
                end = Some(Instant::now() + LAST_WORDS);
            }
        }
    }
    stop_signals.close();
    // Grandchildren may hold the pipes open: what is written by now is copied.
    if killed {
        signal_all_groups(&running, Signal::SIGKILL);
    }
    for copier in copiers {
        // A closed pipe at our own output is nothing that the nodes did.
        let _ = copier.join();
    }
    let worst = running
        .iter()
        .filter_map(|r| r.status)
        .map(code)
        .max()
        .unwrap_or(0);
    Ok(ExitCode::from(if timed_out { TIMED_OUT } else { worst }))
}

fn signal_all(running: &[Running], signal: Signal) {
    for r in running.iter().filter(|r| r.status.is_none()) {
        // It may have ended a moment ago.
        let _ = killpg(r.pid, signal);
    }
}

fn signal_all_groups(running: &[Running], signal: Signal) {
    for r in running {
        let _ = killpg(r.pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn args(timeout: Option<f64>, grace: f64, script: &str) -> cli::Run {
        cli::Run {
            nodes: Vec::new(),
            timeout,
            grace,
            env: vec![("WORD".into(), "x=y".into())],
            command: ["sh", "-c", script].map(OsString::from).to_vec(),
        }
    }

    fn nodes(n: usize) -> Vec<Node> {
        (1..=n)
            .map(|i| Node {
                name: format!("n{i}"),
                namespace: None,
                memory: false,
                mount: None,
            })
            .collect()
    }

    fn status(args: &cli::Run, n: usize) -> String {
        format!("{:?}", run_on(args, &nodes(n)).unwrap())
    }

    fn expected(code: u8) -> String {
        format!("{:?}", ExitCode::from(code))
    }

    #[test]
    fn every_line_bears_its_node() {
        let mut out = Vec::new();
        copy_lines("n2", &b"a\n\nb"[..], |line| emit(&mut out, line)).unwrap();
        assert_eq!(out, b"n2: a\nn2: \nn2: b\n");
    }

    #[test]
    fn the_worst_status_wins() {
        let script = "test $POTLUCK_SIZE = 3 && test $WORD = x=y && exit $((POTLUCK_RANK * 4))";
        assert_eq!(status(&args(None, 30.0, script), 3), expected(8));
    }

    #[test]
    fn who_is_late_is_killed() {
        let begin = Instant::now();
        let script = "test $POTLUCK_NODE = n1 || sleep 60";
        assert_eq!(
            status(&args(Some(0.3), 30.0, script), 2),
            expected(TIMED_OUT)
        );
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failure_ends_the_others_after_the_grace() {
        let begin = Instant::now();
        let script = "test $POTLUCK_NODE = n2 && exit 7; sleep 60";
        assert_eq!(status(&args(None, 0.2, script), 2), expected(143));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn an_assignment_needs_a_key() {
        assert_eq!(key_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(key_value("=x").is_err());
        assert!(key_value("x").is_err());
    }
}
