//! The scripts that run on the remote machine, with their deadlines.

use std::time::Duration;

use super::ssh::Script;

/// Default time for a hive to stop: it gives its workers 30 s and then kills them, and systemd waits for 90 s.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// Deadline of scripts that do little more than connect.
const SHORT: Duration = Duration::from_secs(30);

/// Deadline of copying a few hundred MiB over a slow line. ssh detects a dead connection sooner.
const COPY: Duration = Duration::from_secs(30 * 60);

/// Deadline of deleting several GiB of model files on a slow disk.
const DELETION: Duration = Duration::from_secs(2 * 60);

macro_rules! script {
    ($name:ident, $file:literal, $doing:literal, $limit:expr) => {
        #[doc = concat!("To ", $doing, ".")]
        pub(super) const $name: Script = Script {
            doing: $doing,
            limit: $limit,
            text: concat!(include_str!("scripts/common.sh"), "\n", include_str!(concat!("scripts/", $file))),
        };
    };
}

script!(CHECK, "check.sh", "inspect the machine", SHORT);
script!(PUT, "put.sh", "copy a file", COPY);
script!(READ, "read.sh", "read a file", SHORT);
script!(TRY, "try.sh", "run the copied programs", SHORT);
script!(SWITCH, "switch.sh", "switch to the copied programs", SHORT);
script!(START, "start.sh", "start the hive", SHORT);
// The caller that waits for the hive has a deadline of its own.
script!(WATCH, "watch.sh", "keep the hive running", Duration::MAX);
script!(STOP, "stop.sh", "stop the hive", Duration::MAX);
script!(ERASE, "erase.sh", "remove what was installed", DELETION);
script!(PRUNE, "prune.sh", "remove earlier versions", SHORT);
script!(LOGS, "logs.sh", "print the log", Duration::MAX);

/// The stop script with a deadline of `patience` plus the time to connect.
pub(super) fn stop(patience: Duration) -> Script {
    Script { limit: patience.saturating_add(SHORT), ..STOP }
}

/// All scripts.
#[cfg(test)]
pub(super) const ALL: [Script; 11] = [CHECK, PUT, READ, TRY, SWITCH, START, WATCH, STOP, ERASE, PRUNE, LOGS];
