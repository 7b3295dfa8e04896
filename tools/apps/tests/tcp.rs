// SPDX-License-Identifier: GPL-2.0

//! Both applications on three ranks of one process, over TCP; and that they find what is wrong.

use potluck_apps::{
    kv,
    pagerank::{self, rmat},
    transport::{Handler, Shared, Window},
    Tcp, Transport,
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
};

const RANKS: usize = 3;

/// Addresses that were free just now.
fn addresses() -> Vec<SocketAddr> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listeners: Vec<_> = (0..RANKS).map(|_| free()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap()).collect()
}

/// Runs on all ranks, each with its transport wrapped; their results.
fn on_all<W: Transport, R: Send>(
    wrap: impl Fn(Tcp) -> W + Sync,
    run: impl Fn(&dyn Transport) -> R + Sync,
) -> Vec<R> {
    let addresses = addresses();
    let one = |rank| run(&wrap(Tcp::open(rank, &addresses).unwrap()));
    thread::scope(|scope| {
        let one = &one;
        let all: Vec<_> = (0..RANKS)
            .map(|rank| scope.spawn(move || one(rank)))
            .collect();
        all.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

const TABLE: kv::Settings = kv::Settings {
    clients: 3,
    operations: 1500,
    keys: 40,
    shared: 4,
    gets: 50,
    seed: 1,
};

const ITERATIONS: pagerank::Settings = pagerank::Settings {
    iterations: 100,
    tolerance: 1e-10,
};

#[test]
fn many_clients_of_the_table_see_what_their_models_and_one_order_explain() {
    let results = on_all(|tcp| tcp, |transport| kv::run(transport, TABLE));
    let figures: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    let first = figures[0].as_ref().unwrap();
    assert_eq!(first["operations"], 9 * 1500);
    assert!(first["shared_operations"].as_u64().unwrap() > 1000);
    assert!(figures[1].is_none());
}

#[test]
fn pagerank_over_three_ranks_is_that_of_one_process() {
    let graph = rmat(10, 8, 1);
    let results = on_all(
        |tcp| tcp,
        |transport| pagerank::run(transport, &graph, ITERATIONS),
    );
    let figures = results.into_iter().next().unwrap().unwrap().unwrap();
    let iterations = figures["iterations"].as_u64().unwrap();
    assert!((10..100).contains(&iterations), "{iterations} iterations");
    assert!(figures["farthest"].as_f64().unwrap() < 1e-12);
}

#[test]
fn pagerank_stops_at_the_last_iteration() {
    let graph = rmat(6, 8, 1);
    let settings = pagerank::Settings {
        iterations: 3,
        tolerance: 0.0,
    };
    let results = on_all(
        |tcp| tcp,
        |transport| pagerank::run(transport, &graph, settings),
    );
    let figures = results.into_iter().next().unwrap().unwrap().unwrap();
    assert_eq!(figures["iterations"], 3);
}

/// A network that does something wrong.
struct Wrong<F> {
    tcp: Tcp,
    wrong: F,
}

/// Whether a request is one of those of which every fourth is lost, though it is answered.
type Loses = fn(&[u8]) -> bool;

impl Transport for Wrong<Loses> {
    fn rank(&self) -> usize {
        self.tcp.rank()
    }

    fn size(&self) -> usize {
        self.tcp.size()
    }

    fn share(&self, name: &str, words: usize) -> io::Result<Box<dyn Shared>> {
        self.tcp.share(name, words)
    }

    fn window(&self, rank: usize, name: &str) -> io::Result<Box<dyn Window>> {
        self.tcp.window(rank, name)
    }

    fn serve(&self, threads: usize, handler: Handler) -> io::Result<()> {
        let wrong = self.wrong;
        let asked = AtomicU32::new(0);
        let handle = move |request: &[u8]| {
            if wrong(request) && asked.fetch_add(1, Relaxed) % 4 == 3 {
                let (was_there, none) = (0, [0; 8]);
                return [&[was_there], &none[..]].concat();
            }
            handler(request)
        };
        self.tcp.serve(threads, std::sync::Arc::new(handle))
    }

    fn call(&self, rank: usize, request: &[u8], reply: &mut [u8]) -> io::Result<usize> {
        self.tcp.call(rank, request, reply)
    }

    fn barrier(&self, name: &str) -> io::Result<()> {
        self.tcp.barrier(name)
    }
}

#[test]
fn puts_of_a_shared_key_that_are_lost_are_found() {
    // Keys below 2^32 are shared.
    let put_of_shared: Loses = |request| request[0] == 1 && request[5..9] == [0; 4];
    let settings = kv::Settings {
        clients: 1,
        shared: 1,
        ..TABLE
    };
    let results = on_all(
        |tcp| Wrong {
            tcp,
            wrong: put_of_shared,
        },
        |transport| kv::run(transport, settings).map_err(|e| e.to_string()),
    );
    let why = results[0].as_ref().unwrap_err();
    assert!(why.contains("key 0"), "{why}");
}
