// SPDX-License-Identifier: GPL-2.0

//! Memory nodes in one thread: boards behind `RefCell`s, calls that are function
//! calls.

#![allow(dead_code, reason = "each test uses another part of it")]

use kernel::{alloc::flags::GFP_KERNEL, alloc::KVec, error::code::*, error::Result};
use legomem_core::core::{
    board::{Board, Config},
    control::{self, Create, Descriptor, Name, RasInfo, Request, Secret, VA_BASE},
    fast::Outcome,
    handler,
    home::Life,
    host::{drive, Host, Level},
    members::{Member, Members},
    migrate, offload,
    pool::Pool,
    slow::{Fast, Slow, Stage},
    wire::{rights, Header, Op, Path, Status},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

pub const PAGE: u64 = 64 << 10;
pub const REGION: u64 = 16 << 20;
pub const SECRET: Secret = Secret([11, 12]);
/// The node that asks.
pub const CLIENT: u32 = 100;
pub const CLIENT_LIFE: u64 = 1000;

thread_local! {
    /// Of the client's next request, whichever node it goes to.
    static IDS: Cell<u64> = const { Cell::new(1) };
}

/// Pages in vectors.
pub struct VecPool(RefCell<Vec<Vec<u8>>>);

impl VecPool {
    pub fn new(pages: u32) -> Self {
        // What pages held before must never show.
        Self(RefCell::new(vec![
            vec![0xdb; PAGE as usize];
            pages as usize
        ]))
    }
}

impl Pool for VecPool {
    fn read(&self, frame: u32, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.borrow()[frame as usize][offset..offset + to.len()]);
    }
    fn write(&self, frame: u32, offset: usize, from: &[u8]) {
        self.0.borrow_mut()[frame as usize][offset..offset + from.len()].copy_from_slice(from);
    }
    fn zero(&self, frame: u32, offset: usize, len: usize) {
        self.0.borrow_mut()[frame as usize][offset..offset + len].fill(0);
    }
}

pub struct Inner {
    pub life: Life,
    pub board: RefCell<Board>,
    slow: RefCell<Slow>,
    pool: VecPool,
    cluster: RefCell<Vec<Node>>,
    alive: RefCell<Vec<Life>>,
    random: Cell<u64>,
    moves: RefCell<Vec<(u64, u32, u16)>>,
    /// Calls to this node are lost.
    pub deaf: Cell<bool>,
}

/// A memory node.
#[derive(Clone)]
pub struct Node(pub Rc<Inner>);

/// How a memory node is made.
#[derive(Clone, Copy)]
pub struct Shape {
    pub pages: u32,
    pub overcommit: u32,
    pub dedup: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            pages: 256,
            overcommit: 100,
            dedup: 1024,
        }
    }
}

impl Fast for Node {
    fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
        f(&mut self.0.board.borrow_mut())
    }
}

impl Host for Node {
    type Pool = VecPool;

    fn pool(&self) -> &VecPool {
        &self.0.pool
    }
    fn slow<R>(&self, f: impl FnOnce(&mut Slow) -> R) -> R {
        f(&mut self.0.slow.borrow_mut())
    }
    fn me(&self) -> Life {
        self.0.life
    }
    fn port(&self) -> u16 {
        5225
    }
    fn load(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        let random = self
            .0
            .random
            .get()
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1);
        self.0.random.set(random);
        random
    }
    fn memory_nodes(&self) -> Result<KVec<u16>> {
        let mut nodes = KVec::new();
        for node in self.0.cluster.borrow().iter() {
            nodes.push(node.0.life.node, GFP_KERNEL)?;
        }
        Ok(nodes)
    }
    fn is_alive(&self, life: Life) -> bool {
        self.0.alive.borrow().contains(&life)
    }
    async fn call(&self, node: u16, request: &[u8]) -> Result<KVec<u8>> {
        let found = self
            .0
            .cluster
            .borrow()
            .iter()
            .find(|other| other.0.life.node == node)
            .cloned();
        let callee = found.ok_or(EHOSTDOWN)?;
        if callee.0.deaf.get() {
            return Err(ETIMEDOUT);
        }
        callee.handle(self.0.life, request)
    }
    async fn call_all(&self, nodes: &[u16], request: &[u8]) -> Result<KVec<Option<KVec<u8>>>> {
        let mut answers = KVec::new();
        for node in nodes {
            answers.push(self.call(*node, request).await.ok(), GFP_KERNEL)?;
        }
        Ok(answers)
    }
    async fn pause(&self, _: u32) {
        // Meanwhile pages are cleaned.
        for node in self.0.cluster.borrow().iter() {
            node.clean();
        }
    }
    fn start_migration(&self, ras: u64, index: u32, to: u16) -> Result {
        self.0.moves.borrow_mut().push((ras, index, to));
        Ok(())
    }
    fn log(&self, _: Level, line: std::fmt::Arguments<'_>) {
        println!("node {}: {line}", self.0.life.node);
    }
}

impl Node {
    /// A node that knows itself and the client.
    pub fn new(node: u16, shape: Shape) -> Self {
        let config = Config {
            pages: shape.pages,
            page_shift: 16,
            clean: false,
            overcommit: shape.overcommit,
            dedup: shape.dedup,
            spaces: 16,
            key: [u64::from(node), 77],
        };
        let this = Self(Rc::new(Inner {
            life: Life {
                node,
                incarnation: u64::from(node) * 10,
            },
            board: RefCell::new(Board::new(&config).unwrap()),
            slow: RefCell::new(Slow::new(&config).unwrap()),
            pool: VecPool::new(shape.pages),
            cluster: RefCell::default(),
            alive: RefCell::default(),
            random: Cell::new(u64::from(node)),
            moves: RefCell::default(),
            deaf: Cell::new(false),
        }));
        this.clean();
        this.publish(1, &[(CLIENT, CLIENT_LIFE)]);
        this
    }

    /// The map says that these are up.
    pub fn publish(&self, epoch: u32, up: &[(u32, u64)]) {
        *self.0.alive.borrow_mut() = up
            .iter()
            .map(|(node, incarnation)| Life {
                node: *node as u16,
                incarnation: *incarnation,
            })
            .collect();
        let mut members = KVec::new();
        for (node, incarnation) in up {
            members
                .push(Member::new(*node, *incarnation), GFP_KERNEL)
                .unwrap();
        }
        handler::new_map(self, Members::new(epoch, members));
    }

    /// Cleans all free pages.
    pub fn clean(&self) {
        while let Some(frame) = self.fast(|board| board.free_pages().start_cleaning()) {
            self.pool().zero(frame, 0, PAGE as usize);
            self.fast(|board| board.free_pages().cleaned(frame));
        }
    }

    pub fn handle(&self, from: Life, request: &[u8]) -> Result<KVec<u8>> {
        drive(Box::pin(handler::handle(self, from, request)).as_mut())?
    }

    /// A call of the client.
    pub fn control<R: Request>(&self, request: &R) -> Result<R::Reply> {
        let from = Life {
            node: CLIENT as u16,
            incarnation: CLIENT_LIFE,
        };
        control::decode_reply(&self.handle(from, &control::encode(request)?)?)
    }

    /// A region of an address space, with all of it to be allocated.
    pub fn with_region(self, ras: u64, index: u32) -> Self {
        let granted =
            self.slow(|slow| slow.grant(&self, &descriptor(ras), index, REGION, Stage::Live));
        granted.unwrap();
        self
    }

    /// A request of the client, with an id of its own.
    pub fn request(&self, op: Op, ras: u64, addr: u64, len: u32) -> Header {
        let id = IDS.with(|ids| ids.replace(ids.get() + 1));
        request(op, ras, id, addr, len)
    }

    /// Executes a request as the edge does, workers included.
    pub fn execute(&self, request: &Header, payload: &[u8]) -> (Status, u64, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut part = 0;
        loop {
            let mut reply = vec![0xee; 60 << 10];
            let outcome =
                self.fast(|board| board.execute(&self.0.pool, request, payload, part, &mut reply));
            match outcome {
                Outcome::Answer(answer) => {
                    bytes.extend_from_slice(&reply[..answer.len]);
                    match answer.next {
                        Some(next) => part = next,
                        None => return (answer.header.status, answer.header.operand, bytes),
                    }
                }
                Outcome::Worker(path) => return self.work(path, request, payload),
            }
        }
    }

    /// What a worker does with a request that was handed over to it.
    pub fn work(&self, path: Path, request: &Header, payload: &[u8]) -> (Status, u64, Vec<u8>) {
        let mut output = vec![0; request.offload().output as usize];
        let (status, operand, len) = match path {
            Path::Extend => {
                let memory = offload::Inside {
                    fast: self,
                    pool: &self.0.pool,
                    ras: request.ras,
                };
                match offload::call(&memory, request, payload, &mut output) {
                    Ok(done) => (Status::Ok, done.result, done.len),
                    Err(status) => (status, 0, 0),
                }
            }
            _ => {
                let (status, operand) = self.slow(|slow| slow.execute(self, &self.0.pool, request));
                (status, operand, 0)
            }
        };
        let answer = self.fast(|board| board.finish(request, status, operand));
        self.clean();
        (answer.status, answer.operand, output[..len].to_vec())
    }

    /// Allocates in region 0, with these rights.
    pub fn try_alloc(&self, ras: u64, bytes: u64, rights: u32) -> Result<u64, Status> {
        self.alloc_at(ras, VA_BASE, bytes, rights)
    }

    pub fn alloc_at(&self, ras: u64, addr: u64, bytes: u64, rights: u32) -> Result<u64, Status> {
        let request = Header {
            argument: rights,
            operand: bytes,
            ..self.request(Op::Alloc, ras, addr, 0)
        };
        match self.execute(&request, &[]) {
            (Status::Ok, addr, _) => Ok(addr),
            (status, ..) => Err(status),
        }
    }

    pub fn alloc(&self, ras: u64, bytes: u64) -> u64 {
        self.try_alloc(ras, bytes, rights::ALL).unwrap()
    }

    pub fn free(&self, ras: u64, addr: u64, bytes: u64) -> Status {
        let request = Header {
            operand: bytes,
            ..self.request(Op::Free, ras, addr, 0)
        };
        self.execute(&request, &[]).0
    }

    pub fn write(&self, ras: u64, addr: u64, bytes: &[u8]) -> Status {
        let request = self.request(Op::Write, ras, addr, bytes.len() as u32);
        self.execute(&request, bytes).0
    }

    pub fn read(&self, ras: u64, addr: u64, len: u32) -> Result<Vec<u8>, Status> {
        match self.execute(&self.request(Op::Read, ras, addr, len), &[]) {
            (Status::Ok, _, bytes) => Ok(bytes),
            (status, ..) => Err(status),
        }
    }

    pub fn word(&self, op: Op, ras: u64, addr: u64, operand: u64) -> (Status, u64) {
        let request = Header {
            operand,
            ..self.request(op, ras, addr, 8)
        };
        let (status, result, _) = self.execute(&request, &[]);
        (status, result)
    }

    pub fn offload(
        &self,
        addr: u64,
        id: u16,
        function: u16,
        input: &[u8],
        output: u32,
    ) -> (Status, u64, Vec<u8>) {
        let operand =
            legomem_core::core::wire::offload_operand(legomem_core::core::wire::Offload {
                id,
                function,
                output,
            });
        let request = Header {
            operand,
            argument: 1400,
            ..self.request(Op::Offload, 1, addr, input.len() as u32)
        };
        self.execute(&request, input)
    }

    /// Does the migrations that were asked for; how each went.
    pub fn run_moves(&self) -> Vec<Result> {
        let moves = std::mem::take(&mut *self.0.moves.borrow_mut());
        let run = |(ras, index, to)| {
            drive(Box::pin(migrate::migrate(self, ras, index, to)).as_mut()).unwrap()
        };
        moves.into_iter().map(run).collect()
    }
}

/// The key and the sizes of an address space of these tests.
pub fn descriptor(ras: u64) -> Descriptor {
    Descriptor {
        ras,
        key: SECRET,
        region_shift: 24,
        home: CLIENT_LIFE,
    }
}

/// An address space whose home is the client: so boards can be tested without one.
pub fn ras(number: u64) -> u64 {
    (u64::from(CLIENT) << 48) | number
}

/// A request of the client.
pub fn request(op: Op, ras: u64, id: u64, addr: u64, len: u32) -> Header {
    Header {
        epoch: 1,
        node: CLIENT,
        incarnation: CLIENT_LIFE,
        argument: match op {
            Op::Read => 1400,
            _ => 0,
        },
        ..Header::request(op, ras, id, addr, len)
    }
}

/// Memory nodes that know each other.
pub fn cluster(shapes: &[Shape]) -> Vec<Node> {
    let nodes: Vec<Node> = shapes
        .iter()
        .enumerate()
        .map(|(at, shape)| Node::new(at as u16 + 1, *shape))
        .collect();
    for node in &nodes {
        *node.0.cluster.borrow_mut() = nodes.clone();
    }
    publish_all(&nodes, 1);
    nodes
}

/// All of these, and the client, are up.
pub fn publish_all(nodes: &[Node], epoch: u32) {
    let mut up: Vec<(u32, u64)> = nodes
        .iter()
        .map(|node| (node.0.life.node.into(), node.0.life.incarnation))
        .collect();
    up.push((CLIENT, CLIENT_LIFE));
    for node in nodes {
        node.publish(epoch, &up);
    }
}

/// An address space at a home.
pub fn create(home: &Node, name: &str, quota: u64) -> RasInfo {
    home.control(&Create {
        name: Name::new(name.as_bytes()).unwrap(),
        key: SECRET,
        region_shift: 24,
        pin: 0,
        owner: 0,
        quota,
    })
    .unwrap()
}
