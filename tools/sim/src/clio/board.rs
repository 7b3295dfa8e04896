// SPDX-License-Identifier: GPL-2.0

//! Memory nodes made of legomem's own core: boards, a home, migrations. Packets to
//! and from them go through the world's network; calls of the control plane are
//! function calls that take as long as the world lets them.

use kernel::{alloc::flags::GFP_KERNEL, alloc::KVec, error::code::*, error::Result};
use legomem_core::core::{
    board::{Board, Config},
    control::{self, Create, Grow, Name, Region, Request, Secret, Table, VA_BASE},
    fast::Outcome,
    handler,
    home::Life,
    host::{Host, Level},
    members::{Member, Members},
    migrate,
    pool::Pool,
    slow::{Fast, Slow},
    wire::{rights, Header, Op, Status},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

const PAGES: u32 = 2048;
const PAGE: usize = 64 << 10;

/// Pages that exist once they are written.
#[derive(Default)]
struct Sparse(RefCell<HashMap<u32, Vec<u8>>>);

impl Pool for Sparse {
    fn read(&self, frame: u32, offset: usize, to: &mut [u8]) {
        match self.0.borrow().get(&frame) {
            Some(page) => to.copy_from_slice(&page[offset..offset + to.len()]),
            None => to.fill(0),
        }
    }
    fn write(&self, frame: u32, offset: usize, from: &[u8]) {
        let mut pages = self.0.borrow_mut();
        let page = pages.entry(frame).or_insert_with(|| vec![0; PAGE]);
        page[offset..offset + from.len()].copy_from_slice(from);
    }
    fn zero(&self, frame: u32, offset: usize, len: usize) {
        if len == PAGE {
            self.0.borrow_mut().remove(&frame);
        } else if let Some(page) = self.0.borrow_mut().get_mut(&frame) {
            page[offset..offset + len].fill(0);
        }
    }
}

struct Inner {
    life: Life,
    board: RefCell<Board>,
    slow: RefCell<Slow>,
    pool: Sparse,
    others: Rc<RefCell<BTreeMap<u16, Node>>>,
    home: u16,
    /// Nodes of its map, in their lives.
    alive: RefCell<Vec<Life>>,
    random: Cell<u64>,
    gone: Cell<bool>,
}

/// A memory node in one life.
#[derive(Clone)]
struct Node(Rc<Inner>);

/// Ready the second time: the world goes on meanwhile.
struct Later(bool);

impl Future for Later {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.0, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Fast for Node {
    fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
        f(&mut self.0.board.borrow_mut())
    }
}

impl Host for Node {
    type Pool = Sparse;

    fn pool(&self) -> &Sparse {
        &self.0.pool
    }
    fn slow<R>(&self, f: impl FnOnce(&mut Slow) -> R) -> R {
        f(&mut self.0.slow.borrow_mut())
    }
    fn me(&self) -> Life {
        self.0.life
    }
    fn port(&self) -> u16 {
        1
    }
    fn load(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        let next = self.0.random.get().wrapping_mul(6364136223846793005) | 1;
        self.0.random.set(next.rotate_left(17));
        next
    }
    fn memory_nodes(&self) -> Result<KVec<u16>> {
        let mut nodes = KVec::new();
        for node in self
            .0
            .others
            .borrow()
            .keys()
            .filter(|node| **node != self.0.home)
        {
            nodes.push(*node, GFP_KERNEL)?;
        }
        Ok(nodes)
    }
    fn is_alive(&self, life: Life) -> bool {
        self.0.alive.borrow().contains(&life)
    }
    async fn call(&self, node: u16, request: &[u8]) -> Result<KVec<u8>> {
        Later(false).await;
        let callee = self.0.others.borrow().get(&node).cloned();
        let callee = callee.ok_or(ETIMEDOUT)?;
        if self.0.gone.get() {
            return Err(ETIMEDOUT);
        }
        // A node that crashes meanwhile does not answer.
        let answer = Box::pin(handler::handle(&callee, self.0.life, request)).await;
        if callee.0.gone.get() {
            return Err(ETIMEDOUT);
        }
        answer
    }
    async fn call_all(&self, nodes: &[u16], request: &[u8]) -> Result<KVec<Option<KVec<u8>>>> {
        let mut answers = KVec::new();
        for node in nodes {
            answers.push(self.call(*node, request).await.ok(), GFP_KERNEL)?;
        }
        Ok(answers)
    }
    async fn pause(&self, _: u32) {
        self.clean();
        Later(false).await;
    }
    fn start_migration(&self, _: u64, _: u32, _: u16) -> Result {
        Err(EBUSY)
    }
    fn log(&self, _: Level, line: std::fmt::Arguments<'_>) {
        if crate::schedule::tracing() {
            println!("memory node {}: {line}", self.0.life.node);
        }
    }
}

impl Node {
    fn clean(&self) {
        while let Some(frame) = self.fast(|board| board.free_pages().start_cleaning()) {
            self.pool().zero(frame, 0, PAGE);
            self.fast(|board| board.free_pages().cleaned(frame));
        }
    }

    /// The answers to a request.
    fn execute(&self, request: &Header, payload: &[u8], mut tell: impl FnMut(&Header, &[u8])) {
        let mut reply = vec![0; 60 << 10];
        let mut part = 0;
        loop {
            let pool = &self.0.pool;
            match self.fast(|board| board.execute(pool, request, payload, part, &mut reply)) {
                Outcome::Answer(answer) => {
                    tell(&answer.header, &reply[..answer.len]);
                    match answer.next {
                        Some(next) => part = next,
                        None => break,
                    }
                }
                Outcome::Worker(_) => {
                    let (status, value) = self.slow(|slow| slow.execute(self, pool, request));
                    tell(
                        &self.fast(|board| board.finish(request, status, value)),
                        &[],
                    );
                    break;
                }
            }
        }
        self.clean();
    }
}

/// Polls a future to its end.
fn finish<T>(mut future: Pin<Box<dyn Future<Output = T> + '_>>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
    }
}

/// All memory nodes, of which one is the home of the one address space, and
/// nothing else.
pub(super) struct Cluster {
    nodes: Rc<RefCell<BTreeMap<u16, Node>>>,
    home: u16,
    pub(super) ras: u64,
    moves: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    ids: u64,
}

impl Cluster {
    /// With the home, in its life, and an address space of this key.
    pub(super) fn new(home: u16, life: u64, key: [u64; 2], shift: u8) -> Self {
        let mut this = Self {
            nodes: Rc::default(),
            home,
            ras: 0,
            moves: Vec::new(),
            ids: 0,
        };
        this.start(home, life);
        this.know(home, 1, &[(home, life)]);
        let create = Create {
            name: Name::new(b"sim").expect("a name"),
            key: Secret(key),
            region_shift: shift,
            pin: 0,
            owner: 0,
            quota: u64::MAX,
        };
        this.ras = this.control(&create).expect("nothing is there yet").id;
        this
    }

    fn control<R: Request>(&self, request: &R) -> Result<R::Reply> {
        let home = self.nodes.borrow()[&self.home].clone();
        let from = home.0.life;
        let bytes = control::encode(request)?;
        control::decode_reply(&finish(Box::pin(handler::handle(&home, from, &bytes)))?)
    }

    pub(super) fn start(&mut self, node: u16, life: u64) {
        let config = Config {
            pages: PAGES,
            page_shift: 16,
            clean: true,
            overcommit: 100,
            dedup: 1 << 14,
            spaces: 4,
            key: [life, 7],
        };
        let node = Node(Rc::new(Inner {
            life: Life {
                node,
                incarnation: life,
            },
            board: RefCell::new(Board::new(&config).expect("a sound configuration")),
            slow: RefCell::new(Slow::new(&config).expect("a sound configuration")),
            pool: Sparse::default(),
            others: self.nodes.clone(),
            home: self.home,
            alive: RefCell::default(),
            random: Cell::new(life | 1),
            gone: Cell::new(false),
        }));
        self.nodes.borrow_mut().insert(node.0.life.node, node);
    }

    pub(super) fn crash(&mut self, node: u16) {
        if let Some(node) = self.nodes.borrow_mut().remove(&node) {
            node.0.gone.set(true);
        }
    }

    pub(super) fn has(&self, node: u16) -> bool {
        self.nodes.borrow().contains_key(&node)
    }

    /// A node has a new map, unless it has a newer one.
    pub(super) fn know(&self, node: u16, epoch: u32, up: &[(u16, u64)]) {
        let Some(node) = self.nodes.borrow().get(&node).cloned() else {
            return;
        };
        if node.fast(|board| board.epoch()) > epoch {
            return;
        }
        let mut members = KVec::new();
        let mut alive = Vec::new();
        for (node, incarnation) in up {
            alive.push(Life {
                node: *node,
                incarnation: *incarnation,
            });
            let member = Member::new((*node).into(), *incarnation);
            members
                .push(member, GFP_KERNEL)
                .expect("no allocation fails");
        }
        *node.0.alive.borrow_mut() = alive;
        handler::new_map(&node, Members::new(epoch, members));
    }

    /// The answers of a node to a packet.
    pub(super) fn packet(&self, node: u16, packet: &[u8]) -> Vec<Vec<u8>> {
        let Some(node) = self.nodes.borrow().get(&node).cloned() else {
            return Vec::new();
        };
        let mut answers = Vec::new();
        let Ok((request, payload)) = Header::parse(packet) else {
            return answers;
        };
        let Some(key) = node.fast(|board| board.key(request.ras)) else {
            let epoch = node.fast(|board| board.epoch());
            answers.push(request.answer(Status::NoSpaceId, epoch).hint().to_vec());
            return answers;
        };
        if Header::verify(packet, &key).is_ok() && !request.is_response() {
            node.execute(&request, payload, |header, bytes| {
                let mut packet = header.seal(&key, bytes).to_vec();
                packet.extend_from_slice(bytes);
                answers.push(packet);
            });
        }
        answers
    }

    /// Asks the home for room.
    pub(super) fn grow(&self, bytes: u64, not: u32) -> Result<u32> {
        let ras = self.ras;
        let reply = self.control(&Grow { ras, bytes, not })?;
        reply
            .regions
            .first()
            .map(|region| region.index)
            .ok_or(EPROTO)
    }

    /// The table of regions.
    pub(super) fn rows(&self) -> Vec<Region> {
        let table = Table {
            ras: self.ras,
            from: 0,
        };
        let reply = self.control(&table).expect("the home has it");
        assert!(!reply.more);
        reply.regions.iter().copied().collect()
    }

    /// A new region with an allocation at each end, of which the first goes on from
    /// the last of the region before.
    pub(super) fn prepare(&mut self, index: u32, shift: u8, len: u64) {
        assert_eq!(self.grow(1 << shift, 0), Ok(index));
        let start = VA_BASE + (u64::from(index) << shift);
        let end = start + (1 << shift) - len;
        let rows = self.rows();
        let at = rows
            .iter()
            .find(|region| region.index == index)
            .expect("just made");
        let node = self.nodes.borrow()[&at.node].clone();
        let continues = if index == 0 { 0 } else { rights::CONTINUES };
        for (addr, more) in [(start, continues), (end, 0)] {
            self.ids += 1;
            let request = Header {
                epoch: node.fast(|board| board.epoch()),
                node: self.home.into(),
                incarnation: self.nodes.borrow()[&self.home].0.life.incarnation,
                argument: rights::ALL | rights::FIXED | more,
                operand: len,
                ..Header::request(Op::Alloc, self.ras, self.ids, addr, 0)
            };
            node.execute(&request, &[], |answer, _| {
                assert_eq!((answer.status, answer.operand), (Status::Ok, addr));
            });
        }
    }

    /// A region begins to move; [`Self::step`] until it has.
    pub(super) fn migrate(&mut self, index: u32, to: u16) {
        let ras = self.ras;
        let rows = self.rows();
        let from = rows
            .iter()
            .find(|region| region.index == index)
            .map(|region| region.node);
        let Some(node) = from.and_then(|from| self.nodes.borrow().get(&from).cloned()) else {
            return;
        };
        self.moves.push(Box::pin(async move {
            let _ = migrate::migrate(&node, ras, index, to).await;
        }));
    }

    /// Moves go on by a step. Whether there are any.
    pub(super) fn step(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.moves
            .retain_mut(|moving| moving.as_mut().poll(&mut context).is_pending());
        !self.moves.is_empty()
    }
}
