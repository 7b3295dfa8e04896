// SPDX-License-Identifier: GPL-2.0

//! TCP sockets: each rank has a thread for every connection, which reads and writes its memory, calls its handler
//! and waits at barriers for whoever is at the other end.

mod server;

use self::server::Server;
use super::{Handler, Shared, Transport, Window};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc, Mutex, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

/// Most that a rank waits for another to come, or for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked, as the first byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Ask {
    /// The number of what is shared under a name.
    Find = 1,
    Read,
    Write,
    Call,
    Barrier,
}

/// Connections to all ranks.
pub struct Tcp {
    rank: usize,
    /// By rank.
    peers: Vec<Arc<Connections>>,
    server: Arc<Server>,
}

impl Tcp {
    /// Listens at the address of our rank.
    pub fn open(rank: usize, addresses: &[SocketAddr]) -> io::Result<Self> {
        let own = addresses.get(rank).ok_or(io::ErrorKind::InvalidInput)?;
        let server = Server::start(*own, addresses.len())?;
        let peers = addresses.iter().copied().map(Connections::to);
        Ok(Self {
            rank,
            peers: peers.collect(),
            server,
        })
    }
}

impl Transport for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.peers.len()
    }

    fn share(&self, name: &str, words: usize) -> io::Result<Box<dyn Shared>> {
        Ok(Box::new(self.server.share(name, words)?))
    }

    fn window(&self, rank: usize, name: &str) -> io::Result<Box<dyn Window>> {
        if rank == self.rank {
            let memory = self.server.find(name).ok_or(io::ErrorKind::NotFound)?;
            return Ok(Box::new(memory));
        }
        let mut number = [0; 8];
        let peer = self.peers[rank].clone();
        peer.ask(Ask::Find, &[name.as_bytes()], &mut number)?;
        Ok(Box::new(Remote { peer, number }))
    }

    fn serve(&self, _threads: usize, handler: Handler) -> io::Result<()> {
        self.server.handle(handler);
        Ok(())
    }

    fn call(&self, rank: usize, request: &[u8], reply: &mut [u8]) -> io::Result<usize> {
        if rank == self.rank {
            let answer = self.server.call(request)?;
            let room = reply.get_mut(..answer.len());
            room.ok_or(io::ErrorKind::InvalidData)?
                .copy_from_slice(&answer);
            return Ok(answer.len());
        }
        self.peers[rank].ask(Ask::Call, &[request], reply)
    }

    fn barrier(&self, name: &str) -> io::Result<()> {
        if self.rank == 0 {
            return self.server.barrier(name);
        }
        self.peers[0]
            .ask(Ask::Barrier, &[name.as_bytes()], &mut [])
            .map(drop)
    }
}

/// Memory of ours.
#[derive(Clone)]
struct Memory(Arc<[AtomicU64]>);

impl Shared for Memory {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl Memory {
    fn range(&self, at: usize, len: usize) -> io::Result<&[AtomicU64]> {
        let range = at..at.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.0.get(range).ok_or(io::ErrorKind::InvalidInput)?)
    }
}

impl Window for Memory {
    fn read(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        let range = self.range(at, words.len())?;
        for (to, from) in words.iter_mut().zip(range) {
            *to = from.load(Relaxed);
        }
        Ok(())
    }

    fn write(&self, at: usize, words: &[u64]) -> io::Result<()> {
        for (from, to) in words.iter().zip(self.range(at, words.len())?) {
            to.store(*from, Relaxed);
        }
        Ok(())
    }
}

/// Memory of another rank.
struct Remote {
    peer: Arc<Connections>,
    number: [u8; 8],
}

impl Window for Remote {
    fn read(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        let mut bytes = vec![0; 8 * words.len()];
        let at = (at as u64).to_le_bytes();
        let count = (words.len() as u64).to_le_bytes();
        let got = self
            .peer
            .ask(Ask::Read, &[&self.number, &at, &count], &mut bytes)?;
        if got != bytes.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        super::words_from(&bytes, words);
        Ok(())
    }

    fn write(&self, at: usize, words: &[u64]) -> io::Result<()> {
        let at = (at as u64).to_le_bytes();
        self.peer
            .ask(
                Ask::Write,
                &[&self.number, &at, &super::bytes_of(words)],
                &mut [],
            )
            .map(drop)
    }
}

/// Connections to a rank: each is used by one thread at a time.
struct Connections {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Connections {
    fn to(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            idle: Mutex::default(),
        })
    }

    fn take(&self) -> io::Result<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = idle.pop() {
            return Ok(stream);
        }
        drop(idle);
        let begin = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                // It may not have started.
                Err(e) if begin.elapsed() > PATIENCE => return Err(e),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Asks and waits; the length of the answer. After an error the connection is not used again.
    fn ask(&self, what: Ask, parts: &[&[u8]], answer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.take()?;
        send(&mut stream, what as u8, parts)?;
        let mut head = [0; HEAD];
        stream.read_exact(&mut head)?;
        let (status, len) = parse(head);
        if status != 0 {
            return Err(io::Error::from_raw_os_error(status.into()));
        }
        let room = answer.get_mut(..len).ok_or(io::ErrorKind::InvalidData)?;
        stream.read_exact(room)?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stream);
        Ok(len)
    }
}

/// Bytes in front of a message: what it is (an [`Ask`], or an errno), and how many bytes follow.
const HEAD: usize = 5;

fn parse(head: [u8; HEAD]) -> (u8, usize) {
    let [what, len @ ..] = head;
    (what, u32::from_le_bytes(len) as usize)
}

/// One message, in one segment if it fits.
fn send(stream: &mut TcpStream, what: u8, parts: &[&[u8]]) -> io::Result<()> {
    let body = parts.concat();
    let len = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = Vec::with_capacity(HEAD + body.len());
    message.push(what);
    message.extend_from_slice(&len.to_le_bytes());
    message.extend_from_slice(&body);
    stream.write_all(&message)
}
