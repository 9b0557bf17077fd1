//! How it goes: for monitors, for Prometheus and for a person.

use crate::agent::devices::{DeviceHandle, DeviceStatus};
use crate::agent::metrics::gauge;
use crate::agent::worker::WorkerError;
use crate::agent::{Agent, LedgerCounts};
use crate::client::api::{Counts, DeviceHealth, Health, HealthDetails, Queues};
use crate::error::Result;
use crate::ledger::verify::Chain;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The reader is in trouble when one look takes longer than this.
const SLOW: Duration = Duration::from_secs(5);

/// Counting looks at every token: anybody may ask for it, and nobody make it happen more often than that.
const COUNTS_STAND: Duration = Duration::from_secs(10);

/// Tokens that expire within this time are counted.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

impl Agent {
    /// What is wrong; empty if nothing is.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.store_trouble());
        problems.extend(self.checkpoints.trouble());
        problems.extend(self.rotations.problems());
        if self.reader.load().busy_for().is_some_and(|busy| busy > SLOW) {
            problems.push("the store does not answer".into());
        }
        for device in &self.devices {
            let (status, why) = device.status();
            if !matches!(status, DeviceStatus::Ready | DeviceStatus::Unused) {
                problems.push(format!("{}: {}: {why}", device.name, status.word()));
            }
        }
        problems
    }

    /// Whether all is well; the owner hears why not.
    pub fn health(&self, owner: bool) -> Health {
        let problems = self.problems();
        let status = if problems.is_empty() { "ok" } else { "degraded" };
        Health { status: status.into(), details: owner.then(|| self.health_details(problems)) }
    }

    fn health_details(&self, problems: Vec<String>) -> HealthDetails {
        HealthDetails {
            problems,
            uptime_seconds: self.started.elapsed().as_secs(),
            devices: self.devices.iter().map(|device| device_health(device)).collect(),
            witnesses: self.checkpoints.witnesses(),
            cached_tokens: self.cache.len(),
            queues: Queues { reader: self.reader.load().waiting(), writer: self.writer.load().waiting() },
            counts: Counts {
                opened: self.metrics.opened.value(),
                cached: self.metrics.cached.value(),
                failed: self.metrics.failed.value(),
                denied: self.metrics.denied.value(),
                changed: self.metrics.changed.value(),
                requests: self.metrics.requests.value(),
            },
        }
    }

    /// Numbers for Prometheus.
    ///
    /// # Errors
    /// The replica's.
    pub async fn metrics(&self) -> Result<String> {
        let (tokens, expiring, n) = self.tokens_counted().await?;
        let mut out = String::with_capacity(8192);
        self.metrics.write(&mut out);
        let (reader, writer) = (self.reader.load().waiting() as u64, self.writer.load().waiting() as u64);
        for (name, what, value) in [
            ("tokens", "Living tokens", tokens),
            ("tokens_expiring", "Active tokens that expire within 7 days or did", expiring),
            ("ledger_position", "Verified statements", n),
            ("cached_tokens", "Tokens in locked memory", self.cache.len() as u64),
            ("queue_reader", "Requests waiting for the reader", reader),
            ("queue_writer", "Requests waiting for the writer", writer),
            ("healthy", "1 when all is well", self.problems().is_empty().into()),
        ] {
            gauge(&mut out, name, what, [(String::new(), value)]);
        }
        self.device_numbers(&mut out);
        self.witness_numbers(&mut out);
        self.rotations.write(&mut out);
        Ok(out)
    }

    /// Living tokens, those that expire soon, and the ledger's length. Counted once in a while, however many ask.
    async fn tokens_counted(&self) -> Result<LedgerCounts> {
        // Held while they are counted: those who ask meanwhile get the same numbers.
        let known = tokio::time::timeout(self.deadline, self.numbers.lock()).await;
        let mut known = known.map_err(|_| WorkerError::Late.into_error("count tokens", "the store"))?;
        if let Some((_, numbers)) = known.filter(|(at, _)| at.elapsed() < COUNTS_STAND) {
            return Ok(numbers);
        }
        let soon = u64::try_from(SOON.as_millis()).unwrap_or(u64::MAX);
        let counters_checked = self.read(false, "count tokens", move |reader| {
            let until = reader.vault.latest_time().saturating_add(soon);
            let replica = reader.vault.replica();
            Ok((replica.count()?, replica.count_expiring(until)?, replica.position().n))
        });
        let numbers = counters_checked.await?;
        *known = Some((Instant::now(), numbers));
        Ok(numbers)
    }

    fn witness_numbers(&self, out: &mut String) {
        let label = |name: &str| format!("{{device=\"{}\"}}", name.replace(['"', '\\', '\n'], "_"));
        let ages = self.checkpoints.witnesses();
        let ages = ages.iter().filter_map(|witness| Some((label(&witness.device), witness.age_seconds?)));
        gauge(out, "checkpoint_age_seconds", "Age of each witness's checkpoint", ages);
    }

    /// One family after the other, each with all devices.
    fn device_numbers(&self, out: &mut String) {
        let label =
            |device: &DeviceHandle| format!("device=\"{}\"", device.name.replace(['"', '\\', '\n'], "_"));
        let mut each = |name: &str, what: &str, value: &dyn Fn(&DeviceHandle) -> usize| {
            let values = self.devices.iter().map(|device| (format!("{{{}}}", label(device)), value(device)));
            gauge(out, &format!("device_{name}"), what, values);
        };
        let is =
            |device: &DeviceHandle, these: &[DeviceStatus]| usize::from(these.contains(&device.status().0));
        each("ready", "1 when the device opens tokens, as far as is known", &|device| {
            is(device, &[DeviceStatus::Ready, DeviceStatus::Unused])
        });
        each("pin_refused", "1 when the device refused a PIN", &|device| {
            is(device, &[DeviceStatus::Refused])
        });
        each("pin_locked", "1 when the device takes no PIN", &|device| {
            is(device, &[DeviceStatus::LockedOut])
        });
        each("queue", "Requests waiting for the device", &|device| device.thread().load().waiting());
        let _ = writeln!(out, "# HELP strongroom_device_seconds Time of the device's operations.");
        let _ = writeln!(out, "# TYPE strongroom_device_seconds histogram");
        for device in &self.devices {
            device.thread().load().latency.write(out, "strongroom_device_seconds", &label(device));
        }
    }
}

fn device_health(device: &DeviceHandle) -> DeviceHealth {
    let (status, why) = device.status();
    DeviceHealth {
        device: device.name.clone(),
        id: device.id().map(|id| id.to_string()),
        status: status.word().into(),
        why,
        waiting: device.thread().load().waiting(),
    }
}
