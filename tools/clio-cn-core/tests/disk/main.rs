// SPDX-License-Identifier: GPL-2.0

//! The replicated disk under crashes, losses and restarts.

mod record;
mod world;

use world::{Weather, World};

const FAIR: Weather = Weather {
    replicas: 2,
    nodes: 3,
    blocks: 24,
    node_fails: 0,
    node_is_wiped: 0,
    spurious: 0,
    maps: 0,
    crash: 0,
    restart: 0,
    refuses: 0,
    mercy: false,
};

/// Runs of `steps` steps from so many seeds (`POTLUCK_SEEDS` times as many); what happened in all.
fn campaign(name: &str, weather: Weather, seeds: u64, steps: u64) -> [u64; 6] {
    let times = std::env::var("POTLUCK_SEEDS")
        .ok()
        .and_then(|n| n.parse::<u64>().ok())
        .unwrap_or(1);
    let mut sums = [0; 6];
    for seed in 0..seeds * times {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, weather);
            for _ in 0..steps {
                if world.gone {
                    break;
                }
                world.step();
            }
            world.calm_down();
            [
                world.completed,
                world.failed,
                world.losses,
                world.fills,
                world.attaches,
                world.gone.into(),
            ]
        });
        let counts = run.unwrap_or_else(|_| panic!("{name}: seed {seed}"));
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    eprintln!("{name}: completed, failed, lost, filled, attached, gone: {sums:?}");
    sums
}

#[test]
fn a_disk_on_good_memory_does_what_it_is_told() {
    let [completed, failed, lost, ..] = campaign("fair", FAIR, 50, 2000);
    assert!(completed > 10_000);
    assert_eq!((failed, lost), (0, 0));
}

#[test]
fn operations_that_cannot_begin_are_begun_later() {
    let weather = Weather { refuses: 5, ..FAIR };
    let [completed, failed, lost, ..] = campaign("refusals", weather, 50, 2000);
    assert!(completed > 5_000);
    assert_eq!((failed, lost), (0, 0));
}

#[test]
fn the_loss_of_all_copies_but_one_is_not_noticed() {
    for replicas in 2..=4 {
        let weather = Weather {
            replicas,
            nodes: replicas as u32 + 2,
            spurious: 150,
            mercy: true,
            ..FAIR
        };
        let [completed, failed, lost, filled, ..] = campaign("losses", weather, 60, 3000);
        assert!(completed > 10_000 && lost > 100 && filled > 50);
        assert_eq!(failed, 0);
    }
}

#[test]
fn copies_at_nodes_that_the_map_drops_are_left_though_nothing_failed_there() {
    let weather = Weather {
        nodes: 4,
        maps: 100,
        ..FAIR
    };
    let [completed, failed, lost, filled, ..] = campaign("maps", weather, 60, 3000);
    assert!(completed > 10_000 && lost > 100 && filled > 50);
    assert_eq!(failed, 0);
}

#[test]
fn after_a_crash_of_the_compute_node_all_that_was_acknowledged_is_there() {
    let weather = Weather { crash: 150, ..FAIR };
    let [completed, failed, _, _, attached, gone] = campaign("crashes", weather, 200, 3000);
    assert!(completed > 10_000 && attached > 500);
    assert_eq!((failed, gone), (0, 0));
}

#[test]
fn what_a_lost_copy_has_is_not_given_up_before_the_others_know_that_it_is_lost() {
    let weather = Weather {
        spurious: 100,
        maps: 200,
        crash: 100,
        mercy: true,
        ..FAIR
    };
    let [completed, _, lost, _, attached, gone] = campaign("replaced", weather, 200, 3000);
    assert!(completed > 10_000 && lost > 100 && attached > 500);
    assert_eq!(gone, 0);
}

#[test]
fn a_copy_that_missed_a_write_is_never_read() {
    for replicas in 1..=3 {
        let weather = Weather {
            replicas,
            nodes: 4,
            node_fails: 60,
            spurious: 400,
            maps: 500,
            crash: 300,
            restart: 300,
            refuses: 50,
            ..FAIR
        };
        campaign("storm", weather, 300, 3000);
    }
}

#[test]
fn a_memory_node_that_comes_back_empty_is_not_read_as_zeroes() {
    let weather = Weather {
        replicas: 3,
        nodes: 5,
        node_fails: 300,
        node_is_wiped: 300,
        crash: 400,
        restart: 500,
        ..FAIR
    };
    campaign("wiped", weather, 300, 3000);
}
