//! A hive on another machine: `rbee hive install`, `upgrade`, `remove` and `logs`.
//!
//! The machine is looked at ([`found`](super::found)), what is to be done is decided ([`plan`](super::plan)), and then done
//! ([`work`](super::work)).

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
    found::{Found, Installed},
    place::Place,
    plan::{self, Wanted, Wishes},
    programs::{Programs, digest},
    script,
    settings::Settings,
    ssh::{Input, Machine, Ssh},
    unit::unit,
    work::{Work, Written},
};
use crate::{Context, error::CliError, output};

/// What is done with a hive on another machine, over ssh.
#[derive(Debug, Subcommand)]
pub(super) enum Elsewhere {
    /// Copy rbee to a machine, start a hive there, and wait until it has joined.
    Install(Box<Install>),
    /// Replace the programs of an installed hive by these; its workers go on. Goes back when the hive does not join.
    Upgrade(Upgrade),
    /// Stop an installed hive when its workers have finished, and remove what was installed.
    Remove(Remove),
    /// Print what an installed hive wrote.
    Logs(Logs),
}

/// Options of `rbee hive install`.
#[derive(Debug, Args)]
pub(super) struct Install {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    source: Source,
    /// The folder there for the programs; default: .local/share/rbee, and /usr/local/lib/rbee for root with systemd.
    #[arg(long, value_name = "FOLDER")]
    prefix: Option<String>,
    /// Start the hive as a process of its own, also where there is systemd.
    #[arg(long)]
    without_systemd: bool,
}

/// Which programs are copied.
#[derive(Debug, Args)]
struct Source {
    /// The folder here with rbee and rbee-worker for that machine; default: this program and the worker beside it.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Options of `rbee hive upgrade`.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    source: Source,
}

/// Options of `rbee hive remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    machine: Machine,
    /// Also delete the hive's data: its ledger, its workers' logs and the model files in its data folder.
    #[arg(long)]
    purge: bool,
}

/// Options of `rbee hive logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    #[command(flatten)]
    machine: Machine,
    /// Go on with what it writes.
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines.
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
    lines: u32,
}

impl Elsewhere {
    pub(super) async fn run(self, context: Context) -> Result<(), CliError> {
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
        let found = look(&ssh, self.prefix.as_deref(), &servers(nats)).await?;
        let programs = Programs::find(self.source.programs.as_deref()).await?;
        let wishes = Wishes {
            prefix: self.prefix.as_deref(),
            data: self.settings.data.as_deref(),
            name: self.settings.name.as_ref(),
            without_systemd: self.without_systemd,
        };
        let (place, hive) = plan::settle(&found, wishes).map_err(CliError::failed)?;
        let settings = self.settings.text(context, &hive, &place.data)?;
        let settings_digest = digest(&settings);
        let written = Written { settings: Some(settings), settings_digest, unit: unit(&place) };
        let wanted = wanted(&hive, &programs, &written);
        let seen = Registry::hives(&bus).get(hive.as_str()).await?;
        let steps = plan::install(&found, &wanted, seen.as_ref(), &public(nats)).map_err(CliError::failed)?;
        describe(context, &ssh, &found, &place);
        let work = Work::new(context, &ssh, &place, &hive, written).joins(&bus, seen.as_ref()).with(&programs, &found);
        finish(context, &ssh, &hive, seen, work.carry_out(&steps).await?)
    }
}

impl Upgrade {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let bus = context.bus("cli/hive").await?;
        let found = look(&ssh, None, "").await?;
        let programs = Programs::find(self.source.programs.as_deref()).await?;
        let (place, hive) = plan::settle(&found, Wishes::default()).map_err(CliError::failed)?;
        // The options that are there stay.
        let settings_digest = found.installed.as_ref().map(|there| there.settings.clone()).unwrap_or_default();
        let written = Written { settings: None, settings_digest, unit: unit(&place) };
        let wanted = wanted(&hive, &programs, &written);
        let seen = Registry::hives(&bus).get(hive.as_str()).await?;
        let steps = plan::upgrade(&found, &wanted, seen.as_ref()).map_err(CliError::failed)?;
        let work = Work::new(context, &ssh, &place, &hive, written).joins(&bus, seen.as_ref()).with(&programs, &found);
        finish(context, &ssh, &hive, seen, work.carry_out(&steps).await?)
    }
}

impl Remove {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let found = look(&ssh, None, "").await?;
        let Some(Installed { place, hive, .. }) = &found.installed else {
            tell_end(context, &ssh, "no hive is installed: there is nothing to remove", json!({ "removed": false }));
            return Ok(());
        };
        let steps = plan::remove(&found);
        // A hive that is only stopped tells the bus itself; one that is to join again is waited for there.
        let bus = if steps.contains(&plan::Step::Join) { Some(context.bus("cli/hive").await?) } else { None };
        let mut work = Work::new(context, &ssh, place, hive, Written::default());
        work.purge = self.purge;
        if let Some(bus) = &bus {
            let seen = Registry::hives(bus).get(hive.as_str()).await?;
            work = work.joins(bus, seen.as_ref());
        }
        work.carry_out(&steps).await?;
        let kept = if self.purge { String::new() } else { format!("; its data in {} is kept", place.data) };
        let words = format!("hive {hive} is removed{kept}");
        tell_end(context, &ssh, &words, json!({ "removed": true, "hive": hive }));
        Ok(())
    }
}

impl Logs {
    async fn run(self) -> Result<(), CliError> {
        let ssh = Ssh::to(&self.machine)?;
        let found = look(&ssh, None, "").await?;
        let there = found.installed.as_ref();
        let there = there.ok_or_else(|| CliError::failed(plan::Refusal::NotInstalled { host: found.host.clone() }))?;
        let mut words = there.place.words();
        words.push(("lines", self.lines.to_string()));
        words.push(("follow", if self.follow { "yes" } else { "no" }.to_owned()));
        let mut child = ssh.show(&script::LOGS, &words)?;
        // Its input is ours to close: that it ends says to the other side that nobody reads any more.
        let input = child.stdin.take();
        let ended = child.wait().await;
        drop(input);
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(CliError::failed(format!("the log of {} could not be read to its end: {status}", ssh.host())))
            }
            Err(cause) => Err(CliError::failed(format!("ssh could not be waited for: {cause}"))),
        }
    }
}

impl<'a> Work<'a> {
    fn new(context: &'a Context, ssh: &'a Ssh, place: &'a Place, hive: &'a HiveName, written: Written) -> Self {
        Self { context, ssh, place, hive, written, programs: None, before: None, bus: None, epoch: 0, purge: false }
    }

    fn joins(self, bus: &'a Bus, seen: Option<&HiveRecord>) -> Self {
        Self { bus: Some(bus), epoch: seen.map_or(0, |seen| seen.epoch), ..self }
    }

    fn with(self, programs: &'a Programs, found: &'a Found) -> Self {
        let before = found.installed.as_ref().and_then(|there| there.programs.as_deref());
        Self { programs: Some(programs), before, ..self }
    }
}

/// Looks at a machine; the bus is tried from there where it has `servers`.
async fn look(ssh: &Ssh, prefix: Option<&str>, servers: &str) -> Result<Found, CliError> {
    let words = vec![("where", prefix.unwrap_or_default().to_owned()), ("servers", servers.to_owned())];
    let said = ssh.run(&script::CHECK, &words, Input::Nothing).await?;
    Found::parse(&said).map_err(|error| CliError::failed(format!("{}: {error}", ssh.host())))
}

fn wanted(hive: &HiveName, programs: &Programs, written: &Written) -> Wanted {
    Wanted {
        hive: hive.clone(),
        programs: programs.id.clone(),
        machine: programs.machine,
        bytes: programs.bytes,
        settings: written.settings_digest.clone(),
        unit: written.unit_digest(),
    }
}

/// The servers of a URL as HOST:PORT, apart from those that a script could not take as they are.
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

/// A URL without who logs in there.
fn public(nats: &str) -> String {
    let servers = nats.split(',').map(|server| match (server.split_once("://"), server.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => server.to_owned(),
    });
    servers.collect::<Vec<_>>().join(",")
}

fn describe(context: &Context, ssh: &Ssh, found: &Found, place: &Place) {
    if context.json {
        return;
    }
    let Found { system, machine, free, .. } = found;
    let manager = place.manager.describe();
    output::print_line(format_args!("{}: {system} {machine}, {manager}, {free} free", ssh.host()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    for note in plan::notes(found, place, now) {
        output::print_line(format_args!("{}: note: {note}", ssh.host()));
    }
}

/// Tells which hive is there now.
fn finish(
    context: &Context,
    ssh: &Ssh,
    hive: &HiveName,
    seen: Option<HiveRecord>,
    joined: Option<HiveRecord>,
) -> Result<(), CliError> {
    let is_new = joined.is_some();
    let record = joined.or(seen).ok_or_else(|| CliError::failed(format!("hive {hive} is not on the bus")))?;
    let HiveRecord { epoch, version, host, first_port, last_port, pid, devices, .. } = &record;
    let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    let news = if is_new { "has joined" } else { "runs there already, as it is to be" };
    let words = format!(
        "hive {hive} {news}: version {version} on {host}, process {pid}, run {epoch}, workers on {}, ports \
         {first_port}-{last_port}",
        if names.is_empty() { "an unknown device".to_owned() } else { names.join(", ") }
    );
    tell_end(context, ssh, &words, json!({ "hive": hive, "joined": is_new, "record": record }));
    Ok(())
}

fn tell_end(context: &Context, ssh: &Ssh, words: &str, document: serde_json::Value) {
    if context.json {
        output::json(&document);
    } else {
        output::print_line(format_args!("{}: {words}", ssh.host()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_tried_by_host_and_port_and_nobody_sees_who_logs_in() {
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
