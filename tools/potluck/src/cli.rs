// SPDX-License-Identifier: GPL-2.0

//! The command line. Documentation/man/potluck.1 says the same at length; a
//! test compares the two.

mod mem;

pub use self::mem::{Create, Disk, DiskArgs, DiskOwner, Mem};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::Ipv4Addr, path::PathBuf};
use uuid::Uuid;

/// Control a Potluck cluster: pooled persistent memory over RDMA
#[derive(Debug, Parser)]
#[command(name = "potluck", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// A whole cluster in one kernel: each node a network namespace
    #[command(subcommand)]
    Lab(Lab),
    /// Run a command on several nodes of the lab at the same time
    Run(Run),
    /// Show nodes, datasets, chunks, replicas and memory nodes
    Status(Status),
    /// Show, publish and change the map of the cluster's nodes
    #[command(subcommand)]
    Map(Map),
    /// Print what nodes report: suspects, new maps
    Events(Events),
    /// Look at rdma_lite, which nodes call each other by
    #[command(subcommand)]
    Lite(Lite),
    /// Wait until COUNT participants, on any nodes, are at barrier NAME
    Barrier(Barrier),
    /// Create, set up and look at datasets
    #[command(subcommand)]
    Dataset(Dataset),
    /// Have nodes check their committed copies, and heal damaged ones
    Scrub(Scrub),
    /// Memory nodes, remote address spaces, disks in remote memory
    #[command(subcommand)]
    Mem(Mem),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Make nodes n1 to nN, load the modules, publish the map, mount hotpot
    Up(LabUp),
    /// Take the lab down, whole or half-made, and verify that nothing is left
    Down(LabDown),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PmemFormat {
    /// Format every device, whatever it holds
    Yes,
    /// Mount the devices as they are
    No,
    /// Format what is not a hotpot device of this cluster and node
    Auto,
}

#[derive(Args, Debug)]
pub struct LabUp {
    /// How many nodes
    #[arg(value_parser = clap::value_parser!(u32).range(1..=250))]
    pub nodes: u32,
    /// Whether to run mkfs.hotpot on the devices
    #[arg(long, value_enum, default_value_t = PmemFormat::Auto)]
    pub pmem_format: PmemFormat,
    /// Default degree of replication (mount option); at most the number of nodes
    #[arg(long, value_name = "R")]
    pub replicas: Option<u32>,
    /// More mount options, comma-separated
    #[arg(long, value_name = "OPTIONS")]
    pub mount_options: Option<String>,
    /// Bytes of each node's ring for a peer (K, M and G understood)
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub ring_size: Option<u64>,
    /// Time between heartbeats
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<u32>,
    /// Default deadline of a call
    #[arg(long, value_name = "MS")]
    pub timeout_ms: Option<u32>,
    /// Any attribute of all nodes, before they are switched on
    #[arg(long, value_name = "ATTRIBUTE=VALUE", value_parser = crate::launch::key_value)]
    pub set: Vec<(String, String)>,
    /// MTU of the links; RDMA needs 4200 or more to use 4096-byte packets
    #[arg(long, value_name = "BYTES", default_value_t = 9000)]
    pub mtu: u32,
    /// Port that every node listens on
    #[arg(long, default_value_t = 18515)]
    pub port: u16,
    /// First three bytes of the addresses; node I is at .I
    #[arg(long, value_name = "ADDRESS", default_value = "10.77.0.0")]
    pub network: Ipv4Addr,
    /// Cluster id; fixed by default, so that a lab finds its devices again
    #[arg(long, value_name = "UUID", default_value = crate::lab::CLUSTER)]
    pub cluster: Uuid,
    /// Epoch of the first map
    #[arg(long, default_value_t = 1)]
    pub epoch: u64,
    /// How many memory nodes m1 to mM beside these; they get the next ids
    #[arg(long, value_name = "M", default_value_t = 0)]
    pub memory: u32,
    /// Memory that each of them serves
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = crate::size::parse)]
    pub memory_size: u64,
    /// Bytes of its pages: a power of two, 64K to 4M
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub memory_page_size: Option<u64>,
    /// No hotpot: no devices, no mounts
    #[arg(long)]
    pub no_mount: bool,
    /// Longest time for any one step
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub deadline: u64,
}

#[derive(Args, Debug)]
pub struct LabDown {
    /// Longest time for any one step
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub deadline: u64,
}

#[derive(Args, Debug)]
pub struct Run {
    /// Nodes, comma-separated; all but memory nodes by default
    #[arg(short, long, value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Kill what still runs after this long; the status is then 124
    #[arg(long, value_name = "S")]
    pub timeout: Option<f64>,
    /// When one node fails, kill the others after this long
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub grace: f64,
    /// Set an environment variable; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::launch::key_value)]
    pub env: Vec<(String, String)>,
    /// Command and arguments
    #[arg(last = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
pub struct Status {
    /// JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// List all chunks, also those without a page
    #[arg(long)]
    pub all_chunks: bool,
}

#[derive(Debug, Subcommand)]
pub enum Map {
    /// Print the newest map that the nodes here have
    Show {
        /// JSON, in the form that `publish` takes
        #[arg(long)]
        json: bool,
    },
    /// Publish a map (JSON) to all nodes here; without an epoch, the next one
    Publish {
        /// The map; `-` reads standard input
        file: PathBuf,
    },
    /// Change the state of one node and publish the new map
    Set {
        /// Name of the node
        node: String,
        /// Its new state
        state: crate::map::State,
    },
}

#[derive(Args, Debug)]
pub struct Events {
    /// Nodes to listen at, comma-separated; all that are here by default
    #[arg(short, long, value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Stop after this long; the status is 1 if --count was not reached
    #[arg(long, value_name = "S")]
    pub timeout: Option<f64>,
}

#[derive(Subcommand, Debug)]
pub enum Lite {
    /// Show the calls between nodes, by peer and port, the busiest first
    Top(Top),
}

#[derive(Args, Debug)]
pub struct Top {
    /// Seconds between two looks
    #[arg(short, long, value_name = "S", default_value = "2", value_parser = crate::lite::interval)]
    pub interval: std::time::Duration,
    /// Stop after this many looks
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Show at most so many lines; 0: all. JSON has all
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    pub lines: usize,
    /// One JSON array a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Barrier {
    /// Name of the barrier, at most 63 bytes
    pub name: String,
    /// How many participants meet
    pub count: u32,
    /// Any dataset on the node's mount
    #[arg(short, long)]
    pub file: PathBuf,
    /// Deadline; the mount's default if not given
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub timeout_ms: u32,
}

#[derive(Debug, Subcommand)]
pub enum Dataset {
    /// Create an empty dataset, set its properties, then its size
    Create {
        /// Name below $POTLUCK_MNT (or the lab's first mount), or a path
        name: PathBuf,
        #[command(flatten)]
        setup: SetupArgs,
        /// Size in bytes (K, M, G and T understood)
        #[arg(long, value_parser = crate::size::parse)]
        size: Option<u64>,
    },
    /// Change the properties of an empty dataset
    Setup {
        /// Name below $POTLUCK_MNT (or the lab's first mount), or a path
        name: PathBuf,
        #[command(flatten)]
        setup: SetupArgs,
    },
    /// Print what the node of this mount knows of a dataset
    Info {
        /// Name below $POTLUCK_MNT (or the lab's first mount), or a path
        name: PathBuf,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub struct Scrub {
    /// Mount points, for all their datasets, or datasets; all mounts here by default
    pub paths: Vec<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Mode {
    /// Many readers, many writers
    Mrmw,
    /// Many readers, one writer per page
    Mrsw,
}

#[derive(Args, Debug)]
pub struct SetupArgs {
    /// Persistent copies that a commit must reach
    #[arg(long, value_name = "R")]
    pub replicas: Option<u32>,
    /// Who may write
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Bytes of a chunk: a power of two, 64K to 1G
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub chunk_size: Option<u64>,
    /// Address space to reserve, which bounds the size
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub reserve: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn walk(command: &clap::Command, path: &str, found: &mut BTreeMap<String, BTreeSet<String>>) {
        let mut options = BTreeSet::new();
        for arg in command.get_arguments() {
            if let Some(long) = arg.get_long() {
                if long != "help" && long != "version" {
                    options.insert(format!("--{long}"));
                }
            }
        }
        let leaf = command.get_subcommands().next().is_none();
        if leaf {
            found.insert(path.to_string(), options);
        }
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            walk(sub, &format!("{path} {}", sub.get_name()), found);
        }
    }

    /// Commands are `.SS` headings of the page, options `.B` or `.BI` lines
    /// that begin with a dash.
    fn manual() -> BTreeMap<String, BTreeSet<String>> {
        let page = include_str!("../../../Documentation/man/potluck.1");
        let mut found = BTreeMap::new();
        let mut current: Option<String> = None;
        for line in page.lines() {
            if let Some(heading) = line.strip_prefix(".SS ") {
                let words: Vec<_> = heading
                    .trim_matches('"')
                    .split_whitespace()
                    .take_while(|w| w.chars().all(|c| c.is_ascii_lowercase()))
                    .collect();
                let name = words.join(" ");
                found.insert(name.clone(), BTreeSet::new());
                current = Some(name);
            } else if line.starts_with(".SH") {
                current = None;
            } else if [".B \\-", ".BI \\-", ".BI \"\\-"]
                .iter()
                .any(|begin| line.starts_with(begin))
            {
                if let Some(name) = &current {
                    for word in line.replace('\\', "").replace([',', '"'], " ").split(' ') {
                        if word.starts_with("--") {
                            found.get_mut(name).unwrap().insert(word.to_string());
                        }
                    }
                }
            }
        }
        found
    }

    #[test]
    fn the_manual_page_lists_every_command_and_option() {
        let mut expected = BTreeMap::new();
        walk(&Cli::command(), "potluck", &mut expected);
        assert_eq!(manual(), expected);
    }

    #[test]
    fn a_lab_has_at_least_one_node() {
        assert!(Cli::try_parse_from(["potluck", "lab", "up", "0"]).is_err());
        assert!(Cli::try_parse_from(["potluck", "lab", "up", "3"]).is_ok());
    }

    #[test]
    fn run_takes_everything_after_the_dashes() {
        let cli =
            Cli::try_parse_from(["potluck", "run", "-n", "n1,n2", "--", "ls", "-n", "x"]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run");
        };
        assert_eq!(run.nodes, ["n1", "n2"]);
        assert_eq!(run.command, ["ls", "-n", "x"]);
    }
}
