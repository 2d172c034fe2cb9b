//! Options of a queen, and the queen as a task of this process.

use clap::Args;
use rbee_nats::{Bus, BusLimits};
use rbee_queen::{
    QueenConfig,
    decide::{limits::QueenLimits, timers::Timers},
};
use rbee_schema::QueenName;
use tokio_util::sync::CancellationToken;

use super::running::RunningRole;
use crate::{error::CliError, host::host};

/// Options of a queen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Queen")]
pub(crate) struct QueenOptions {
    /// Name of the queen [default: host name and process id].
    #[arg(long, env = "RBEE_QUEEN", hide_env_values = true, value_name = "NAME")]
    queen_name: Option<QueenName>,
    /// Timeouts and intervals of the queen (NAME=DURATION,...), such as suspect=3s,lost=10s.
    #[arg(long, hide = true, env = "RBEE_QUEEN_TIMERS", default_value = "", value_name = "NAME=DURATION")]
    pub(super) queen_timers: Timers,
    /// Limits of the queen (NAME=VALUE,...), such as low_disk=5GiB.
    #[arg(
        long,
        alias = "queen-bounds",
        hide = true,
        env = "RBEE_QUEEN_LIMITS",
        default_value = "",
        value_name = "NAME=VALUE"
    )]
    queen_limits: QueenLimits,
    /// Size and age limits of the streams (NAME=VALUE,...), such as events_age=7d,queued=1000. The queen that starts last
    /// sets them.
    #[arg(long, hide = true, env = "RBEE_BUS_LIMITS", default_value = "", value_name = "NAME=VALUE")]
    pub(crate) bus_limits: BusLimits,
}

impl QueenOptions {
    /// Name of the queen.
    pub(crate) fn name(&self) -> QueenName {
        let default = || QueenName::from_lossy(&format!("{}-{}", host(), std::process::id()));
        self.queen_name.clone().unwrap_or_else(default)
    }

    /// Starts a queen as a task of this process.
    pub(crate) fn start(&self, bus: Bus) -> RunningRole {
        let (name, timers, limits) = (self.name(), self.queen_timers.clone(), self.queen_limits.clone());
        let stop = CancellationToken::new();
        let run = rbee_queen::run(QueenConfig { name, timers, limits }, bus, stop.clone());
        let task = tokio::spawn(async move { run.await.map_err(CliError::unavailable) });
        RunningRole::new("queen", stop, task)
    }
}
