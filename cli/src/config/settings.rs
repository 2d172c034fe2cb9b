//! Options that hold several settings, such as `--timers`: in the file each setting is a key of its own.

use std::str::FromStr;

use clap::Arg;
use rbee_hive::decide::{bounds::Bounds, timers::Timers};
use rbee_nats::{BusLimits, ConnectionSettings};
use rbee_queen::decide::{limits::QueenLimits, timers::Timers as QueenTimers};
use rbee_schema::{SettingInfo, Settings, WorkerSettings};

/// An option that holds several settings.
pub(super) struct SettingsOption {
    /// Id of the option.
    pub(super) option: &'static str,
    /// Declarations of its settings.
    pub(super) describe: fn() -> Vec<SettingInfo>,
    /// Checks one setting by itself.
    pub(super) check_one: fn(&str, &str) -> Result<(), String>,
    /// Checks `NAME=VALUE` pairs together.
    pub(super) check_all: fn(&str) -> Result<(), String>,
    /// Lets the option start from these pairs instead of the built-in defaults.
    pub(super) with_base: fn(Arg, String) -> Arg,
}

/// Every option that holds several settings.
pub(super) const SETTINGS: [SettingsOption; 7] = [
    of::<ConnectionSettings>("connection"),
    of::<BusLimits>("bus_limits"),
    of::<QueenTimers>("queen_timers"),
    of::<QueenLimits>("queen_limits"),
    of::<Timers>("timers"),
    of::<Bounds>("hive_limits"),
    of::<WorkerSettings>("worker_settings"),
];

const fn of<S>(option: &'static str) -> SettingsOption
where
    S: Settings + FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    SettingsOption {
        option,
        describe: S::describe,
        check_one: |name, text| S::default().set(name, text),
        check_all: |pairs| pairs.parse::<S>().map(drop),
        // Later pairs override earlier ones, so that a flag changes only the settings that it names.
        with_base: |arg, base| arg.value_parser(move |pairs: &str| format!("{base},{pairs}").parse::<S>()),
    }
}

/// The option with this id, if it holds several settings.
pub(super) fn settings_option(option: &str) -> Option<&'static SettingsOption> {
    SETTINGS.iter().find(|known| known.option == option)
}

/// Section of the file that has a setting of an option.
pub(super) fn section_of(option: &str, setting: &str) -> &'static str {
    match (option, setting) {
        ("connection", "server_start" | "server_stop") | ("bus_limits", _) => "bus",
        ("connection", _) => "connection",
        ("queen_timers", "patience" | "keep_alive") => "gateway",
        ("queen_timers", _) => "queen.timers",
        ("queen_limits", _) => "queen.limits",
        ("timers", _) => "hive.timers",
        ("hive_limits", _) => "hive.limits",
        _ => "worker",
    }
}
