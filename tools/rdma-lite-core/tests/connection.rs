// SPDX-License-Identifier: GPL-2.0

//! The connection to one peer: attempts, the time that each has, and the waits between them.

use rdma_lite_core::core::connection::{Connection, Role, State, Step, Timing};

const TIMING: Timing = Timing {
    backoff_min: 10,
    backoff_max: 100,
    timeout: 3000,
};

/// Begins the next attempt, at the earliest time at which it can; that time.
fn attempt(connection: &mut Connection) -> u64 {
    let State::Backoff { until } = connection.state() else {
        panic!("no attempt is due: {:?}", connection.state());
    };
    connection.tick(until);
    assert!(matches!(connection.step(), Some(Step::Connect(_))));
    until
}

#[test]
fn each_attempt_has_its_time_and_the_waits_between_them_double_to_a_limit() {
    let mut connection = Connection::new(Role::Active, TIMING);
    connection.want(0, true);
    let (mut ended, mut waits) = (0, Vec::new());
    for _ in 0..7 {
        let since = attempt(&mut connection);
        waits.push(since - ended);
        ended = connection.next();
        assert_eq!(ended - since, TIMING.timeout);
        connection.tick(ended);
        assert!(matches!(connection.step(), Some(Step::Disconnect(_))));
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 100, 100]);
}

#[test]
fn a_connection_that_worked_begins_anew_with_the_shortest_wait() {
    let mut connection = Connection::new(Role::Active, TIMING);
    connection.want(0, true);
    for _ in 0..3 {
        attempt(&mut connection);
        connection.tick(connection.next());
        connection.step();
    }
    let since = attempt(&mut connection);
    assert!(connection.established(connection.generation()));
    connection.proven();
    connection.lost(since + 100, connection.generation());
    assert_eq!(attempt(&mut connection), since + 100 + TIMING.backoff_min);
}

#[test]
fn who_listens_takes_the_last_request_and_tears_the_one_before_down() {
    let mut connection = Connection::new(Role::Passive, TIMING);
    assert_eq!(connection.request(0), None, "the map does not want it");
    connection.want(0, true);
    let (first, old) = connection.request(0).unwrap();
    assert_eq!(old, None);
    let (second, old) = connection.request(5).unwrap();
    assert_eq!(old, Some(first));
    assert!(!connection.established(first));
    assert!(connection.established(second));
}
