// SPDX-License-Identifier: GPL-2.0

//! The connection to one peer: attempts, the time that each has, and the waits between them.

use rdma_lite_core::core::connection::{Connection, Role, State, Step, Timing};

const TIMING: Timing = Timing {
    backoff_min: 10,
    backoff_max: 1000,
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

/// How much time the present attempt has.
fn patience(connection: &Connection, since: u64) -> u64 {
    let State::Connecting { until } = connection.state() else {
        panic!("no attempt is under way: {:?}", connection.state());
    };
    until - since
}

#[test]
fn an_attempt_has_more_time_than_one_that_failed_and_not_without_end() {
    let mut connection = Connection::new(Role::Active, TIMING);
    connection.want(0, true);
    let mut given = Vec::new();
    for _ in 0..7 {
        let since = attempt(&mut connection);
        given.push(patience(&connection, since));
        connection.tick(connection.next());
        assert!(matches!(connection.step(), Some(Step::Disconnect(_))));
    }
    assert_eq!(given, [3000, 6000, 12000, 24000, 48000, 48000, 48000]);
}

#[test]
fn who_listens_has_as_much_patience_as_who_asks() {
    let mut connection = Connection::new(Role::Passive, TIMING);
    connection.want(0, true);
    let mut now = 0;
    for expected in [1, 2, 4, 8, 16, 16] {
        // Asked once more before it gave up: what it had under way is over.
        assert!(connection.request(now).is_some());
        assert_eq!(connection.patience(), expected);
        assert_eq!(
            patience(&connection, now),
            TIMING.timeout * u64::from(expected)
        );
        now += 100;
    }
}

#[test]
fn a_connection_that_worked_begins_anew_with_the_shortest_times() {
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
    let again = attempt(&mut connection);
    assert_eq!(again, since + 100 + TIMING.backoff_min);
    assert_eq!(patience(&connection, again), TIMING.timeout);
}
