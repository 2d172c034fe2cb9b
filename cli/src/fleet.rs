//! Running roles in this process: what `up`, `queen` and `hive` share.

use std::{
    env,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use rbee_hive::{
    HiveConfig, HiveError,
    decide::{bounds::Bounds, rules::Rules, timers::Timers},
    http::{self, Health},
    store::{HUB, StoreConfig},
};
use rbee_nats::{Bus, BusLimits, Plan};
use rbee_queen::{
    QueenConfig,
    decide::{limits::QueenLimits, timers::Timers as QueenTimers},
    gateway,
};
use rbee_schema::{
    ByteSize, Device, HiveName, HostName, Labels, Limits, QueenName, StopMode, WorkerSettings, check_labels,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::info;

use crate::{
    outcome::Outcome,
    signals::{self, Signals},
    telemetry,
};

/// What a hive may be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct HiveOptions {
    /// The hive's name; default: the machine's.
    #[arg(long, env = "RBEE_HIVE", value_name = "NAME")]
    name: Option<HiveName>,
    /// The ports that workers may get, as FIRST-LAST.
    #[arg(long, env = "RBEE_PORTS", default_value = "8080-9999", value_parser = port_range, value_name = "RANGE")]
    ports: RangeInclusive<u16>,
    /// The worker program; default: `rbee-worker` beside this program, else on PATH.
    #[arg(long, env = "RBEE_WORKER_PROGRAM", value_name = "FILE")]
    worker_program: Option<PathBuf>,
    /// Where metrics and health are served; port 0 takes any that is free. Default: 127.0.0.1:7834, or any free port
    /// where that is taken.
    #[arg(long, env = "RBEE_METRICS", value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// How many workers the hive runs at most; default: 32 for each core, as far as memory allows.
    #[arg(long, env = "RBEE_MAX_WORKERS", value_name = "N")]
    max_workers: Option<u32>,
    /// What the worker program was built to run on: cpu, cuda or metal.
    #[arg(long, env = "RBEE_WORKER_DEVICES", default_value = "cpu", value_delimiter = ',', value_parser = crate::verb::serve::device(),
          value_name = "DEVICES")]
    worker_devices: Vec<Device>,
    /// The memory that a worker may use where its model's declaration does not say, such as 8GiB.
    #[arg(long, env = "RBEE_WORKER_MEMORY", value_name = "SIZE")]
    worker_memory: Option<ByteSize>,
    /// The files and sockets that a worker may have open where its model's declaration does not say.
    #[arg(long, env = "RBEE_WORKER_OPEN_FILES", default_value_t = 4096, value_name = "N")]
    worker_open_files: u32,
    /// What the hive is called by, as NAME=VALUE with commas: a declaration may ask for hives with certain labels.
    #[arg(long, env = "RBEE_LABELS", value_delimiter = ',', value_parser = label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// How long the hive waits for what, as NAME=DURATION with commas, such as silent=20s,hang=1m. `rbee config example`
    /// lists them with their defaults.
    #[arg(long, env = "RBEE_TIMERS", default_value = "", hide_default_value = true, value_name = "NAME=DURATION")]
    timers: Timers,
    /// What the hive bears, as NAME=VALUE with commas, such as loop_exits=3,log_size=1MiB. `rbee config example` lists them
    /// with their defaults.
    #[arg(long, env = "RBEE_BOUNDS", default_value = "", hide_default_value = true, value_name = "NAME=VALUE")]
    bounds: Bounds,
    /// What its workers wait for and bear, as NAME=VALUE with commas, such as answer_tokens=4096. Workers that run keep to
    /// what held when they started. `rbee config example` lists them with their defaults.
    #[arg(
        long,
        env = "RBEE_WORKER_SETTINGS",
        default_value = "",
        hide_default_value = true,
        value_name = "NAME=VALUE"
    )]
    worker_settings: WorkerSettings,
    /// The folder for model files that are fetched; default: `models` in the data folder. It may be one that the Hugging
    /// Face tools use.
    #[arg(long, env = "RBEE_MODELS", value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// The hub that `hf:` references are fetched from; what HF_TOKEN holds is told to it.
    #[arg(long, env = "HF_ENDPOINT", default_value = HUB, value_name = "URL")]
    hub: String,
}

impl HiveOptions {
    /// The hive's name.
    pub(crate) fn name(&self) -> HiveName {
        self.name.clone().unwrap_or_else(|| HiveName::from_lossy(host().as_str()))
    }

    fn store(&self, data: &Path) -> Result<StoreConfig, Outcome> {
        let folder = self.models.clone().unwrap_or_else(|| data.join("models"));
        let folder =
            std::path::absolute(&folder).map_err(|error| Outcome::usage(format!("{}: {error}", folder.display())))?;
        // From the environment alone: an option could be read by everybody on the machine.
        let token = env::var("HF_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(StoreConfig { endpoint: self.hub.clone(), token, ..StoreConfig::with_rules(folder, &self.rules()) })
    }

    /// How long it waits for what, and what it bears.
    pub(crate) fn rules(&self) -> Rules {
        Rules { timers: self.timers.clone(), bounds: self.bounds.clone() }
    }

    /// Whether the options fit each other.
    fn check(&self) -> Result<(), Outcome> {
        let wrong = |why| Outcome::usage(format!("--timers and --worker-settings do not fit each other: {why}"));
        self.timers.check_with(&self.worker_settings).map_err(wrong)
    }
}

/// Where this machine's data is.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataOptions {
    /// The folder for the server's data and the workers' logs; default: `rbee` in the user's data folder.
    #[arg(long, env = "RBEE_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
}

impl DataOptions {
    /// The folder, whole.
    pub(crate) fn folder(&self) -> Result<PathBuf, Outcome> {
        let folder = match (&self.data, env::var_os("XDG_DATA_HOME"), env::var_os("HOME")) {
            (Some(data), ..) => data.clone(),
            (None, Some(data), _) => Path::new(&data).join("rbee"),
            (None, None, Some(home)) => Path::new(&home).join(".local/share/rbee"),
            (None, None, None) => return Err(Outcome::usage("there is no HOME: say where to keep data with --data")),
        };
        std::path::absolute(&folder).map_err(|error| Outcome::usage(format!("{}: {error}", folder.display())))
    }
}

/// Reads `8080-9999`.
pub(crate) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || {
        format!(
            "`{text}` is no range of ports: expected FIRST-LAST with 1 <= FIRST <= LAST <= 65535, such as 8080-9999"
        )
    };
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first >= 1 && first <= last => Ok(first..=last),
        _ => Err(wrong()),
    }
}

/// Reads `zone=attic`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no label: expected NAME=VALUE, such as zone=attic"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Labels that were given one by one.
pub(crate) fn labels(given: &[(String, String)]) -> Result<Labels, Outcome> {
    let labels: Labels = given.iter().cloned().collect();
    check_labels(&labels).map_err(Outcome::usage)?;
    Ok(labels)
}

/// The program that hives start as workers.
pub(crate) fn worker_program(named: Option<&Path>) -> Result<PathBuf, Outcome> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join("rbee-worker")));
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let looked = beside.into_iter().chain(on_path.map(|folder| folder.join("rbee-worker")));
    looked.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        Outcome::failed(
            "no rbee-worker beside this program or on PATH: build it with `cargo build -p rbee-worker`, or say where it \
             is with --worker-program",
        )
    })
}

/// This machine's name on the bus.
pub(crate) fn host() -> HostName {
    HostName::from_lossy(&gethostname::gethostname().to_string_lossy())
}

/// Brings the server's streams and buckets to what this version needs, within these limits. Who has none to say leaves those of
/// streams that are there as they are.
pub(crate) async fn prepare(bus: &Bus, limits: Option<&BusLimits>) -> Result<(), Outcome> {
    let plan = match limits {
        Some(limits) => Plan::with_limits(bus, limits).await?,
        None => Plan::compute(bus).await?,
    };
    if !plan.changes.is_empty() {
        plan.apply(bus).await?;
        info!(changes = plan.changes.len(), %plan, "the streams and buckets are prepared");
    }
    Ok(())
}

/// A role that runs until it is told to stop.
pub(crate) struct Running {
    role: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Outcome>>,
    end: Option<Result<(), Outcome>>,
}

impl Running {
    fn new(role: &'static str, stop: CancellationToken, task: JoinHandle<Result<(), Outcome>>) -> Self {
        Self { role, stop, task, end: None }
    }

    /// Waits until it ends: well, where it was told to, here or over the bus.
    pub(crate) async fn ended(&mut self) -> Result<(), Outcome> {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let panicked = |error| Err(Outcome::failed(format!("the {} panicked: {error}", self.role)));
        let end = (&mut self.task).await.unwrap_or_else(panicked);
        self.end.insert(end).clone()
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), Outcome> {
        self.stop.cancel();
        self.ended().await
    }
}

/// A hive that runs until it is told to stop, here or over the bus.
pub(crate) struct RunningHive {
    /// Where its metrics are.
    pub(crate) metrics: String,
    stop: watch::Sender<Option<StopMode>>,
    task: JoinHandle<Result<(), HiveError>>,
}

impl RunningHive {
    /// Waits until it ends without us: well, where it was told over the bus.
    pub(crate) async fn ended(&mut self) -> Result<(), Outcome> {
        end_of_hive((&mut self.task).await)
    }

    /// Stops it and waits until it has; each further signal makes that more urgent.
    pub(crate) async fn stop(self, signals: &mut Signals) -> Result<(), Outcome> {
        end_of_hive(signals::stop_hive(&self.stop, self.task, async || signals.next().await).await)
    }
}

fn end_of_hive(ended: Result<Result<(), HiveError>, tokio::task::JoinError>) -> Result<(), Outcome> {
    Ok(ended.map_err(|error| Outcome::failed(format!("the hive panicked: {error}")))??)
}

/// Runs a hive.
pub(crate) fn hive(
    options: &HiveOptions,
    data: PathBuf,
    nats_url: &str,
    otlp: Option<&str>,
    bus: Bus,
    recorded: PrometheusHandle,
) -> Result<RunningHive, Outcome> {
    options.check()?;
    let host = host();
    let worker_program = worker_program(options.worker_program.as_deref())?;
    let listener = telemetry::listen(options.metrics)?;
    let metrics = telemetry::url(&listener)?;
    let config = HiveConfig {
        name: options.name(),
        host,
        ports: options.ports.clone(),
        store: options.store(&data)?,
        data,
        worker_program,
        nats_url: nats_url.to_owned(),
        limits: Limits { memory: options.worker_memory, cpu_millis: None, open_files: Some(options.worker_open_files) },
        devices: options.worker_devices.clone(),
        max_workers: options.max_workers.unwrap_or_else(max_workers),
        labels: labels(&options.labels)?,
        rules: options.rules(),
        worker: options.worker_settings.clone(),
        metrics: Some(metrics.clone()),
        otlp: otlp.map(str::to_owned),
    };
    let (stop, told) = watch::channel(None);
    let (health, seen) = watch::channel(Health::Recovering);
    // Its health can be asked for as long as it runs, and no longer.
    let serving = AbortOnDropHandle::new(tokio::spawn(http::serve(listener, seen, recorded)));
    let task = tokio::spawn(async move {
        let _serving = serving;
        rbee_hive::run(config, bus, health, told).await
    });
    Ok(RunningHive { metrics, stop, task })
}

/// More workers than this on a core would only wait for each other.
fn max_workers() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(32)
}

/// What a queen may be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueenOptions {
    /// The queen's name; default: the machine's and the process number.
    #[arg(long, env = "RBEE_QUEEN", value_name = "NAME")]
    queen_name: Option<QueenName>,
    /// How long the queen waits for what, as NAME=DURATION with commas, such as suspect=3s,lost=10s. `rbee config example`
    /// lists them with their defaults.
    #[arg(
        long,
        env = "RBEE_QUEEN_TIMERS",
        default_value = "",
        hide_default_value = true,
        value_name = "NAME=DURATION"
    )]
    queen_timers: QueenTimers,
    /// What the queen bears, as NAME=VALUE with commas, such as low_disk=5GiB. `rbee config example` lists them with their
    /// defaults.
    #[arg(long, env = "RBEE_QUEEN_BOUNDS", default_value = "", hide_default_value = true, value_name = "NAME=VALUE")]
    queen_bounds: QueenLimits,
    /// What the bus keeps, for how long and how much, as NAME=VALUE with commas, such as events_age=7d,queued=1000. The queen
    /// who starts last has the say. `rbee config example` lists them with their defaults.
    #[arg(long, env = "RBEE_BUS_LIMITS", default_value = "", hide_default_value = true, value_name = "NAME=VALUE")]
    pub(crate) bus_limits: BusLimits,
}

impl QueenOptions {
    /// The queen's name.
    pub(crate) fn name(&self) -> QueenName {
        let default = || QueenName::from_lossy(&format!("{}-{}", host(), std::process::id()));
        self.queen_name.clone().unwrap_or_else(default)
    }
}

/// Runs a queen.
pub(crate) fn queen(options: &QueenOptions, bus: Bus) -> Running {
    let name = options.name();
    let stop = CancellationToken::new();
    let (timers, limits) = (options.queen_timers.clone(), options.queen_bounds.clone());
    let run = rbee_queen::run(QueenConfig { name, timers, limits }, bus, stop.clone());
    let task = tokio::spawn(async move { run.await.map_err(Outcome::unavailable) });
    Running::new("queen", stop, task)
}

/// Runs the HTTP gateway, which serves the metrics of this process too; returns where it listens.
pub(crate) async fn http(
    address: SocketAddr,
    options: &QueenOptions,
    bus: Bus,
    recorded: PrometheusHandle,
) -> Result<(Running, SocketAddr), Outcome> {
    let taken = |error| Outcome::failed(format!("{address} cannot be used: {error}; choose another with --http"));
    let listener = gateway::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    let stop = CancellationToken::new();
    let (timers, ends) = (options.queen_timers.clone(), stop.clone());
    let serve = async move { gateway::serve(listener, bus, &timers, move || recorded.render(), ends).await };
    let task = tokio::spawn(async move { serve.await.map_err(Outcome::failed) });
    Ok((Running::new("gateway", stop, task), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_has_a_first_and_a_last_that_is_not_before_it() {
        assert_eq!(port_range("8080-9999"), Ok(8080..=9999));
        assert_eq!(port_range("8080-8080"), Ok(8080..=8080));
        for wrong in ["", "8080", "0-10", "0-0", "9-8", "1-70000", "a-b", "0"] {
            let error = port_range(wrong).expect_err(wrong);
            assert!(error.contains("8080-9999"), "{error}");
        }
    }
}
