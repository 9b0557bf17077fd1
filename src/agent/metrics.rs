//! What the agent counts, in the text format of Prometheus. Never a token, and no token's name.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, how often.
#[derive(Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS.len()],
    count: Counter,
    micros: AtomicU64,
}

impl Histogram {
    /// It took this long, once more.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS.iter().position(|bound| micros <= *bound) {
            self.buckets[bucket].add();
        }
        self.count.add();
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// In Prometheus's words; `labels` without braces.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut sum = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            sum += bucket.value();
            let seconds = Duration::from_micros(*bound).as_secs_f64();
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{seconds}\"}} {sum}");
        }
        let count = self.count.value();
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}");
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

/// Of the whole agent.
#[derive(Default)]
pub struct Metrics {
    /// Tokens opened by a device.
    pub opened: Counter,
    /// Tokens answered from the cache.
    pub cached: Counter,
    /// Tokens that could not be opened.
    pub failed: Counter,
    /// Requests refused for want of a grant.
    pub denied: Counter,
    /// Changes made.
    pub changed: Counter,
    /// Checkpoints signed by the agent itself.
    pub checkpoints: Counter,
    /// Tokens rotated by the agent itself.
    pub rotations: Counter,
    /// Attempts at that which failed.
    pub failed_rotations: Counter,
    /// Requests of any kind.
    pub requests: Counter,
    /// Connections taken.
    pub connections: Counter,
    /// Connections closed at once because there were too many.
    pub turned_away: Counter,
    /// systemd credentials handed out.
    pub credentials: Counter,
}

impl Metrics {
    /// The counters in Prometheus's words.
    pub fn write(&self, out: &mut String) {
        for (name, what, counter) in [
            ("opens_total", "Tokens opened by a device", &self.opened),
            ("cached_opens_total", "Tokens answered from locked memory", &self.cached),
            ("failed_opens_total", "Tokens that were granted and could not be opened", &self.failed),
            ("denials_total", "Requests refused for want of a grant", &self.denied),
            ("changes_total", "Changes signed for clients", &self.changed),
            ("checkpoints_total", "Rounds of checkpoints signed by the agent itself", &self.checkpoints),
            ("rotations_total", "Tokens rotated by the agent itself", &self.rotations),
            ("failed_rotations_total", "Attempts at that which failed", &self.failed_rotations),
            ("requests_total", "Requests of any kind", &self.requests),
            ("connections_total", "Connections taken", &self.connections),
            ("turned_away_total", "Connections closed because there were too many", &self.turned_away),
            ("credentials_total", "systemd credentials handed out", &self.credentials),
        ] {
            let _ = writeln!(out, "# HELP strongroom_{name} {what}.\n# TYPE strongroom_{name} counter");
            let _ = writeln!(out, "strongroom_{name} {}", counter.value());
        }
    }
}

/// A gauge in Prometheus's words: all its values, each with its labels in braces, or none.
pub fn gauge<V: std::fmt::Display>(
    out: &mut String,
    name: &str,
    what: &str,
    values: impl IntoIterator<Item = (String, V)>,
) {
    let _ = writeln!(out, "# HELP strongroom_{name} {what}.\n# TYPE strongroom_{name} gauge");
    for (labels, value) in values {
        let _ = writeln!(out, "strongroom_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        for micros in [50, 100, 400, 60_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x", "device=\"a\"");
        assert!(text.contains("x_bucket{device=\"a\",le=\"0.0001\"} 2\n"), "{text}");
        assert!(text.contains("le=\"0.0005\"} 3\n") && text.contains("le=\"10\"} 3\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 4\n") && text.contains("x_count{device=\"a\"} 4\n"), "{text}");
    }
}
