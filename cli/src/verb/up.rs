//! `rbee up`: everything on one machine.

use std::net::SocketAddr;

use clap::Args;
use rbee_nats::{EmbeddedServer, hive_connection, queen_connection, without_secrets};

use crate::{
    DEFAULT_NATS, Setting,
    fleet::{self, DataOptions, HiveOptions, QueenOptions},
    outcome::Outcome,
    show,
    signals::Signals,
    telemetry,
};

/// Options of `rbee up`.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    hive: HiveOptions,
    #[command(flatten)]
    queen: QueenOptions,
    /// The port of the nats-server that is started. With --nats none is started.
    #[arg(long, env = "RBEE_NATS_PORT", default_value_t = 4222, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    nats_port: u16,
    /// Where the HTTP gateway listens; port 0 takes any that is free.
    #[arg(long, env = "RBEE_HTTP", default_value = "127.0.0.1:7833", value_name = "ADDRESS")]
    http: SocketAddr,
}

impl Up {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let data = self.data.folder()?;
        let server = if setting.nats == DEFAULT_NATS {
            let started = EmbeddedServer::start(&data.join("nats"), self.nats_port, &setting.connection).await;
            Some(started.map_err(Outcome::failed)?)
        } else {
            None
        };
        let url = server.as_ref().map_or_else(|| setting.nats.clone(), |server| server.url().to_owned());
        let ran = self.roles(&setting, data, &url).await;
        if let Some(server) = server {
            server.stop().await;
        }
        ran
    }

    async fn roles(self, setting: &Setting, data: std::path::PathBuf, url: &str) -> Result<(), Outcome> {
        let bus = setting.bus_at(url, "up").await?;
        fleet::prepare(&bus, Some(&self.queen.bus_limits)).await?;
        let (queen_bus, hive_bus) = (
            setting.bus_at(url, &queen_connection(&self.queen.name())).await?,
            setting.bus_at(url, &hive_connection(&self.hive.name())).await?,
        );
        let mut signals = Signals::listen()?;
        let recorded = telemetry::start()?;
        let (mut http, address) = fleet::http(self.http, &self.queen, bus.clone(), recorded.clone()).await?;
        let mut queen = fleet::queen(&self.queen, queen_bus.clone());
        let mut hive = fleet::hive(&self.hive, data, url, setting.otlp.as_deref(), hive_bus.clone(), recorded)?;
        show::say(format_args!(
            "rbee is up: NATS {}, HTTP http://{address}/v1, metrics {}",
            without_secrets(url),
            hive.metrics
        ));
        let hive_ended = tokio::select! {
            () = signals.next() => None,
            ended = hive.ended() => Some(ended),
            ended = http.ended() => return ended,
            // She was told to end over the bus, and so is everything else.
            ended = queen.ended() => {
                ended?;
                None
            }
        };
        show::say("rbee stops");
        // The queen first: she would replace the workers that the hive stops.
        let queen_end = queen.stop().await;
        let hive_end = match hive_ended {
            Some(ended) => ended,
            None => hive.stop(&mut signals).await,
        };
        // Whoever reads an answer over HTTP may read it to its end, or until the next signal.
        let http_end = signals.or_at_once(http.stop()).await;
        for bus in [bus, queen_bus, hive_bus] {
            bus.close().await;
        }
        hive_end.and(queen_end).and(http_end)
    }
}
