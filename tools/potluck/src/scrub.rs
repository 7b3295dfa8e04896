// SPDX-License-Identifier: GPL-2.0

//! `potluck scrub`: has nodes check their committed copies, while they are in use, and says
//! what was found.

use crate::{cli, dataset, node, uapi};
use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tabled::{builder::Builder, settings::Style};

/// What was found of one dataset at the node of one mount.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Found {
    pub path: PathBuf,
    pub node: u32,
    pub checked: u64,
    pub healed: u64,
    pub dropped: u64,
    pub lost: u64,
    pub waiting: u64,
}

impl Found {
    fn add(&mut self, step: &uapi::Scrub) {
        self.checked += step.checked;
        self.healed += step.healed;
        self.dropped += step.dropped;
        self.lost += step.lost;
        self.waiting += step.waiting;
    }

    /// Whether users of the dataset may have to do without something.
    fn is_bad(&self) -> bool {
        self.lost != 0 || self.waiting != 0
    }
}

/// The datasets that the arguments mean: a dataset, or all of a mount.
fn datasets(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = paths.to_vec();
    if paths.is_empty() {
        paths = node::hotpot_mounts()
            .into_iter()
            .map(|m| m.target)
            .collect();
        if paths.is_empty() {
            bail!("no hotpot mount here: give a mount point or a dataset");
        }
    }
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path);
            continue;
        }
        let entries = fs::read_dir(&path).with_context(|| format!("{}", path.display()))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .with_context(|| format!("{}", path.display()))?;
        names.sort();
        found.append(&mut names);
    }
    Ok(found)
}

fn scrub(path: &Path, mut progress: impl FnMut(&Found, u64)) -> Result<Found> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let view = dataset::View::ask(&file).with_context(|| format!("{}", path.display()))?;
    let pages = view.info.nr_committed + view.info.nr_redundant;
    let mut found = Found {
        path: path.to_path_buf(),
        node: view.info.node,
        ..Found::default()
    };
    let mut arg = uapi::Scrub::default();
    loop {
        progress(&found, pages);
        // SAFETY: `arg` is the struct of this ioctl and outlives the call.
        match unsafe { uapi::hotpot_scrub(file.as_raw_fd(), &mut arg) } {
            Ok(_) => found.add(&arg),
            // Removed meanwhile: nothing is left to be checked.
            Err(Errno::ENOENT) => return Ok(found),
            Err(errno) => {
                return Err(dataset::explain(errno)).with_context(|| format!("{}", path.display()))
            }
        }
        if arg.done != 0 {
            return Ok(found);
        }
        arg = uapi::Scrub {
            page: arg.page,
            ..Default::default()
        };
    }
}

fn table(all: &[Found]) -> String {
    let mut builder = Builder::new();
    builder.push_record([
        "dataset", "node", "checked", "healed", "dropped", "lost", "waiting",
    ]);
    for found in all {
        let mut row = vec![found.path.display().to_string(), found.node.to_string()];
        let counts = [
            found.checked,
            found.healed,
            found.dropped,
            found.lost,
            found.waiting,
        ];
        row.extend(counts.map(|count| count.to_string()));
        builder.push_record(row);
    }
    format!("{}\n", builder.build().with(Style::sharp()))
}

/// Status 1 when something could not be healed.
pub fn run(args: &cli::Scrub) -> Result<ExitCode> {
    let mut progress = io::stderr();
    let show = !args.json && progress.is_terminal();
    let mut all = Vec::new();
    for path in datasets(&args.paths)? {
        let found = scrub(&path, |so_far, pages| {
            if show {
                let path = so_far.path.display();
                let checked = so_far.checked;
                // Only to look at: a terminal that is gone is no error.
                let _ = write!(progress, "\r\x1b[K{path}: {checked} of {pages} copies");
            }
        })?;
        all.push(found);
    }
    if show {
        let _ = write!(progress, "\r\x1b[K");
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&all)?),
        false => print!("{}", table(&all)),
    }
    match all.iter().any(Found::is_bad) {
        true => Ok(ExitCode::FAILURE),
        false => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lost: u64, waiting: u64) -> Found {
        Found {
            path: PathBuf::from("/mnt/n1/words"),
            node: 1,
            checked: 7,
            healed: 2,
            lost,
            waiting,
            ..Default::default()
        }
    }

    #[test]
    fn steps_are_summed_up() {
        let mut sum = found(0, 0);
        sum.add(&uapi::Scrub {
            checked: 3,
            healed: 1,
            dropped: 1,
            ..Default::default()
        });
        assert_eq!((sum.checked, sum.healed, sum.dropped), (10, 3, 1));
    }

    #[test]
    fn only_what_is_not_healed_is_bad() {
        assert!(!found(0, 0).is_bad());
        assert!(found(1, 0).is_bad());
        assert!(found(0, 1).is_bad());
    }

    #[test]
    fn the_table_names_what_was_found() {
        let table = table(&[found(1, 0)]);
        for word in ["/mnt/n1/words", "checked", "healed", "lost", "waiting"] {
            assert!(table.contains(word), "{table}");
        }
    }

    #[test]
    fn a_path_that_is_no_directory_is_a_dataset() {
        let path = PathBuf::from("/mnt/n1/words");
        assert_eq!(datasets(std::slice::from_ref(&path)).unwrap(), [path]);
    }
}
