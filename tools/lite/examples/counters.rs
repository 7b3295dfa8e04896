// SPDX-License-Identifier: GPL-2.0

//! A table of words that lies at one node, and who changes it from wherever this runs:
//!
//!     counters NODE        one process for each node; NODE keeps the table
//!
//! Shows regions, atomics, locks, calls, lent memory and asynchronous reads; checks what it sees.

use lite::{Allocation, Lite, Operations, Rights};
use std::{env, error::Error, io, sync::atomic::Ordering::Relaxed, thread};

const WORDS: u64 = 512;
const ROUNDS: u64 = 200;
const PORT: u16 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let keeper: u32 = env::args().nth(1).ok_or("usage: counters NODE")?.parse()?;
    let lite = Lite::open()?;
    let all = Rights::READ | Rights::WRITE;
    let wish = Allocation {
        name: "counters",
        others: all,
        ..Allocation::default()
    };
    // Whoever comes first makes the table, the others find it.
    let table = match lite.malloc(keeper, 8 * WORDS, &wish) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => lite.map(keeper, "counters", all)?,
        table => table?,
    };

    // Every word is changed by everybody, each change counts.
    for round in 0..ROUNDS {
        table.fetch_add(8 * (round % WORDS), 1)?;
    }
    // What is more than a word wants a lock.
    for _ in 0..20 {
        let lock = lite.lock(keeper, "pair")?;
        let mut pair = [0; 16];
        table.read(8 * (WORDS - 2), &mut pair)?;
        let (a, b) = pair.split_at(8);
        if a != b {
            return Err("a pair was torn".into());
        }
        let next = (u64::from_ne_bytes(a.try_into()?) + 1).to_ne_bytes();
        table.write(8 * (WORDS - 2), &[next, next].concat())?;
        lock.unlock()?;
    }
    // Many reads that nobody waits for, one by one.
    let operations = Operations::open()?;
    let same = operations.lite().map(keeper, "counters", Rights::READ)?;
    for at in 0..16 {
        operations.read(&same, 8 * at, 8)?;
    }
    let mut sum = 0;
    for ended in operations.poll(16, 16)? {
        let word: [u8; 8] = ended.result?[..].try_into()?;
        sum += u64::from_ne_bytes(word);
    }
    if sum < 16 {
        return Err(format!("16 words that everybody adds to sum up to {sum}").into());
    }

    // Memory of ours, which others change.
    let lent = lite.lend(1000, "", Rights::NONE)?;
    lent[999].store(7, Relaxed);
    if lent.region().fetch_add(8 * 999, 3)? != 7 || lent[999].load(Relaxed) != 10 {
        return Err("lent memory is not what its region is".into());
    }

    // The table as memory of ours, where it lies.
    if lite.node()? == keeper {
        let mapped = table.mmap(0, 8 * WORDS as usize, Rights::READ)?;
        if mapped.load(0, Relaxed)? == 0 {
            return Err("the table is not what was mapped".into());
        }
    }

    // A call to ourselves, as to any node.
    let port = lite.listen(PORT)?;
    let node = lite.node()?;
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let caller = scope.spawn(|| {
            let mut reply = [0; 8];
            let len = lite.call(node, PORT, b"ping", &mut reply)?;
            Ok::<_, io::Error>(reply[..len].to_vec())
        });
        let request = port.receive()?;
        let answer: Vec<u8> = request.bytes().iter().rev().copied().collect();
        request.reply(&answer)?;
        match caller
            .join()
            .map_err(|_| "the caller panicked")??
            .as_slice()
        {
            b"gnip" => Ok(()),
            other => Err(format!("a strange answer: {other:?}").into()),
        }
    })?;
    println!("node {node}: {ROUNDS} additions, 20 pairs, {sum} in 16 words");
    Ok(())
}
