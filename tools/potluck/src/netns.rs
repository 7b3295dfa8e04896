// SPDX-License-Identifier: GPL-2.0

//! Doing things inside a network namespace. Only the calling thread changes:
//! mounts stay those of the process, so configfs and /mnt remain in sight
//! (unlike under `ip netns exec`, which mounts another /sys).

use anyhow::{anyhow, Context, Result};
use nix::sched::{setns, CloneFlags};
use std::{fs::File, path::PathBuf, sync::mpsc, thread, time::Duration};

/// Where `ip netns add` keeps its names.
const NAMES: &str = "/run/netns";

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(NAMES).join(name)
}

pub fn open(name: &str) -> Result<File> {
    File::open(path(name)).with_context(|| format!("cannot open network namespace {name}"))
}

/// Runs `work` in a thread inside `namespace` (None: where we are) and waits
/// for it until the deadline. A thread that is stuck in the kernel is left
/// behind; it ends with the process.
pub fn within<T, F>(namespace: Option<&str>, deadline: Duration, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let file = namespace.map(open).transpose()?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let entered = match &file {
            Some(file) => setns(file, CloneFlags::CLONE_NEWNET)
                .context("cannot enter the network namespace (are you root?)"),
            None => Ok(()),
        };
        // The receiver may have given up: nobody is left to tell.
        let _ = send.send(entered.and_then(|()| work()));
    });
    match receive.recv_timeout(deadline) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(anyhow!(
            "still not done after {} s: given up",
            deadline.as_secs()
        )),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(anyhow!("the worker thread died")),
    }
}
