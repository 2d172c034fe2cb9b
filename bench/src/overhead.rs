//! Overhead of the bus. Each job is answered once over the bus and once by the same engine in this process, in turns, so that
//! other load on the machine slows down both.

use std::time::Duration;

use rbee_bench::table::{Samples, print};
use rbee_schema::{JobRequest, ModelReference};
use rbee_tests::fleet::Fleet;
use tokio::time::sleep;

use crate::{
    alone::{Alone, Computed},
    job::{Answered, answered, request},
    runs::{Effort, ready, real_model, spec},
};

/// Longest pause before a job for an idle worker: longer than every interval of a worker's periodic work.
const LONGEST_PAUSE: Duration = Duration::from_millis(2_500);

/// Tokens of the answers of the real model.
const TOKENS: u32 = 32;

pub(crate) async fn measure(effort: Effort) {
    let fleet = Fleet::start().await;
    mock(&fleet, effort).await;
    real(&fleet, effort).await;
}

async fn mock(fleet: &Fleet, effort: Effort) {
    let mut mock = Pairs::start(fleet, "mock", ModelReference::Mock(String::new()), request("Hi", 1)).await;
    let pairs = mock.run(effort.runs(500), |_| Duration::ZERO).await;
    let stored = Samples::times(pairs.iter().map(|(bus, _)| bus.stored));
    let started = Samples::times(pairs.iter().map(|(bus, _)| bus.started));
    let [over_the_bus, alone, added] = first_token(&pairs);
    print(
        "Time from job to first token, with an engine that takes no time (one job after another)",
        &[("job stored", stored), ("job started by a worker", started), over_the_bus, alone, added],
    );

    let runs = effort.runs(20);
    let pairs = mock.run(runs, |run| LONGEST_PAUSE * run as u32 / runs as u32).await;
    let [_, _, added] = first_token(&pairs);
    print("The same for a worker that was idle for 0 to 2.5 s", &[added]);
}

async fn real(fleet: &Fleet, effort: Effort) {
    let request = request("Write a long story about a bee that is looking for a new meadow.", TOKENS);
    let (file, name) = real_model();
    let mut model = Pairs::start(fleet, "real", file, request).await;
    let pairs = model.run(effort.runs(12), |_| Duration::ZERO).await;
    let rates = || pairs.iter().filter_map(|(bus, alone)| bus.rate.zip(alone.rate));
    let [over_the_bus, alone, added] = first_token(&pairs);
    print(
        &format!("{name}, answers of {TOKENS} tokens"),
        &[
            over_the_bus,
            alone,
            added,
            ("tokens over the bus", Samples::rates(rates().map(|(bus, _)| bus))),
            ("tokens, engine alone", Samples::rates(rates().map(|(_, alone)| alone))),
            ("ratio bus / alone of each pair", Samples::ratios(rates().map(|(bus, alone)| bus / alone))),
        ],
    );
}

fn first_token(pairs: &[(Answered, Computed)]) -> [(&'static str, Samples); 3] {
    let added = |(bus, alone): &(Answered, Computed)| bus.first_token.as_secs_f64() - alone.first_token.as_secs_f64();
    [
        ("first token over the bus", Samples::times(pairs.iter().map(|(bus, _)| bus.first_token))),
        ("first token, engine alone", Samples::times(pairs.iter().map(|(_, alone)| alone.first_token))),
        ("added by the bus", Samples::seconds(pairs.iter().map(added))),
    ]
}

/// The same engine twice: behind the bus, and in this process.
struct Pairs<'a> {
    fleet: &'a Fleet,
    model: &'static str,
    alone: Alone,
    request: JobRequest,
}

impl<'a> Pairs<'a> {
    async fn start(fleet: &'a Fleet, model: &'static str, reference: ModelReference, request: JobRequest) -> Self {
        fleet.serve(model, spec(reference.clone(), 1, 1, 1)).await;
        ready(fleet, model, 1).await;
        let mut pairs = Self { fleet, model, alone: Alone::load(&reference), request };
        pairs.pair().await;
        pairs
    }

    async fn run(&mut self, runs: usize, pause: impl Fn(usize) -> Duration) -> Vec<(Answered, Computed)> {
        let mut pairs = Vec::with_capacity(runs);
        for run in 0..runs {
            sleep(pause(run)).await;
            pairs.push(self.pair().await);
        }
        pairs
    }

    async fn pair(&mut self) -> (Answered, Computed) {
        let over_the_bus = answered(&self.fleet.bus, self.model, &self.request).await;
        let alone = self.alone.answer(&self.request);
        assert_eq!(over_the_bus.ids, alone.ids, "the same job has the same answer");
        (over_the_bus, alone)
    }
}
