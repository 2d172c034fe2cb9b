//! What `check.sh` found on the other machine.

use std::{collections::BTreeMap, time::Duration};

use rbee_schema::{ByteSize, HiveName};

use super::place::{Manager, Place};

/// A machine, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Its system, as `uname -s` calls it.
    pub(super) system: String,
    /// What it is, as `uname -m` calls it.
    pub(super) machine: String,
    /// Its name.
    pub(super) host: String,
    /// The home folder of the user there.
    pub(super) home: String,
    /// Who would have a hive.
    pub(super) manager: Manager,
    /// What is free where the programs go.
    pub(super) free: ByteSize,
    /// Whether the bus can be reached from there.
    pub(super) reach: Reach,
    /// Its clock, in seconds since 1970.
    pub(super) clock: Duration,
    /// What is installed there.
    pub(super) installed: Option<Installed>,
}

/// Whether a connection to the bus can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Yes,
    No,
    /// Nothing there could try it.
    Unknown,
}

/// An installation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Installed {
    pub(super) place: Place,
    pub(super) hive: HiveName,
    /// Which programs start; none when the installation was cut off before.
    pub(super) programs: Option<String>,
    /// Their version in words.
    pub(super) version: String,
    /// What was written to it, as a digest.
    pub(super) settings: String,
    pub(super) unit: String,
    /// The process of the hive, where it runs.
    pub(super) pid: Option<u32>,
    /// How many processes run installed programs.
    pub(super) processes: u32,
}

impl Found {
    /// Reads lines of NAME=VALUE; what a login shell may have written between them is passed over.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let word = |name: &str| {
            let found = lines.get(name).copied().filter(|word| !word.is_empty());
            found.ok_or_else(|| format!("the machine was looked at, and did not say its `{name}`; it said: {text}"))
        };
        let number = |name: &str| {
            word(name)?.parse::<u64>().map_err(|_| format!("`{name}` of the machine is no number; it said: {text}"))
        };
        Ok(Self {
            system: word("system")?.to_owned(),
            machine: word("machine")?.to_owned(),
            host: word("host")?.to_owned(),
            home: word("home")?.to_owned(),
            manager: Manager::parse(word("systemd")?).unwrap_or(Manager::Nobody),
            free: ByteSize(number("disk_kib")?.saturating_mul(1024)),
            reach: match word("reach")? {
                "yes" => Reach::Yes,
                "no" => Reach::No,
                _ => Reach::Unknown,
            },
            clock: Duration::from_secs(number("clock")?),
            installed: match lines.contains_key("installed_manager") {
                true => Some(Installed::read(&word)?),
                false => None,
            },
        })
    }
}

impl Installed {
    fn read<'a>(word: &impl Fn(&str) -> Result<&'a str, String>) -> Result<Self, String> {
        let or_empty = |name: &str| word(name).unwrap_or_default().to_owned();
        let manager = word("installed_manager")?;
        let manager =
            Manager::parse(manager).ok_or_else(|| format!("a newer rbee installed it: `{manager}` is unknown"))?;
        let place = Place::new(manager, word("home")?, Some(word("installed_prefix")?), Some(word("installed_data")?));
        Ok(Self {
            place,
            hive: word("installed_hive")?.parse().map_err(|error| format!("the installed hive: {error}"))?,
            programs: word("installed_programs").ok().map(str::to_owned),
            version: or_empty("installed_version"),
            settings: or_empty("installed_settings"),
            unit: or_empty("installed_unit"),
            pid: word("installed_pid").ok().and_then(|pid| pid.parse().ok()),
            processes: word("installed_processes").ok().and_then(|count| count.parse().ok()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "Welcome to attic\nsystem=Linux\nmachine=aarch64\nhost=attic\nhome=/home/pi\nuser=1000\n\
                        disk_kib=2048\nsystemd=user\nreach=unknown\nclock=1795329665\n";

    #[test]
    fn a_machine_is_read_from_its_lines_whatever_else_is_said() {
        let found = Found::parse(BARE).expect("whole");
        assert_eq!((found.machine.as_str(), found.free, found.manager), ("aarch64", ByteSize(2 << 20), Manager::User));
        assert_eq!((found.reach, found.installed), (Reach::Unknown, None));
        let error = Found::parse(&BARE.replace("home=", "")).expect_err("no home");
        assert!(error.contains("`home`") && error.contains("Welcome"), "{error}");
    }

    #[test]
    fn an_installation_is_what_its_record_says_and_what_runs() {
        let record = "installed_manager=none\ninstalled_prefix=/opt/bees\ninstalled_data=/data\ninstalled_hive=one\n\
                      installed_settings=\ninstalled_unit=\ninstalled_programs=\ninstalled_version=rbee 0.1.0\n\
                      installed_pid=42\ninstalled_processes=3\n";
        let installed = Found::parse(&format!("{BARE}{record}")).expect("whole").installed.expect("installed");
        assert_eq!(installed.place, Place::new(Manager::Nobody, "/home/pi", Some("/opt/bees"), Some("/data")));
        assert_eq!((installed.pid, installed.processes, installed.programs), (Some(42), 3, None));
    }
}
