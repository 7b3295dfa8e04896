// SPDX-License-Identifier: GPL-2.0

//! Executes the requests of the control plane, and takes maps over.

use super::{
    control::{
        self, home_of, Any, Create, Destroy, Grant, Granted, Grow, NodeStat, Place, PlaceReply,
        Remove, Revoke, Stat, TableReply, MAX_LIST,
    },
    home::{Growth, Life},
    host::{ask, Host, Level},
    members::Members,
    migrate,
    placement::{place, Candidate},
    slow::Stage,
};
use kernel::prelude::*;

/// Executes one request of a node in one of its lives. Replies are small.
pub async fn handle(host: &impl Host, from: Life, request: &[u8]) -> Result<KVec<u8>> {
    let me = host.me();
    match Any::decode(request)? {
        Any::Create(create) => reply(&self::create(host, &create)?),
        Any::Attach(attach) => reply(&host.slow(|slow| slow.home.attach(from, &attach))?),
        Any::Detach(detach) => reply(&host.slow(|slow| slow.home.detach(from, detach.ras))?),
        Any::Destroy(destroy) => reply(&self::destroy(host, from, &destroy).await?),
        Any::Table(table) => reply(&host.slow(|slow| slow.home.table(table.ras, table.from))?),
        Any::Grow(grow) => reply(&self::grow(host, &grow).await?),
        Any::Stat(Stat {}) => reply(&stat(host)),
        Any::List(list) => {
            let (spaces, more) = host.slow(|slow| slow.home.list(list.after))?;
            reply(&control::ListReply { spaces, more })
        }
        Any::Drain(drain) => {
            host.slow(|slow| slow.draining = drain.on);
            host.log(
                Level::Info,
                format_args!(
                    "{}",
                    if drain.on {
                        "gives its regions away"
                    } else {
                        "takes regions"
                    }
                ),
            );
            reply(&())
        }
        Any::Migrate(migrate) => {
            let here = host.slow(|slow| {
                slow.space(migrate.ras)
                    .and_then(|space| space.region(migrate.index))
                    .is_some()
            });
            if !here {
                return Err(ENOENT);
            }
            reply(&host.start_migration(migrate.ras, migrate.index, migrate.to)?)
        }
        Any::Remove(remove) => reply(&self::remove(host, &remove).await?),
        Any::Resize(resize) => reply(&host.slow(|slow| slow.home.resize(&resize))?),
        Any::Grant(grant) => {
            authorise(from.node, grant.space.ras)?;
            check_life(me, grant.incarnation)?;
            let (allowance, used) = host.slow(|slow| {
                slow.grant(
                    host,
                    &grant.space,
                    grant.index,
                    grant.allowance,
                    Stage::Live,
                )
            })?;
            reply(&Granted { allowance, used })
        }
        Any::Revoke(revoke) => {
            authorise(from.node, revoke.ras)?;
            host.slow(|slow| slow.revoke(host, revoke.ras, revoke.index));
            reply(&())
        }
        Any::Drop(gone) => {
            authorise(from.node, gone.ras)?;
            host.slow(|slow| slow.drop_space(host, gone.ras));
            reply(&())
        }
        Any::Place(place) => reply(&self::find_place(host, from, &place).await?),
        Any::Swing(swing) => reply(&host.slow(|slow| slow.home.swing(from, &swing))?),
        Any::Import(import) => {
            check_life(me, import.incarnation)?;
            reply(&migrate::import(host, from, &import)?)
        }
        Any::ImportRange(range) => reply(&migrate::import_range(host, &range)?),
        Any::ImportBytes(bytes) => reply(&migrate::import_bytes(host, &bytes)?),
        Any::ImportEffects(effects) => reply(&migrate::import_effects(host, &effects)?),
        Any::ImportEnd(end) => reply(&migrate::import_end(host, &end)?),
    }
}

fn reply<T: control::Wire>(reply: &T) -> Result<KVec<u8>> {
    control::encode_reply(reply)
}

/// Only a home disposes of the regions of its address spaces.
fn authorise(node: u16, ras: u64) -> Result {
    if node == home_of(ras) {
        Ok(())
    } else {
        Err(EPERM)
    }
}

fn check_life(me: Life, incarnation: u64) -> Result {
    if me.incarnation == incarnation {
        Ok(())
    } else {
        Err(ESTALE)
    }
}

fn create(host: &impl Host, create: &Create) -> Result<control::RasInfo> {
    let me = host.me();
    // An id that is taken is about as likely as a meteorite, twice in a row more so.
    let one = host.slow(|slow| slow.home.create(me.node, create, host.random()));
    match one {
        Err(error) if error == EAGAIN => {
            host.slow(|slow| slow.home.create(me.node, create, host.random()))
        }
        other => other,
    }
}

async fn destroy(host: &impl Host, from: Life, destroy: &Destroy) -> Result {
    let nodes = host.slow(|slow| slow.home.destroy(from, destroy))?;
    drop_everywhere(host, destroy.ras, &nodes).await
}

async fn remove(host: &impl Host, remove: &Remove) -> Result {
    let nodes = host.slow(|slow| slow.home.remove(remove))?;
    host.log(
        Level::Info,
        format_args!("address space {:x} is ended by an operator", remove.ras),
    );
    drop_everywhere(host, remove.ras, &nodes).await
}

/// The address space is ending: frees its memory at the nodes that have some.
async fn drop_everywhere(host: &impl Host, ras: u64, nodes: &[u16]) -> Result {
    for node in nodes.iter().copied().filter(|node| *node != 0) {
        // A node that is gone has nothing of it any more; one that does not answer may.
        match ask(host, node, &control::Drop { ras }).await {
            Ok(()) => {}
            Err(error) if error == EHOSTDOWN => {}
            Err(error) => {
                host.log(
                    Level::Warning,
                    format_args!("node {node} has not freed address space {ras:x}: {error:?}"),
                );
                return Err(error);
            }
        }
    }
    host.slow(|slow| slow.home.ended(ras));
    Ok(())
}

/// What we say of ourselves.
pub fn stat(host: &impl Host) -> NodeStat {
    let me = host.me();
    NodeStat {
        node: me.node,
        port: host.port(),
        incarnation: me.incarnation,
        load: host.load(),
        ..host.slow(|slow| slow.stat(host))
    }
}

/// The nodes that take regions.
async fn candidates(host: &impl Host) -> Result<KVec<Candidate>> {
    let nodes = host.memory_nodes()?;
    let answers = host.call_all(&nodes, &control::encode(&Stat {})?).await?;
    let mut found = KVec::new();
    for answer in answers.iter().flatten() {
        let stat = control::decode_reply::<NodeStat>(answer);
        if let Some(candidate) = stat.ok().as_ref().and_then(Candidate::new) {
            found.push(candidate, GFP_KERNEL)?;
        }
    }
    Ok(found)
}

async fn grow(host: &impl Host, grow: &Grow) -> Result<TableReply> {
    let me = host.me();
    let mut nodes = candidates(host).await?;
    if let Some(index) = grow.not.checked_sub(1) {
        let full = trim(host, grow.ras, index).await?;
        // Its page table may be what is full: rather not there again.
        let elsewhere = |node: &Candidate| node.life.node != full && node.room >= grow.bytes;
        if nodes.iter().any(elsewhere) {
            nodes.retain(|node| node.life.node != full);
        }
    }
    let growth = host.slow(|slow| slow.home.plan(me, grow.ras, grow.bytes, &nodes))?;
    let granted = match grant_all(host, &growth).await {
        Ok(()) => host.slow(|slow| slow.home.commit(&growth)),
        Err(error) => Err(error),
    };
    match granted {
        Ok(version) => {
            let more = growth.regions.len() > MAX_LIST;
            let mut regions = growth.regions;
            regions.truncate(MAX_LIST);
            Ok(TableReply {
                version,
                regions,
                more,
            })
        }
        Err(error) => {
            host.slow(|slow| slow.home.cancel(&growth));
            Err(error)
        }
    }
}

/// Takes what a region does not use of its quota back; returns its node.
async fn trim(host: &impl Host, ras: u64, index: u32) -> Result<u16> {
    let region = host.slow(|slow| slow.home.region(ras, index))?;
    let space = host.slow(|slow| slow.home.descriptor(host.me(), ras))?;
    let grant = Grant {
        space,
        index,
        allowance: 0,
        incarnation: region.incarnation,
    };
    if region.node != 0 {
        // If it does not answer, its quota stays with it.
        if let Ok(granted) = ask(host, region.node, &grant).await {
            host.slow(|slow| slow.home.trimmed(ras, index, granted.allowance))?;
        }
    }
    Ok(region.node)
}

/// Grants all regions, or none.
async fn grant_all(host: &impl Host, growth: &Growth) -> Result {
    for (at, region) in growth.regions.iter().enumerate() {
        let grant = Grant {
            space: growth.descriptor,
            index: region.index,
            allowance: region.allowance,
            incarnation: region.incarnation,
        };
        if let Err(error) = ask(host, region.node, &grant).await {
            // The last one may have been granted as well: its answer was lost.
            for granted in growth.regions.iter().take(at + 1) {
                let revoke = Revoke {
                    ras: growth.descriptor.ras,
                    index: granted.index,
                };
                let _ = ask(host, granted.node, &revoke).await;
            }
            return Err(error);
        }
    }
    Ok(())
}

async fn find_place(host: &impl Host, from: Life, wanted: &Place) -> Result<PlaceReply> {
    let (region, pin) = host.slow(|slow| {
        Ok::<_, Error>((
            slow.home.region(wanted.ras, wanted.index)?,
            slow.home.pin(wanted.ras)?,
        ))
    })?;
    if (region.node, region.incarnation) != (from.node, from.incarnation) {
        return Err(ESTALE);
    }
    let asker = candidates(host).await?;
    let mut nodes = KVec::new();
    let own_shift = asker
        .iter()
        .find(|node| node.life == from)
        .map_or(u8::MAX, |node| node.page_shift);
    for node in asker.iter().filter(|node| node.life != from) {
        // Allocations are whole pages of the source; smaller ones at the other end divide them.
        if node.page_shift <= own_shift {
            nodes.push(*node, GFP_KERNEL)?;
        }
    }
    // An operator's wish goes before where the address space is pinned to.
    let chosen = place(&nodes, wanted.bytes, wanted.wish).or_else(|| {
        let moves = pin == 0 || pin == from.node;
        (wanted.wish == 0 && moves)
            .then(|| place(&nodes, wanted.bytes, 0))
            .flatten()
    });
    let node = chosen.and_then(|at| nodes.get(at)).ok_or(ENOSPC)?;
    Ok(PlaceReply {
        node: node.life.node,
        incarnation: node.life.incarnation,
        port: node.port,
    })
}

/// A new map is in force: `members` are the nodes that are up in it.
pub fn new_map(host: &impl Host, members: Members) {
    // What comes back is dropped here, without the lock.
    drop(host.fast(|board| board.set_members(members)));
    let lost = host.slow(|slow| slow.home.new_map(|life| host.is_alive(life)));
    if lost != 0 {
        host.log(
            Level::Error,
            format_args!("{lost} regions are lost with their nodes: reads of them are EIO"),
        );
    }
    while let Some(ras) = host.slow(|slow| {
        let mut orphans = slow.spaces().filter(|space| {
            let home = Life {
                node: home_of(space.descriptor.ras),
                incarnation: space.descriptor.home,
            };
            !host.is_alive(home)
        });
        orphans.next().map(|space| space.descriptor.ras)
    }) {
        host.slow(|slow| slow.drop_space(host, ras));
        host.log(
            Level::Warning,
            format_args!("address space {ras:x} is gone with its home: its memory is free"),
        );
    }
    migrate::new_map(host);
}
