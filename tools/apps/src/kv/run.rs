// SPDX-License-Identifier: GPL-2.0

//! A run: clients of every rank use the table at once, and what they saw is checked, then what is left.
//!
//! Each client has keys of its own, on all ranks, which it gets, puts and deletes beside a model of them; and all get
//! and put a few shared keys, whose history must be that of registers. At the end each key is read once more, and the
//! ranks must have no others.

use super::{
    check::{id_of, value_of},
    wire::{Answer, Request},
    Client, History, Model, Operation, Table, ABSENT,
};
use crate::{report::Latencies, transport::Transport};
use anyhow::{anyhow, ensure, Context, Result};
use nix::time::{clock_gettime, ClockId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{json, Value};
use std::{
    sync::{atomic::Ordering::Relaxed, Arc},
    thread,
    time::Instant,
};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Clients of each rank, a thread each.
    pub clients: u32,
    /// Operations of each client.
    pub operations: u32,
    /// Keys of each client's own.
    pub keys: u32,
    /// Keys that all share.
    pub shared: u32,
    /// Per cent of operations that get; the rest puts, one in four deletes (of keys that are not shared).
    pub gets: u32,
    /// Of the choices.
    pub seed: u64,
}

/// Threads of a rank that do what others ask it to.
const SERVERS: usize = 2;
/// Per cent of operations on shared keys.
const SHARED: u32 = 25;

/// What a client has done.
#[derive(Default)]
struct Done {
    model: Model,
    history: History,
    gets: Latencies,
    puts: Latencies,
}

/// What the first rank wants to know of each: words of what it shares as "result".
const RESULT: usize = 5;

/// Runs on every rank. The first has the figures.
pub fn run(transport: &dyn Transport, settings: Settings) -> Result<Option<Value>> {
    let ranks = transport.size();
    let keys = u64::from(settings.clients) * u64::from(settings.keys) * ranks as u64;
    let keys = keys + u64::from(settings.shared);
    // As many slots as keys, in buckets that fill unevenly; as many again are behind them.
    let buckets = keys.div_ceil(4 * ranks as u64).max(4) as usize;
    let table = Arc::new(Table::share(transport, buckets).context("buckets")?);
    let answering = table.clone();
    let handler = move |request: &[u8]| match Request::from_bytes(request) {
        Some(request) => answering.answer(&request).to_bytes().to_vec(),
        None => Answer::Strange.to_bytes().to_vec(),
    };
    transport
        .serve(SERVERS, Arc::new(handler))
        .context("calls")?;
    transport.barrier("ready").context("barrier")?;
    let client = Client::open(transport, buckets).context("the buckets of others")?;
    transport.barrier("start").context("barrier")?;

    let begin = Instant::now();
    let mut all = Done::default();
    let mut models = Vec::new();
    let first = transport.rank() as u32 * settings.clients;
    thread::scope(|scope| {
        let work = |number| {
            let client = &client;
            scope.spawn(move || one_client(client, number, settings))
        };
        let threads: Vec<_> = (first..first + settings.clients).map(work).collect();
        for thread in threads {
            let mut done = thread.join().map_err(|_| anyhow!("a client panicked"))??;
            all.history.append(&mut done.history);
            all.gets.append(&mut done.gets);
            all.puts.append(&mut done.puts);
            models.push(done.model);
        }
        anyhow::Ok(())
    })?;
    let elapsed = begin.elapsed();

    // From here on nothing changes.
    let history = all.history.to_words();
    let result = transport.share("result", RESULT)?;
    let figures: [u64; RESULT] = [
        history.len() as u64,
        models.iter().map(Model::len).sum::<usize>() as u64,
        u64::from(settings.clients) * u64::from(settings.operations),
        elapsed.as_nanos() as u64,
        client.torn(),
    ];
    let shared = transport.share("history", history.len().max(1))?;
    let put = |to: &dyn crate::transport::Shared, from: &[u64]| {
        to.words()
            .iter()
            .zip(from)
            .for_each(|(to, from)| to.store(*from, Relaxed));
    };
    put(&*result, &figures);
    put(&*shared, &history);
    transport.barrier("done").context("barrier")?;
    let own = own_keys(&client, &models, first, settings);
    let whole = match transport.rank() {
        0 => whole(transport, &client, &all, settings).map(Some),
        _ => Ok(None),
    };
    // Whatever was found: nobody goes while others still look.
    transport.barrier("checked").context("barrier")?;
    own?;
    whole
}

fn key_of(client: u32, at: u32) -> u64 {
    (u64::from(client + 1) << 32) | u64::from(at)
}

fn one_client(client: &Client<'_>, number: u32, settings: Settings) -> Result<Done> {
    let mut rng = ChaCha8Rng::seed_from_u64((settings.seed << 32) | u64::from(number));
    let mut done = Done::default();
    for operation in 0..settings.operations {
        let shared = settings.shared > 0 && rng.random_range(0..100) < SHARED;
        let key = match shared {
            true => rng.random_range(0..settings.shared).into(),
            false => key_of(number, rng.random_range(0..settings.keys)),
        };
        // 0 is no value's number: that is of a key that is absent.
        let id = (u64::from(number + 1) << 32) | u64::from(operation);
        let begin = now();
        if rng.random_range(0..100) < settings.gets {
            let timed = Instant::now();
            let value = client.get(key).with_context(|| format!("get {key}"))?;
            done.gets.add(timed.elapsed());
            if shared {
                done.history.add(seen(key, value.as_deref(), begin)?);
            } else {
                done.model
                    .saw(key, value.as_deref())
                    .map_err(|e| anyhow!(e))?;
            }
        } else if !shared && rng.random_range(0..4) == 0 {
            let was_there = client
                .delete(key)
                .with_context(|| format!("delete {key}"))?;
            done.model.delete(key, was_there).map_err(|e| anyhow!(e))?;
        } else {
            let timed = Instant::now();
            let was_there = client
                .put(key, &value_of(id))
                .with_context(|| format!("put {key}"))?;
            done.puts.add(timed.elapsed());
            if shared {
                let end = now();
                done.history.add(Operation {
                    key,
                    value: id,
                    put: true,
                    begin,
                    end,
                });
            } else {
                done.model.put(key, id, was_there).map_err(|e| anyhow!(e))?;
            }
        }
    }
    Ok(done)
}

/// A get of a shared key that just ended.
fn seen(key: u64, value: Option<&[u8]>, begin: u64) -> Result<Operation> {
    let end = now();
    let value = match value {
        None => ABSENT,
        Some(value) => id_of(value).with_context(|| format!("key {key} has a damaged value"))?,
    };
    Ok(Operation {
        key,
        value,
        put: false,
        begin,
        end,
    })
}

/// Our clients' keys are what their models say, those that are gone as well.
fn own_keys(client: &Client<'_>, models: &[Model], first: u32, settings: Settings) -> Result<()> {
    for (number, model) in (first..).zip(models) {
        for at in 0..settings.keys {
            let key = key_of(number, at);
            let value = client.get(key)?;
            model
                .saw(key, value.as_deref())
                .map_err(|e| anyhow!("at the end: {e}"))?;
        }
    }
    Ok(())
}

/// All histories together are those of registers, and the ranks have the keys of all models and no others.
fn whole(
    transport: &dyn Transport,
    client: &Client<'_>,
    all: &Done,
    settings: Settings,
) -> Result<Value> {
    let mut history = History::default();
    let (mut expected, mut operations, mut torn, mut slowest) = (0, 0, 0, 0);
    for rank in 0..transport.size() {
        let mut result = [0; RESULT];
        transport.window(rank, "result")?.read(0, &mut result)?;
        let mut words = vec![0; result[0] as usize];
        if !words.is_empty() {
            transport.window(rank, "history")?.read(0, &mut words)?;
        }
        history.append(&mut History::from_words(&words));
        expected += result[1];
        operations += result[2];
        slowest = slowest.max(result[3]);
        torn += result[4];
    }
    for key in 0..settings.shared.into() {
        let begin = now();
        let value = client.get(key)?;
        expected += u64::from(value.is_some());
        history.add(seen(key, value.as_deref(), begin)?);
    }
    history.check().map_err(|e| anyhow!(e))?;
    let mut keys = 0;
    for rank in 0..transport.size() {
        keys += client.count(rank)?;
    }
    ensure!(
        keys == expected,
        "the ranks have {keys} keys, not {expected}"
    );
    let seconds = slowest as f64 / 1e9;
    Ok(json!({
        "app": "kv", "ranks": transport.size(), "clients": settings.clients as usize * transport.size(),
        "operations": operations, "seconds": seconds, "per_s": operations as f64 / seconds,
        "get": all.gets.summary(), "put": all.puts.summary(),
        "keys": keys, "shared_operations": history.len(), "torn_reads": torn, "checked": true,
    }))
}

/// Nanoseconds of the kernel's monotonic clock: the same for all nodes of a lab, which are of one kernel.
fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.map_or(0, |now| now.as_nanos() as u64)
}
