//! Options of the HTTP gateway, and the gateway as a task of this process.

use std::net::SocketAddr;

use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use rbee_nats::Bus;
use rbee_queen::gateway;
use tokio_util::sync::CancellationToken;

use super::{queen::QueenOptions, running::RunningRole};
use crate::error::CliError;

/// Options of the HTTP gateway.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub(crate) struct GatewayOptions {
    /// Serve the OpenAI-compatible HTTP API on this address. Port 0 takes any free port.
    #[arg(long, env = "RBEE_HTTP", hide_env_values = true, default_value = "127.0.0.1:7833", value_name = "ADDRESS")]
    http: SocketAddr,
}

impl GatewayOptions {
    /// Starts the gateway, which also serves the metrics of this process, and returns the address that it listens on.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) async fn start(
        &self,
        queen: &QueenOptions,
        bus: Bus,
        recorder: PrometheusHandle,
    ) -> Result<(RunningRole, SocketAddr), CliError> {
        let refused = |error| {
            CliError::failed(format!(
                "failed to serve HTTP on {}: {error}; choose another address with --http",
                self.http
            ))
        };
        let listener = gateway::bind(self.http).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let stop = CancellationToken::new();
        let (timers, stopped) = (queen.queen_timers.clone(), stop.clone());
        let serve = async move { gateway::serve(listener, bus, &timers, move || recorder.render(), stopped).await };
        let task = tokio::spawn(async move { serve.await.map_err(CliError::failed) });
        Ok((RunningRole::new("gateway", stop, task), address))
    }
}
