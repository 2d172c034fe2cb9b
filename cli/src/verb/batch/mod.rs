//! `rbee batch`: runs a file of requests in the format of OpenAI's batch API, and lists, fetches and cancels batches. Step 1 of a
//! job's path.

mod file;
mod follow;
mod output;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rbee_nats::Bus;
use rbee_schema::{
    BatchId, Failure, FailureCode, ModelName, Tenant,
    api::{Batch as BatchDocument, BatchRequest, BatchRun, Batches},
};

use self::{file::RequestFile, follow::follow};
use crate::{
    Context,
    error::CliError,
    output::{self as out, or_dash, say},
    paging::fetch_all,
};

/// Options of `rbee batch`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Each line of FILE is a request: {\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{...}}, or \
                  /v1/embeddings. The leading queen runs the batch, also after this command has ended: run the command again to follow \
                  it and to get its answers. A file that was run before is not run again; --id gives it another id."
)]
pub(crate) struct Batch {
    #[command(subcommand)]
    verb: Option<BatchVerb>,
    /// File with a request in each line (JSONL).
    #[arg(required = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Model of the requests that name none.
    #[arg(long, value_name = "NAME")]
    model: Option<ModelName>,
    /// Tenant that owns the batch and its jobs.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
    /// Write the answers to this file; default: standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Id of the batch [default: from the content of the file, the model and the tenant].
    #[arg(long, value_name = "ID")]
    id: Option<BatchId>,
}

#[derive(Debug, Subcommand)]
enum BatchVerb {
    /// List batches
    Ls,
    /// Print the answers of a batch that has ended
    Get {
        /// Id of the batch.
        #[arg(value_name = "ID")]
        batch: BatchId,
        /// Write the answers to this file; default: standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Cancel a batch; answers so far are kept
    Cancel {
        /// Id of the batch.
        #[arg(value_name = "ID")]
        batch: BatchId,
    },
}

impl Batch {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        match &self.verb {
            Some(BatchVerb::Ls) => list(&context).await,
            Some(BatchVerb::Get { batch, output }) => {
                let bus = context.bus("cli/batch").await?;
                let found: BatchDocument = bus.request("batch", &BatchRequest { batch: batch.clone() }).await?;
                if !found.record.state.is_final() {
                    let counts = found.record.counts;
                    return Err(CliError::failed(format!(
                        "batch {batch} is {}: {} of {} requests are done",
                        found.record.state.as_str(),
                        counts.done(),
                        counts.total
                    )));
                }
                output::fetch(&bus, &found.record, output.as_deref()).await
            }
            Some(BatchVerb::Cancel { batch }) => {
                let bus = context.bus("cli/batch").await?;
                let found: BatchDocument = bus.request("batch-cancel", &BatchRequest { batch: batch.clone() }).await?;
                if context.json {
                    out::json(&found);
                } else if found.record.state.is_final() {
                    say!("batch {batch} had {} already", found.record.state.as_str());
                } else {
                    say!("batch {batch} is being cancelled");
                }
                Ok(())
            }
            None => self.run_file(context).await,
        }
    }

    async fn run_file(self, context: Context) -> Result<(), CliError> {
        let Self { file, model, tenant, output, id, .. } = self;
        let file = RequestFile::open(&file.unwrap_or_default()).await?;
        let id = match id {
            Some(id) => id,
            None => file.id(&tenant, model.as_ref()).await?,
        };
        let bus = context.bus("cli/batch").await?;
        let batch = match known(&bus, &id).await? {
            Some(batch) => {
                eprintln!(
                    "rbee: batch {id} exists already ({}); --id runs the file again",
                    batch.record.state.as_str()
                );
                batch
            }
            None => {
                let input = file.store(&bus, &tenant, &id).await?;
                let run = BatchRun { batch: Some(id.clone()), tenant, model, input };
                bus.request("batch-run", &run).await?
            }
        };
        let record = follow(&bus, &id, batch.record, &context).await?;
        if context.json {
            out::json(&BatchDocument { batch: id.clone(), record: record.clone() });
            if output.is_none() {
                return Ok(());
            }
        }
        output::fetch(&bus, &record, output.as_deref()).await?;
        output::summary(&id, &record)
    }
}

/// The batch of this id, if there is one.
async fn known(bus: &Bus, id: &BatchId) -> Result<Option<BatchDocument>, Failure> {
    match bus.request("batch", &BatchRequest { batch: id.clone() }).await {
        Ok(batch) => Ok(Some(batch)),
        Err(failure) if failure.code == FailureCode::UnknownBatch => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let bus = context.bus("cli/batch").await?;
    let all: Batches = fetch_all(&bus).await?;
    if context.json {
        out::json(&all);
        return Ok(());
    }
    let row = |batch: &BatchDocument| {
        let record = &batch.record;
        [
            batch.batch.to_string(),
            record.tenant.to_string(),
            or_dash(record.model.as_ref()),
            if record.cancel && !record.state.is_final() {
                "cancelling".to_owned()
            } else {
                record.state.as_str().to_owned()
            },
            format!("{}/{}", record.counts.done(), record.counts.total),
            record.counts.failed.to_string(),
            or_dash(record.failure.as_ref().map(|failure| failure.code)),
        ]
    };
    let header = ["BATCH", "TENANT", "MODEL", "STATE", "DONE", "ERRORS", "FAILURE"];
    out::table(header, all.batches.iter().map(row).collect(), "there is no batch");
    Ok(())
}
