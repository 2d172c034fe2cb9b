//! The state of the remote machine, as reported by `check.sh`.

use std::{collections::BTreeMap, time::Duration};

use rbee_schema::{ByteSize, HiveName};

use super::layout::{Layout, ServiceManager};

/// State of a remote machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TrailVerifier {
    /// Operating system (`uname -s`).
    pub(super) system: String,
    /// Architecture (`uname -m`).
    pub(super) machine: String,
    /// Host name.
    pub(super) host: String,
    /// Home folder of the remote user.
    pub(super) home: String,
    /// Service manager that a new installation would use.
    pub(super) manager: ServiceManager,
    /// Free disk space where the programs are installed.
    pub(super) free: ByteSize,
    /// Result of connecting to the bus from the machine.
    pub(super) reach: BusReach,
    /// The machine's clock, as time since 1970-01-01 UTC.
    pub(super) clock: Duration,
    /// The existing installation, if any.
    pub(super) installed: Option<Installed>,
}

/// Result of a test connection to the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BusReach {
    /// A server accepted the connection.
    Yes,
    /// No server accepted a connection.
    No,
    /// The machine lacks the programs for the test.
    Unknown,
}

/// An existing installation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Installed {
    pub(super) layout: Layout,
    pub(super) hive: HiveName,
    /// Id of the active programs; `None` if the installation was interrupted before the switch.
    pub(super) programs: Option<String>,
    /// Version of the active programs, for people.
    pub(super) version: String,
    /// Digest of the options file; `unit` is the digest of the unit.
    pub(super) settings: String,
    pub(super) unit: String,
    /// Process number of the running hive.
    pub(super) pid: Option<u32>,
    /// Number of processes that run installed programs.
    pub(super) processes: u32,
}

impl TrailVerifier {
    /// Parses NAME=VALUE lines. Other lines, such as a login shell's greeting, are skipped.
    ///
    /// # Errors
    /// A required value is missing or malformed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let word = |name: &str| {
            let found = lines.get(name).copied().filter(|word| !word.is_empty());
            found.ok_or_else(|| format!("the inspection did not report `{name}`; its output was: {text}"))
        };
        let number = |name: &str| {
            word(name)?
                .parse::<u64>()
                .map_err(|_| format!("the inspection reported a `{name}` that is not a number; its output was: {text}"))
        };
        Ok(Self {
            system: word("system")?.to_owned(),
            machine: word("machine")?.to_owned(),
            host: word("host")?.to_owned(),
            home: word("home")?.to_owned(),
            manager: ServiceManager::parse(word("systemd")?).unwrap_or(ServiceManager::None),
            free: ByteSize(number("disk_kib")?.saturating_mul(1024)),
            reach: match word("reach")? {
                "yes" => BusReach::Yes,
                "no" => BusReach::No,
                _ => BusReach::Unknown,
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
        let manager = ServiceManager::parse(manager)
            .ok_or_else(|| format!("installed by a newer rbee: unknown service manager `{manager}`"))?;
        let layout =
            Layout::new(manager, word("home")?, Some(word("installed_prefix")?), Some(word("installed_data")?));
        Ok(Self {
            layout,
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
    fn inspection_skips_unrelated_output() {
        let found = TrailVerifier::parse(BARE).expect("whole");
        assert_eq!(
            (found.machine.as_str(), found.free, found.manager),
            ("aarch64", ByteSize(2 << 20), ServiceManager::User)
        );
        assert_eq!((found.reach, found.installed), (BusReach::Unknown, None));
        let error = TrailVerifier::parse(&BARE.replace("home=", "")).expect_err("no home");
        assert!(error.contains("`home`") && error.contains("Welcome"), "{error}");
    }

    #[test]
    fn installation_is_read_from_record_and_processes() {
        let record = "installed_manager=none\ninstalled_prefix=/opt/bees\ninstalled_data=/data\ninstalled_hive=one\n\
                      installed_settings=\ninstalled_unit=\ninstalled_programs=\ninstalled_version=rbee 0.1.0\n\
                      installed_pid=42\ninstalled_processes=3\n";
        let installed = TrailVerifier::parse(&format!("{BARE}{record}")).expect("whole").installed.expect("installed");
        assert_eq!(installed.layout, Layout::new(ServiceManager::None, "/home/pi", Some("/opt/bees"), Some("/data")));
        assert_eq!((installed.pid, installed.processes, installed.programs), (Some(42), 3, None));
    }
}
