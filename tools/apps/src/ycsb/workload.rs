// SPDX-License-Identifier: GPL-2.0

//! What the six workloads do, as YCSB's core package has them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// YCSB's own constant of its Zipf distributions.
const ZIPF: f64 = 0.99;
/// Most records of a scan.
const LONGEST_SCAN: u32 = 100;

/// By YCSB's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads.
    C,
    /// 95 % reads, of the latest most of all; 5 % inserts.
    D,
    /// 95 % scans, 5 % inserts.
    E,
    /// Half reads; half reads, each followed by an update.
    F,
}

/// One step. Records are numbered in the order of their inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Of a record.
    Read(u64),
    /// Of a record.
    Update(u64),
    /// Of the next one.
    Insert(u64),
    /// From a record on, so many.
    Scan(u64, u32),
    /// An update that looks first.
    ReadModifyWrite(u64),
}

/// Zipf ranks below a number that may grow (Gray and others, "Quickly generating billion-record synthetic databases").
#[derive(Debug)]
struct Zipf {
    items: u64,
    zeta: f64,
    zeta_2: f64,
}

impl Zipf {
    fn new(items: u64) -> Self {
        let mut zipf = Self {
            items: 0,
            zeta: 0.0,
            zeta_2: 1.0 + 0.5_f64.powf(ZIPF),
        };
        zipf.grow(items);
        zipf
    }

    fn grow(&mut self, items: u64) {
        let more = self.items + 1..=items;
        self.zeta += more.map(|i| 1.0 / (i as f64).powf(ZIPF)).sum::<f64>();
        self.items = items;
    }

    fn next(&self, rng: &mut ChaCha8Rng) -> u64 {
        let u: f64 = rng.random();
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < self.zeta_2 {
            return 1;
        }
        let n = self.items as f64;
        let eta = (1.0 - (2.0 / n).powf(1.0 - ZIPF)) / (1.0 - self.zeta_2 / self.zeta);
        let rank = n * (eta * u - eta + 1.0).powf(1.0 / (1.0 - ZIPF));
        (rank as u64).min(self.items - 1)
    }
}

/// The operations of a workload on so many records, without an end; the same for the same seed.
#[derive(Debug)]
pub struct Operations {
    workload: Workload,
    rng: ChaCha8Rng,
    zipf: Zipf,
    records: u64,
}

impl Workload {
    /// By its letter.
    pub fn named(letter: &str) -> Option<Self> {
        match letter {
            "a" | "A" => Some(Self::A),
            "b" | "B" => Some(Self::B),
            "c" | "C" => Some(Self::C),
            "d" | "D" => Some(Self::D),
            "e" | "E" => Some(Self::E),
            "f" | "F" => Some(Self::F),
            _ => None,
        }
    }

    /// Its operations, on two records at least.
    pub fn operations(self, records: u64, seed: u64) -> Operations {
        Operations {
            workload: self,
            rng: ChaCha8Rng::seed_from_u64(seed),
            zipf: Zipf::new(records.max(2)),
            records: records.max(2),
        }
    }
}

impl Iterator for Operations {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        let of_100 = self.rng.random_range(0..100);
        let rank = self.zipf.next(&mut self.rng);
        // Popular records are spread over all.
        let record = rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.records;
        let operation = match (self.workload, of_100) {
            (Workload::A, 50..) | (Workload::B, 95..) => Operation::Update(record),
            (Workload::F, 50..) => Operation::ReadModifyWrite(record),
            (Workload::D | Workload::E, 95..) => Operation::Insert(self.records),
            (Workload::D, _) => Operation::Read(self.records - 1 - rank),
            (Workload::E, _) => Operation::Scan(record, self.rng.random_range(1..=LONGEST_SCAN)),
            _ => Operation::Read(record),
        };
        if let Operation::Insert(_) = operation {
            self.records += 1;
            self.zipf.grow(self.records);
        }
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Workload; 6] = [
        Workload::A,
        Workload::B,
        Workload::C,
        Workload::D,
        Workload::E,
        Workload::F,
    ];

    fn share(workload: Workload, kind: impl Fn(&Operation) -> bool) -> f64 {
        let some = workload.operations(1000, 3).take(10_000);
        some.filter(kind).count() as f64 / 10_000.0
    }

    #[test]
    fn each_workload_has_its_shares() {
        let reads = |workload| share(workload, |one| matches!(one, Operation::Read(_)));
        for (workload, expected) in ALL.into_iter().zip([0.5, 0.95, 1.0, 0.95, 0.0, 0.5]) {
            let reads = reads(workload);
            assert!((reads - expected).abs() < 0.02, "{workload:?}: {reads}");
        }
        let scans = share(Workload::E, |one| matches!(one, Operation::Scan(..)));
        assert!((scans - 0.95).abs() < 0.02, "{scans}");
    }

    #[test]
    fn records_are_there_when_they_are_chosen() {
        for workload in ALL {
            let mut there = 500;
            for operation in workload.operations(there, 7).take(5000) {
                match operation {
                    Operation::Insert(record) => {
                        assert_eq!(record, there);
                        there += 1;
                    }
                    Operation::Read(record)
                    | Operation::Update(record)
                    | Operation::ReadModifyWrite(record)
                    | Operation::Scan(record, _) => assert!(record < there),
                }
            }
        }
    }

    #[test]
    fn few_records_are_chosen_often_and_in_d_the_latest() {
        let mut chosen = vec![0; 1000];
        for operation in Workload::C.operations(1000, 1).take(10_000) {
            if let Operation::Read(record) = operation {
                chosen[record as usize] += 1;
            }
        }
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        assert!(
            chosen[..100].iter().sum::<i32>() > 5500,
            "{:?}",
            &chosen[..10]
        );
        let latest = share(Workload::D, |one| matches!(one, Operation::Read(900..)));
        assert!(latest > 0.5, "{latest}");
    }
}
