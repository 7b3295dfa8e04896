// SPDX-License-Identifier: GPL-2.0

//! The end of a connection where the memory is.

use super::{parse, send, Ask, Memory, HEAD, PATIENCE};
use crate::transport::{bytes_of, words_from, Handler, Window};
use std::{
    collections::HashMap,
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{atomic::AtomicU64, Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

/// Most bytes of a request, so that a stranger's length costs nothing.
const LARGEST: usize = 64 << 20;

/// What a rank has for the others.
pub(super) struct Server {
    size: usize,
    state: Mutex<State>,
    met: Condvar,
    handler: OnceLock<Handler>,
}

#[derive(Default)]
struct State {
    shared: Vec<(String, Memory)>,
    /// How often all have met at a barrier, and how many have come since.
    barriers: HashMap<String, (u64, usize)>,
}

impl Server {
    /// For as long as the process lives.
    pub(super) fn start(address: SocketAddr, size: usize) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(address)?;
        let server = Arc::new(Self {
            size,
            state: Mutex::default(),
            met: Condvar::new(),
            handler: OnceLock::new(),
        });
        let serving = server.clone();
        thread::Builder::new().spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                let serve = move || server.connection(stream).unwrap_or_default();
                if let Err(e) = thread::Builder::new().spawn(serve) {
                    eprintln!("a connection is refused: {e}");
                }
            }
        })?;
        Ok(server)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn share(&self, name: &str, words: usize) -> io::Result<Memory> {
        let mut state = self.state();
        if state.shared.iter().any(|(there, _)| there == name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let memory = Memory((0..words).map(|_| AtomicU64::new(0)).collect());
        state.shared.push((name.into(), memory.clone()));
        Ok(memory)
    }

    pub(super) fn find(&self, name: &str) -> Option<Memory> {
        let state = self.state();
        let found = state.shared.iter().find(|(there, _)| there == name)?;
        Some(found.1.clone())
    }

    pub(super) fn handle(&self, handler: Handler) {
        // A second one is not heard of: see `Transport::serve`.
        let _ = self.handler.set(handler);
    }

    pub(super) fn call(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let handler = self.handler.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(handler(request))
    }

    pub(super) fn barrier(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let (meetings, come) = state.barriers.entry(name.into()).or_default();
        *come += 1;
        if *come == self.size {
            *meetings += 1;
            *come = 0;
            self.met.notify_all();
            return Ok(());
        }
        let before = *meetings;
        let waiting = |state: &mut State| state.barriers[name].0 == before;
        let (_state, waited) = self
            .met
            .wait_timeout_while(state, PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match waited.timed_out() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }

    /// Until the other end closes it.
    fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let mut head = [0; HEAD];
            stream.read_exact(&mut head)?;
            let (what, len) = parse(head);
            if len > LARGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut body = vec![0; len];
            stream.read_exact(&mut body)?;
            match self.answer(what, &body) {
                Ok(answer) => send(&mut stream, 0, &[&answer])?,
                Err(e) => send(&mut stream, errno(&e), &[])?,
            }
        }
    }

    fn answer(&self, what: u8, body: &[u8]) -> io::Result<Vec<u8>> {
        const NAMES: [Ask; 5] = [Ask::Find, Ask::Read, Ask::Write, Ask::Call, Ask::Barrier];
        let text = || std::str::from_utf8(body).map_err(|_| io::ErrorKind::InvalidData);
        match NAMES.into_iter().find(|&ask| ask as u8 == what) {
            Some(Ask::Find) => {
                let state = self.state();
                let name = text()?;
                let at = state.shared.iter().position(|(there, _)| there == name);
                let at = at.ok_or(io::ErrorKind::NotFound)? as u64;
                Ok(at.to_le_bytes().to_vec())
            }
            Some(Ask::Read) => {
                let ([number, at, count], _) = numbers(body)?;
                let memory = self.shared(number)?;
                let most = memory.0.len();
                let mut words = vec![0; usize::try_from(count).unwrap_or(most).min(most)];
                if words.len() as u64 != count {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                memory.read(at as usize, &mut words)?;
                Ok(bytes_of(&words))
            }
            Some(Ask::Write) => {
                let ([number, at], bytes) = numbers(body)?;
                let mut words = vec![0; bytes.len() / 8];
                words_from(bytes, &mut words);
                self.shared(number)?.write(at as usize, &words)?;
                Ok(Vec::new())
            }
            Some(Ask::Call) => self.call(body),
            Some(Ask::Barrier) => self.barrier(text()?).map(|()| Vec::new()),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn shared(&self, number: u64) -> io::Result<Memory> {
        let state = self.state();
        let found = usize::try_from(number)
            .ok()
            .and_then(|at| state.shared.get(at));
        Ok(found.ok_or(io::ErrorKind::NotFound)?.1.clone())
    }
}

/// Numbers in front of a body, and the rest.
fn numbers<const N: usize>(body: &[u8]) -> io::Result<([u64; N], &[u8])> {
    let (front, rest) = body
        .split_at_checked(8 * N)
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(front.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().map_err(|_| io::ErrorKind::InvalidData)?);
    }
    Ok((numbers, rest))
}

fn errno(e: &io::Error) -> u8 {
    const EIO: u8 = 5;
    const ENOENT: u8 = 2;
    const EINVAL: u8 = 22;
    const ETIMEDOUT: u8 = 110;
    match e.kind() {
        io::ErrorKind::NotFound => ENOENT,
        io::ErrorKind::InvalidInput => EINVAL,
        io::ErrorKind::TimedOut => ETIMEDOUT,
        _ => EIO,
    }
}
