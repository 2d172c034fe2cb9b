//! Options of a hive, and the hive as a task of this process.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use rbee_hive::{
    HiveConfig, HiveError,
    decide::{bounds::Bounds, rules::Rules, timers::Timers},
    http::{self, Health},
};
use rbee_nats::Bus;
use rbee_schema::{HiveName, Labels, StopMode, check_labels, parse_label};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use super::{store::StoreOptions, worker::WorkerOptions};
use crate::{
    error::CliError,
    host::host,
    metrics,
    signals::{self, Signals},
};

/// Options of a hive.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hive")]
pub(crate) struct HiveOptions {
    /// Name of the hive [default: host name].
    #[arg(long, env = "RBEE_HIVE", hide_env_values = true, value_name = "NAME")]
    name: Option<HiveName>,
    /// Ports that workers may use (FIRST-LAST).
    #[arg(long, env = "RBEE_PORTS", hide_env_values = true, default_value = "8080-9999",
          value_parser = parse_port_range, value_name = "RANGE")]
    ports: RangeInclusive<u16>,
    /// Serve metrics and health on this address. Port 0 takes any free port [default: 127.0.0.1:7834, or any free port].
    #[arg(long, env = "RBEE_METRICS", hide_env_values = true, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Run at most this many workers [default: 32 for each core].
    #[arg(long, env = "RBEE_MAX_WORKERS", hide_env_values = true, value_name = "N")]
    max_workers: Option<u32>,
    /// Labels of this hive (NAME=VALUE,...). A model's `labels` select hives by them.
    #[arg(long, env = "RBEE_LABELS", hide_env_values = true, value_delimiter = ',', value_parser = parse_label,
          value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Timeouts and intervals of the hive (NAME=DURATION,...), such as drain=1m,hang=1m.
    #[arg(long, hide = true, env = "RBEE_TIMERS", default_value = "", value_name = "NAME=DURATION")]
    timers: Timers,
    /// Limits of the hive (NAME=VALUE,...), such as loop_exits=3,log_size=1MiB.
    #[arg(
        long = "hive-limits",
        alias = "bounds",
        hide = true,
        env = "RBEE_HIVE_LIMITS",
        default_value = "",
        value_name = "NAME=VALUE"
    )]
    hive_limits: Bounds,
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    worker: WorkerOptions,
}

/// Bus and trace collector of the workers of a hive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerConnection<'a> {
    pub(crate) nats_url: &'a str,
    pub(crate) otlp: Option<&'a str>,
}

/// A running hive.
pub(crate) struct RunningHive {
    /// URL of its metrics.
    pub(crate) metrics: String,
    stop: watch::Sender<Option<StopMode>>,
    task: JoinHandle<Result<(), HiveError>>,
}

impl HiveOptions {
    /// Name of the hive.
    pub(crate) fn name(&self) -> HiveName {
        self.name.clone().unwrap_or_else(|| HiveName::from_lossy(host().as_str()))
    }

    /// Timers and limits of the hive.
    pub(crate) fn rules(&self) -> Rules {
        Rules { timers: self.timers.clone(), bounds: self.hive_limits.clone() }
    }

    /// Starts a hive as a task of this process.
    ///
    /// # Errors
    /// The options do not fit each other, the worker program is missing, or the metrics address cannot be bound.
    pub(crate) fn start(
        &self,
        data: PathBuf,
        bus: Bus,
        connection: WorkerConnection<'_>,
        recorder: PrometheusHandle,
    ) -> Result<RunningHive, CliError> {
        let mismatch =
            |why| CliError::usage(format!("the timers of the hive and the settings of its workers conflict: {why}"));
        self.timers.check_with(self.worker.settings()).map_err(mismatch)?;
        let worker_program = self.worker.program()?;
        let listener = metrics::listen(self.metrics)?;
        let metrics = metrics::url(&listener)?;
        let config = HiveConfig {
            name: self.name(),
            host: host(),
            ports: self.ports.clone(),
            store: self.store.config(&data, &self.rules())?,
            data,
            worker_program,
            nats_url: connection.nats_url.to_owned(),
            limits: self.worker.limits(),
            devices: self.worker.devices(),
            max_workers: self.max_workers.unwrap_or_else(default_max_workers),
            labels: self.labels()?,
            rules: self.rules(),
            worker: self.worker.settings().clone(),
            metrics: Some(metrics.clone()),
            otlp: connection.otlp.map(str::to_owned),
        };
        let (stop, requested) = watch::channel(None);
        let (health, reported) = watch::channel(Health::Recovering);
        // Metrics and health are served exactly as long as the hive runs.
        let serving = AbortOnDropHandle::new(tokio::spawn(http::serve(listener, reported, recorder)));
        let task = tokio::spawn(async move {
            let _serving = serving;
            rbee_hive::run(config, bus, health, requested).await
        });
        Ok(RunningHive { metrics, stop, task })
    }

    fn labels(&self) -> Result<Labels, CliError> {
        let labels: Labels = self.labels.iter().cloned().collect();
        check_labels(&labels).map_err(CliError::usage)?;
        Ok(labels)
    }
}

impl RunningHive {
    /// Waits until the hive ends without a signal to this process, such as after `rbee stop`.
    pub(crate) async fn ended(&mut self) -> Result<(), CliError> {
        hive_result((&mut self.task).await)
    }

    /// Stops the hive and waits until it has ended. Each further signal makes the stop more urgent.
    pub(crate) async fn stop(self, signals: &mut Signals) -> Result<(), CliError> {
        hive_result(signals::stop_hive(&self.stop, self.task, async || signals.next().await).await)
    }
}

fn hive_result(ended: Result<Result<(), HiveError>, tokio::task::JoinError>) -> Result<(), CliError> {
    Ok(ended.map_err(|error| CliError::failed(format!("the hive panicked: {error}")))??)
}

/// 32 workers for each core: more on one core would only wait for each other.
fn default_max_workers() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(32)
}

/// Parser of a port range, such as `8080-9999`.
pub(crate) fn parse_port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let invalid = || {
        format!("`{text}` is no port range: expected FIRST-LAST with 1 <= FIRST <= LAST <= 65535, such as 8080-9999")
    };
    let (first, last) = text.split_once('-').ok_or_else(invalid)?;
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first >= 1 && first <= last => Ok(first..=last),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_port_of_a_range_is_not_above_the_last() {
        assert_eq!(parse_port_range("8080-9999"), Ok(8080..=9999));
        assert_eq!(parse_port_range("8080-8080"), Ok(8080..=8080));
        for wrong in ["", "8080", "0-10", "0-0", "9-8", "1-70000", "a-b", "0"] {
            let error = parse_port_range(wrong).expect_err(wrong);
            assert!(error.contains("8080-9999"), "{error}");
        }
    }
}
