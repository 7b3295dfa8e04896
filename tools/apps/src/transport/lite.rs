// SPDX-License-Identifier: GPL-2.0

//! rdma_lite: lent memory and one-sided accesses, calls of a port, barriers at the first rank's node.

use super::{Handler, Shared, Transport, Window};
use lite::{Lent, Region, Rights};
use std::{
    io,
    sync::atomic::AtomicU64,
    thread, //
};

/// Most that a rank waits for another at a barrier.
const PATIENCE_MS: u32 = 120_000;

/// The node of our network namespace, and those of the others.
pub struct Lite {
    lite: lite::Lite,
    rank: usize,
    /// Node ids by rank.
    nodes: Vec<u32>,
    port: u16,
    run: String,
}

impl Lite {
    /// `nodes`: ids by rank; `run`: what the names of this run begin with. `EINVAL` when our node is not the one
    /// of this rank.
    pub fn open(rank: usize, nodes: Vec<u32>, port: u16, run: &str) -> io::Result<Self> {
        let lite = lite::Lite::open()?;
        if nodes.get(rank) != Some(&lite.node()?) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            lite,
            rank,
            nodes,
            port,
            run: run.into(),
        })
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.run)
    }
}

impl Transport for Lite {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.nodes.len()
    }

    fn share(&self, name: &str, words: usize) -> io::Result<Box<dyn Shared>> {
        let all = Rights::READ | Rights::WRITE;
        Ok(Box::new(self.lite.lend(words, &self.name(name), all)?))
    }

    fn window(&self, rank: usize, name: &str) -> io::Result<Box<dyn Window>> {
        let all = Rights::READ | Rights::WRITE;
        let region = self.lite.map(self.nodes[rank], &self.name(name), all)?;
        Ok(Box::new(region))
    }

    fn serve(&self, threads: usize, handler: Handler) -> io::Result<()> {
        let port = std::sync::Arc::new(self.lite.listen(self.port)?);
        for _ in 0..threads {
            let (port, handler) = (port.clone(), handler.clone());
            thread::Builder::new().spawn(move || loop {
                match port.receive() {
                    // Who made the call may have given up.
                    Ok(request) => {
                        let reply = handler(request.bytes());
                        let _ = request.reply(&reply);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        eprintln!("no more calls are received: {e}");
                        return;
                    }
                }
            })?;
        }
        Ok(())
    }

    fn call(&self, rank: usize, request: &[u8], reply: &mut [u8]) -> io::Result<usize> {
        self.lite.call(self.nodes[rank], self.port, request, reply)
    }

    fn barrier(&self, name: &str) -> io::Result<()> {
        let count = self.nodes.len() as u32;
        self.lite
            .barrier(self.nodes[0], &self.name(name), count, PATIENCE_MS)
    }
}

impl Shared for Lent {
    fn words(&self) -> &[AtomicU64] {
        self
    }
}

impl Window for Region {
    fn read(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        let mut bytes = vec![0; 8 * words.len()];
        Region::read(self, 8 * at as u64, &mut bytes)?;
        super::words_from(&bytes, words);
        Ok(())
    }

    fn write(&self, at: usize, words: &[u64]) -> io::Result<()> {
        Region::write(self, 8 * at as u64, &super::bytes_of(words))
    }
}
