// SPDX-License-Identifier: GPL-2.0

//! What users have at a time, and when they are refused more.

use kernel::error::code::*;
use rdma_lite_core::core::account::{Account, Charge, Limits, Quiet, Totals};

const LIMITS: Limits = Limits {
    handles: 2,
    calls: 3,
    bytes: 1000,
};
const SEC: u64 = 1_000_000_000;

fn error(account: &mut Account, charge: Charge) -> Option<kernel::error::Error> {
    account.begin(charge, LIMITS, SEC).err().map(|r| r.error)
}

#[test]
fn handles_beyond_the_limit_are_refused_until_one_is_given_up() {
    let mut account = Account::new();
    assert_eq!(error(&mut account, Charge::HANDLE), None);
    assert_eq!(error(&mut account, Charge::HANDLE), None);
    assert_eq!(error(&mut account, Charge::HANDLE), Some(EDQUOT));
    account.end(Charge::HANDLE, 0);
    assert_eq!(error(&mut account, Charge::HANDLE), None);
}

#[test]
fn calls_and_their_bytes_are_refused_for_as_long_as_others_are_under_way() {
    let mut account = Account::new();
    assert_eq!(error(&mut account, Charge::call(600)), None);
    assert_eq!(error(&mut account, Charge::call(500)), Some(EAGAIN));
    assert_eq!(error(&mut account, Charge::call(400)), None);
    assert_eq!(error(&mut account, Charge::call(0)), None);
    assert_eq!(error(&mut account, Charge::call(0)), Some(EAGAIN));
    account.end(Charge::call(600), 600);
    assert_eq!(error(&mut account, Charge::call(500)), None);
}

#[test]
fn what_alone_is_more_than_the_limit_is_not_worth_another_try() {
    let mut account = Account::new();
    assert_eq!(error(&mut account, Charge::call(1001)), Some(EDQUOT));
    assert_eq!(error(&mut account, Charge::call(u64::MAX)), Some(EDQUOT));
    let many = Charge {
        calls: 4,
        ..Charge::default()
    };
    assert_eq!(error(&mut account, many), Some(EDQUOT));
}

#[test]
fn what_is_refused_takes_nothing() {
    let mut account = Account::new();
    let both = Charge {
        handles: 1,
        calls: 1,
        bytes: 1001,
    };
    assert_eq!(error(&mut account, both), Some(EDQUOT));
    assert_eq!(account.now(), Charge::default());
    let told = Totals {
        refused: 1,
        ..Totals::default()
    };
    assert_eq!(account.totals(), told);
}

#[test]
fn without_limits_everything_is_counted_and_nothing_refused() {
    let mut account = Account::new();
    for _ in 0..100 {
        let charge = Charge::call(1 << 40);
        assert_eq!(account.begin(charge, Limits::default(), SEC), Ok(()));
        account.end(charge, 7);
    }
    let totals = Totals {
        calls: 100,
        bytes: 700,
        refused: 0,
    };
    assert_eq!(
        (account.now(), account.totals()),
        (Charge::default(), totals)
    );
}

#[test]
fn sums_that_would_wrap_are_refused() {
    let mut account = Account::new();
    let charge = Charge::call(u64::MAX);
    assert_eq!(account.begin(charge, Limits::default(), SEC), Ok(()));
    let refused = account.begin(Charge::call(1), Limits::default(), SEC);
    assert!(refused.is_err());
}

#[test]
fn a_limit_that_sank_refuses_only_more_of_its_kind() {
    let mut account = Account::new();
    for _ in 0..2 {
        assert_eq!(error(&mut account, Charge::HANDLE), None);
    }
    let less = Limits {
        handles: 1,
        ..LIMITS
    };
    assert_eq!(account.begin(Charge::call(5), less, SEC), Ok(()));
    assert!(account.begin(Charge::HANDLE, less, SEC).is_err());
}

#[test]
fn the_operator_is_told_at_once_and_then_rarely() {
    let mut account = Account::new();
    let mut refuse = |now| {
        let refusal = account.begin(Charge::call(1001), LIMITS, now).unwrap_err();
        assert_eq!((refusal.what, refusal.limit), ("bytes", 1000));
        refusal.tell
    };
    assert!(refuse(SEC));
    assert!(!refuse(SEC));
    assert!(!refuse(SEC + Quiet::TIME - 1));
    assert!(refuse(SEC + Quiet::TIME));
    assert!(!refuse(2 * SEC + Quiet::TIME));
}
