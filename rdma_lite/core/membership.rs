// SPDX-License-Identifier: GPL-2.0

//! Who belongs to the cluster: the map, when a new one is taken, and which
//! hellos and messages it admits.
//!
//! - The epoch only grows. The very same map may be published again; any other
//!   map of the same or an older epoch is `ESTALE`.
//! - A call is executed only where caller and callee live in the same epoch. An
//!   older call is refused (the fence). A newer one is refused too: its caller
//!   knows something about us that we do not, and who owns what may have
//!   changed; the caller tries again until its deadline, by when the control
//!   plane should have told us. Either way the one that is behind reports
//!   FENCED, once an epoch.
//! - Replies and refusals are taken whatever their epoch: what happened,
//!   happened. Heartbeats too: a node that is behind is alive.
//! - An incarnation that the map does not say (0) is learnt from the first
//!   hello, and pinned until the next map by the first message of the map's own
//!   epoch. A hello pins nothing, whatever epoch it tells: it may come late from
//!   a life that is over, and a cluster that starts anew may count its epochs
//!   anew. An incarnation never goes back: it is a start time.

use super::wire::{digest, Header, Hello, Kind, Refusal, RejectReason};
use kernel::{
    prelude::*,
    rbtree::RBTree, //
};

/// State of a node in the map (the values of `enum rdma_lite_node_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NodeState {
    /// Member, expected to answer.
    Up = 1,
    /// Member that is not reachable for now.
    Down = 2,
    /// No member any more: its state is void.
    Out = 3,
}

impl TryFrom<u32> for NodeState {
    type Error = Error;

    fn try_from(state: u32) -> Result<Self> {
        match state {
            1 => Ok(Self::Up),
            2 => Ok(Self::Down),
            3 => Ok(Self::Out),
            _ => Err(EINVAL),
        }
    }
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// Whether `addr` is IPv6, else IPv4 in its first 4 bytes.
    pub ipv6: bool,
    /// In network order.
    pub addr: [u8; 16],
    /// rdma_cm port.
    pub port: u16,
}

/// One node of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapNode {
    /// 1 to 65535, unique.
    pub id: u16,
    /// What is expected of it.
    pub state: NodeState,
    /// `RDMA_LITE_ROLE_*`.
    pub roles: u32,
    /// In a map to publish, 0 for "whatever it says when it is met".
    pub incarnation: u64,
    /// Where it listens.
    pub address: NodeAddress,
    /// Of its configfs directory, NUL-terminated.
    pub name: [u8; 64],
}

/// Who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Our node id.
    pub id: u16,
    /// Our present life; not 0.
    pub incarnation: u64,
    /// Our cluster.
    pub cluster: [u8; 16],
}

#[derive(Debug)]
struct Entry {
    published: MapNode,
    incarnation: u64,
    pinned: bool,
}

/// What one peer of ours needs to know of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Of the map.
    pub epoch: u64,
    /// Of the peer; `None` when the map does not know it, or when it does not
    /// have ourselves as a member that is up.
    pub state: Option<NodeState>,
    /// Of the peer; 0 when it is not known yet.
    pub incarnation: u64,
    /// Whether the peer may not have a newer incarnation in this epoch.
    pub pinned: bool,
}

impl View {
    /// Before the first map.
    pub const NONE: Self = Self {
        epoch: 0,
        state: None,
        incarnation: 0,
        pinned: false,
    };

    /// Whether the map expects the peer to answer.
    pub fn is_up(&self) -> bool {
        self.state == Some(NodeState::Up)
    }
}

/// What came of publishing a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is in force; each peer needs its new [`View`].
    New,
    /// It was in force already.
    Same,
}

/// The map of a node.
#[derive(Debug)]
pub struct Membership {
    local: Local,
    epoch: u64,
    entries: KVec<Entry>,
    learnt: u64,
}

impl Membership {
    /// Without a map: epoch 0, nobody is known.
    pub fn new(local: Local) -> Self {
        Self {
            local,
            epoch: 0,
            entries: KVec::new(),
            learnt: 0,
        }
    }

    /// Who we are.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Of the map in force; 0 when there is none.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How often an incarnation was learnt that the map does not say. When it grows, those who
    /// were told of the map are to be told again: a node of it lives another life.
    pub fn learnt(&self) -> u64 {
        self.learnt
    }

    /// Puts a map in force.
    ///
    /// `ESTALE`: the epoch does not grow, or the map is about another life of
    /// ours. `EINVAL`: epoch 0, an id that is 0 or appears twice, a name that is
    /// not NUL-terminated, empty or appears twice.
    pub fn publish(&mut self, epoch: u64, nodes: &[MapNode]) -> Result<Published> {
        if epoch == self.epoch && self.is_same(nodes) {
            return Ok(Published::Same);
        }
        check_nodes(epoch, nodes)?;
        if epoch <= self.epoch {
            return Err(ESTALE);
        }
        let mut entries = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
        for node in nodes {
            let entry = self.admit_node(node)?;
            let place = entries.binary_search_by_key(&node.id, |e: &Entry| e.published.id);
            let Err(at) = place else { return Err(EINVAL) };
            entries.insert_within_capacity(at, entry)?;
        }
        self.entries = entries;
        self.epoch = epoch;
        Ok(Published::New)
    }

    fn is_same(&self, nodes: &[MapNode]) -> bool {
        nodes.len() == self.entries.len()
            && nodes
                .iter()
                .all(|node| self.find(node.id).is_some_and(|e| e.published == *node))
    }

    fn admit_node(&self, node: &MapNode) -> Result<Entry> {
        if node.id == self.local.id {
            let ours = self.local.incarnation;
            if node.incarnation != 0 && node.incarnation != ours {
                return Err(ESTALE);
            }
            return Ok(Entry {
                published: *node,
                incarnation: ours,
                pinned: true,
            });
        }
        let known = self.find(node.id).map_or(0, |old| old.incarnation);
        Ok(Entry {
            published: *node,
            incarnation: if node.incarnation != 0 {
                node.incarnation
            } else if node.state == NodeState::Out {
                0
            } else {
                known
            },
            pinned: node.incarnation != 0,
        })
    }

    fn find(&self, id: u16) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by_key(&id, |entry| entry.published.id)
            .ok()?;
        self.entries.get(at)
    }

    fn find_mut(&mut self, id: u16) -> Option<&mut Entry> {
        let at = self
            .entries
            .binary_search_by_key(&id, |entry| entry.published.id)
            .ok()?;
        self.entries.get_mut(at)
    }

    /// Nodes of the map in the order of their ids, with the incarnations known
    /// by now.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = MapNode> + '_ {
        self.entries.iter().map(|entry| MapNode {
            incarnation: entry.incarnation,
            ..entry.published
        })
    }

    /// A node of the map.
    pub fn node(&self, id: u16) -> Option<MapNode> {
        self.find(id).map(|entry| MapNode {
            incarnation: entry.incarnation,
            ..entry.published
        })
    }

    /// Whether the map has ourselves as a member that is up.
    pub fn is_member(&self) -> bool {
        self.find(self.local.id)
            .is_some_and(|entry| entry.published.state == NodeState::Up)
    }

    /// What the peer `id` needs to know.
    pub fn view(&self, id: u16) -> View {
        let entry = self.find(id).filter(|_| self.is_member());
        View {
            epoch: self.epoch,
            state: entry.map(|e| e.published.state),
            incarnation: entry.map_or(0, |e| e.incarnation),
            pinned: entry.is_some_and(|e| e.pinned),
        }
    }

    /// Whether a hello comes from a member in its right life. On success the
    /// incarnation is known, and the [`View`] for the peer is the new one.
    pub fn admit(&mut self, hello: &Hello) -> Result<View, RejectReason> {
        if hello.cluster != self.local.cluster {
            return Err(RejectReason::Cluster);
        }
        if hello.dst != self.local.id {
            return Err(RejectReason::WrongNode);
        }
        if !self.view(hello.src).is_up() || hello.src == self.local.id {
            return Err(RejectReason::NotMember);
        }
        self.learn(hello.src, hello.incarnation, false)
            .map_err(|_| RejectReason::Incarnation)
    }

    /// The peer lives in the present epoch, with this incarnation.
    ///
    /// `ESTALE` when the map has another one.
    pub fn met(&mut self, id: u16, incarnation: u64) -> Result<View> {
        self.learn(id, incarnation, true)
    }

    fn learn(&mut self, id: u16, incarnation: u64, pin: bool) -> Result<View> {
        let entry = self.find_mut(id).ok_or(EHOSTDOWN)?;
        let known = entry.incarnation;
        if entry.pinned && incarnation != known || incarnation < known {
            return Err(ESTALE);
        }
        entry.incarnation = incarnation;
        entry.pinned |= pin;
        self.learnt += u64::from(incarnation != known);
        Ok(self.view(id))
    }
}

fn check_nodes(epoch: u64, nodes: &[MapNode]) -> Result {
    if epoch == 0 {
        return Err(EINVAL);
    }
    let mut names = RBTree::new();
    for node in nodes {
        let name = node.name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        if node.id == 0 || name.is_empty() || name.len() == node.name.len() {
            return Err(EINVAL);
        }
        if names.try_create_and_insert(name, (), GFP_KERNEL)?.is_some() {
            return Err(EINVAL);
        }
    }
    Ok(())
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Accept,
    /// A call that is not to be executed.
    Refuse(Refusal),
    /// It cannot be on this connection: break it off.
    Violation,
}

/// Judges a message from the peer whose hello said `peer_incarnation`.
pub fn judge(local: &Local, view: &View, peer_incarnation: u64, header: &Header) -> Verdict {
    if header.cluster != digest(&local.cluster) || header.src_incarnation != peer_incarnation {
        return Verdict::Violation;
    }
    if header.kind != Kind::Call {
        return if header.dst_incarnation == local.incarnation {
            Verdict::Accept
        } else {
            Verdict::Violation
        };
    }
    if header.dst_incarnation != local.incarnation {
        return Verdict::Refuse(Refusal::WrongIncarnation);
    }
    match header.epoch.cmp(&view.epoch) {
        ::core::cmp::Ordering::Less => Verdict::Refuse(Refusal::StaleEpoch),
        ::core::cmp::Ordering::Equal => Verdict::Accept,
        ::core::cmp::Ordering::Greater => Verdict::Refuse(Refusal::BehindEpoch),
    }
}
