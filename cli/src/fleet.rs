//! Running roles in this process: what `up`, `queen` and `hive` share.

use std::{
    env,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use clap::Args;
use rbee_hive::HiveConfig;
use rbee_nats::{Bus, Plan};
use rbee_queen::{QueenConfig, gateway};
use rbee_schema::{HiveName, HostName, QueenName};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::outcome::Outcome;

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
fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
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

/// Brings the server's streams and buckets to what this version needs.
pub(crate) async fn prepare(bus: &Bus) -> Result<(), Outcome> {
    let plan = Plan::make(bus).await?;
    if !plan.changes.is_empty() {
        plan.apply(bus).await?;
        info!(changes = plan.changes.len(), "the streams and buckets are prepared");
    }
    Ok(())
}

/// A role that runs until it is told to stop.
pub(crate) struct Running {
    role: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Outcome>>,
}

impl Running {
    /// Waits until the role ends by itself, which it should not.
    pub(crate) async fn ended(&mut self) -> Outcome {
        match (&mut self.task).await {
            Ok(Ok(())) => Outcome::failed(format!("the {} ended", self.role)),
            Ok(Err(outcome)) => outcome,
            Err(error) => Outcome::failed(format!("the {} panicked: {error}", self.role)),
        }
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(self) -> Result<(), Outcome> {
        self.stop.cancel();
        self.task.await.map_err(|error| Outcome::failed(format!("the {} panicked: {error}", self.role)))?
    }
}

/// Runs a hive.
pub(crate) fn hive(options: &HiveOptions, data: PathBuf, nats_url: &str, bus: Bus) -> Result<Running, Outcome> {
    let host = host();
    let config = HiveConfig {
        name: options.name.clone().unwrap_or_else(|| HiveName::from_lossy(host.as_str())),
        host,
        ports: options.ports.clone(),
        data,
        worker_program: worker_program(options.worker_program.as_deref())?,
        nats_url: nats_url.to_owned(),
    };
    let stop = CancellationToken::new();
    let run = rbee_hive::run(config, bus, stop.clone());
    let task = tokio::spawn(async move { run.await.map_err(Outcome::failed) });
    Ok(Running { role: "hive", stop, task })
}

/// Runs a queen.
pub(crate) fn queen(name: Option<QueenName>, bus: Bus) -> Running {
    let name = name.unwrap_or_else(|| QueenName::from_lossy(&format!("{}-{}", host(), std::process::id())));
    let stop = CancellationToken::new();
    let run = rbee_queen::run(QueenConfig { name }, bus, stop.clone());
    let task = tokio::spawn(async move { run.await.map_err(Outcome::unavailable) });
    Running { role: "queen", stop, task }
}

/// Runs the HTTP gateway; returns where it listens.
pub(crate) async fn http(address: SocketAddr, bus: Bus) -> Result<(Running, SocketAddr), Outcome> {
    let taken = |error| Outcome::failed(format!("{address} cannot be used: {error}; choose another with --http"));
    let listener = gateway::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    let stop = CancellationToken::new();
    let serve = gateway::serve(listener, bus, stop.clone());
    let task = tokio::spawn(async move { serve.await.map_err(Outcome::failed) });
    Ok((Running { role: "gateway", stop, task }, address))
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn told_to_stop() -> Result<(), Outcome> {
    let failed = |error| Outcome::failed(format!("failed to listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
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
