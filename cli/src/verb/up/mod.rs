//! `rbee up`: runs everything on one machine.

mod lock;

use std::path::{Path, PathBuf};

use clap::Args;
use rbee_nats::{EmbeddedServer, hive_connection, queen_connection, without_secrets};

use self::lock::UpLock;
use crate::{
    Context,
    config::Origin,
    error::CliError,
    metrics, output,
    roles::{DataOptions, GatewayOptions, HiveOptions, QueenOptions, WorkerConnection},
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
        // Before anything is started or stopped: another `rbee up` may run on this data.
        let lock = UpLock::take(&data)?;
        let server = self.start_server(&context, &data).await?;
        let url = server.as_ref().map_or_else(|| context.nats.clone(), |server| server.url().to_owned());
        let result = self.run_roles(&context, &lock, data, &url).await;
        if let Some(server) = server {
            server.stop().await;
        }
        result
    }

    /// Starts nats-server, unless an option, a variable or the configuration file names a server.
    async fn start_server(&self, context: &Context, data: &Path) -> Result<Option<EmbeddedServer>, CliError> {
        if context.nats_origin != Origin::Default {
            output::print_line(format_args!(
                "using the nats-server at {}, which {} names; without it, `rbee up` starts a server of its own",
                without_secrets(&context.nats),
                context.nats_origin
            ));
            return Ok(None);
        }
        let started = EmbeddedServer::start(&data.join("nats"), self.nats_port, &context.connection).await;
        started.map(Some).map_err(CliError::failed)
    }

    async fn run_roles(self, context: &Context, lock: &UpLock, data: PathBuf, url: &str) -> Result<(), CliError> {
        let bus = context.bus_at(url, "up").await.map_err(|error| match &context.nats_origin {
            Origin::Default => error,
            origin => error.and(format!("`rbee up` starts a server of its own where {origin} does not name one")),
        })?;
        let limits = self.queen.prepare_streams(&bus).await?;
        let (queen_bus, hive_bus) = (
            context.bus_at(url, &queen_connection(&self.queen.name())).await?,
            context.bus_at(url, &hive_connection(&self.hive.name())).await?,
        );
        let mut signals = Signals::listen()?;
        let recorder = metrics::start()?;
        let (mut gateway, address) = self.gateway.start(&self.queen, queen_bus.clone(), recorder.clone()).await?;
        let mut queen = self.queen.start(queen_bus.clone(), limits);
        let connection = WorkerConnection { nats_url: url, otlp: context.otlp.as_deref() };
        let mut hive = self.hive.start(data, hive_bus.clone(), connection, recorder)?;
        let (nats, http) = (without_secrets(url), format!("http://{address}/v1"));
        lock.announce(&nats, &http);
        output::print_line(format_args!("rbee is up: NATS {nats}, HTTP {http}, metrics {}", hive.metrics));
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
