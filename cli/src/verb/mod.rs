//! The verbs, one file each.

mod apply;
mod attach;
mod audit;
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
mod models;
mod ports;
mod ps;
mod pull;
mod queen;
mod remove;
mod reset;
mod rm;
mod run;
pub mod schema;
pub(crate) mod serve;
mod stop;
mod submit;
mod topology;
mod up;

use clap::Subcommand;

use crate::{Setting, outcome::Outcome};

/// What `rbee` can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run everything on this machine: nats-server, queen, hive and HTTP gateway. Ctrl-C stops all of it in order.
    Up(Box<up::Up>),
    /// End everything in order: queens, hives and their workers.
    Down(down::Down),
    /// Run a queen: she decides which models run where, and serves HTTP.
    Queen(Box<queen::Queen>),
    /// Run a hive: it runs workers on this machine. On a second machine this joins it to the fleet. With a command, have
    /// one on another machine.
    Hive(Box<hive::Hive>),
    /// Declare a model; its workers start when a job comes.
    Serve(serve::Serve),
    /// Declare the models of a file: what is there already stays as it is.
    Apply(apply::Apply),
    /// Say what `rbee apply` would change.
    Plan(apply::Plan),
    /// Withdraw a model; its workers finish their jobs and stop.
    Remove(remove::Remove),
    /// Fetch a model file from the hub to the hives, so that it is there when a worker needs it.
    Pull(pull::Pull),
    /// Delete a fetched model file from the hives.
    Rm(rm::Rm),
    /// Ask a model and print its answer as it comes. Ctrl-C cancels the job.
    Run(run::Run),
    /// Have a model turn texts into vectors, and print these as JSON. Ctrl-C cancels the job.
    Embed(embed::Embed),
    /// Queue a job and print its id.
    Submit(submit::Submit),
    /// Print the answer of a job from its beginning, and follow it to its end.
    Attach(attach::Attach),
    /// Cancel a job.
    Cancel(cancel::Cancel),
    /// Let a hive or a worker finish its jobs and take no more, and wait until it has.
    Drain(drain::Drain),
    /// End a hive or a worker now, and wait until it has ended; jobs go on elsewhere.
    Stop(stop::Stop),
    /// Try a worker again at once that ended too often.
    Reset(reset::Reset),
    /// List workers.
    Ps(ps::Ps),
    /// Say where another worker of a model would go, and why.
    Explain(explain::Explain),
    /// List declared models, or the model files that hives have fetched.
    Models(models::Models),
    /// List hives.
    Hives(hives::Hives),
    /// List leased ports.
    Ports(ports::Ports),
    /// Print what happened, and what happens.
    Events(events::Events),
    /// Say who did what and why, or look whether the trail of it is whole.
    Audit(audit::Audit),
    /// Look for what could be wrong, and say what to do.
    Doctor(doctor::Doctor),
    /// Show or make the streams and buckets on the server.
    Topology(topology::Topology),
    /// Print the JSON Schema of a message, or the AsyncAPI document of all of them.
    Schema(schema::Schema),
    /// Check, show or begin the configuration file.
    Config(config::Config),
}

impl Verb {
    /// Roles tell what they do; the rest only what goes wrong.
    pub(crate) fn log_filter(&self) -> &'static str {
        match self {
            Self::Up(_) | Self::Queen(_) => "info,async_nats=warn",
            Self::Hive(verb) if verb.is_role() => "info,async_nats=warn",
            _ => "error",
        }
    }

    /// What a collector of spans calls this process.
    pub(crate) fn service(&self) -> &'static str {
        match self {
            Self::Queen(_) => "rbee-queen",
            Self::Hive(verb) if verb.is_role() => "rbee-hive",
            _ => "rbee",
        }
    }

    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        match self {
            Self::Up(verb) => verb.run(setting).await,
            Self::Down(verb) => verb.run(setting).await,
            Self::Queen(verb) => verb.run(setting).await,
            Self::Hive(verb) => verb.run(setting).await,
            Self::Serve(verb) => verb.run(setting).await,
            Self::Apply(verb) => verb.run(setting).await,
            Self::Plan(verb) => verb.run(setting).await,
            Self::Remove(verb) => verb.run(setting).await,
            Self::Pull(verb) => verb.run(setting).await,
            Self::Rm(verb) => verb.run(setting).await,
            Self::Run(verb) => verb.run(setting).await,
            Self::Embed(verb) => verb.run(setting).await,
            Self::Submit(verb) => verb.run(setting).await,
            Self::Attach(verb) => verb.run(setting).await,
            Self::Cancel(verb) => verb.run(setting).await,
            Self::Drain(verb) => verb.run(setting).await,
            Self::Stop(verb) => verb.run(setting).await,
            Self::Reset(verb) => verb.run(setting).await,
            Self::Ps(verb) => verb.run(setting).await,
            Self::Explain(verb) => verb.run(setting).await,
            Self::Models(verb) => verb.run(setting).await,
            Self::Hives(verb) => verb.run(setting).await,
            Self::Ports(verb) => verb.run(setting).await,
            Self::Events(verb) => verb.run(setting).await,
            Self::Audit(verb) => verb.run(setting).await,
            Self::Doctor(verb) => verb.run(setting).await,
            Self::Topology(verb) => verb.run(setting).await,
            Self::Schema(verb) => verb.run(&setting),
            Self::Config(verb) => verb.run(&setting),
        }
    }
}
