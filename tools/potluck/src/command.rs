// SPDX-License-Identifier: GPL-2.0

//! Other programs (ip, rdma, modprobe, mkfs.hotpot), with a deadline.

use anyhow::{anyhow, bail, Context, Result};
use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A program and its arguments.
pub struct Tool {
    words: Vec<String>,
    input: Option<String>,
    namespace: Option<String>,
}

impl Tool {
    pub fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Tool {
            words: words.into_iter().map(Into::into).collect(),
            input: None,
            namespace: None,
        }
    }

    /// What it reads from standard input.
    pub fn input(mut self, text: String) -> Self {
        self.input = Some(text);
        self
    }

    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_string());
        self
    }

    /// Runs it; its standard output, or an error that quotes its complaint.
    pub fn run(self, deadline: Duration) -> Result<String> {
        let shown = self.words.join(" ");
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .stdin(if self.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(namespace) = &self.namespace {
            let file = super::netns::open(namespace)?;
            enter_before_exec(&mut command, file);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run '{shown}' (is {} installed?)", self.words[0]))?;
        if let (Some(text), Some(mut stdin)) = (self.input, child.stdin.take()) {
            // A program that ends early says why on its standard error.
            let _ = stdin.write_all(text.as_bytes());
        }
        let out = drain(child.stdout.take());
        let err = drain(child.stderr.take());
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begin.elapsed() > deadline {
                let _ = child.kill();
                bail!("'{shown}' did not end within {} s", deadline.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        };
        let err = err.join().unwrap_or_default();
        if !status.success() {
            let complaint = err.trim();
            return Err(if complaint.is_empty() {
                anyhow!("'{shown}' failed: {status}")
            } else {
                anyhow!("'{shown}' failed: {status}\n{complaint}")
            });
        }
        Ok(out.join().unwrap_or_default())
    }
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Makes the child enter a network namespace between fork and exec.
pub fn enter_before_exec(command: &mut Command, namespace: File) {
    let enter = move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(std::io::Error::from)
    };
    // SAFETY: setns is one system call: it takes no lock and allocates nothing,
    // so it is safe between fork and exec.
    unsafe { command.pre_exec(enter) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted() {
        let error = Tool::new(["sh", "-c", "echo no room >&2; exit 3"])
            .run(Duration::from_secs(10))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no room") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_hanging_program_is_ended_at_the_deadline() {
        let begin = Instant::now();
        let error = Tool::new(["sleep", "60"])
            .run(Duration::from_millis(50))
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not end"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn input_reaches_the_program() {
        let out = Tool::new(["cat"])
            .input("hello".into())
            .run(Duration::from_secs(10))
            .unwrap();
        assert_eq!(out, "hello");
    }
}
