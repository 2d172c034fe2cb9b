//! Verbs of the command line, one file or folder each.

mod apply;
mod attach;
mod audit;
mod batch;
mod cancel;
mod config;
mod doctor;
mod down;
mod drain;
mod embed;
mod events;
mod explain;
pub(crate) mod hive;
mod hives;
mod jobs;
mod models;
mod ports;
mod ps;
mod pull;
mod queen;
mod remove;
mod replay;
mod reset;
mod retry;
mod rm;
mod run;
pub(crate) mod schema;
pub(crate) mod serve;
mod stop;
mod submit;
mod tenant;
mod topology;
mod up;

use clap::Subcommand;

use crate::{Context, error::CliError};

/// Verbs of the command line. `help.rs` lists them in groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run everything on this machine: nats-server, queen, hive and HTTP gateway
    Up(Box<up::Up>),
    /// Stop all queens, hives and workers gracefully
    Down(down::Down),
    /// Run a queen, which decides where models run, and the HTTP gateway
    Queen(Box<queen::Queen>),
    /// Run a hive, which runs workers on this machine, or install one on another machine
    Hive(Box<hive::Hive>),
    /// Declare a model; workers start when a job arrives
    Serve(serve::Serve),
    /// Declare the models of a file
    Apply(apply::Apply),
    /// Print what `rbee apply` would change
    Plan(apply::Plan),
    /// Withdraw a model; its workers finish their jobs and stop
    Remove(remove::Remove),
    /// Fetch a model file from the hub before a worker needs it
    Pull(pull::Pull),
    /// Delete a fetched model file from the hives
    Rm(rm::Rm),
    /// Send a prompt to a model and print the answer; Ctrl-C cancels the job
    Run(run::Run),
    /// Turn texts into vectors and print them as JSON; Ctrl-C cancels the job
    Embed(embed::Embed),
    /// Run a file of requests (JSONL) and write their answers; list, fetch or cancel such batches
    Batch(Box<batch::Batch>),
    /// Queue a prompt and print the id of the job
    Submit(submit::Submit),
    /// Print the answer of a job from its beginning and follow it to its end
    Attach(attach::Attach),
    /// Cancel a job
    Cancel(cancel::Cancel),
    /// Let a hive or worker finish its jobs and accept no more
    Drain(drain::Drain),
    /// Stop a hive or worker now; its jobs continue elsewhere
    Stop(stop::Stop),
    /// Start a worker in a crash loop again at once
    Reset(reset::Reset),
    /// Set, list or remove the weights and limits of tenants
    Tenant(tenant::Tenant),
    /// Submit dead letters again: jobs that were given up
    Retry(retry::Retry),
    /// List workers
    Ps(ps::Ps),
    /// List jobs: open, ended or dead ones
    Jobs(jobs::Jobs),
    /// Print what happened to a job, or where another worker of a model would be placed and why
    Explain(explain::Explain),
    /// List declared models, or the model files that hives have fetched
    Models(models::Models),
    /// List hives
    Hives(hives::Hives),
    /// List port leases
    Ports(ports::Ports),
    /// Print past events and follow new ones
    Events(events::Events),
    /// Let recorded events go through the planner again and compare its decisions
    Replay(replay::Replay),
    /// Print who did what and why, or verify the audit trail
    Audit(audit::Audit),
    /// Check this machine and the fleet for problems, with a remedy for each
    Doctor(doctor::Doctor),
    /// Show or apply changes to the streams and buckets on the server
    Topology(topology::Topology),
    /// Print the JSON Schema of a message, or the AsyncAPI document of all messages
    Schema(schema::Schema),
    /// Check, show or print an example of the configuration file
    Config(config::Config),
}

impl Verb {
    /// True if the verb runs a queen or a hive in this process.
    pub(crate) fn is_role(&self) -> bool {
        match self {
            Self::Up(_) | Self::Queen(_) => true,
            Self::Hive(verb) => verb.is_role(),
            _ => false,
        }
    }

    /// Default log filter: roles log their lifecycle, other verbs only errors.
    pub(crate) fn log_filter(&self) -> &'static str {
        if self.is_role() { "info,async_nats=warn" } else { "error" }
    }

    /// Service name of this process in traces.
    pub(crate) fn service(&self) -> &'static str {
        match self {
            Self::Queen(_) => "rbee-queen",
            Self::Hive(verb) if verb.is_role() => "rbee-hive",
            _ => "rbee",
        }
    }

    /// Runs the verb.
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        match self {
            Self::Up(verb) => verb.run(context).await,
            Self::Down(verb) => verb.run(context).await,
            Self::Queen(verb) => verb.run(context).await,
            Self::Hive(verb) => verb.run(context).await,
            Self::Serve(verb) => verb.run(context).await,
            Self::Apply(verb) => verb.run(context).await,
            Self::Plan(verb) => verb.run(context).await,
            Self::Remove(verb) => verb.run(context).await,
            Self::Pull(verb) => verb.run(context).await,
            Self::Rm(verb) => verb.run(context).await,
            Self::Run(verb) => verb.run(context).await,
            Self::Embed(verb) => verb.run(context).await,
            Self::Batch(verb) => verb.run(context).await,
            Self::Submit(verb) => verb.run(context).await,
            Self::Attach(verb) => verb.run(context).await,
            Self::Cancel(verb) => verb.run(context).await,
            Self::Drain(verb) => verb.run(context).await,
            Self::Stop(verb) => verb.run(context).await,
            Self::Reset(verb) => verb.run(context).await,
            Self::Tenant(verb) => verb.run(context).await,
            Self::Retry(verb) => verb.run(context).await,
            Self::Ps(verb) => verb.run(context).await,
            Self::Jobs(verb) => verb.run(context).await,
            Self::Explain(verb) => verb.run(context).await,
            Self::Models(verb) => verb.run(context).await,
            Self::Hives(verb) => verb.run(context).await,
            Self::Ports(verb) => verb.run(context).await,
            Self::Events(verb) => verb.run(context).await,
            Self::Replay(verb) => verb.run(context).await,
            Self::Audit(verb) => verb.run(context).await,
            Self::Doctor(verb) => verb.run(context).await,
            Self::Topology(verb) => verb.run(context).await,
            Self::Schema(verb) => verb.run(&context),
            Self::Config(verb) => verb.run(&context),
        }
    }
}
