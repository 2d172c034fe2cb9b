//! `rbee queen`: one role, and a hive beside her where one is wanted.

use std::{convert::Infallible, future::pending, net::SocketAddr};

use clap::Args;
use rbee_nats::{queen_connection, without_secrets};

use crate::{
    Setting,
    fleet::{self, QueenOptions},
    keeper::Keeper,
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
    /// Keep a hive running on this machine too, as a process of its own, which is started again when it ends. Its options
    /// come from the environment and the configuration file, as those of `rbee hive`. One that runs already is looked
    /// after. It outlives a queen who is killed; one who is told to stop by a signal stops it first.
    #[arg(long)]
    hive: bool,
}

impl Queen {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let mut keeper = if self.hive { Some(Keeper::new(&setting)?) } else { None };
        let bus = setting.bus(&queen_connection(&self.queen.name())).await?;
        fleet::prepare(&bus, Some(&self.queen.bus_limits)).await?;
        let mut signals = Signals::listen()?;
        let recorded = telemetry::start()?;
        let (mut http, address) = fleet::http(self.http, &self.queen, bus.clone(), recorded).await?;
        let mut queen = fleet::queen(&self.queen, bus.clone());
        show::say(format_args!("the queen is up: NATS {}, HTTP http://{address}/v1", without_secrets(&setting.nats)));
        let hive = tokio::select! {
            () = signals.next() => keeper,
            ended = http.ended() => return ended,
            // Told to end over the bus. Who does that tells the hives too.
            ended = queen.ended() => {
                ended?;
                None
            }
            never = keep(keeper.as_mut()) => match never {},
        };
        show::say("the queen stops; Ctrl-C again ends her at once");
        let ends = match hive {
            // The queen first: she would replace the workers that the hive stops. Then the hive, while answers over HTTP
            // can still be read.
            Some(hive) => {
                let queen_end = signals.or_at_once(queen.stop()).await;
                let hive_end = hive.stop(&mut signals).await;
                hive_end.and(queen_end).and(signals.or_at_once(http.stop()).await)
            }
            None => signals.or_at_once(async { queen.stop().await.and(http.stop().await) }).await,
        };
        bus.close().await;
        ends
    }
}

/// Keeps the hive where there is one to keep.
async fn keep(keeper: Option<&mut Keeper>) -> Infallible {
    match keeper {
        Some(keeper) => keeper.keep().await,
        None => pending().await,
    }
}
