//! `rbee up`: runs everything on one machine.

use std::path::{Path, PathBuf};

use clap::Args;
use rbee_nats::{EmbeddedServer, hive_connection, queen_connection, without_secrets};

use crate::{
    Context,
    context::DEFAULT_NATS,
    error::CliError,
    metrics, output,
    roles::{DataOptions, GatewayOptions, HiveOptions, QueenOptions, WorkerConnection, prepare_streams},
    signals::Signals,
};

/// Options of `rbee up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C drains the workers and stops everything. Timeouts and limits are keys of the configuration \
                        file: `rbee config example` prints them."
)]
pub(crate) struct Up {
    #[command(flatten)]
    data: DataOptions,
    /// Start nats-server on this port. With --nats, no server is started.
    #[arg(long, env = "RBEE_NATS_PORT", hide_env_values = true, default_value_t = 4222, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    nats_port: u16,
    #[command(flatten)]
    gateway: GatewayOptions,
    #[command(flatten)]
    queen: QueenOptions,
    #[command(flatten)]
    hive: HiveOptions,
}

impl Up {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let data = self.data.folder()?;
        let server = self.start_server(&context, &data).await?;
        let url = server.as_ref().map_or_else(|| context.nats.clone(), |server| server.url().to_owned());
        let result = self.run_roles(&context, data, &url).await;
        if let Some(server) = server {
            server.stop().await;
        }
        result
    }

    /// Starts nats-server, unless `--nats` names a server.
    async fn start_server(&self, context: &Context, data: &Path) -> Result<Option<EmbeddedServer>, CliError> {
        if context.nats != DEFAULT_NATS {
            return Ok(None);
        }
        let started = EmbeddedServer::start(&data.join("nats"), self.nats_port, &context.connection).await;
        started.map(Some).map_err(CliError::failed)
    }

    async fn run_roles(self, context: &Context, data: PathBuf, url: &str) -> Result<(), CliError> {
        let bus = context.bus_at(url, "up").await?;
        prepare_streams(&bus, Some(&self.queen.bus_limits)).await?;
        let (queen_bus, hive_bus) = (
            context.bus_at(url, &queen_connection(&self.queen.name())).await?,
            context.bus_at(url, &hive_connection(&self.hive.name())).await?,
        );
        let mut signals = Signals::listen()?;
        let recorder = metrics::start()?;
        let (mut gateway, address) = self.gateway.start(&self.queen, bus.clone(), recorder.clone()).await?;
        let mut queen = self.queen.start(queen_bus.clone());
        let connection = WorkerConnection { nats_url: url, otlp: context.otlp.as_deref() };
        let mut hive = self.hive.start(data, hive_bus.clone(), connection, recorder)?;
        output::print_line(format_args!(
            "rbee is up: NATS {}, HTTP http://{address}/v1, metrics {}",
            without_secrets(url),
            hive.metrics
        ));
        let hive_ended = tokio::select! {
            () = signals.next() => None,
            ended = hive.ended() => Some(ended),
            ended = gateway.ended() => return ended,
            // `rbee down` stopped the queen over the bus; the rest stops with it.
            ended = queen.ended() => {
                ended?;
                None
            }
        };
        output::print_line("rbee is stopping");
        // The gateway first: its answers may need a worker that the queen has yet to start. Then the queen: it would replace
        // the workers that the hive stops.
        let gateway_end = signals.or_at_once(gateway.stop()).await;
        let queen_end = signals.or_at_once(queen.stop()).await;
        let hive_end = match hive_ended {
            Some(ended) => ended,
            None => hive.stop(&mut signals).await,
        };
        for bus in [bus, queen_bus, hive_bus] {
            bus.close().await;
        }
        hive_end.and(queen_end).and(gateway_end)
    }
}
