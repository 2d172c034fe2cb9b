//! `rbee hive`: runs a hive in this process, or manages one on another machine.

use clap::Args;
use rbee_nats::{BusLimits, ExistingStreams, hive_connection, prepare_streams, without_secrets};

use crate::{
    Context,
    error::CliError,
    install::RemoteHive,
    metrics, output,
    roles::{DataOptions, HiveOptions, WorkerConnection},
    signals::Signals,
};

/// Options of `rbee hive`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Hive {
    #[command(subcommand)]
    remote: Option<RemoteHive>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    hive: HiveOptions,
}

impl Hive {
    /// True if the command runs a hive in this process.
    pub(super) fn is_role(&self) -> bool {
        self.remote.is_none()
    }

    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        match self.remote {
            Some(remote) => remote.run(context).await,
            None => run_local(&self.hive, &self.data, &context).await,
        }
    }
}

async fn run_local(options: &HiveOptions, data: &DataOptions, context: &Context) -> Result<(), CliError> {
    let bus = context.bus(&hive_connection(&options.name())).await?;
    prepare_streams(&bus, &BusLimits::default(), ExistingStreams::KeepLimits).await?;
    let mut signals = Signals::listen()?;
    let recorded = metrics::start()?;
    let connection = WorkerConnection { nats_url: &context.nats, otlp: context.otlp.as_deref() };
    let mut hive = options.start(data.folder()?, bus.clone(), connection, recorded)?;
    output::print_line(format_args!(
        "the hive is up: NATS {}, metrics {}",
        without_secrets(&context.nats),
        hive.metrics
    ));
    let end = tokio::select! {
        () = signals.next() => hive.stop(&mut signals).await,
        ended = hive.ended() => ended,
    };
    bus.close().await;
    end
}
