// SPDX-License-Identifier: GPL-2.0

//! Users of a node: whoever opens /dev/rdma_lite. Their [accounts](crate::core::account), and the limits
//! that the node's directory in configfs sets for each of them.
//!
//! `Users::list` is a leaf but for the accounts of users, which are leaves. Modules have no account.

use crate::{
    core::{
        account::{Account, Charge, Limits, Quiet, Totals},
        region::shares::Payer,
    },
    events::now,
    node::Node,
};
use kernel::{
    capability::{capable, Capability},
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex, SpinLock,
    },
    task::Kuid,
};

/// Users without an open file whose totals are remembered.
const REMEMBERED: usize = 256;

/// The most of each that one user may have here at a time; 0: no limit. They may change at any time.
pub(crate) struct UserLimits {
    /// Regions that it has mapped, and locks.
    pub(crate) handles: Atomic<u64>,
    /// Calls and accesses under way.
    pub(crate) calls: Atomic<u64>,
    /// Bytes of kernel memory that these take.
    pub(crate) bytes: Atomic<u64>,
    /// Bytes of regions that lie here, made from whatever node.
    pub(crate) memory: Atomic<u64>,
}

impl UserLimits {
    const fn new() -> Self {
        Self {
            handles: Atomic::new(0),
            calls: Atomic::new(0),
            bytes: Atomic::new(0),
            memory: Atomic::new(0),
        }
    }

    fn get(&self) -> Limits {
        Limits {
            handles: self.handles.load(Relaxed),
            calls: self.calls.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

/// One user.
#[pin_data]
pub(crate) struct User {
    /// Its id in the initial user namespace.
    pub(crate) uid: u32,
    /// Open files; changed under the lock of the list.
    files: Atomic<u64>,
    #[pin]
    account: SpinLock<Account>,
}

impl User {
    fn new(uid: u32) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                uid,
                files: Atomic::new(0),
                account <- new_spinlock!(Account::new(), "lite_account"),
            }),
            GFP_KERNEL,
        )
    }

    /// Takes something of what it may have, until the result is dropped. [`EDQUOT`]: it has too much,
    /// or wants too much; [`EAGAIN`]: too much is under way.
    fn take(self: &Arc<Self>, node: &Node, charge: Charge) -> Result<Taken> {
        let limits = node.users.limits.get();
        let begun = self.account.lock().begin(charge, limits, now());
        match begun {
            Ok(()) => Ok(Taken {
                user: self.clone(),
                charge,
                moved: 0,
            }),
            Err(refusal) => {
                if refusal.tell {
                    pr_warn!(
                        "{}: user {} is refused more: limit user_{} is {}\n",
                        node.name(),
                        self.uid,
                        refusal.what,
                        refusal.limit
                    );
                }
                Err(refusal.error)
            }
        }
    }

    /// Open files, what it has, and what it did.
    pub(crate) fn figures(&self) -> (u64, Charge, Totals) {
        let account = self.account.lock();
        (self.files.load(Relaxed), account.now(), account.totals())
    }
}

/// A part of what a user may have.
pub(crate) struct Taken {
    user: Arc<User>,
    charge: Charge,
    moved: u64,
}

impl Taken {
    /// It moved so many more bytes.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.user.account.lock().end(self.charge, self.moved);
    }
}

/// The users of a node.
#[pin_data]
pub(crate) struct Users {
    pub(crate) limits: UserLimits,
    #[pin]
    list: Mutex<KVec<Arc<User>>>,
    /// Who may have the high class without being privileged.
    #[pin]
    high: Mutex<KVec<u32>>,
    /// About users of all nodes that want memory here.
    #[pin]
    quiet: SpinLock<Quiet>,
}

impl Users {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            limits: UserLimits::new(),
            list <- new_mutex!(KVec::new(), "lite_users"),
            high <- new_mutex!(KVec::new(), "lite_high_users"),
            quiet <- new_spinlock!(Quiet::new(), "lite_quiet"),
        })
    }

    /// A user opens a file.
    fn open(&self, uid: u32) -> Result<Arc<User>> {
        let mut list = self.list.lock();
        let known = list.iter().find(|user| user.uid == uid).cloned();
        let user = match known {
            Some(user) => user,
            None => {
                let user = User::new(uid)?;
                list.push(user.clone(), GFP_KERNEL)?;
                user
            }
        };
        user.files.fetch_add(1, Relaxed);
        Ok(user)
    }

    /// A file of the user is closed.
    fn close(&self, user: &Arc<User>) {
        let mut list = self.list.lock();
        let left = user.files.fetch_sub(1, Relaxed) - 1;
        if left == 0 && list.len() > REMEMBERED {
            list.retain(|other| !Arc::ptr_eq(other, user));
        }
    }

    /// Whether it is a user of ours.
    pub(crate) fn has(&self, payer: Payer) -> bool {
        self.list.lock().iter().any(|user| user.uid == payer.0)
    }

    /// Looks at the users that may have the high class.
    pub(crate) fn with_high<T>(&self, f: impl FnOnce(&[u32]) -> T) -> T {
        f(&self.high.lock())
    }

    /// These may have the high class from now on. Who has it keeps it.
    pub(crate) fn set_high(&self, users: KVec<u32>) {
        let old = ::core::mem::replace(&mut *self.high.lock(), users);
        drop(old);
    }

    /// Whether the operator is told of a user that is refused memory.
    pub(crate) fn may_tell(&self) -> bool {
        self.quiet.lock().may_tell(now())
    }

    /// The `nr`th user.
    pub(crate) fn nth(&self, nr: usize) -> Option<Arc<User>> {
        self.list.lock().get(nr).cloned()
    }
}

/// A user, for as long as one of its files is open.
pub(crate) struct Opener {
    node: Arc<Node>,
    user: Arc<User>,
}

impl Opener {
    /// The effective user of the current task opens a file.
    pub(crate) fn new(node: &Arc<Node>) -> Result<Self> {
        // What the kernel has is the id in the initial user namespace.
        let uid = Kuid::current_euid().into_raw().val;
        Ok(Self {
            user: node.users.open(uid)?,
            node: node.clone(),
        })
    }

    /// Who pays for what it makes.
    pub(crate) fn payer(&self) -> Payer {
        Payer(self.user.uid)
    }

    /// Whether it may have the high class: it is named in `high_users`, or the current task may raise
    /// priorities (CAP_SYS_NICE).
    pub(crate) fn may_have_high_class(&self) -> bool {
        let named = |users: &[u32]| users.contains(&self.user.uid);
        if self.node.users.with_high(named) {
            return true;
        }
        capable(Capability::SYS_NICE)
    }

    /// See [`User::take`].
    pub(crate) fn take(&self, charge: Charge) -> Result<Taken> {
        self.user.take(&self.node, charge)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.node.users.close(&self.user);
    }
}
