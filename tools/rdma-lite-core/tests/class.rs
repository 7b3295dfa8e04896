// SPDX-License-Identifier: GPL-2.0

//! Classes of service: shares are kept whatever comes, and nobody starves.

use proptest::prelude::*;
use rdma_lite_core::core::{lanes, Class, FairTurns, Gate, Places, Share};

const LONGEST: u32 = 65536;

fn share() -> impl Strategy<Value = Share> {
    Share::RANGE.prop_map(|percent| Share::new(percent).unwrap())
}

#[test]
fn no_class_is_without_a_share() {
    for percent in [0, 49, 96, 100, 255] {
        assert!(Share::new(percent).is_err(), "{percent}");
    }
    assert_eq!(Share::DEFAULT.of(Class::High), 75);
    assert_eq!(Share::DEFAULT.of(Class::Normal), 25);
}

#[test]
fn who_is_alone_sends_all_it_has() {
    let mut turns = FairTurns::new(Share::DEFAULT);
    for class in Class::ALL {
        for _ in 0..100 {
            assert_eq!(turns.next(|c| c == class), Some(class));
            turns.sent(class, LONGEST);
        }
    }
    assert_eq!(turns.next(|_| false), None);
}

#[test]
fn a_rest_is_not_saved_up() {
    let mut turns = FairTurns::new(Share::DEFAULT);
    for _ in 0..1000 {
        turns.sent(Class::Normal, 1000);
    }
    // The high class comes back, and does not get all that it did not want.
    let mut normal = 0;
    for _ in 0..100 {
        let class = turns.next(|_| true).unwrap();
        normal += usize::from(class == Class::Normal);
        turns.sent(class, 1000);
    }
    assert!((24..=26).contains(&normal), "{normal}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Over any time in which both want to send, each has its share, to within its longest messages;
    /// whatever was before that.
    #[test]
    fn both_get_their_share_whatever_they_send(
        share in share(),
        before in prop::collection::vec((any::<bool>(), 1..LONGEST), 0..100),
        lengths in prop::collection::vec((1..LONGEST, 1..LONGEST), 1..400),
    ) {
        let mut turns = FairTurns::new(share);
        for (high, len) in before {
            turns.sent(if high { Class::High } else { Class::Normal }, len);
        }
        let mut sent = [0u64; Class::COUNT];
        for (high, normal) in lengths {
            let class = turns.next(|_| true).unwrap();
            // The answer does not change by asking.
            prop_assert_eq!(turns.next(|_| true), Some(class));
            let len = if class == Class::High { high } else { normal };
            turns.sent(class, len);
            sent[class.index()] += u64::from(len);
        }
        let weigh = |class: Class| sent[class.index()] as f64 / share.of(class) as f64;
        let longest = |class: Class| f64::from(LONGEST) / share.of(class) as f64;
        let apart = (weigh(Class::High) - weigh(Class::Normal)).abs();
        // What was sent before may have put one of them ahead by a message.
        let bound = 2.0 * (longest(Class::High) + longest(Class::Normal));
        prop_assert!(apart <= bound, "{apart} > {bound}: {sent:?}");
    }

    /// Any arrivals: whoever waits is served before the other one sent more than its share allows.
    #[test]
    fn nobody_starves(
        share in share(),
        arrivals in prop::collection::vec((0usize..4, 0usize..4), 1..300),
    ) {
        let mut turns = FairTurns::new(share);
        let mut waiting = [0usize; Class::COUNT];
        let mut passed = [0u64; Class::COUNT];
        for (normal, high) in arrivals {
            waiting[Class::Normal.index()] += normal;
            waiting[Class::High.index()] += high;
            let Some(class) = turns.next(|c| waiting[c.index()] != 0) else { continue };
            prop_assert!(waiting[class.index()] != 0);
            waiting[class.index()] -= 1;
            turns.sent(class, 100);
            for other in Class::ALL {
                let at = other.index();
                passed[at] = if other == class || waiting[at] == 0 { 0 } else { passed[at] + 1 };
                let most = (100 - share.of(other)).div_ceil(share.of(other)) + 1;
                prop_assert!(passed[at] <= most, "{other:?} was passed by {} times", passed[at]);
            }
        }
    }

    /// Takes and returns in any order: never more than there are; and while both want places, each
    /// gets at least its share as places come free.
    #[test]
    fn places_are_never_taken_twice_and_each_class_has_its_share(
        share in share(),
        most in 1usize..200,
        steps in prop::collection::vec((any::<bool>(), any::<bool>()), 0..1000),
    ) {
        let mut places = Places::new(most, share);
        let mut taken = [0usize; Class::COUNT];
        for (high, give) in steps {
            let class = if high { Class::High } else { Class::Normal };
            if give {
                if taken[class.index()] != 0 {
                    places.give_back(class, 1);
                    taken[class.index()] -= 1;
                }
            } else if places.take(class, 1) {
                taken[class.index()] += 1;
            }
            prop_assert!(taken.iter().sum::<usize>() <= most);
            prop_assert_eq!(places.taken(class), taken[class.index()]);
        }
        // A flood of both: what the other one had comes free, and each ends with its share.
        for _ in 0..2 * most {
            for class in Class::ALL {
                while places.take(class, 1) {
                    taken[class.index()] += 1;
                }
            }
            for class in Class::ALL {
                if taken[class.index()] as u64 * 100 > most as u64 * share.of(class) {
                    places.give_back(class, 1);
                    taken[class.index()] -= 1;
                }
            }
        }
        for class in Class::ALL {
            let least = most as u64 * share.of(class) / 100;
            prop_assert!(taken[class.index()] as u64 >= least, "{class:?}: {taken:?}");
        }
    }
}

#[test]
fn a_flood_of_one_class_leaves_the_other_its_places() {
    let mut places = Places::new(100, Share::DEFAULT);
    // Nobody was here: all are for who comes.
    let mut normal = 0;
    while places.take(Class::Normal, 1) {
        normal += 1;
    }
    assert_eq!(normal, 100);
    // The high class wants some: its share is kept for it as places come free.
    assert!(!places.take(Class::High, 1));
    for _ in 0..75 {
        places.give_back(Class::Normal, 1);
        assert!(!places.take(Class::Normal, 1));
        assert!(places.take(Class::High, 1));
    }
    assert!(!places.take(Class::High, 1));
    assert_eq!(places.taken(Class::Normal), 25);
}

#[test]
fn nothing_is_kept_for_who_does_not_come_back() {
    let mut places = Places::new(10, Share::DEFAULT);
    assert!(places.take(Class::Normal, 10));
    assert!(!places.take(Class::High, 1));
    places.give_back(Class::Normal, 1);
    for _ in 0..Places::PATIENCE {
        assert!(!places.take(Class::Normal, 1));
    }
    assert!(places.take(Class::Normal, 1));
    // Nor for who has been there and has gone.
    places.give_back(Class::Normal, 10);
    assert!(places.take(Class::High, 1));
    places.give_back(Class::High, 1);
    assert!(places.take(Class::Normal, 9));
    assert!(places.take(Class::Normal, 1));
}

#[test]
fn who_wants_more_than_its_share_at_once_gets_it_when_it_has_nothing() {
    let mut places = Places::new(1000, Share::DEFAULT);
    assert!(places.take(Class::High, 100));
    assert!(places.take(Class::Normal, 900));
    assert!(!places.take(Class::Normal, 1));
    places.give_back(Class::Normal, 900);
    assert!(!places.take(Class::Normal, 901));
}

/// Writers of both classes in a loop, each with one access at a time, and a device that ends them in any
/// order. Returns the bytes that each class moved while the high class did `rounds` accesses.
fn moved(
    share: Share,
    writers: [usize; 2],
    sizes: [usize; 2],
    seed: u64,
    rounds: usize,
) -> [u64; 2] {
    let mut gate = Gate::new(64, share);
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut idle = writers;
    for class in Class::ALL {
        for _ in 0..writers[class.index()] {
            gate.wait(class);
        }
    }
    let mut under_way: Vec<Class> = Vec::new();
    let mut moved = [0; 2];
    let mut ended = 0;
    while ended < rounds {
        // Whoever waits asks, in any order.
        for _ in 0..8 {
            let class = if random(2) == 0 {
                Class::High
            } else {
                Class::Normal
            };
            let at = class.index();
            if idle[at] != 0 && gate.take(class, sizes[at]) {
                gate.gone(class);
                idle[at] -= 1;
                under_way.push(class);
            }
            let bytes: usize = Class::ALL.iter().map(|c| gate.under_way(*c)).sum();
            assert!(bytes <= Gate::WINDOW.max(sizes[0]).max(sizes[1]));
        }
        if !under_way.is_empty() {
            let class = under_way.swap_remove(random(under_way.len()));
            let at = class.index();
            gate.give_back(class, sizes[at]);
            gate.wait(class);
            idle[at] += 1;
            moved[at] += sizes[at] as u64;
            ended += usize::from(class == Class::High);
        }
    }
    moved
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However many writers the classes have, enough to fill the window, and however long their writes:
    /// each class gets its share of the bytes.
    #[test]
    fn a_flood_of_writes_leaves_the_other_class_its_share_of_bytes(
        share in share(),
        writers in prop::array::uniform2(9usize..40),
        sizes in prop::array::uniform2(128 * 1024..256usize * 1024),
        seed: u64,
    ) {
        let moved = moved(share, writers, sizes, seed, 3000);
        let weigh = |class: Class| moved[class.index()] as f64 / share.of(class) as f64;
        let ratio = weigh(Class::High) / weigh(Class::Normal);
        prop_assert!((0.8..1.25).contains(&ratio), "{ratio}: {moved:?}");
    }
}

#[test]
fn who_is_alone_may_have_more_than_the_window_under_way() {
    let mut gate = Gate::new(64, Share::DEFAULT);
    for _ in 0..64 {
        assert!(gate.take(Class::Normal, 256 * 1024));
    }
    assert!(!gate.take(Class::Normal, 1));
    // The high class comes: it is next, as soon as the window has room.
    gate.wait(Class::High);
    for _ in 0..60 {
        gate.give_back(Class::Normal, 256 * 1024);
        assert!(!gate.take(Class::Normal, 256 * 1024));
        assert!(!gate.take(Class::High, 4096));
    }
    gate.give_back(Class::Normal, 256 * 1024);
    assert!(!gate.take(Class::Normal, 4096));
    assert!(gate.take(Class::High, 4096));
}

#[test]
fn who_gives_up_is_not_waited_for() {
    let mut gate = Gate::new(64, Share::DEFAULT);
    gate.wait(Class::High);
    assert!(!gate.take(Class::Normal, 100));
    gate.gone(Class::High);
    assert!(gate.take(Class::Normal, 100));
}

#[test]
fn accesses_have_lanes_of_their_class_where_there_are_enough() {
    for turn in 0..20 {
        for class in Class::ALL {
            assert_eq!(lanes::for_access(class, 1, turn), 0);
        }
        assert_eq!(lanes::for_access(Class::High, 2, turn), 0);
        assert_eq!(lanes::for_access(Class::Normal, 2, turn), 1);
        for all in 3..=lanes::MOST {
            assert_eq!(lanes::for_access(Class::High, all, turn), 1);
            assert!((2..all).contains(&lanes::for_access(Class::Normal, all, turn)));
        }
    }
    // Those of the normal class are used in turn.
    let used: std::collections::BTreeSet<_> = (0..8)
        .map(|turn| lanes::for_access(Class::Normal, 8, turn))
        .collect();
    assert_eq!(used.len(), 6);
}
