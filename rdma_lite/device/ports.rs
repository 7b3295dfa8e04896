// SPDX-License-Identifier: GPL-2.0

//! Ports whose calls processes receive, through one open file; they end with it.

use crate::{
    core::{Bounds, Token},
    node::Node,
    port::{
        inbox::{Arrivals, Inbox},
        job::Job, //
    },
    uapi::{self, rpc},
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    time::{msecs_to_jiffies, Jiffies},
    uaccess::{UserPtr, UserSlice},
};

/// Ports of one open file.
const MOST_PORTS: usize = 64;
/// Requests that a queue holds when the user does not say, and at most.
const REQUESTS: u32 = 256;
const MOST_REQUESTS: u32 = 65536;
/// Bytes of them.
const BYTES: u64 = 4 << 20;
const MOST_BYTES: u64 = 64 << 20;
/// A wait that only a signal ends is made of such pieces.
const FOREVER: u32 = u32::MAX;

/// The ports of an open file.
#[pin_data]
pub(super) struct UserPorts {
    #[pin]
    list: Mutex<KVec<(u16, Arc<Inbox>)>>,
    pub(super) arrivals: Arc<Arrivals>,
}

impl UserPorts {
    pub(super) fn new() -> Result<Arc<Self>> {
        let arrivals = Arrivals::new()?;
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new(), "lite_user_ports"),
                arrivals,
            }),
            GFP_KERNEL,
        )
    }

    fn inbox(&self, port: u32) -> Result<Arc<Inbox>> {
        let list = self.list.lock();
        let found = list.iter().find(|(number, _)| u32::from(*number) == port);
        found.map(|(_, inbox)| inbox.clone()).ok_or(ENOENT)
    }

    /// Whether a request waits in any of them.
    pub(super) fn is_ready(&self) -> bool {
        self.list.lock().iter().any(|(_, inbox)| inbox.is_ready())
    }

    /// `RDMA_LITE_IOC_PORT_OPEN`
    pub(super) fn open(&self, node: &Node, arg: usize) -> Result {
        let port: rpc::Port = uapi::read(arg)?;
        let number = number(port.port)?;
        if port.flags != 0 || port.reserved0 != 0 || port.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if port.requests > MOST_REQUESTS || port.bytes > MOST_BYTES {
            return Err(EINVAL);
        }
        let or = |given: u64, default: u64| if given == 0 { default } else { given };
        let bounds = Bounds {
            requests: or(port.requests.into(), REQUESTS.into()) as usize,
            bytes: or(port.bytes, BYTES) as usize,
        };
        let config = node.settings().config;
        let inbox = Inbox::new(bounds, config.share, &self.arrivals, config.poll)?;
        let mut list = self.list.lock();
        if list.len() == MOST_PORTS {
            return Err(ENOSPC);
        }
        list.reserve(1, GFP_KERNEL)?;
        node.ports.register_inbox(number, inbox.clone())?;
        Ok(list.push((number, inbox), GFP_KERNEL)?)
    }

    /// `RDMA_LITE_IOC_PORT_CLOSE`
    pub(super) fn close(&self, node: &Node, arg: usize) -> Result {
        let port: rpc::Port = uapi::read(arg)?;
        let rest = (port.flags, port.requests, port.reserved0, port.bytes);
        if rest != (0, 0, 0, 0) || port.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let (number, inbox) = {
            let mut list = self.list.lock();
            let at = list
                .iter()
                .position(|(number, _)| u32::from(*number) == port.port);
            list.remove(at.ok_or(ENOENT)?).map_err(|_| ENOENT)?
        };
        end(node, number, &inbox);
        Ok(())
    }

    /// The file is closed.
    pub(super) fn close_all(&self, node: &Node) {
        let list = ::core::mem::take(&mut *self.list.lock());
        for (number, inbox) in &list {
            end(node, *number, inbox);
        }
    }

    /// `RDMA_LITE_IOC_RECEIVE`
    pub(super) fn receive(&self, arg: usize, nonblocking: bool) -> Result {
        let mut receive: rpc::Receive = uapi::read(arg)?;
        if receive.flags & !rpc::RECEIVE_REPLY != 0 || receive.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let inbox = self.inbox(receive.port)?;
        if receive.flags & rpc::RECEIVE_REPLY != 0 {
            let bytes = (receive.reply, receive.reply_len);
            reply(&inbox, receive.token, receive.status, bytes)?;
            // What is tried again must not reply again.
            receive.flags = 0;
            uapi::write(arg, &receive)?;
        }
        let wait = if nonblocking { 0 } else { receive.timeout_ms };
        let room = usize::try_from(receive.len).unwrap_or(usize::MAX);
        let got = loop {
            let got = inbox.receive(room, jiffies(wait));
            match got {
                Err(e) if e == EAGAIN && wait == FOREVER => {}
                got => break got,
            }
        };
        let (token, job) = match got {
            Ok(got) => got,
            Err(e) if e == EMSGSIZE => {
                if let Some(len) = inbox.next_len() {
                    receive.len = len as u64;
                    uapi::write(arg, &receive)?;
                }
                return Err(e);
            }
            Err(e) if e == EAGAIN && wait != 0 => return Err(ETIMEDOUT),
            Err(e) => return Err(e),
        };
        let handed = hand_out(&mut receive, token, &job).and_then(|()| uapi::write(arg, &receive));
        match handed {
            Err(e) => {
                inbox.put_back(token);
                Err(e)
            }
            Ok(()) => {
                if job.notify {
                    inbox.replied(token);
                }
                Ok(())
            }
        }
    }

    /// `RDMA_LITE_IOC_REPLY`
    pub(super) fn reply(&self, arg: usize) -> Result {
        let given: rpc::Reply = uapi::read(arg)?;
        if given.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let inbox = self.inbox(given.port)?;
        reply(&inbox, given.token, given.status, (given.buf, given.len))
    }
}

/// Ports of users lie above those of modules.
fn number(port: u32) -> Result<u16> {
    let number = u16::try_from(port).map_err(|_| EINVAL)?;
    if port < rpc::PORT_FIRST {
        return Err(EINVAL);
    }
    Ok(number)
}

fn end(node: &Node, number: u16, inbox: &Inbox) {
    // After this none comes.
    node.ports.unregister(number);
    inbox.close();
}

fn jiffies(ms: u32) -> Jiffies {
    match ms {
        0 => 0,
        FOREVER => msecs_to_jiffies(3_600_000),
        ms => msecs_to_jiffies(ms).max(1),
    }
}

/// Copies a request to the user.
fn hand_out(receive: &mut rpc::Receive, token: Token, job: &Job) -> Result {
    let to = UserPtr::from_addr(receive.buf as usize);
    let mut writer = UserSlice::new(to, job.data.len()).writer();
    writer.write_slice(&job.data)?;
    receive.token = if job.notify { 0 } else { token.0 };
    receive.len = job.data.len() as u64;
    receive.src = job.src;
    receive.reply_room = if job.notify { 0 } else { job.cap as u32 };
    receive.src_incarnation = job.src_incarnation;
    receive.epoch = job.epoch;
    Ok(())
}

/// Replies to what was received under `token`: by `status` if that is negative, else by the bytes
/// at a user address. [`ENOENT`] when there is nothing (any more) to reply to: as the caller has given
/// up, or has a reply.
fn reply(inbox: &Inbox, token: u64, status: i32, (from, len): (u64, u64)) -> Result {
    if !(-4095..=0).contains(&status) || status < 0 && len != 0 {
        return Err(EINVAL);
    }
    let token = Token(token);
    let job = inbox.get(token).ok_or(ENOENT)?;
    let len = usize::try_from(len).map_err(|_| EMSGSIZE)?;
    if len > job.cap {
        return Err(EMSGSIZE);
    }
    if status < 0 {
        return match inbox.replied(token) {
            true => {
                job.ended(Err(Error::from_errno(status)));
                Ok(())
            }
            false => Err(ENOENT),
        };
    }
    let mut bytes = KVVec::with_capacity(len, GFP_KERNEL)?;
    UserSlice::new(UserPtr::from_addr(from as usize), len).read_all(&mut bytes, GFP_KERNEL)?;
    let room = job.room_with(&bytes)?;
    // Of two who reply at once, one does.
    match inbox.replied(token) {
        true => {
            job.executed(Ok(len), room);
            Ok(())
        }
        false => Err(ENOENT),
    }
}
