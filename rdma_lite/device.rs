// SPDX-License-Identifier: GPL-2.0

//! /dev/rdma_lite: maps in, events out, pings; [`ports`] and [`calls`]; regions, locks and barriers
//! ([`held`]), and operations on regions that nobody waits for ([`operations`]). An open acts for the node
//! of the opener's namespace.

mod calls;
mod handles;
mod held;
pub(crate) mod operations;
mod ports;

use self::{handles::Handles, operations::Operations, ports::UserPorts};
use crate::{
    call::{self, Buf, Call, Signals},
    core::{account::Charge, MapNode, NodeAddress, NodeState},
    events::{now, Reader},
    node::Node,
    port,
    uapi::{self, Info, Map, Ping},
    users::Opener,
    THIS_MODULE,
};
use kernel::{
    bindings,
    fs::{file, File, Kiocb},
    iov::IovIterDest,
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    mm::virt::VmaNew,
    prelude::*,
    sync::{
        poll::PollTable,
        Arc,
        ArcBorrow, //
    },
    transmute::AsBytes,
    uaccess::{UserPtr, UserSlice},
    ThisModule,
};

/// Nodes that a map may have: more than ids there are.
const MAX_NODES: u32 = 65535;

/// An open file of the device.
#[pin_data]
pub(crate) struct Opened {
    node: Arc<Node>,
    user: Opener,
    reader: Arc<Reader>,
    ports: Arc<UserPorts>,
    operations: Arc<Operations>,
    #[pin]
    handles: Handles,
}

#[vtable]
impl MiscDevice for Opened {
    type Ptr = Arc<Self>;

    const OWNER: Option<&'static ThisModule> = Some(&THIS_MODULE);

    fn open(_file: &File, _device: &MiscDeviceRegistration<Self>) -> Result<Arc<Self>> {
        let node = Node::here()?;
        let user = Opener::new(&node)?;
        let reader = Reader::new()?;
        let ports = UserPorts::new()?;
        let operations = Operations::new()?;
        let this = Arc::pin_init(
            pin_init!(Self {
                node,
                user,
                reader,
                ports,
                operations,
                handles <- Handles::new(),
            }),
            GFP_KERNEL,
        )?;
        this.node.readers.add(&this.reader)?;
        Ok(this)
    }

    fn release(this: Arc<Self>, _file: &File) {
        this.node.readers.remove(&this.reader);
        this.ports.close_all(&this.node);
        this.operations.close(this.node.queues());
        this.handles.drop_all();
    }

    fn read_iter(kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        let this = kiocb.file();
        let size = size_of::<uapi::Event>();
        if iov.len() < size {
            return Err(EINVAL);
        }
        let mut done = 0;
        while iov.len() >= size {
            let event = match this.reader.pop() {
                Some(event) => event,
                None if done != 0 => break,
                None if is_nonblocking(&kiocb) => return Err(EAGAIN),
                None => this.reader.wait()?,
            };
            if iov.copy_to_iter(event.as_bytes()) != size {
                return Err(EFAULT);
            }
            done += size;
        }
        Ok(done)
    }

    fn mmap(this: ArcBorrow<'_, Self>, _file: &File, vma: &VmaNew) -> Result {
        this.map_region(vma)
    }

    fn poll(this: ArcBorrow<'_, Self>, file: &File, table: PollTable<'_>) -> u32 {
        table.register_wait(file, &this.reader.changed);
        table.register_wait(file, &this.ports.arrivals.changed);
        table.register_wait(file, &this.operations.changed);
        let mut ready = 0;
        if this.reader.is_ready() {
            ready |= bindings::POLLIN | bindings::POLLRDNORM;
        }
        if this.ports.is_ready() {
            ready |= bindings::POLLPRI;
        }
        if this.operations.is_ready() {
            ready |= bindings::POLLRDBAND;
        }
        ready
    }

    fn ioctl(this: ArcBorrow<'_, Self>, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::IOC_INFO => this.info(arg)?,
            uapi::IOC_SET_MAP => this.set_map(arg)?,
            uapi::IOC_GET_MAP => this.get_map(arg)?,
            uapi::IOC_PING => this.ping(arg)?,
            uapi::rpc::IOC_PORT_OPEN => this.ports.open(&this.node, arg)?,
            uapi::rpc::IOC_PORT_CLOSE => this.ports.close(&this.node, arg)?,
            uapi::rpc::IOC_RECEIVE => {
                let nonblocking = file.flags() & file::flags::O_NONBLOCK != 0;
                this.ports.receive(arg, nonblocking)?;
            }
            uapi::rpc::IOC_REPLY => this.ports.reply(arg)?,
            uapi::rpc::IOC_CALL => calls::one(&this.node.host()?, &this.user, arg)?,
            uapi::rpc::IOC_MULTICAST => calls::all(&this.node.host()?, &this.user, arg)?,
            uapi::async_ops::IOC_SUBMIT => this.submit(arg)?,
            uapi::async_ops::IOC_POLL => this.poll_operations(arg)?,
            _ => this.held_ioctl(cmd, arg)?,
        }
        Ok(0)
    }
}

impl Opened {
    fn info(&self, arg: usize) -> Result {
        let node = &self.node;
        let mut info = Info {
            abi_version: uapi::ABI_VERSION,
            id: 0,
            epoch: node.host().map_or(0, |host| host.epoch()),
            incarnation: node.incarnation(),
            name: [0; 64],
            cluster: [0; 16],
            reserved: [0; 4],
        };
        let name = node.name().to_bytes();
        info.name[..name.len()].copy_from_slice(name);
        let settings = node.settings();
        info.id = settings.id.into();
        info.cluster = settings.cluster;
        uapi::write(arg, &info)
    }

    fn set_map(&self, arg: usize) -> Result {
        let map: Map = uapi::read(arg)?;
        if map.flags != 0 || map.reserved != [0; 2] || map.nr_nodes > MAX_NODES {
            return Err(EINVAL);
        }
        let host = self.node.host()?;
        let mut nodes = KVVec::with_capacity(map.nr_nodes as usize, GFP_KERNEL)?;
        let len = map.nr_nodes as usize * size_of::<uapi::MapNode>();
        let mut reader = UserSlice::new(UserPtr::from_addr(map.nodes as usize), len).reader();
        for _ in 0..map.nr_nodes {
            nodes.push(from_user(&reader.read()?)?, GFP_KERNEL)?;
        }
        host.publish(map.epoch, &nodes)
    }

    fn get_map(&self, arg: usize) -> Result {
        let mut map: Map = uapi::read(arg)?;
        if map.flags != 0 || map.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let host = self.node.host()?;
        let mut nodes = KVVec::new();
        {
            let members = host.map.lock();
            map.epoch = members.epoch();
            for node in members.nodes() {
                nodes.push(to_user(&node), GFP_KERNEL)?;
            }
        }
        let room = map.nr_nodes as usize;
        map.nr_nodes = nodes.len() as u32;
        if room < nodes.len() {
            uapi::write(arg, &map)?;
            return Err(ENOSPC);
        }
        let len = nodes.len() * size_of::<uapi::MapNode>();
        let mut writer = UserSlice::new(UserPtr::from_addr(map.nodes as usize), len).writer();
        for node in &nodes {
            writer.write(node)?;
        }
        uapi::write(arg, &map)
    }

    fn ping(&self, arg: usize) -> Result {
        let mut ping: Ping = uapi::read(arg)?;
        if ping.flags != 0 || ping.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let host = self.node.host()?;
        if ping.len > host.config.max_payload() {
            return Err(EMSGSIZE);
        }
        let len = ping.len as usize;
        let both = 2 * u64::from(ping.len);
        let mut taken = self.user.take(Charge::call(both))?;
        // Both in the linear map, for as the reply may come by RDMA.
        let mut sent = KVec::from_elem(0u8, len, GFP_KERNEL)?;
        let mut got = KVec::from_elem(0u8, len, GFP_KERNEL)?;
        for (at, byte) in sent.iter_mut().enumerate() {
            *byte = at as u8;
        }
        let buf = Buf {
            ptr: sent.as_ptr(),
            len,
        };
        let mut call = Call {
            dst: ping.node,
            port: port::ECHO,
            flags: 0,
            timeout_ms: ping.timeout_ms,
            nr_req: 1,
            req: &buf,
            reply: got.as_mut_ptr(),
            reply_cap: len,
            reply_len: 0,
            status: 0,
            err: 0,
        };
        let start = now();
        // SAFETY: Both buffers are ours and outlive the call.
        unsafe { call::one(&host, &mut call, Signals::All)? };
        ping.rtt_ns = now() - start;
        taken.moved(both);
        if call.status < 0 {
            return Err(Error::from_errno(call.status));
        }
        if call.reply_len != len || sent[..] != got[..] {
            pr_err!(
                "{}: node {} answers a ping wrongly\n",
                self.node.name(),
                ping.node
            );
            return Err(EBADMSG);
        }
        uapi::write(arg, &ping)
    }
}

fn is_nonblocking(kiocb: &Kiocb<'_, Arc<Opened>>) -> bool {
    // SAFETY: The file of a kiocb is valid during its operation.
    let file = unsafe { File::from_raw_file((*kiocb.as_raw()).ki_filp) };
    file.flags() & file::flags::O_NONBLOCK != 0
}

fn from_user(node: &uapi::MapNode) -> Result<MapNode> {
    let ipv6 = match node.family {
        uapi::AF_INET => false,
        uapi::AF_INET6 => true,
        _ => return Err(EINVAL),
    };
    let id = u16::try_from(node.id).map_err(|_| EINVAL)?;
    if node.reserved != [0; 2] || node.port == 0 {
        return Err(EINVAL);
    }
    Ok(MapNode {
        id,
        state: NodeState::try_from(node.state)?,
        roles: node.roles,
        incarnation: node.incarnation,
        address: NodeAddress {
            ipv6,
            addr: node.addr,
            port: node.port,
        },
        name: node.name,
    })
}

fn to_user(node: &MapNode) -> uapi::MapNode {
    uapi::MapNode {
        id: node.id.into(),
        state: node.state as u32,
        roles: node.roles,
        port: node.address.port,
        family: if node.address.ipv6 {
            uapi::AF_INET6
        } else {
            uapi::AF_INET
        },
        incarnation: node.incarnation,
        addr: node.address.addr,
        name: node.name,
        reserved: [0; 2],
    }
}
