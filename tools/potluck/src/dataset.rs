// SPDX-License-Identifier: GPL-2.0

//! Datasets and barriers, through the ioctls of hotpot.

use crate::{cli, node::Node, size, uapi};
use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use serde::Serialize;
use std::{
    env,
    fs::File,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A dataset as one node sees it.
#[derive(Clone, Debug)]
pub struct View {
    pub info: uapi::DatasetInfo,
    pub chunks: Vec<uapi::Chunk>,
}

/// As JSON has it.
#[derive(Debug, Serialize)]
pub struct Described {
    pub id: u64,
    pub base: String,
    pub size: u64,
    pub reserve: u64,
    pub chunk_size: u64,
    pub epoch: u64,
    pub replicas: u32,
    pub mode: &'static str,
    pub node: u32,
    pub pages: Pages,
}

/// Pages by state on the asked node (section 2.5.1).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pages {
    pub committed: u64,
    pub redundant: u64,
    pub dirty: u64,
}

impl View {
    /// Asks the node of the mount that `file` is on.
    pub fn ask(file: &File) -> Result<View> {
        let mut chunks: Vec<uapi::Chunk> = Vec::new();
        loop {
            let mut info = uapi::DatasetInfo {
                chunks: if chunks.is_empty() {
                    0
                } else {
                    chunks.as_mut_ptr() as u64
                },
                nr_chunks: chunks.len() as u32,
                ..Default::default()
            };
            // SAFETY: `info` points to room for `nr_chunks` entries, and both outlive the call.
            unsafe { uapi::hotpot_info(file.as_raw_fd(), &mut info) }.map_err(explain)?;
            let has = info.nr_chunks as usize;
            if has <= chunks.len() {
                chunks.truncate(has);
                return Ok(View { info, chunks });
            }
            chunks.resize(has, uapi::Chunk::default());
        }
    }

    pub fn pages(&self) -> Pages {
        Pages {
            committed: self.info.nr_committed,
            redundant: self.info.nr_redundant,
            dirty: self.info.nr_dirty,
        }
    }

    pub fn described(&self) -> Described {
        let i = &self.info;
        Described {
            id: i.id,
            base: format!("{:#x}", i.base),
            size: i.size,
            reserve: i.reserve,
            chunk_size: i.chunk_size,
            epoch: i.epoch,
            replicas: i.replicas,
            mode: mode_name(i.mode),
            node: i.node,
            pages: self.pages(),
        }
    }
}

pub fn mode_name(mode: u32) -> &'static str {
    match mode {
        uapi::mode::MRMW => "mrmw",
        uapi::mode::MRSW => "mrsw",
        _ => "unknown",
    }
}

/// What an errno of these ioctls means to the one who typed the command.
pub fn explain(errno: Errno) -> anyhow::Error {
    let hint = match errno {
        Errno::ENOTTY => "not a hotpot dataset",
        Errno::EOPNOTSUPP => "this build of hotpot does not have it; see the kernel log",
        Errno::EHOSTDOWN => "fewer nodes are up than that takes; see potluck map show",
        Errno::ESTALE => "this node lives in an old epoch: publish the newest map to it",
        Errno::ETIMEDOUT => "not done by the deadline",
        Errno::EINVAL => "the kernel log says which value is wrong",
        _ => return anyhow::Error::new(errno),
    };
    anyhow::Error::new(errno).context(hint)
}

/// A bare name is below the mount of our node.
fn resolve(name: &Path) -> Result<PathBuf> {
    if name.is_absolute() || name.components().count() > 1 || name.starts_with(".") {
        return Ok(name.to_path_buf());
    }
    if let Some(mount) = env::var_os("POTLUCK_MNT") {
        return Ok(PathBuf::from(mount).join(name));
    }
    let mount = Node::all()
        .ok()
        .and_then(|nodes| nodes.into_iter().find_map(|n| n.mount))
        .context("no hotpot mount found: give a path, or set POTLUCK_MNT")?;
    Ok(mount.join(name))
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn set_up(file: &File, args: &cli::SetupArgs) -> Result<()> {
    let arg = uapi::Setup {
        replicas: args.replicas.unwrap_or(0),
        mode: match args.mode {
            None => 0,
            Some(cli::Mode::Mrmw) => uapi::mode::MRMW,
            Some(cli::Mode::Mrsw) => uapi::mode::MRSW,
        },
        chunk_size: args.chunk_size.unwrap_or(0),
        reserve: args.reserve.unwrap_or(0),
        ..Default::default()
    };
    // SAFETY: `arg` is the struct of this ioctl and outlives the call.
    unsafe { uapi::hotpot_setup(file.as_raw_fd(), &arg) }.map_err(explain)?;
    Ok(())
}

fn asks_for_something(args: &cli::SetupArgs) -> bool {
    args.replicas.is_some()
        || args.mode.is_some()
        || args.chunk_size.is_some()
        || args.reserve.is_some()
}

pub fn run(command: cli::Dataset) -> Result<()> {
    match command {
        cli::Dataset::Create { name, setup, size } => {
            let path = resolve(&name)?;
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
            let made = (|| {
                if asks_for_something(&setup) {
                    set_up(&file, &setup).context("its properties")?;
                }
                if let Some(size) = size {
                    file.set_len(size)
                        .with_context(|| format!("its size of {}", size::show(size)))?;
                }
                View::ask(&file)
            })();
            match made {
                Ok(view) => {
                    print!("{}", text(&path, &view));
                    Ok(())
                }
                Err(error) => {
                    // A half-made dataset is of no use to anybody; the error matters more.
                    let _ = std::fs::remove_file(&path);
                    Err(error.context(format!("cannot create {}", path.display())))
                }
            }
        }
        cli::Dataset::Setup { name, setup } => {
            if !asks_for_something(&setup) {
                bail!("nothing to change: see potluck dataset setup --help");
            }
            let path = resolve(&name)?;
            let file = open(&path)?;
            set_up(&file, &setup)
                .with_context(|| format!("cannot set up {} (it must be empty)", path.display()))
        }
        cli::Dataset::Info { name, json } => {
            let path = resolve(&name)?;
            let file =
                File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            let view = View::ask(&file).with_context(|| path.display().to_string())?;
            if json {
                println!("{}", serde_json::to_string_pretty(&view.described())?);
            } else {
                print!("{}", text(&path, &view));
            }
            Ok(())
        }
    }
}

fn text(path: &Path, view: &View) -> String {
    let i = &view.info;
    format!(
        "{}: id {}, {} at {:#x} (reserved {}), {}, {} copies, chunks of {}\n\
         on node {} (epoch {}): {} committed, {} redundant, {} dirty pages\n",
        path.display(),
        i.id,
        size::show(i.size),
        i.base,
        size::show(i.reserve),
        mode_name(i.mode),
        i.replicas,
        size::show(i.chunk_size),
        i.node,
        i.epoch,
        i.nr_committed,
        i.nr_redundant,
        i.nr_dirty,
    )
}

pub fn barrier(args: &cli::Barrier) -> Result<()> {
    let file =
        File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    let arg = uapi::Barrier {
        name: uapi::name_field(&args.name).context("a barrier's name has 1 to 63 bytes")?,
        count: args.count,
        timeout_ms: args.timeout_ms,
        reserved: [0; 2],
    };
    // SAFETY: `arg` is the struct of this ioctl and outlives the call.
    unsafe { uapi::hotpot_barrier(file.as_raw_fd(), &arg) }
        .map_err(explain)
        .with_context(|| format!("barrier {} of {}", args.name, args.count))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_is_told_in_two_lines() {
        let view = View {
            info: uapi::DatasetInfo {
                id: 3,
                base: 0x1000_0000_0000,
                size: 64 << 20,
                reserve: 16 << 30,
                chunk_size: 4 << 20,
                epoch: 2,
                replicas: 2,
                mode: uapi::mode::MRMW,
                node: 1,
                nr_committed: 5,
                nr_dirty: 1,
                ..Default::default()
            },
            chunks: Vec::new(),
        };
        assert_eq!(
            text(Path::new("/mnt/n1/words"), &view),
            "/mnt/n1/words: id 3, 64 MiB at 0x100000000000 (reserved 16 GiB), mrmw, 2 copies, \
             chunks of 4 MiB\non node 1 (epoch 2): 5 committed, 0 redundant, 1 dirty pages\n"
        );
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(resolve(Path::new("/x/y")).unwrap(), Path::new("/x/y"));
        assert_eq!(resolve(Path::new("./y")).unwrap(), Path::new("./y"));
    }

    #[test]
    fn a_file_that_is_no_dataset_is_told_so() {
        let error = format!(
            "{:#}",
            View::ask(&File::open("/dev/null").unwrap()).unwrap_err()
        );
        assert!(error.contains("not a hotpot dataset"), "{error}");
    }
}
