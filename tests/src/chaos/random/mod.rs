//! Random faults: jobs run while processes are killed, frozen and cut off at random.
//!
//! A seed determines which faults are injected, and when. What they hit depends on the processes that run at that time, so a
//! seed repeats the attack, not every detail of the defence. The judge reads the broker and `/proc` only: every accepted job
//! ends once with the text of an undisturbed run, every subscriber receives each index once and in order, and afterwards the
//! fleet satisfies the invariants of a fleet at rest.

mod client;
mod injector;
mod observer;
mod question;
mod schedule;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::iter};
use rbee_schema::{ModelSpec, Replicas};
use tokio::sync::watch;

pub use self::question::RandomModel;
use self::{client::Client, injector::Injector, observer::Observer, question::Questions, schedule::Schedule};
use super::invariants::check_invariants;
use crate::{fleet::Fleet, relay::Relay};

/// Jobs that run at the same time: more than the workers have slots, so that some always wait.
const CONCURRENT_JOBS: usize = 16;

/// Ports of the two hives.
const PORTS: u16 = 40;

/// A run of random faults.
#[derive(Debug, Clone, Copy)]
pub struct RandomFaults {
    /// Seed of the faults and of the requests.
    pub seed: u64,
    /// Number of jobs.
    pub jobs: u32,
    /// Model that answers them.
    pub model: RandomModel,
    /// Mean pause between two faults.
    pub pause: Duration,
}

/// Summary of a run.
#[derive(Debug)]
pub struct Survived {
    /// Number of injected faults by kind.
    pub faults: BTreeMap<&'static str, u32>,
    /// Number of answered jobs.
    pub jobs: u32,
    /// Longest time without a chunk that a client saw.
    pub longest_gap: Duration,
    /// Duration of the run without the check of the invariants.
    pub took: Duration,
}

impl RandomFaults {
    /// Runs the jobs under faults.
    ///
    /// # Panics
    /// When a job is lost, doubled or wrong, or an invariant is violated.
    pub async fn run(self) -> Survived {
        let mut fleet = Fleet::with_ports(PORTS).await;
        let relay = Relay::start(fleet.server.url()).await;
        let observer = Observer::start(&fleet.bus).await;
        let injector = Injector::start(&mut fleet, &relay).await;
        let spec =
            ModelSpec { replicas: Replicas { min: 2, max: 3 }, slots: 4, ..ModelSpec::new(self.model.reference()) };
        injector.fleet.serve("m", spec).await;
        injector.fleet.ready(2).await;
        let questions = Questions::prepare(self.model, injector.fleet).await;
        let client = Client::connect(injector.fleet, &relay, questions).await;
        let begun = Instant::now();
        let (report_end, ended) = watch::channel(false);
        let answering = async {
            let gaps = iter(0..self.jobs)
                .map(|number| client.run(self.seed, number))
                .buffer_unordered(CONCURRENT_JOBS)
                .collect::<Vec<Duration>>();
            let gaps = gaps.await;
            report_end.send_replace(true);
            gaps
        };
        let (gaps, faults) = tokio::join!(answering, injector.inject(Schedule::new(self.seed, self.pause), ended));
        let took = begun.elapsed();
        observer.check().await;
        drop(client);
        check_invariants(&fleet).await;
        Survived { faults, jobs: self.jobs, longest_gap: gaps.into_iter().max().unwrap_or_default(), took }
    }
}
