//! What is to be done on a machine, from what was found there: pure decisions, as steps that say what they do.

use std::time::Duration;

use rbee_schema::{ByteSize, HiveName, HiveRecord, HostName};

use super::{
    found::{Found, Installed, Reach},
    place::{Manager, Place},
};

/// One thing that is done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Write down that an installation begins, so that one that is cut off can be gone on with, or removed.
    Begin,
    /// Copy the programs beside those that run, and try them.
    Copy,
    /// Write options, unit and record.
    Write,
    /// Make the copied programs the ones that start.
    Switch,
    /// Start the hive; one that runs is replaced, and its workers go on.
    Start,
    /// Wait until the hive has joined.
    Join,
    /// Remove the programs of earlier versions.
    Prune,
    /// Stop the hive when its workers have finished.
    Stop,
    /// Remove what was installed.
    Erase,
}

/// What there is to be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) hive: HiveName,
    /// The programs, what they run on, and how large they are.
    pub(super) programs: String,
    pub(super) machine: &'static str,
    pub(super) bytes: u64,
    /// Digests of what is written.
    pub(super) settings: String,
    pub(super) unit: String,
}

/// What the user says about where and how.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes<'a> {
    pub(super) prefix: Option<&'a str>,
    pub(super) data: Option<&'a str>,
    pub(super) name: Option<&'a HiveName>,
    pub(super) without_systemd: bool,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// It runs something else.
    #[error("{host} runs {system}, and a hive needs Linux")]
    NotLinux { host: String, system: String },
    /// The programs are for other machines.
    #[error(
        "{host} is {there}, and these programs are built for {ours}: build rbee for {there} and name the folder with \
         --programs"
    )]
    OtherMachine { host: String, there: String, ours: &'static str },
    /// There is no room.
    #[error("{host} has {free} free, and the programs need {needed}: free some, or name another folder with --prefix")]
    DiskFull { host: String, free: ByteSize, needed: ByteSize },
    /// The bus cannot be reached from there.
    #[error(
        "{host} does not reach the bus at {nats}: say where the bus is as that machine sees it with --hive-nats, and let \
         the server listen on more than the loopback address (`rbee up` does not)"
    )]
    NoBus { host: String, nats: String },
    /// Another hive is installed.
    #[error(
        "{host} has a hive {there} and not {wanted}: remove that one first with `rbee hive remove`, or leave out --name"
    )]
    OtherHive { host: String, there: HiveName, wanted: HiveName },
    /// It is installed elsewhere.
    #[error(
        "the hive on {host} is installed with {there}, and not with {wanted}: remove it first with `rbee hive remove`"
    )]
    OtherPlace { host: String, there: String, wanted: String },
    /// A hive of this name runs that nobody installed there.
    #[error(
        "a hive named {hive} runs already on {at} (process {pid}): give this one another name with --name, or stop that \
         one; if it was killed, its name is free when its key lapses, 30 s later unless its timers say otherwise"
    )]
    NameTaken { hive: HiveName, at: HostName, pid: u32 },
    /// Nothing is there to go on with.
    #[error("no hive is installed on {host}: `rbee hive install` does that")]
    NotInstalled { host: String },
    /// A path that units and scripts would take for something else.
    #[error("`{path}` cannot be used: expected a path of letters, digits and any of / . _ - + @")]
    OddPath { path: String },
}

/// Where a hive is to be, and its name: as it is installed, else as the user wishes, else as the machine is.
pub(super) fn settle(found: &Found, wishes: Wishes<'_>) -> Result<(Place, HiveName), Refusal> {
    let there = found.installed.as_ref();
    let manager = match (there, wishes.without_systemd) {
        (_, true) => Manager::Nobody,
        (Some(there), false) => there.place.manager,
        (None, false) => found.manager,
    };
    let prefix = wishes.prefix.or(there.map(|there| there.place.prefix.as_str()));
    let data = wishes.data.or(there.map(|there| there.place.data.as_str()));
    let place = Place::new(manager, &found.home, prefix, data);
    for path in [&place.prefix, &place.data, &found.home] {
        if path.contains(|c: char| !c.is_ascii_alphanumeric() && !"/._-+@".contains(c)) {
            return Err(Refusal::OddPath { path: path.clone() });
        }
    }
    let machine = || HiveName::from_lossy(HostName::from_lossy(&found.host).as_str());
    let name = wishes.name.cloned().or_else(|| there.map(|there| there.hive.clone())).unwrap_or_else(machine);
    let Some(there) = there else { return Ok((place, name)) };
    let host = found.host.clone();
    if there.hive != name {
        return Err(Refusal::OtherHive { host, there: there.hive.clone(), wanted: name });
    }
    let describe =
        |place: &Place| format!("{}, programs in {}, data in {}", place.manager.describe(), place.prefix, place.data);
    if there.place != place {
        return Err(Refusal::OtherPlace { host, there: describe(&there.place), wanted: describe(&place) });
    }
    Ok((place, name))
}

/// What it takes to have a hive there, from nothing or from what is there. Nothing where all of it is so already.
pub(super) fn install(
    found: &Found,
    wanted: &Wanted,
    seen: Option<&HiveRecord>,
    nats: &str,
) -> Result<Vec<Step>, Refusal> {
    suits(found, wanted)?;
    if found.reach == Reach::No {
        return Err(Refusal::NoBus { host: found.host.clone(), nats: nats.to_owned() });
    }
    let Some(there) = &found.installed else {
        if let Some(other) = seen {
            return Err(name_taken(wanted, other));
        }
        return Ok(vec![Step::Begin, Step::Copy, Step::Write, Step::Switch, Step::Start, Step::Join]);
    };
    if let Some(other) = seen.filter(|seen| seen.host != HostName::from_lossy(&found.host)) {
        return Err(name_taken(wanted, other));
    }
    Ok(from(there, wanted, seen, there.settings != wanted.settings))
}

/// What it takes to have these programs there instead of those that are.
pub(super) fn upgrade(found: &Found, wanted: &Wanted, seen: Option<&HiveRecord>) -> Result<Vec<Step>, Refusal> {
    let there = found.installed.as_ref().ok_or_else(|| Refusal::NotInstalled { host: found.host.clone() })?;
    suits(found, wanted)?;
    Ok(from(there, wanted, seen, false))
}

/// What it takes to have nothing there. A hive that was killed is started once more where workers of it live: only their
/// hive can end them in order.
pub(super) fn remove(found: &Found) -> Vec<Step> {
    match &found.installed {
        None => Vec::new(),
        Some(Installed { pid: None, processes: 1.., programs: Some(_), .. }) => {
            vec![Step::Start, Step::Join, Step::Stop, Step::Erase]
        }
        Some(_) => vec![Step::Stop, Step::Erase],
    }
}

fn from(there: &Installed, wanted: &Wanted, seen: Option<&HiveRecord>, other_settings: bool) -> Vec<Step> {
    let other_programs = there.programs.as_ref() != Some(&wanted.programs);
    let other_files = other_settings || there.unit != wanted.unit;
    // By its process: the key of one that was killed lapses only after some seconds.
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

/// Whether the machine can run the programs and has room for them.
fn suits(found: &Found, wanted: &Wanted) -> Result<(), Refusal> {
    let host = || found.host.clone();
    if found.system != "Linux" {
        return Err(Refusal::NotLinux { host: host(), system: found.system.clone() });
    }
    let there = match found.machine.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    if there != wanted.machine {
        return Err(Refusal::OtherMachine { host: host(), there: there.to_owned(), ours: wanted.machine });
    }
    let needed = ByteSize(wanted.bytes.saturating_add(ROOM));
    if found.installed.as_ref().and_then(|there| there.programs.as_ref()) != Some(&wanted.programs)
        && found.free < needed
    {
        return Err(Refusal::DiskFull { host: host(), free: found.free, needed });
    }
    Ok(())
}

/// A disk that the programs would fill to the brim could hold no log.
const ROOM: u64 = 64 << 20;

fn name_taken(wanted: &Wanted, other: &HiveRecord) -> Refusal {
    Refusal::NameTaken { hive: wanted.hive.clone(), at: other.host.clone(), pid: other.pid }
}

/// Clocks that differ by less than this confuse nobody.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// What the user should know although it hinders nothing.
pub(super) fn notes(found: &Found, place: &Place, now: Duration) -> Vec<String> {
    let host = &found.host;
    let skew = now.abs_diff(found.clock);
    let skewed = (skew > CLOCK_SKEW).then(|| {
        let way = if found.clock > now { "ahead of" } else { "behind" };
        format!("the clock of {host} is {} s {way} ours: its log lines do not match the events; set it", skew.as_secs())
    });
    let untried = (found.reach == Reach::Unknown)
        .then(|| format!("whether {host} reaches the bus could not be tried: it has no bash or no timeout"));
    let alone = (place.manager == Manager::Nobody).then(|| {
        format!("without systemd nothing starts the hive when {host} starts, or when it crashes: install it again then")
    });
    [skewed, untried, alone].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
