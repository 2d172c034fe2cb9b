//! Plans an installation from the inspected state of the machine. Pure decisions, returned as steps.

use std::time::Duration;

use rbee_schema::{ByteSize, HiveName, HiveRecord, HostName};

use super::{
    inspection::{BusReach, Installed, TrailVerifier},
    layout::{Layout, ServiceManager},
};

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Record that an installation has started, so that an interrupted one can be continued or removed.
    Begin,
    /// Copy the programs next to the running ones, and run them once.
    Copy,
    /// Write the options, the unit and the record.
    Write,
    /// Make the copied programs the active version.
    Switch,
    /// Start the hive. A running hive is replaced, and its workers keep running.
    Start,
    /// Wait until the hive has joined the fleet.
    Join,
    /// Remove the programs of earlier versions.
    Prune,
    /// Stop the hive after its workers have finished.
    Stop,
    /// Remove what was installed.
    Erase,
}

/// Desired state of the machine.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub(super) hive: HiveName,
    /// Id of the programs; `machine` is their architecture and `bytes` their size.
    pub(super) programs: String,
    pub(super) machine: &'static str,
    pub(super) bytes: u64,
    /// Digest of the options file; `unit` is the digest of the unit.
    pub(super) settings: String,
    pub(super) unit: String,
}

/// Choices that the user made on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Preferences<'a> {
    pub(super) prefix: Option<&'a str>,
    pub(super) data: Option<&'a str>,
    pub(super) name: Option<&'a HiveName>,
    pub(super) without_systemd: bool,
}

/// A refusal to change anything.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// The machine does not run Linux.
    #[error("{host} runs {system}, but a hive needs Linux")]
    NotLinux { host: String, system: String },
    /// The programs are built for another architecture.
    #[error(
        "{host} is {there}, but these programs are built for {ours}: build rbee for {there} and name the folder with \
         --programs"
    )]
    OtherMachine { host: String, there: String, ours: &'static str },
    /// The disk has too little free space.
    #[error(
        "{host} has {free} free, but the programs need {needed}: free some space, or choose another folder with --prefix"
    )]
    DiskFull { host: String, free: ByteSize, needed: ByteSize },
    /// The machine cannot reach the bus.
    #[error(
        "{host} cannot reach the bus at {nats}: give the address as seen from that machine with --hive-nats, and let the \
         server listen on more than the loopback address (the server of `rbee up` does not)"
    )]
    NoBus { host: String, nats: String },
    /// A hive of another name is installed.
    #[error("{host} has hive {there}, not {desired}: remove it first with `rbee hive remove`, or omit --name")]
    OtherHive { host: String, there: HiveName, desired: HiveName },
    /// The hive is installed with another layout.
    #[error(
        "the hive on {host} is installed with {there}, not with {desired}: remove it first with `rbee hive remove`"
    )]
    OtherPlace { host: String, there: String, desired: String },
    /// A hive of this name runs that was not installed on this machine.
    #[error(
        "a hive named {hive} already runs on {at} (process {pid}): choose another name with --name, or stop that hive. If \
         it was killed, its name is free when its registry key expires, after 30 s by default"
    )]
    NameTaken { hive: HiveName, at: HostName, pid: u32 },
    /// No hive is installed.
    #[error("no hive is installed on {host}: install one with `rbee hive install`")]
    NotInstalled { host: String },
    /// A path contains characters that units and scripts interpret.
    #[error("`{path}` cannot be used: expected a path of letters, digits and any of / . _ - + @")]
    OddPath { path: String },
}

/// Chooses the layout and the name of the hive: those of an existing installation, else the user's preferences, else defaults
/// from the machine.
///
/// # Errors
/// The preferences contradict an existing installation, or a path is unusable.
pub(super) fn choose_layout(
    found: &TrailVerifier,
    preferences: Preferences<'_>,
) -> Result<(Layout, HiveName), Refusal> {
    let there = found.installed.as_ref();
    let manager = match (there, preferences.without_systemd) {
        (_, true) => ServiceManager::None,
        (Some(there), false) => there.layout.manager,
        (None, false) => found.manager,
    };
    let prefix = preferences.prefix.or(there.map(|there| there.layout.prefix.as_str()));
    let data = preferences.data.or(there.map(|there| there.layout.data.as_str()));
    let layout = Layout::new(manager, &found.home, prefix, data);
    for path in [&layout.prefix, &layout.data, &found.home] {
        if path.contains(|c: char| !c.is_ascii_alphanumeric() && !"/._-+@".contains(c)) {
            return Err(Refusal::OddPath { path: path.clone() });
        }
    }
    let machine = || HiveName::from_lossy(HostName::from_lossy(&found.host).as_str());
    let name = preferences.name.cloned().or_else(|| there.map(|there| there.hive.clone())).unwrap_or_else(machine);
    let Some(there) = there else { return Ok((layout, name)) };
    let host = found.host.clone();
    if there.hive != name {
        return Err(Refusal::OtherHive { host, there: there.hive.clone(), desired: name });
    }
    let describe = |layout: &Layout| {
        format!("{}, programs in {}, data in {}", layout.manager.describe(), layout.prefix, layout.data)
    };
    if there.layout != layout {
        return Err(Refusal::OtherPlace { host, there: describe(&there.layout), desired: describe(&layout) });
    }
    Ok((layout, name))
}

/// Steps that bring the machine to the desired state; none if it is there already.
///
/// # Errors
/// The machine is unsuitable, cannot reach the bus, or the name is taken.
pub(super) fn install(
    found: &TrailVerifier,
    desired: &Desired,
    seen: Option<&HiveRecord>,
    nats: &str,
) -> Result<Vec<Step>, Refusal> {
    check_machine(found, desired)?;
    if found.reach == BusReach::No {
        return Err(Refusal::NoBus { host: found.host.clone(), nats: nats.to_owned() });
    }
    let Some(there) = &found.installed else {
        if let Some(other) = seen {
            return Err(name_taken(desired, other));
        }
        return Ok(vec![Step::Begin, Step::Copy, Step::Write, Step::Switch, Step::Start, Step::Join]);
    };
    if let Some(other) = seen.filter(|seen| seen.host != HostName::from_lossy(&found.host)) {
        return Err(name_taken(desired, other));
    }
    Ok(from(there, desired, seen, there.settings != desired.settings))
}

/// Steps that replace the programs of an existing installation; its options stay.
///
/// # Errors
/// No hive is installed, or the machine is unsuitable.
pub(super) fn upgrade(
    found: &TrailVerifier,
    desired: &Desired,
    seen: Option<&HiveRecord>,
) -> Result<Vec<Step>, Refusal> {
    let there = found.installed.as_ref().ok_or_else(|| Refusal::NotInstalled { host: found.host.clone() })?;
    check_machine(found, desired)?;
    Ok(from(there, desired, seen, false))
}

/// Steps that remove an installation. A killed hive with living workers is started once more, because only their hive can stop
/// the workers cleanly.
pub(super) fn remove(found: &TrailVerifier) -> Vec<Step> {
    match &found.installed {
        None => Vec::new(),
        Some(Installed { pid: None, processes: 1.., programs: Some(_), .. }) => {
            vec![Step::Start, Step::Join, Step::Stop, Step::Erase]
        }
        Some(_) => vec![Step::Stop, Step::Erase],
    }
}

fn from(there: &Installed, desired: &Desired, seen: Option<&HiveRecord>, other_settings: bool) -> Vec<Step> {
    let other_programs = there.programs.as_ref() != Some(&desired.programs);
    let other_files = other_settings || there.unit != desired.unit;
    // Compared by process number: the registry key of a killed hive takes seconds to expire.
    let runs = there.pid.is_some_and(|pid| seen.is_some_and(|seen| seen.pid == pid));
    if !other_programs && !other_files && runs {
        return Vec::new();
    }
    let steps = [
        (Step::Copy, other_programs),
        (Step::Write, other_files),
        (Step::Switch, other_programs),
        (Step::Start, true),
        (Step::Join, true),
        (Step::Prune, other_programs),
    ];
    steps.into_iter().filter_map(|(step, is_needed)| is_needed.then_some(step)).collect()
}

/// Checks that the machine can run the programs and has space for them.
fn check_machine(found: &TrailVerifier, desired: &Desired) -> Result<(), Refusal> {
    let host = || found.host.clone();
    if found.system != "Linux" {
        return Err(Refusal::NotLinux { host: host(), system: found.system.clone() });
    }
    let there = match found.machine.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    if there != desired.machine {
        return Err(Refusal::OtherMachine { host: host(), there: there.to_owned(), ours: desired.machine });
    }
    let needed = ByteSize(desired.bytes.saturating_add(ROOM));
    if found.installed.as_ref().and_then(|there| there.programs.as_ref()) != Some(&desired.programs)
        && found.free < needed
    {
        return Err(Refusal::DiskFull { host: host(), free: found.free, needed });
    }
    Ok(())
}

/// Free space in bytes to leave beside the programs, so that logs can still be written.
const ROOM: u64 = 64 << 20;

fn name_taken(desired: &Desired, other: &HiveRecord) -> Refusal {
    Refusal::NameTaken { hive: desired.hive.clone(), at: other.host.clone(), pid: other.pid }
}

/// Clock difference that is worth a note: beyond it, log lines visibly disagree with event times.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// Remarks for the user that do not prevent the installation.
pub(super) fn notes(found: &TrailVerifier, layout: &Layout, now: Duration) -> Vec<String> {
    let host = &found.host;
    let skew = now.abs_diff(found.clock);
    let skewed = (skew > CLOCK_SKEW).then(|| {
        let direction = if found.clock > now { "ahead of" } else { "behind" };
        format!(
            "the clock of {host} is {} s {direction} ours: its log lines will not match the events; correct the clock",
            skew.as_secs()
        )
    });
    let untried = (found.reach == BusReach::Unknown)
        .then(|| format!("could not test whether {host} reaches the bus: bash or timeout is missing there"));
    let alone = (layout.manager == ServiceManager::None).then(|| {
        format!("without systemd, nothing starts the hive after a reboot of {host} or after a crash: run `rbee hive install` again then")
    });
    [skewed, untried, alone].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
