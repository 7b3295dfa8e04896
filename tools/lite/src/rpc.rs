// SPDX-License-Identifier: GPL-2.0

//! Calls: made to ports of nodes, and received from them.

use crate::{check, uapi, Lite};
use std::io;

/// A port whose calls we receive; it ends when this is dropped.
#[derive(Debug)]
pub struct Port {
    lite: Lite,
    port: u16,
}

/// A request that was received. Dropped without a reply, it is answered by the status `EPIPE`.
#[derive(Debug)]
pub struct Request<'a> {
    port: &'a Port,
    bytes: Vec<u8>,
    /// 0 when nobody waits for a reply.
    token: u64,
    source: u32,
    room: u32,
}

impl Lite {
    /// Receives the calls of a port, 64 to 65535; `EBUSY` when somebody at our node does.
    pub fn listen(&self, port: u16) -> io::Result<Port> {
        let mut wish = uapi::Port {
            port: port.into(),
            ..uapi::Port::default()
        };
        // SAFETY: The request reads the struct and names no other memory.
        unsafe { self.ioctl(uapi::PORT_OPEN, &mut wish)? };
        Ok(Port {
            lite: self.clone(),
            port,
        })
    }

    /// Calls a port of a node and waits for the reply; its length. An error may be the receiver's.
    pub fn call(
        &self,
        node: u32,
        port: u16,
        request: &[u8],
        reply: &mut [u8],
    ) -> io::Result<usize> {
        let mut call = uapi::Call {
            node,
            port: port.into(),
            request: request.as_ptr() as u64,
            request_len: request.len() as u64,
            reply: reply.as_mut_ptr() as u64,
            reply_len: reply.len() as u64,
            ..uapi::Call::default()
        };
        // SAFETY: The request reads all of `request`, and writes to `reply` what it has room for.
        unsafe { self.ioctl(uapi::CALL, &mut call)? };
        check(call.status)?;
        Ok(call.reply_len as usize)
    }

    /// One way: returns when the port has taken it in.
    pub fn notify(&self, node: u32, port: u16, request: &[u8]) -> io::Result<()> {
        let mut call = uapi::Call {
            node,
            port: port.into(),
            flags: uapi::CALL_NOTIFY,
            request: request.as_ptr() as u64,
            request_len: request.len() as u64,
            ..uapi::Call::default()
        };
        // SAFETY: The request reads all of `request`.
        unsafe { self.ioctl(uapi::CALL, &mut call) }
    }
}

impl Port {
    /// Waits for the next request, until a signal comes.
    pub fn receive(&self) -> io::Result<Request<'_>> {
        let mut bytes = vec![0; 4096];
        loop {
            let mut receive = uapi::Receive {
                port: self.port.into(),
                timeout_ms: u32::MAX,
                buf: bytes.as_mut_ptr() as u64,
                len: bytes.len() as u64,
                ..uapi::Receive::default()
            };
            // SAFETY: The request writes to `bytes` what these have room for.
            let received = unsafe { self.lite.ioctl(uapi::RECEIVE, &mut receive) };
            match received {
                Err(e) if e.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
                    // It stays the next one.
                    bytes.resize(receive.len as usize, 0);
                }
                Err(e) => return Err(e),
                Ok(()) => {
                    bytes.truncate(receive.len as usize);
                    return Ok(Request {
                        port: self,
                        bytes,
                        token: receive.token,
                        source: receive.src,
                        room: receive.reply_room,
                    });
                }
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut port = uapi::Port {
            port: self.port.into(),
            ..uapi::Port::default()
        };
        // SAFETY: The request reads the struct and names no other memory. It cannot fail for a port of ours.
        let _ = unsafe { self.lite.ioctl(uapi::PORT_CLOSE, &mut port) };
    }
}

impl Request<'_> {
    /// What was sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The node that sent it.
    pub fn source(&self) -> u32 {
        self.source
    }

    /// Bytes that the caller takes as a reply.
    pub fn reply_room(&self) -> usize {
        self.room as usize
    }

    /// Replies. Nothing to do where nobody waits for it.
    pub fn reply(mut self, bytes: &[u8]) -> io::Result<()> {
        self.end(0, bytes)
    }

    /// Replies by an errno, which the caller has as its error.
    pub fn fail(mut self, errno: u16) -> io::Result<()> {
        self.end(-i32::from(errno), &[])
    }

    fn end(&mut self, status: i32, bytes: &[u8]) -> io::Result<()> {
        let token = std::mem::take(&mut self.token);
        if token == 0 {
            return Ok(());
        }
        let mut reply = uapi::Reply {
            port: self.port.port.into(),
            status,
            token,
            buf: bytes.as_ptr() as u64,
            len: bytes.len() as u64,
            ..uapi::Reply::default()
        };
        // SAFETY: The request reads all of `bytes`.
        unsafe { self.port.lite.ioctl(uapi::REPLY, &mut reply) }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // Its caller may have given up.
        let _ = self.end(-nix::libc::EPIPE, &[]);
    }
}
