//! The scripts that run on the other machine, and how long each may take.

use std::time::Duration;

use super::ssh::Script;

/// A hive gives its workers half a minute to finish and then ends them; systemd waits for 90 s.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// A connection, and something that takes no time.
const SHORT: Duration = Duration::from_secs(30);

/// Some hundred MiB over a slow line; a dead one is found sooner.
const COPY: Duration = Duration::from_secs(30 * 60);

/// Some GiB of model files on a slow disk.
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

script!(CHECK, "check.sh", "look at what is there", SHORT);
script!(PUT, "put.sh", "copy a file", COPY);
script!(READ, "read.sh", "read a file", SHORT);
script!(TRY, "try.sh", "run the programs that were copied", SHORT);
script!(SWITCH, "switch.sh", "switch to the programs that were copied", SHORT);
script!(START, "start.sh", "start the hive", SHORT);
// Whoever waits for the hive has a deadline of its own.
script!(WATCH, "watch.sh", "keep the hive running", Duration::MAX);
script!(STOP, "stop.sh", "stop the hive", Duration::MAX);
script!(ERASE, "erase.sh", "remove what was installed", DELETION);
script!(PRUNE, "prune.sh", "remove earlier versions", SHORT);
script!(LOGS, "logs.sh", "print the log", Duration::MAX);

/// The stop of a hive that is given so long, and the way there and back.
pub(super) fn stop(patience: Duration) -> Script {
    Script { limit: patience.saturating_add(SHORT), ..STOP }
}

/// All of them.
#[cfg(test)]
pub(super) const ALL: [Script; 11] = [CHECK, PUT, READ, TRY, SWITCH, START, WATCH, STOP, ERASE, PRUNE, LOGS];
