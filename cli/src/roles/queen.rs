//! Options of a queen, and the queen as a task of this process.

use clap::Args;
use rbee_nats::{Bus, BusLimits, ExistingStreams, prepare_streams};
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
    bus_limits: BusLimits,
}

impl QueenOptions {
    /// Name of the queen.
    pub(crate) fn name(&self) -> QueenName {
        let default = || QueenName::from_lossy(&format!("{}-{}", host(), std::process::id()));
        self.queen_name.clone().unwrap_or_else(default)
    }

    /// Brings the streams and buckets on the server to what this queen needs. Returns the limits for which the server has room.
    ///
    /// # Errors
    /// The server refuses a change, or does not answer.
    pub(crate) async fn prepare_streams(&self, bus: &Bus) -> Result<BusLimits, CliError> {
        Ok(prepare_streams(bus, &self.bus_limits, ExistingStreams::SetLimits).await?)
    }

    /// Starts a queen as a task of this process. Streams that it makes again get the limits `bus_limits`.
    pub(crate) fn start(&self, bus: Bus, bus_limits: BusLimits) -> RunningRole {
        let config = QueenConfig {
            name: self.name(),
            timers: self.queen_timers.clone(),
            limits: self.queen_limits.clone(),
            bus_limits,
        };
        let stop = CancellationToken::new();
        let run = rbee_queen::run(config, bus, stop.clone());
        let task = tokio::spawn(async move { run.await.map_err(CliError::unavailable) });
        RunningRole::new("queen", stop, task)
    }
}
