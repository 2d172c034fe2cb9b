//! `rbee queen`: runs a queen with its HTTP gateway, and keeps a hive running beside it with `--hive`.

use std::{convert::Infallible, future::pending};

use clap::Args;
use rbee_nats::{queen_connection, without_secrets};

use crate::{
    Context,
    error::CliError,
    keeper::Keeper,
    metrics, output,
    roles::{GatewayOptions, QueenOptions},
    signals::Signals,
};

/// Options of `rbee queen`.
#[derive(Debug, Args)]
pub(crate) struct Queen {
    #[command(flatten)]
    queen: QueenOptions,
    #[command(flatten)]
    gateway: GatewayOptions,
    /// Also keep a hive running on this machine, as a process of its own that is restarted when it ends. It takes its
    /// options from the environment and the configuration file, like `rbee hive`. A hive that is already running is
    /// adopted. The hive survives a queen that is killed; a queen that is stopped by a signal stops the hive first.
    #[arg(long, help_heading = "Queen")]
    hive: bool,
}

impl Queen {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let mut keeper = if self.hive { Some(Keeper::new(&context)?) } else { None };
        let bus = context.bus(&queen_connection(&self.queen.name())).await?;
        let limits = self.queen.prepare_streams(&bus).await?;
        let mut signals = Signals::listen()?;
        let recorder = metrics::start()?;
        let (mut gateway, address) = self.gateway.start(&self.queen, bus.clone(), recorder).await?;
        let mut queen = self.queen.start(bus.clone(), limits);
        let nats = without_secrets(&context.nats);
        output::print_line(format_args!("the queen is up: NATS {nats}, HTTP http://{address}/v1"));
        let keeper_to_stop = tokio::select! {
            () = signals.next() => keeper,
            ended = gateway.ended() => return ended,
            // `rbee down` stopped the queen over the bus; it stops the hives too.
            ended = queen.ended() => {
                ended?;
                None
            }
            never = keep(keeper.as_mut()) => match never {},
        };
        output::print_line("the queen is stopping; press Ctrl-C again to stop it at once");
        // The gateway first: its answers may need a worker that the queen has yet to start. Then the queen: it would replace
        // the workers that the hive stops.
        let gateway_end = signals.or_at_once(gateway.stop()).await;
        let queen_end = signals.or_at_once(queen.stop()).await;
        let hive_end = match keeper_to_stop {
            Some(keeper) => keeper.stop(&mut signals).await,
            None => Ok(()),
        };
        let result = hive_end.and(queen_end).and(gateway_end);
        bus.close().await;
        result
    }
}

/// Keeps the hive running, if there is one to keep.
async fn keep(keeper: Option<&mut Keeper>) -> Infallible {
    match keeper {
        Some(keeper) => keeper.keep().await,
        None => pending().await,
    }
}
