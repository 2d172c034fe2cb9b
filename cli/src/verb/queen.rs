//! `rbee queen`: one role.

use std::net::SocketAddr;

use clap::Args;
use rbee_nats::{queen_connection, without_secrets};

use crate::{
    Setting,
    fleet::{self, QueenOptions},
    outcome::Outcome,
    show,
    signals::Signals,
    telemetry,
};

/// Options of `rbee queen`.
#[derive(Debug, Args)]
pub struct Queen {
    #[command(flatten)]
    queen: QueenOptions,
    /// Where the HTTP gateway listens; port 0 takes any that is free.
    #[arg(long, env = "RBEE_HTTP", default_value = "127.0.0.1:7833", value_name = "ADDRESS")]
    http: SocketAddr,
}

impl Queen {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus(&queen_connection(&self.queen.name())).await?;
        fleet::prepare(&bus).await?;
        let mut signals = Signals::listen()?;
        let recorded = telemetry::start()?;
        let (mut http, address) = fleet::http(self.http, bus.clone(), recorded).await?;
        let mut queen = fleet::queen(&self.queen, bus.clone());
        show::say(format_args!("the queen is up: NATS {}, HTTP http://{address}/v1", without_secrets(&setting.nats)));
        tokio::select! {
            () = signals.next() => {}
            ended = http.ended() => return ended,
            // Told to end over the bus.
            ended = queen.ended() => ended?,
        }
        show::say("the queen stops; Ctrl-C again ends her at once");
        let ends = signals.or_at_once(async { queen.stop().await.and(http.stop().await) }).await;
        bus.close().await;
        ends
    }
}
