// SPDX-License-Identifier: GPL-2.0

//! `potluck-apps`: the applications, on a lab or any other nodes.

use anyhow::{ensure, Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use potluck_apps::{
    gas, hotpot, kv,
    pagerank::{self, Graph},
    ycsb::{self, Workload},
    Lite, Tcp, Transport,
};
use std::{
    fs::File,
    io::{BufReader, BufWriter},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Applications on several nodes, over rdma_lite or over TCP, and on datasets of hotpot; all check their results
///
/// Run it on all nodes at once, as `potluck run -- potluck-apps kv` does. The first rank prints figures as JSON; the
/// status is not 0 when a result is wrong.
#[derive(Debug, Parser)]
#[command(name = "potluck-apps", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    application: Application,
}

#[derive(Debug, Subcommand)]
enum Application {
    /// A hash table over all nodes: one-sided gets, puts and deletes by calls
    Kv(Kv),
    /// PageRank of a graph whose vertices are spread over the nodes
    Pagerank(PageRank),
    /// PageRank in a dataset of hotpot: goes on where a run that was killed left off
    PagerankHotpot(Persistent),
    /// A workload of YCSB on a store in a mapped file, in a dataset of hotpot or anywhere; one process
    Ycsb(Ycsb),
    /// Write a graph to a file, for `--graph`
    Graph(MakeGraph),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Over {
    Lite,
    Tcp,
}

#[derive(Args, Debug)]
struct Peers {
    /// What the nodes are joined by
    #[arg(long, value_enum, default_value = "lite")]
    transport: Over,
    /// Our place among the nodes, from 0
    #[arg(long, env = "POTLUCK_RANK")]
    rank: usize,
    /// How many nodes there are
    #[arg(long, env = "POTLUCK_SIZE")]
    size: usize,
    /// Their ids in the map, by rank [default: 1 to SIZE]
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<u32>,
    /// TCP: first three bytes of their addresses; node I is at .I
    #[arg(long, value_name = "ADDRESS", default_value = "10.77.0.0")]
    network: Ipv4Addr,
    /// Port of the calls, of rdma_lite or TCP
    #[arg(long, default_value_t = 7400)]
    port: u16,
    /// What names of this run begin with
    #[arg(long, value_name = "NAME", default_value = "apps")]
    run: String,
}

#[derive(Args, Debug)]
struct Kv {
    #[command(flatten)]
    peers: Peers,
    /// Clients on each node
    #[arg(long, default_value_t = 4)]
    clients: u32,
    /// Operations of each client
    #[arg(long, default_value_t = 2000)]
    operations: u32,
    /// Keys of each client's own
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Keys that all clients get and put
    #[arg(long, default_value_t = 16)]
    shared: u32,
    /// Per cent of operations that get
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(0..=100))]
    gets: u32,
    /// Of the choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args, Debug)]
struct PageRank {
    #[command(flatten)]
    peers: Peers,
    #[command(flatten)]
    graph: Source,
    /// Most iterations
    #[arg(long, default_value_t = 100)]
    iterations: u32,
    /// Stop when all ranks together change by less
    #[arg(long, default_value_t = 1e-10)]
    tolerance: f64,
}

#[derive(Args, Debug)]
struct Persistent {
    /// Our place among the nodes, from 0
    #[arg(long, env = "POTLUCK_RANK")]
    rank: usize,
    /// How many nodes there are
    #[arg(long, env = "POTLUCK_SIZE")]
    size: usize,
    /// Where hotpot is mounted
    #[arg(long, env = "POTLUCK_MNT")]
    mount: PathBuf,
    /// A dataset that is there, of the mode mrsw
    #[arg(long, value_name = "NAME")]
    dataset: PathBuf,
    #[command(flatten)]
    graph: Source,
    /// Most iterations, over all runs
    #[arg(long, default_value_t = 100)]
    iterations: u64,
    /// Stop when all ranks together change by less
    #[arg(long, default_value_t = 1e-10)]
    tolerance: f64,
    /// Longest wait for a commit, or for the other nodes
    #[arg(long, value_name = "S", default_value_t = 60)]
    deadline: u64,
}

#[derive(Args, Debug)]
struct Ycsb {
    /// Where the store is, or will be
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// Which of the six, A to F
    #[arg(long, value_parser = workload)]
    workload: Workload,
    /// Records of 1 KiB that are there at the begin
    #[arg(long, default_value_t = 1000)]
    records: u64,
    /// Operations after that
    #[arg(long, default_value_t = 1000)]
    operations: usize,
    /// Of the choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Say "ack N" when N operations are done and durable, instead of how long they took
    #[arg(long, conflicts_with = "check")]
    acks: bool,
    /// Only compare what is there with what a run with the same options must have left
    #[arg(long)]
    check: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// A file that `potluck-apps graph` wrote
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// A random graph of 2^SCALE vertices with 16 times as many edges (R-MAT)
    #[arg(long, value_name = "SCALE", value_parser = clap::value_parser!(u32).range(1..=24))]
    rmat: Option<u32>,
    /// The packages of a Debian archive, and which wants which: one of apt's lists (…_Packages)
    #[arg(long, value_name = "FILE")]
    debian: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct MakeGraph {
    #[command(flatten)]
    graph: Source,
    /// Where to
    out: PathBuf,
}

impl Peers {
    fn open(&self) -> Result<Box<dyn Transport>> {
        ensure!(self.rank < self.size, "rank {} of {}", self.rank, self.size);
        let nodes: Vec<u32> = match self.nodes.is_empty() {
            true => (1..=self.size as u32).collect(),
            false => self.nodes.clone(),
        };
        ensure!(
            nodes.len() == self.size,
            "{} nodes, not {}",
            nodes.len(),
            self.size
        );
        match self.transport {
            Over::Lite => {
                let lite = Lite::open(self.rank, nodes, self.port, &self.run);
                let lite = lite.context("/dev/rdma_lite, as the node of this rank")?;
                Ok(Box::new(lite))
            }
            Over::Tcp => {
                let addresses: Vec<_> = nodes.iter().map(|&node| self.address(node)).collect();
                let tcp = Tcp::open(self.rank, &addresses);
                Ok(Box::new(
                    tcp.with_context(|| format!("{}", addresses[self.rank]))?,
                ))
            }
        }
    }

    fn address(&self, node: u32) -> SocketAddr {
        let address = u32::from(self.network) + node;
        SocketAddr::new(IpAddr::V4(address.into()), self.port)
    }
}

impl Persistent {
    fn run(&self) -> Result<()> {
        ensure!(self.rank < self.size, "rank {} of {}", self.rank, self.size);
        let graph = self.graph.graph()?;
        let path = self.mount.join(&self.dataset);
        let deadline = Duration::from_secs(self.deadline);
        let dataset = hotpot::Dataset::open(&path, self.rank, self.size, deadline);
        let dataset = dataset.with_context(|| {
            let bytes = 8 * gas::words_needed(&graph, self.size);
            format!("{}, for which {bytes} bytes are enough", path.display())
        })?;
        let settings = gas::Settings {
            iterations: self.iterations,
            tolerance: self.tolerance,
        };
        let told = &mut |iteration| println!("iteration {iteration}");
        if let Some(figures) = gas::rank(&dataset, &graph, settings, told)? {
            println!("{figures}");
        }
        Ok(())
    }
}

fn workload(letter: &str) -> Result<Workload, String> {
    Workload::named(letter).ok_or_else(|| "there are A to F".into())
}

impl Ycsb {
    /// Prints the nanoseconds that each operation took, and those of all as `wall NS`.
    fn run(&self) -> Result<()> {
        let settings = ycsb::Settings {
            workload: self.workload,
            records: self.records,
            operations: self.operations,
            seed: self.seed,
        };
        // The records, as many more, half full nodes, and the first pages.
        let most = self.records as usize + self.operations + 2;
        let len = (most * (ycsb::RECORD + 32) + (64 << 10)).next_multiple_of(64 << 10);
        let memory = ycsb::Mapped::open(&self.file, len);
        let memory = memory.with_context(|| format!("{}", self.file.display()))?;
        if self.check {
            return ycsb::check(&ycsb::Store::open(memory)?, settings);
        }
        let told = &mut |done| {
            if self.acks {
                println!("ack {done}");
            }
        };
        let took = ycsb::run(&mut ycsb::Store::create(memory)?, settings, told)?;
        if self.acks {
            return Ok(());
        }
        let mut out = String::new();
        for one in &took {
            out += &format!("{}\n", one.as_nanos());
        }
        println!("{out}wall {}", took.iter().sum::<Duration>().as_nanos());
        Ok(())
    }
}

impl Source {
    fn graph(&self) -> Result<Graph> {
        let open = |path: &PathBuf| {
            let file = File::open(path).with_context(|| format!("{}", path.display()));
            file.map(BufReader::new)
        };
        if let Some(path) = &self.graph {
            return Graph::read(open(path)?)
                .with_context(|| format!("{}: no graph", path.display()));
        }
        if let Some(path) = &self.debian {
            return pagerank::debian(open(path)?).with_context(|| format!("{}", path.display()));
        }
        Ok(pagerank::rmat(self.rmat.unwrap_or_default(), 16, 1))
    }
}

fn main() -> Result<()> {
    let (peers, result) = match Cli::parse().application {
        Application::Graph(make) => {
            let graph = make.graph.graph()?;
            graph.write(BufWriter::new(File::create(&make.out)?))?;
            println!("{} vertices, {} edges", graph.vertices, graph.edges.len());
            return Ok(());
        }
        Application::PagerankHotpot(pagerank) => return pagerank.run(),
        Application::Ycsb(ycsb) => return ycsb.run(),
        Application::Kv(kv) => {
            let settings = kv::Settings {
                clients: kv.clients,
                operations: kv.operations,
                keys: kv.keys,
                shared: kv.shared,
                gets: kv.gets,
                seed: kv.seed,
            };
            let transport = kv.peers.open()?;
            (kv.peers, kv::run(&*transport, settings)?)
        }
        Application::Pagerank(pagerank) => {
            let graph = pagerank.graph.graph()?;
            let settings = pagerank::Settings {
                iterations: pagerank.iterations,
                tolerance: pagerank.tolerance,
            };
            let transport = pagerank.peers.open()?;
            (
                pagerank.peers,
                pagerank::run(&*transport, &graph, settings)?,
            )
        }
    };
    if let Some(mut figures) = result {
        figures["transport"] = format!("{:?}", peers.transport).to_lowercase().into();
        println!("{figures}");
    }
    Ok(())
}
