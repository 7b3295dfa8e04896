// SPDX-License-Identifier: GPL-2.0

//! `potluck lab down`: by what the state file says and by what is found under
//! a lab's names, so that half-made labs and lost state files do not matter.

use super::{loaded_modules, memory, names, need_root, step, State};
use crate::{
    cli::LabDown,
    command::Tool,
    configfs,
    kernel_log::KernelLog,
    netns,
    node::{self, CONFIGFS},
};
use anyhow::{bail, Context, Result};
use nix::{
    errno::Errno,
    mount::{umount2, MntFlags},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Modules that are ours whoever loaded them.
const OURS: [&str; 4] = ["clio_cn", "legomem", "hotpot", "rdma_lite"];

pub fn run(args: &LabDown) -> Result<()> {
    need_root()?;
    let mut log = KernelLog::from_now();
    let deadline = Duration::from_secs(args.deadline);
    let state = State::load()?;
    if state.is_none() && leftovers().is_empty() && !(ours_loaded() && others().is_empty()) {
        println!("lab: nothing is up");
        return Ok(());
    }
    remove_disks(deadline)?;
    // Every step is tried, whatever became of the ones before.
    let mut failures = Vec::new();
    let mut attempt = |what: &str, work: &mut dyn FnMut() -> Result<()>| {
        if let Err(error) = step(what, work) {
            failures.push(format!("{what}: {error:#}"));
        }
    };
    attempt("unmounted", &mut || {
        each(mounts(), |m| unmount(m, deadline))
    });
    if !memory::servers().is_empty() {
        attempt("memory nodes removed", &mut || {
            each(memory::servers(), |dir| configfs::switch_off(dir, deadline))
        });
    }
    attempt("nodes switched off and removed", &mut || {
        each(nodes(), |name| remove_node(name, deadline))
    });
    attempt("rxe devices removed", &mut || {
        each(rxe_devices(), |device| {
            Tool::new(["rdma", "link", "del", device])
                .run(deadline)
                .map(drop)
        })
    });
    attempt("namespaces and bridge removed", &mut || {
        // Links first: a namespace takes its own away later, in the background.
        each(links(), |link| {
            let gone = Tool::new(["ip", "link", "del", link]).run(deadline);
            match Path::new("/sys/class/net").join(link).exists() {
                true => gone.map(drop),
                false => Ok(()),
            }
        })?;
        each(namespaces(), |ns| {
            Tool::new(["ip", "netns", "del", ns])
                .run(deadline)
                .map(drop)
        })
    });
    attempt("modules unloaded", &mut || unload(state.as_ref(), deadline));
    for target in state
        .iter()
        .flat_map(|s| &s.nodes)
        .filter_map(|n| n.mount.as_ref())
    {
        // Not ours when something is in it.
        let _ = fs::remove_dir(target);
    }
    for left in leftovers() {
        failures.push(format!("left over: {left}"));
    }
    if ours_loaded() && others().is_empty() {
        failures.push("left over: the modules".to_string());
    }
    if !failures.is_empty() {
        let lines = log.tail();
        bail!(
            "the lab is not wholly down:\n  {}{}{}",
            failures.join("\n  "),
            if lines.is_empty() {
                ""
            } else {
                "\nthe kernel's last lines:\n  "
            },
            lines.join("\n  ")
        );
    }
    State::remove()?;
    println!("lab: down, nothing is left");
    Ok(())
}

/// Before anything that they need. One that is in use is its user's matter: the lab
/// stays as it is.
fn remove_disks(deadline: Duration) -> Result<()> {
    let disks = memory::disks();
    if disks.is_empty() {
        return Ok(());
    }
    step("disks removed", || {
        each(disks, |dir| match configfs::switch_off(dir, deadline) {
            Err(error) if configfs::is(&error, Errno::EBUSY) => {
                Err(error.context("a disk is mounted, or open: end that first"))
            }
            // It shows among what is left over.
            Err(error) => {
                eprintln!("potluck: {error:#}");
                Ok(())
            }
            Ok(()) => Ok(()),
        })
    })
}

/// All are tried; the first error is told.
fn each<T>(things: Vec<T>, work: impl Fn(&T) -> Result<()>) -> Result<()> {
    things.iter().map(work).fold(Ok(()), Result::and)
}

/// What there is under a lab's names.
pub fn leftovers() -> Vec<String> {
    let mut left = Vec::new();
    left.extend(mounts().iter().map(|m| format!("mount {}", m.display())));
    let directories = memory::disks().into_iter().chain(memory::servers());
    left.extend(directories.map(|dir| dir.display().to_string()));
    left.extend(nodes().iter().map(|n| format!("node {n}")));
    left.extend(rxe_devices().iter().map(|d| format!("RDMA device {d}")));
    left.extend(namespaces().iter().map(|n| format!("namespace {n}")));
    left.extend(links().iter().map(|l| format!("link {l}")));
    left
}

fn ours_loaded() -> bool {
    loaded_modules().iter().any(|m| OURS.contains(&m.as_str()))
}

/// Nodes that are none of the lab's: the modules are theirs, too.
fn others() -> Vec<String> {
    let mut names = node::names();
    names.retain(|n| !names::is_node(n));
    names
}

fn nodes() -> Vec<String> {
    let mut names = node::names();
    names.retain(|n| names::is_node(n));
    names
}

fn mounts() -> Vec<PathBuf> {
    let mut mounts: Vec<_> = node::hotpot_mounts()
        .into_iter()
        .map(|m| m.target)
        .filter(|target| {
            target
                .strip_prefix("/mnt")
                .is_ok_and(|name| names::id(&name.to_string_lossy(), "n").is_some())
        })
        .collect();
    // The dispatcher, which was mounted first, goes last.
    mounts.reverse();
    mounts
}

fn entries(dir: &str) -> Vec<String> {
    fs::read_dir(dir)
        .map(|entries| {
            entries
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default()
}

fn rxe_devices() -> Vec<String> {
    let mut found = entries("/sys/class/infiniband");
    found.retain(|d| names::id(d, "rxe").is_some());
    found
}

fn namespaces() -> Vec<String> {
    let mut found = entries("/run/netns");
    found.retain(|n| names::is_node(n));
    found
}

fn links() -> Vec<String> {
    let mut found = entries("/sys/class/net");
    found.retain(|l| l == names::BRIDGE || names::id(l, "plv").is_some());
    found
}

fn unmount(target: &Path, deadline: Duration) -> Result<()> {
    let shown = format!("umount {}", target.display());
    let target = target.to_path_buf();
    netns::within(None, deadline, move || {
        Ok(umount2(&target, MntFlags::UMOUNT_NOFOLLOW)?)
    })
    .with_context(|| format!("{shown} (EBUSY: a process still uses it)"))
}

fn remove_node(name: &str, deadline: Duration) -> Result<()> {
    configfs::switch_off(&Path::new(CONFIGFS).join(name), deadline)
}

fn unload(state: Option<&State>, deadline: Duration) -> Result<()> {
    let others = others();
    if !others.is_empty() {
        println!("lab: the modules stay: {} uses them", others.join(", "));
        return Ok(());
    }
    let loaded = loaded_modules();
    let mut modules: Vec<&str> = OURS.to_vec();
    if let Some(state) = state {
        modules.extend(state.modules.iter().map(String::as_str));
    }
    let mut done: Vec<&str> = Vec::new();
    for name in modules {
        if done.contains(&name) || !loaded.iter().any(|m| m == name) {
            continue;
        }
        done.push(name);
        let result = Tool::new(["rmmod", name]).run(deadline);
        // Somebody else may have come to use what we loaded for ourselves.
        if OURS.contains(&name) {
            result?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn one_failure_does_not_keep_the_rest_from_being_tried() {
        let tried = Cell::new(0);
        let result = each(vec![1, 2, 3], |n| {
            tried.set(tried.get() + 1);
            if *n == 2 {
                bail!("two");
            }
            Ok(())
        });
        assert_eq!(tried.get(), 3);
        assert_eq!(result.unwrap_err().to_string(), "two");
    }
}
