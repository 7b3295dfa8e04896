// SPDX-License-Identifier: GPL-2.0

//! Latencies, as tools/bench.d reads them.

use serde_json::{json, Value};
use std::time::Duration;

/// How long single operations took.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// One more.
    pub fn add(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// Those of another as well.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Count, percentiles and mean, in microseconds.
    pub fn summary(&self) -> Value {
        let mut us: Vec<f64> = self.0.iter().map(|one| one.as_secs_f64() * 1e6).collect();
        us.sort_by(f64::total_cmp);
        let at = |per_mille: usize| {
            let last = us.len().saturating_sub(1);
            us.get((us.len() * per_mille / 1000).min(last)).copied()
        };
        let mean = us.iter().sum::<f64>() / us.len().max(1) as f64;
        json!({ "count": us.len(), "p50_us": at(500), "p99_us": at(990), "p999_us": at(999), "mean_us": mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let mut latencies = Latencies::default();
        for us in (0..100).rev() {
            latencies.add(Duration::from_micros(us));
        }
        let summary = latencies.summary();
        assert_eq!(summary["count"], 100);
        assert_eq!(summary["p50_us"].as_f64().unwrap().round(), 50.0);
        assert_eq!(summary["p999_us"].as_f64().unwrap().round(), 99.0);
        assert!(Latencies::default().summary()["p50_us"].is_null());
    }
}
