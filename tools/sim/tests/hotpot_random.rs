// SPDX-License-Identifier: GPL-2.0

//! Random processes on a random cluster with crashes, lost messages, cut links and
//! little room: whatever happens, what was promised is kept and nothing is left over.

use sim::{
    hotpot::{
        workload,
        world::{Plan, World},
    },
    schedule::for_each_seed,
};

fn live(seed: u64, plan: impl FnOnce(&mut sim::schedule::Rng) -> Plan) {
    let mut world = World::new(seed, plan);
    workload::prepare(&mut world);
    world.work();
    world.check_at_rest();
    workload::check_end(&mut world);
    world.check_at_rest();
}

#[test]
fn promises_are_kept_whatever_happens() {
    for_each_seed("promises_are_kept_whatever_happens", 200, |seed| {
        live(seed, Plan::random);
    });
}
