// SPDX-License-Identifier: GPL-2.0

//! Who waits for an access to begin: in order, with the shares of the classes, and nobody is forgotten.

use kernel::{alloc::inject, error::code::ENOMEM};
use proptest::prelude::*;
use rdma_lite_core::core::{Admission, Class, Gate, Share};

type Waiters = Admission<usize>;

fn enter(all: &mut Waiters, class: Class, bytes: usize, who: usize) -> bool {
    all.enter(class, bytes, || who).unwrap()
}

#[test]
fn those_of_a_class_begin_in_the_order_in_which_they_came() {
    let mut all = Waiters::new(Gate::new(2, Share::DEFAULT));
    assert!(enter(&mut all, Class::Normal, 100, 0));
    assert!(enter(&mut all, Class::Normal, 100, 1));
    for who in 2..6 {
        assert!(!enter(&mut all, Class::Normal, 100, who));
    }
    assert_eq!(all.admit(), None);
    for who in 2..6 {
        all.leave(Class::Normal, 100);
        assert_eq!(all.admit(), Some((Class::Normal, 100, who)));
        assert_eq!(all.admit(), None, "one place, one access");
    }
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    let mut all = Waiters::new(Gate::new(1, Share::DEFAULT));
    assert!(enter(&mut all, Class::Normal, 1, 0));
    assert!(!enter(&mut all, Class::Normal, 1, 1));
    all.leave(Class::Normal, 1);
    assert!(
        !enter(&mut all, Class::Normal, 1, 2),
        "there is room, but not for this one"
    );
    assert_eq!(all.admit(), Some((Class::Normal, 1, 1)));
}

#[test]
fn who_withdraws_is_not_waited_for_and_lets_the_other_class_begin() {
    let mut all = Waiters::new(Gate::new(64, Share::DEFAULT));
    assert!(enter(&mut all, Class::Normal, Gate::WINDOW, 0));
    assert!(enter(&mut all, Class::Normal, 1, 1));
    assert!(!enter(&mut all, Class::High, 4096, 2), "the window is full");
    assert!(
        !enter(&mut all, Class::Normal, 1, 3),
        "the high class is next"
    );
    assert!(
        !all.withdraw(Class::Normal, |who| *who == 2),
        "it is of the other class"
    );
    assert!(all.withdraw(Class::High, |who| *who == 2));
    assert!(!all.withdraw(Class::High, |who| *who == 2));
    all.leave(Class::Normal, Gate::WINDOW);
    assert_eq!(all.admit(), Some((Class::Normal, 1, 3)));
}

#[test]
fn all_who_wait_are_turned_away_when_there_is_nothing_to_wait_for() {
    let mut all = Waiters::new(Gate::new(1, Share::DEFAULT));
    assert!(enter(&mut all, Class::High, 1, 0));
    assert!(!enter(&mut all, Class::High, 1, 1));
    assert!(!enter(&mut all, Class::Normal, 1, 2));
    let mut away = [all.turn_away().unwrap(), all.turn_away().unwrap()];
    away.sort_unstable();
    assert_eq!(away, [1, 2]);
    assert_eq!(all.turn_away(), None);
}

#[test]
fn who_has_no_memory_to_wait_with_hears_so_and_is_not_waited_for() {
    let mut all = Waiters::new(Gate::new(64, Share::DEFAULT));
    assert!(enter(&mut all, Class::Normal, Gate::WINDOW, 0));
    let failing = inject::fail_nth(0);
    let refused = all.enter(Class::High, 4096, || unreachable!("it does not wait"));
    assert!(failing.fired());
    assert_eq!(refused, Err(ENOMEM));
    assert_eq!(all.under_way(Class::High), 0);
    assert_eq!(all.under_way(Class::Normal), Gate::WINDOW);
    assert!(!all.withdraw(Class::High, |_| true));
    assert!(
        enter(&mut all, Class::Normal, 1, 1),
        "the other class is alone"
    );
    all.leave(Class::Normal, Gate::WINDOW);
    assert_eq!(all.admit(), None);
    assert_eq!(all.turn_away(), None);
}

#[derive(Clone, Debug)]
enum Event {
    Enter(bool, usize),
    /// One of those under way ends.
    End(prop::sample::Index),
    /// One of those that wait gives up.
    Withdraw(prop::sample::Index),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (any::<bool>(), 1usize..512 * 1024).prop_map(|(high, bytes)| Event::Enter(high, bytes)),
        2 => any::<prop::sample::Index>().prop_map(Event::End),
        1 => any::<prop::sample::Index>().prop_map(Event::Withdraw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, ends and gives up in whatever order: nobody waits while nothing is under way, and
    /// when all that are under way have ended, all have begun, in the order of their class.
    #[test]
    fn nobody_waits_for_ever(
        places in 1usize..8,
        share in Share::RANGE.prop_map(|percent| Share::new(percent).unwrap()),
        events in prop::collection::vec(event(), 0..200),
        last: prop::sample::Index,
    ) {
        let mut all = Waiters::new(Gate::new(places, share));
        let mut waiting: Vec<(Class, usize)> = Vec::new();
        let mut under_way: Vec<(Class, usize)> = Vec::new();
        let ends = (0..400).map(|_| Event::End(last));
        for (who, event) in events.into_iter().chain(ends).enumerate() {
            // Who enters lets nobody else in: only what ends and who gives up does.
            let lets_in = !matches!(event, Event::Enter(..));
            match event {
                Event::Enter(high, bytes) => {
                    let class = if high { Class::High } else { Class::Normal };
                    if enter(&mut all, class, bytes, who) {
                        prop_assert!(waiting.iter().all(|(other, _)| *other != class));
                        under_way.push((class, bytes));
                    } else {
                        waiting.push((class, who));
                    }
                }
                Event::End(index) if !under_way.is_empty() => {
                    let (class, bytes) = under_way.swap_remove(index.index(under_way.len()));
                    all.leave(class, bytes);
                }
                Event::Withdraw(index) if !waiting.is_empty() => {
                    let (class, who) = waiting.remove(index.index(waiting.len()));
                    prop_assert!(all.withdraw(class, |other| *other == who));
                }
                Event::End(_) | Event::Withdraw(_) => {}
            }
            while let Some((class, bytes, who)) = lets_in.then(|| all.admit()).flatten() {
                let first = waiting.iter().position(|(other, _)| *other == class).unwrap();
                prop_assert_eq!(waiting.remove(first), (class, who));
                under_way.push((class, bytes));
            }
            prop_assert!(under_way.len() <= places);
            prop_assert!(waiting.is_empty() || !under_way.is_empty());
        }
        prop_assert!(waiting.is_empty() && under_way.is_empty());
    }
}
