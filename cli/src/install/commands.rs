//! Hives on other machines: `rbee hive install`, `upgrade`, `remove` and `logs`.
//!
//! Each command inspects the machine ([`inspection`](super::inspection)), plans ([`plan`](super::plan)), and executes the plan
//! ([`execute`](super::execute)).

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use rbee_nats::{Bus, Registry};
use rbee_schema::{HiveName, HiveRecord};
use serde_json::json;
use url::Url;

use super::{
    execute::{Execution, FilesToWrite},
    inspection::{Installed, TrailVerifier},
    layout::Layout,
    options::HiveSettings,
    plan::{self, Desired, Preferences},
    programs::{Programs, digest},
    script,
    ssh::{Input, Machine, Ssh},
    unit::unit,
};
use crate::{Context, error::CliError, output};

/// Commands for a hive on another machine, over ssh.
#[derive(Debug, Subcommand)]
pub(crate) enum RemoteHive {
    /// Copy rbee to a machine, start a hive there, and wait until it has joined the fleet.
    Install(Box<Install>),
    /// Replace the programs of an installed hive; its workers keep running. Rolls back if the hive does not join.
    Upgrade(Upgrade),
    /// Stop an installed hive after its workers have finished, and remove the installation.
    Remove(Remove),
    /// Print the log of an installed hive.
    Logs(Logs),
}

/// Options of `rbee hive install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    settings: HiveSettings,
    #[command(flatten)]
    source: Source,
    /// Remote folder for the programs; default: .local/share/rbee, or /usr/local/lib/rbee for root with systemd.
    #[arg(long, value_name = "FOLDER")]
    prefix: Option<String>,
    /// Start the hive as a plain process even if the machine has systemd.
    #[arg(long)]
    without_systemd: bool,
}

/// Source of the programs to copy.
#[derive(Debug, Args)]
struct Source {
    /// Local folder with rbee and rbee-worker for that machine; default: this program and the worker next to it.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Options of `rbee hive upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    source: Source,
}

/// Options of `rbee hive remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    machine: Machine,
    /// Also delete the hive's data folder: ledger, logs of workers, and model files.
    #[arg(long)]
    purge: bool,
}

/// Options of `rbee hive logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    machine: Machine,
    /// Keep printing new lines.
    #[arg(long, short)]
    follow: bool,
    /// Number of lines to print from the end of the log.
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
    lines: u32,
}

impl RemoteHive {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        match self {
            Self::Install(verb) => verb.run(&context).await,
            Self::Upgrade(verb) => verb.run(&context).await,
            Self::Remove(verb) => verb.run(&context).await,
            Self::Logs(verb) => verb.run().await,
        }
    }
}

impl Install {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let bus = context.bus("cli/hive").await?;
        let nats = self.settings.nats(context);
        let found = inspect(&ssh, self.prefix.as_deref(), &servers(nats)).await?;
        let programs = Programs::find(self.source.programs.as_deref()).await?;
        let preferences = Preferences {
            prefix: self.prefix.as_deref(),
            data: self.settings.data.as_deref(),
            name: self.settings.name.as_ref(),
            without_systemd: self.without_systemd,
        };
        let (layout, hive) = plan::choose_layout(&found, preferences).map_err(CliError::failed)?;
        let settings = self.settings.text(context, &hive, &layout.data)?;
        let settings_digest = digest(&settings);
        let files = FilesToWrite { settings: Some(settings), settings_digest, unit: unit(&layout) };
        let desired = desired(&hive, &programs, &files);
        let seen = Registry::hives(&bus).get(hive.as_str()).await?;
        let steps = plan::install(&found, &desired, seen.as_ref(), &public(nats)).map_err(CliError::failed)?;
        describe(context, &ssh, &found, &layout);
        let execution =
            Execution::new(context, &ssh, &layout, &hive, files).joins(&bus, seen.as_ref()).with(&programs, &found);
        finish(context, &ssh, &hive, seen, execution.execute(&steps).await?)
    }
}

impl Upgrade {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let bus = context.bus("cli/hive").await?;
        let found = inspect(&ssh, None, "").await?;
        let programs = Programs::find(self.source.programs.as_deref()).await?;
        let (layout, hive) = plan::choose_layout(&found, Preferences::default()).map_err(CliError::failed)?;
        // The existing options are kept.
        let settings_digest = found.installed.as_ref().map(|there| there.settings.clone()).unwrap_or_default();
        let files = FilesToWrite { settings: None, settings_digest, unit: unit(&layout) };
        let desired = desired(&hive, &programs, &files);
        let seen = Registry::hives(&bus).get(hive.as_str()).await?;
        let steps = plan::upgrade(&found, &desired, seen.as_ref()).map_err(CliError::failed)?;
        let execution =
            Execution::new(context, &ssh, &layout, &hive, files).joins(&bus, seen.as_ref()).with(&programs, &found);
        finish(context, &ssh, &hive, seen, execution.execute(&steps).await?)
    }
}

impl Remove {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let found = inspect(&ssh, None, "").await?;
        let Some(Installed { layout, hive, .. }) = &found.installed else {
            report_result(context, &ssh, "no hive is installed; nothing to remove", json!({ "removed": false }));
            return Ok(());
        };
        let steps = plan::remove(&found);
        // The bus is needed only if a killed hive must join again before it is removed.
        let bus = if steps.contains(&plan::Step::Join) { Some(context.bus("cli/hive").await?) } else { None };
        let mut execution = Execution::new(context, &ssh, layout, hive, FilesToWrite::default());
        execution.purge = self.purge;
        if let Some(bus) = &bus {
            let seen = Registry::hives(bus).get(hive.as_str()).await?;
            execution = execution.joins(bus, seen.as_ref());
        }
        execution.execute(&steps).await?;
        let kept = if self.purge { String::new() } else { format!("; its data is kept in {}", layout.data) };
        let message = format!("removed hive {hive}{kept}");
        report_result(context, &ssh, &message, json!({ "removed": true, "hive": hive }));
        Ok(())
    }
}

impl Logs {
    async fn run(self) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let found = inspect(&ssh, None, "").await?;
        let there = found.installed.as_ref();
        let there = there.ok_or_else(|| CliError::failed(plan::Refusal::NotInstalled { host: found.host.clone() }))?;
        let mut variables = there.layout.variables();
        variables.push(("lines", self.lines.to_string()));
        variables.push(("follow", if self.follow { "yes" } else { "no" }.to_owned()));
        let mut child = ssh.show(&script::LOGS, &variables)?;
        // Closing the input tells the remote script that nobody reads its output any more.
        let input = child.stdin.take();
        let ended = child.wait().await;
        drop(input);
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(CliError::failed(format!("failed to read the log of {}: {status}", ssh.host()))),
            Err(cause) => Err(CliError::failed(format!("failed to wait for ssh: {cause}"))),
        }
    }
}

impl<'a> Execution<'a> {
    fn new(context: &'a Context, ssh: &'a Ssh, layout: &'a Layout, hive: &'a HiveName, files: FilesToWrite) -> Self {
        Self { context, ssh, layout, hive, files, programs: None, before: None, bus: None, epoch: 0, purge: false }
    }

    fn joins(self, bus: &'a Bus, seen: Option<&HiveRecord>) -> Self {
        Self { bus: Some(bus), epoch: seen.map_or(0, |seen| seen.epoch), ..self }
    }

    fn with(self, programs: &'a Programs, found: &'a TrailVerifier) -> Self {
        let before = found.installed.as_ref().and_then(|there| there.programs.as_deref());
        Self { programs: Some(programs), before, ..self }
    }
}

/// Inspects a machine. If `servers` is not empty, the machine tries to connect to them.
async fn inspect(ssh: &Ssh, prefix: Option<&str>, servers: &str) -> Result<TrailVerifier, CliError> {
    let variables = vec![("where", prefix.unwrap_or_default().to_owned()), ("servers", servers.to_owned())];
    let output = ssh.run(&script::CHECK, &variables, Input::Nothing).await?;
    TrailVerifier::parse(&output).map_err(|error| CliError::failed(format!("{}: {error}", ssh.host())))
}

fn desired(hive: &HiveName, programs: &Programs, files: &FilesToWrite) -> Desired {
    Desired {
        hive: hive.clone(),
        programs: programs.id.clone(),
        machine: programs.machine,
        bytes: programs.bytes,
        settings: files.settings_digest.clone(),
        unit: files.unit_digest(),
    }
}

/// Servers of a NATS URL list as HOST:PORT, without those that a script could not take literally.
fn servers(nats: &str) -> String {
    let servers = nats.split(',').filter_map(|server| {
        let server = if server.contains("://") { server.to_owned() } else { format!("nats://{server}") };
        let url = Url::parse(server.trim()).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let is_plain = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
        is_plain.then(|| format!("{host}:{}", url.port().unwrap_or(4222)))
    });
    servers.collect::<Vec<_>>().join(" ")
}

/// A NATS URL list without credentials.
fn public(nats: &str) -> String {
    let servers = nats.split(',').map(|server| match (server.split_once("://"), server.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => server.to_owned(),
    });
    servers.collect::<Vec<_>>().join(",")
}

fn describe(context: &Context, ssh: &Ssh, found: &TrailVerifier, layout: &Layout) {
    if context.json {
        return;
    }
    let TrailVerifier { system, machine, free, .. } = found;
    let manager = layout.manager.describe();
    output::print_line(format_args!("{}: {system} {machine}, {manager}, {free} free", ssh.host()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    for note in plan::notes(found, layout, now) {
        output::print_line(format_args!("{}: note: {note}", ssh.host()));
    }
}

/// Reports the state of the hive after the plan was executed.
fn finish(
    context: &Context,
    ssh: &Ssh,
    hive: &HiveName,
    seen: Option<HiveRecord>,
    joined: Option<HiveRecord>,
) -> Result<(), CliError> {
    let is_new = joined.is_some();
    let record =
        joined.or(seen).ok_or_else(|| CliError::failed(format!("hive {hive} has no entry in the registry")))?;
    let HiveRecord { epoch, version, host, first_port, last_port, pid, devices, .. } = &record;
    let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    let state = if is_new { "has joined" } else { "is already running and up to date" };
    let message = format!(
        "hive {hive} {state}: version {version} on {host}, process {pid}, epoch {epoch}, workers on {}, ports \
         {first_port}-{last_port}",
        if names.is_empty() { "an unknown device".to_owned() } else { names.join(", ") }
    );
    report_result(context, ssh, &message, json!({ "hive": hive, "joined": is_new, "record": record }));
    Ok(())
}

fn report_result(context: &Context, ssh: &Ssh, message: &str, document: serde_json::Value) {
    if context.json {
        output::json(&document);
    } else {
        output::print_line(format_args!("{}: {message}", ssh.host()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        for (nats, tried, shown) in [
            ("nats://one:4222", "one:4222", "nats://one:4222"),
            ("one", "one:4222", "one"),
            ("tls://user:w@rd@one,nats://two:1", "one:4222 two:1", "tls://one,nats://two:1"),
            ("nats://[fe80::1]:4000", "fe80::1:4000", "nats://[fe80::1]:4000"),
            ("nats://$(id)", "", "nats://$(id)"),
        ] {
            assert_eq!((servers(nats).as_str(), public(nats).as_str()), (tried, shown), "{nats}");
        }
    }
}
