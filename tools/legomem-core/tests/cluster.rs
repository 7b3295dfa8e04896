// SPDX-License-Identifier: GPL-2.0

//! Several memory nodes: homes, regions, and regions that move while they are used.

mod common;

use common::*;
use kernel::error::code::*;
use legomem_core::core::{
    control::{
        proof, Attach, Destroy, Detach, Drain, Grow, Migrate, Name, RasInfo, Region, Stat, Table,
        VA_BASE,
    },
    home::Life,
    host::Host,
    migrate,
    placement::{place, Candidate},
    slow::Fast,
    wire::{flags, rights, Header, Op, Status},
};

fn three() -> Vec<Node> {
    cluster(&[Shape::default(); 3])
}

fn grow(home: &Node, ras: &RasInfo, bytes: u64) -> Vec<Region> {
    let grow = Grow {
        ras: ras.id,
        bytes,
        not: 0,
    };
    home.control(&grow)
        .unwrap()
        .regions
        .iter()
        .copied()
        .collect()
}

fn owner<'a>(nodes: &'a [Node], region: &Region) -> &'a Node {
    nodes
        .iter()
        .find(|node| node.0.life.node == region.node)
        .unwrap()
}

fn table(home: &Node, ras: u64) -> Vec<Region> {
    home.control(&Table { ras, from: 0 })
        .unwrap()
        .regions
        .iter()
        .copied()
        .collect()
}

fn start(region: &Region) -> u64 {
    VA_BASE + u64::from(region.index) * REGION
}

#[test]
fn regions_go_where_there_is_most_room() {
    let nodes = cluster(&[
        Shape {
            pages: 64,
            ..Shape::default()
        },
        Shape {
            pages: 512,
            ..Shape::default()
        },
    ]);
    let ras = create(&nodes[0], "words", 1 << 30);
    let region = grow(&nodes[0], &ras, PAGE)[0];
    assert_eq!(region.node, 2);
    assert_eq!(region.allowance, REGION);
    let addr = nodes[1]
        .alloc_at(ras.id, start(&region), PAGE, rights::ALL)
        .unwrap();
    assert_eq!(nodes[1].write(ras.id, addr, b"here"), Status::Ok);
    assert_eq!(nodes[0].write(ras.id, addr, b"here"), Status::Moved);
}

#[test]
fn among_those_with_room_the_idle_one_is_chosen() {
    let node = |node, room, load| Candidate {
        life: Life {
            node,
            incarnation: 1,
        },
        port: 1,
        page_shift: 22,
        room,
        load,
    };
    let nodes = [
        node(1, 100 << 20, 9000),
        node(2, 90 << 20, 10),
        node(3, 10 << 20, 0),
    ];
    assert_eq!(place(&nodes, 1 << 20, 0), Some(1));
    assert_eq!(place(&nodes, 95 << 20, 0), Some(0));
    assert_eq!(place(&nodes, 95 << 20, 2), None);
    assert_eq!(place(&nodes, 1 << 20, 3), Some(2));
    assert_eq!(place(&nodes, 200 << 20, 0), None);
}

#[test]
fn an_allocation_larger_than_a_region_gets_consecutive_ones_on_several_nodes() {
    let nodes = three();
    let ras = create(&nodes[2], "big", 1 << 30);
    let regions = grow(&nodes[2], &ras, 2 * REGION + PAGE);
    let indices: Vec<u32> = regions.iter().map(|region| region.index).collect();
    assert_eq!(indices, [0, 1, 2]);
    let mut owners: Vec<u16> = regions.iter().map(|region| region.node).collect();
    owners.sort_unstable();
    assert_eq!(owners, [1, 2, 3]);
    assert_eq!(table(&nodes[2], ras.id), regions);
}

#[test]
fn a_quota_is_never_exceeded_and_what_is_not_used_of_it_is_given_again() {
    let nodes = three();
    let ras = create(&nodes[0], "small", REGION + (4 << 20));
    let first = grow(&nodes[0], &ras, PAGE)[0];
    let second = grow(&nodes[0], &ras, PAGE)[0];
    assert_eq!((first.allowance, second.allowance), (REGION, 4 << 20));
    let more = |not| Grow {
        ras: ras.id,
        bytes: PAGE,
        not,
    };
    assert_eq!(nodes[0].control(&more(0)).unwrap_err(), EDQUOT);
    let holder = owner(&nodes, &first);
    holder
        .alloc_at(ras.id, start(&first), PAGE, rights::ALL)
        .unwrap();
    // The first turned out to be full: what it was not used for goes elsewhere.
    let third = nodes[0].control(&more(1)).unwrap().regions[0];
    assert_eq!(third.allowance, REGION - PAGE);
    assert_ne!(third.node, first.node);
    assert_eq!(
        holder.alloc_at(ras.id, start(&first), PAGE, rights::ALL),
        Err(Status::Quota)
    );
}

#[test]
fn no_room_anywhere_is_said_when_it_is_asked_for() {
    let nodes = cluster(&[Shape {
        pages: 16,
        ..Shape::default()
    }]);
    let ras = create(&nodes[0], "big", 1 << 30);
    let grow = Grow {
        ras: ras.id,
        bytes: 17 * PAGE,
        not: 0,
    };
    assert_eq!(nodes[0].control(&grow).unwrap_err(), ENOSPC);
    assert_eq!(table(&nodes[0], ras.id), []);
}

#[test]
fn when_one_grant_fails_none_is_left() {
    let nodes = three();
    let ras = create(&nodes[0], "big", 1 << 30);
    let before: Vec<_> = nodes
        .iter()
        .map(|n| n.control(&Stat {}).unwrap().regions)
        .collect();
    // The third node knows the id with another key: it refuses.
    let mut other = descriptor(ras.id);
    other.key = legomem_core::core::control::Secret([9, 9]);
    other.home = nodes[0].0.life.incarnation;
    let stage = legomem_core::core::slow::Stage::Live;
    nodes[2]
        .slow(|slow| slow.grant(&nodes[2], &other, 60_000, PAGE, stage))
        .unwrap();
    let grow = Grow {
        ras: ras.id,
        bytes: 3 * REGION,
        not: 0,
    };
    assert_eq!(nodes[0].control(&grow).unwrap_err(), EACCES);
    let after: Vec<_> = nodes
        .iter()
        .map(|n| n.control(&Stat {}).unwrap().regions)
        .collect();
    assert_eq!(after[..2], before[..2]);
    assert_eq!(table(&nodes[0], ras.id), []);
    let all = nodes[0]
        .control(&legomem_core::core::control::List { after: 0 })
        .unwrap();
    assert_eq!(all.spaces[0].granted, 0);
}

#[test]
fn only_who_has_the_key_attaches_and_destroys() {
    let nodes = three();
    let ras = create(&nodes[0], "words", 1 << 30);
    let name = Name::new(b"words").unwrap();
    let attach = |key| Attach {
        name,
        nonce: 5,
        proof: proof(
            &legomem_core::core::control::Secret(key),
            5,
            CLIENT as u16,
            b"words",
        ),
    };
    assert_eq!(nodes[0].control(&attach([1, 1])).unwrap_err(), EACCES);
    assert_eq!(nodes[0].control(&attach(SECRET.0)).unwrap().id, ras.id);
    assert_eq!(nodes[1].control(&attach(SECRET.0)).unwrap_err(), ENOENT);
    let destroy = |key| Destroy {
        ras: ras.id,
        nonce: 5,
        proof: proof(
            &legomem_core::core::control::Secret(key),
            5,
            CLIENT as u16,
            b"words",
        ),
    };
    assert_eq!(nodes[0].control(&destroy([1, 1])).unwrap_err(), EACCES);
    nodes[0].control(&Detach { ras: ras.id }).unwrap();
    nodes[0].control(&destroy(SECRET.0)).unwrap();
    assert_eq!(nodes[0].control(&attach(SECRET.0)).unwrap_err(), ENOENT);
}

#[test]
fn destroying_frees_all_memory_on_all_nodes() {
    let nodes = three();
    let ras = create(&nodes[0], "words", 1 << 30);
    for region in grow(&nodes[0], &ras, 3 * REGION) {
        let node = owner(&nodes, &region);
        let addr = node
            .alloc_at(ras.id, start(&region), 3 * PAGE, rights::ALL)
            .unwrap();
        assert_eq!(node.write(ras.id, addr, b"x"), Status::Ok);
    }
    let proof = proof(&SECRET, 5, CLIENT as u16, b"words");
    nodes[0]
        .control(&Destroy {
            ras: ras.id,
            nonce: 5,
            proof,
        })
        .unwrap();
    for node in &nodes {
        let stat = node.control(&Stat {}).unwrap();
        assert_eq!((stat.regions, stat.spaces, stat.promised), (0, 0, 0));
        assert_eq!(stat.free, stat.pages);
    }
}

#[test]
fn strangers_do_not_dispose_of_regions() {
    use legomem_core::core::control::{encode, Drop, Grant, Revoke};
    let nodes = three();
    let ras = create(&nodes[0], "words", 1 << 30);
    let region = grow(&nodes[0], &ras, PAGE)[0];
    let node = owner(&nodes, &region);
    let stranger = Life {
        node: 77,
        incarnation: 1,
    };
    let grant = Grant {
        space: descriptor(ras.id),
        index: 9,
        allowance: PAGE,
        incarnation: node.0.life.incarnation,
    };
    for request in [
        encode(&Drop { ras: ras.id }),
        encode(&Revoke {
            ras: ras.id,
            index: region.index,
        }),
        encode(&grant),
    ] {
        assert_eq!(node.handle(stranger, &request.unwrap()).unwrap_err(), EPERM);
    }
}

/// A region with contents, and where it is; the home is the first node.
fn filled(nodes: &[Node]) -> (RasInfo, Region, u64, Vec<u8>) {
    filled_by(&nodes[0], nodes)
}

fn filled_by(home: &Node, nodes: &[Node]) -> (RasInfo, Region, u64, Vec<u8>) {
    let ras = create(home, "words", 1 << 30);
    let region = grow(home, &ras, PAGE)[0];
    let node = owner(nodes, &region);
    let addr = node
        .alloc_at(ras.id, start(&region), 4 * PAGE, rights::ALL)
        .unwrap();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n * 7 % 253) as u8).collect();
    for (at, part) in bytes.chunks(50_000).enumerate() {
        assert_eq!(
            node.write(ras.id, addr + at as u64 * 50_000, part),
            Status::Ok
        );
    }
    (ras, region, addr, bytes)
}

fn contents(node: &Node, ras: u64, addr: u64, len: usize) -> Vec<u8> {
    let parts = (0..len).step_by(50_000);
    parts
        .flat_map(|at| node.read(ras, addr + at as u64, 50_000).unwrap())
        .collect()
}

#[test]
fn a_region_moves_with_its_bytes_its_rights_and_its_ends() {
    let nodes = three();
    let (ras, region, addr, bytes) = filled(&nodes);
    let source = owner(&nodes, &region);
    let read_only = source
        .alloc_at(ras.id, start(&region), PAGE, rights::READ)
        .unwrap();
    let to = if region.node == 3 { 2 } else { 3 };
    source
        .control(&Migrate {
            ras: ras.id,
            index: region.index,
            to,
        })
        .unwrap();
    assert_eq!(source.run_moves(), [Ok(())]);
    let now = table(&nodes[0], ras.id)[0];
    assert_eq!(now.node, to);
    let dest = owner(&nodes, &now);
    assert_eq!(contents(dest, ras.id, addr, bytes.len()), bytes);
    assert_eq!(dest.write(ras.id, read_only, b"x"), Status::Denied);
    assert_eq!(dest.read(ras.id, read_only - 1, 2), Err(Status::Fault));
    assert_eq!(source.read(ras.id, addr, 1), Err(Status::Moved));
    let stat = source.control(&Stat {}).unwrap();
    assert_eq!((stat.free, stat.promised), (stat.pages, 0));
    // And the quota is what it was.
    let spaces = nodes[0]
        .control(&legomem_core::core::control::List { after: 0 })
        .unwrap();
    assert_eq!(spaces.spaces[0].granted, REGION);
}

#[test]
fn a_retry_that_comes_after_the_move_is_not_executed_again() {
    let nodes = three();
    let (ras, region, addr, _) = filled(&nodes);
    let source = owner(&nodes, &region);
    let at = addr + 3 * PAGE + 8192;
    let add = Header {
        operand: 5,
        ..source.request(Op::Faa, ras.id, at, 8)
    };
    assert_eq!(source.execute(&add, &[]), (Status::Ok, 0, vec![]));
    // The answer is lost, the region moves, the retry goes to where it is now.
    source
        .control(&Migrate {
            ras: ras.id,
            index: region.index,
            to: 0,
        })
        .unwrap();
    assert_eq!(source.run_moves(), [Ok(())]);
    let dest = owner(&nodes, &table(&nodes[0], ras.id)[0]).clone();
    let retry = Header {
        id: 9000,
        flags: flags::RETRY,
        ..add
    };
    assert_eq!(dest.execute(&retry, &[]), (Status::Ok, 0, vec![]));
    assert_eq!(dest.word(Op::Faa, ras.id, at, 0).1, 5);
}

#[test]
fn a_move_that_fails_leaves_the_region_where_it_was() {
    let nodes = three();
    let (ras, region, addr, bytes) = filled(&nodes);
    let source = owner(&nodes, &region);
    for other in nodes.iter().filter(|node| node.0.life != source.0.life) {
        other.slow(|slow| slow.draining = true);
    }
    source
        .control(&Migrate {
            ras: ras.id,
            index: region.index,
            to: 0,
        })
        .unwrap();
    assert_eq!(source.run_moves(), [Err(ENOSPC)]);
    assert_eq!(contents(source, ras.id, addr, bytes.len()), bytes);
    assert_eq!(source.write(ras.id, addr, b"still here"), Status::Ok);
    assert_eq!(table(&nodes[0], ras.id), [region]);
}

#[test]
fn a_destination_without_room_gives_back_what_it_took() {
    let mut shapes = [Shape::default(); 2];
    shapes[1].pages = 2;
    let nodes = cluster(&shapes);
    let (ras, region, addr, bytes) = filled(&nodes);
    let source = owner(&nodes, &region);
    // The home would not choose it; an operator does, and it says so itself.
    source
        .control(&Migrate {
            ras: ras.id,
            index: region.index,
            to: 2,
        })
        .unwrap();
    assert_eq!(source.run_moves(), [Err(ENOSPC)]);
    assert_eq!(contents(source, ras.id, addr, bytes.len()), bytes);
    let stat = nodes[1].control(&Stat {}).unwrap();
    assert_eq!((stat.free, stat.regions), (2, 0));
}

#[test]
fn requests_are_paused_while_a_region_moves() {
    let nodes = three();
    let (ras, region, addr, _) = filled(&nodes);
    let source = owner(&nodes, &region);
    source.slow(|slow| {
        let space = slow.space(ras.id).unwrap();
        assert!(space.region(region.index).is_some());
    });
    source.fast(|board| {
        let region = board
            .space_mut(ras.id)
            .unwrap()
            .region_mut(region.index)
            .unwrap();
        region.state = legomem_core::core::space::RegionState::Paused;
    });
    let write = source.request(Op::Write, ras.id, addr, 1);
    assert_eq!(source.execute(&write, b"x").0, Status::Paused);
    assert_eq!(source.read(ras.id, addr, 1), Err(Status::Paused));
    assert_eq!(
        source.alloc_at(ras.id, start(&region), PAGE, rights::ALL),
        Err(Status::Paused)
    );
}

#[test]
fn a_node_that_is_drained_gives_all_regions_away_and_gets_none() {
    let nodes = three();
    let ras = create(&nodes[0], "words", 1 << 30);
    let regions = grow(&nodes[0], &ras, 3 * REGION);
    let drained = owner(&nodes, &regions[1]).clone();
    drained.control(&Drain { on: true }).unwrap();
    while let Some((ras, index)) = migrate::next_to_leave(&drained) {
        drained.control(&Migrate { ras, index, to: 0 }).unwrap();
        assert_eq!(drained.run_moves(), [Ok(())]);
    }
    assert_eq!(drained.control(&Stat {}).unwrap().regions, 0);
    assert!(table(&nodes[0], ras.id)
        .iter()
        .all(|region| region.node != drained.0.life.node));
    let more = grow(&nodes[0], &ras, REGION);
    assert_ne!(more[0].node, drained.0.life.node);
}

#[test]
fn a_node_that_over_committed_and_runs_short_gives_its_coldest_region_away() {
    let mut shapes = [Shape::default(); 2];
    shapes[0] = Shape {
        pages: 32,
        overcommit: 300,
        ..Shape::default()
    };
    let nodes = cluster(&shapes);
    nodes[1].slow(|slow| slow.draining = true);
    let ras = create(&nodes[1], "words", 1 << 30);
    let (hot, cold) = (
        grow(&nodes[1], &ras, PAGE)[0],
        grow(&nodes[1], &ras, PAGE)[0],
    );
    assert_eq!((hot.node, cold.node), (1, 1));
    let node = &nodes[0];
    let warm = node
        .alloc_at(ras.id, start(&hot), 30 * PAGE, rights::ALL)
        .unwrap();
    let rest = node
        .alloc_at(ras.id, start(&cold), 30 * PAGE, rights::ALL)
        .unwrap();
    assert_eq!(migrate::next_to_leave(node), None);
    for page in 0..16 {
        assert_eq!(node.write(ras.id, rest + page * PAGE, b"cold"), Status::Ok);
    }
    for page in 0..16 {
        assert_eq!(node.write(ras.id, warm + page * PAGE, b"warm"), Status::Ok);
        node.read(ras.id, warm, 1).unwrap();
    }
    assert_eq!(node.write(ras.id, warm + 16 * PAGE, b"no"), Status::Busy);
    let leaves = migrate::next_to_leave(node).unwrap();
    assert_eq!(leaves, (ras.id, cold.index));
    nodes[1].slow(|slow| slow.draining = false);
    node.control(&Migrate {
        ras: leaves.0,
        index: leaves.1,
        to: 0,
    })
    .unwrap();
    assert_eq!(node.run_moves(), [Ok(())]);
    node.clean();
    assert_eq!(node.write(ras.id, warm + 16 * PAGE, b"now"), Status::Ok);
    assert_eq!(nodes[1].read(ras.id, rest + 15 * PAGE, 4).unwrap(), b"cold");
}

#[test]
fn what_a_node_lost_with_its_life_is_lost_and_not_zero() {
    let nodes = three();
    let home = &nodes[2];
    let (ras, region, _, _) = filled_by(home, &nodes);
    let lost = owner(&nodes, &region).0.life;
    assert_ne!(lost, home.0.life);
    let lives = nodes.iter().map(|node| node.0.life);
    // It is back, in another life.
    let up: Vec<(u32, u64)> = lives
        .map(|life| (life.node.into(), life.incarnation + u64::from(life == lost)))
        .chain([(CLIENT, CLIENT_LIFE)])
        .collect();
    home.publish(2, &up);
    let now = table(home, ras.id)[0];
    assert_eq!(now.node, 0, "EIO for those who ask");
    assert_eq!(now.index, region.index);
}

#[test]
fn a_grant_for_an_older_life_is_refused() {
    use legomem_core::core::control::{encode, Grant};
    let nodes = three();
    let ras = create(&nodes[0], "words", 1 << 30);
    let grant = Grant {
        space: descriptor(ras.id),
        index: 0,
        allowance: PAGE,
        incarnation: 12345,
    };
    let refused = nodes[1].handle(nodes[0].0.life, &encode(&grant).unwrap());
    assert_eq!(refused.unwrap_err(), ESTALE);
}

#[test]
fn memory_of_address_spaces_whose_home_is_gone_is_free() {
    let nodes = three();
    let (ras, region, _, _) = filled_by(&nodes[2], &nodes);
    let node = owner(&nodes, &region);
    let own = (node.0.life.node.into(), node.0.life.incarnation);
    assert_ne!(node.0.life, nodes[2].0.life);
    node.publish(2, &[own, (CLIENT, CLIENT_LIFE)]);
    assert!(node.fast(|board| board.key(ras.id)).is_none());
    let stat = node.control(&Stat {}).unwrap();
    assert_eq!((stat.free, stat.promised), (stat.pages, 0));
}
