//! One simulation from its beginning to its end.

use std::{cell::RefCell, rc::Rc, time::Duration};

use rbee_hive::decide::rules::Rules;
use rbee_nats::CommandIssuer;
use rbee_schema::{HiveCommand, ModelName, ModelReference, ModelSpec, Replicas, WorkerSettings};

use crate::{
    broker::Server,
    check::{Counts, Judge},
    fault::{self, Kind},
    network::Network,
    node::{Client, ClientPlan, Hive, Machine, Queen, Settings, Site},
    runtime::{Process, Runtime},
    scenario::{Load, Scenario},
    words::{Body, streams},
};

/// Redelivery timeout of jobs.
const REDELIVERY: Duration = Duration::from_secs(20);

/// Interval at which a simulation that is over is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Interval at which an operator looks for failed workers.
const OPERATE: Duration = Duration::from_secs(20);

/// Number of jobs of each tenant in a backlog.
const BACKLOG: u32 = 90;

/// Tokens of the longest job.
const LONGEST: u32 = 40;

/// Result of a simulation.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Seed.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub failure: Option<String>,
    /// The last steps, if they were logged.
    pub log: Vec<String>,
    /// Numbers of what has happened.
    pub counts: Counts,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Number of steps: tasks that ran and timed events.
    pub steps: u64,
    /// A hash of the course of the simulation: equal for equal courses.
    pub fingerprint: u64,
}

struct Fleet {
    site: Site,
    scenario: Scenario,
    nodes: Rc<RefCell<Nodes>>,
}

/// Processes that faults are injected into.
#[derive(Default)]
struct Nodes {
    hives: Vec<Hive>,
    queens: Vec<Queen>,
    clients: Vec<Client>,
}

/// Runs a scenario. With `keeps_log`, the outcome has the last steps.
pub fn run(scenario: &Scenario, keeps_log: bool) -> Outcome {
    let fleet = Fleet::start(scenario, keeps_log);
    let runtime = fleet.site.runtime.clone();
    fleet.schedule_faults();
    if scenario.load == Load::Backlog {
        fleet.watch_backlog();
    }
    runtime.run_until(scenario.duration.max(runtime.elapsed()));
    let begun = runtime.elapsed();
    fleet.end_faults();
    while runtime.failure().is_none() && fleet.site.judge.has_open() {
        if runtime.elapsed() > begun + scenario.patience {
            let open = fleet.site.judge.open();
            let first = open.first().map(|job| format!("{job:?}")).unwrap_or_default();
            runtime.fail(|| format!("{} jobs do not end; the first is {first}", open.len()));
        }
        runtime.run_until(runtime.elapsed() + LOOK);
    }
    if runtime.failure().is_none() {
        fleet.check_rest();
    }
    let counts = fleet.site.judge.counts();
    let fingerprint = [counts.chunks, counts.deliveries, counts.ends, runtime.steps(), fleet.site.network.delivered()]
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, number| (hash ^ number).wrapping_mul(0x0100_0000_01b3));
    Outcome {
        seed: scenario.seed,
        failure: runtime.failure(),
        log: runtime.logged(),
        counts,
        virtual_time: runtime.elapsed(),
        steps: runtime.steps(),
        fingerprint,
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text} is no name: {error:?}"))
}

impl Fleet {
    fn start(scenario: &Scenario, keeps_log: bool) -> Self {
        let runtime = Runtime::new(scenario.seed, keeps_log);
        let mut server = Server::default();
        streams(1000, Duration::from_secs(120)).into_iter().for_each(|stream| server.create_stream(stream));
        let network = Network::new(&runtime, server);
        let judge = Judge::new(&runtime, 2);
        let observer = judge.clone();
        network.observe(move |server, observed| observer.observe(server, observed));
        let settings = Settings {
            worker: WorkerSettings::default(),
            hive: Rules::default(),
            redelivery: REDELIVERY,
            load: Duration::from_millis(800),
            appends_first: scenario.appends_first,
            flaws: scenario.flaws,
        };
        let site = Site::new(runtime, network, judge, settings);
        let fleet = Self { site, scenario: scenario.clone(), nodes: Rc::default() };
        fleet.start_queens();
        fleet.start_hives();
        fleet.start_clients();
        if scenario.queens == 0 {
            operate(&fleet.site, &fleet.nodes);
        }
        fleet
    }

    fn spec(&self) -> ModelSpec {
        let Scenario { hives, workers, slots, .. } = self.scenario;
        let replicas = Replicas { min: 1, max: hives * workers };
        ModelSpec { slots, replicas, ..ModelSpec::new(ModelReference::Mock(String::new())) }
    }

    fn start_queens(&self) {
        if self.scenario.queens > 0 {
            self.site.network.store("models.m", Body::Model(self.spec().into()));
        }
        for number in 0..self.scenario.queens {
            let queen = Queen::start(&self.site, &name(&format!("queen-{number}")));
            self.nodes.borrow_mut().queens.push(queen);
        }
    }

    fn start_hives(&self) {
        let Scenario { hives, hives_per_machine, workers, queens, .. } = self.scenario;
        let model: ModelName = name("m");
        for number in 0..hives {
            let host = format!("host-{}", number / hives_per_machine);
            let machine = Machine::new(name(&format!("hive-{number}")), name(&host), (9000, 9031));
            let hive = Hive::start(&self.site, &machine);
            self.nodes.borrow_mut().hives.push(hive);
            // A queen starts the others.
            for worker in 0..if queens > 0 { 0 } else { workers } {
                let (worker, spec) = (name(&format!("w-{number}-{worker}")), self.spec());
                let command = HiveCommand::Spawn { worker, model: model.clone(), spec };
                let subject = format!("cmd.hive-{number}");
                self.site.network.store(&subject, Body::Command((command, CommandIssuer::Person).into()));
            }
        }
    }

    fn start_clients(&self) {
        let Scenario { hives, workers, slots, tenants, load, duration, poison, .. } = self.scenario;
        let slots = f64::from(hives * workers.max(1) * slots);
        let tokens = (1, LONGEST);
        let pace = Duration::from_millis(self.site.runtime.draw(|rng| rng.u64(100..1500)));
        // Slots times the mean time of a job, shared by the tenants.
        let mean = pace.as_secs_f64() * 20.0;
        let share = match load {
            Load::Light => 0.3,
            Load::Heavy | Load::Backlog => 1.1,
        };
        let interval = Duration::from_secs_f64(mean * f64::from(tenants) / slots / share);
        for number in 0..tenants {
            let tenant = if number == 0 { "default".to_owned() } else { format!("t{number}") };
            let is_backlog = load == Load::Backlog;
            let plan = ClientPlan {
                model: name("m"),
                tenant: name(&tenant),
                batch: 3,
                interval: if is_backlog { duration * 2 } else { interval.max(Duration::from_millis(200)) },
                tokens: if is_backlog { (4 * number + 1, LONGEST / tenants * (number + 1)) } else { tokens },
                pace,
                poison,
                cancel: if is_backlog { 0 } else { 15 },
                endless: if is_backlog { 0 } else { 50 },
                until: duration,
                burst: match load {
                    Load::Light => 1,
                    Load::Heavy => 10,
                    Load::Backlog => BACKLOG,
                },
            };
            let client = Client::start(&self.site, plan);
            self.nodes.borrow_mut().clients.push(client);
        }
    }

    fn schedule_faults(&self) {
        let Some(mean) = self.scenario.fault_interval else { return };
        let mut at = self.site.runtime.start() + Duration::from_secs(5);
        let end = self.site.runtime.start() + self.scenario.duration;
        while at < end {
            let (site, kinds, nodes) = (self.site.clone(), self.scenario.faults.clone(), self.nodes.clone());
            self.site.runtime.at(at, move || inject(&site, &kinds, &nodes));
            at += self.site.runtime.between(Duration::from_millis(50), mean * 2);
        }
    }

    /// While every tenant has jobs that wait, all are served equally many tokens. While both classes wait, one of ten jobs is a
    /// batch job. Each worker chooses by itself, so each may differ by the jobs in its slots.
    fn watch_backlog(&self) {
        let runtime = &self.site.runtime;
        let Scenario { hives, workers, slots, .. } = self.scenario;
        let most = u64::from(2 * hives * workers * (slots + 1));
        let mut both_wait = true;
        while runtime.failure().is_none() && self.site.judge.has_open() || runtime.elapsed() < Duration::from_secs(5) {
            runtime.run_until(runtime.elapsed() + Duration::from_secs(1));
            let tenants = self.site.judge.tenants();
            if tenants.values().any(|(_, waiting)| *waiting == 0) {
                both_wait &= runtime.elapsed() < Duration::from_secs(5);
            }
            let served = || tenants.values().map(|(served, _)| *served);
            let apart = served().max().unwrap_or(0) - served().min().unwrap_or(0);
            if both_wait && apart > most * u64::from(LONGEST) {
                runtime.fail(|| format!("the tenants are served unequally: {tenants:?}"));
            }
        }
        // A worker that knows of no interactive job at the moment takes a batch job beyond the share.
        let (interactive, batch) = self.site.judge.chosen();
        let share = u64::from(self.site.settings.worker.batch_share);
        if (batch * share).abs_diff(interactive + batch) > 2 * most * share {
            runtime.fail(|| format!("{batch} batch jobs and {interactive} interactive ones are chosen"));
        }
    }

    /// Faults that were injected end by themselves. What is left hung or dead is mended by the fleet.
    fn end_faults(&self) {
        self.site.judge.disturbed(self.site.runtime.now() + Duration::from_secs(400));
    }

    /// After every job has ended, nothing of them is left.
    fn check_rest(&self) {
        let runtime = &self.site.runtime;
        // Flows without jobs are forgotten by the second listing.
        let begun = runtime.elapsed();
        runtime.run_until(begun + Duration::from_secs(1300));
        self.site.network.inspect(|server| {
            if server.len("jobs") > 0 {
                runtime.fail(|| "the queue is not empty after the last job".to_owned());
            }
        });
        for child in self.site.children() {
            // A worker that is younger has listed nothing since.
            if child.begun() < begun && child.flows() > 2 {
                runtime.fail(|| format!("{child:?} remembers {} flows", child.flows()));
            }
        }
        let tasks = runtime.tasks();
        let nodes = self.nodes.borrow();
        for client in nodes.clients.iter().filter(|client| client.open() > 0) {
            runtime.fail(|| format!("{:?} has not received the end of {} jobs", client.process(), client.open()));
        }
        let processes = self.site.children().len() + nodes.hives.len() + nodes.queens.len() + nodes.clients.len();
        let most = 40 * (processes + 1);
        if tasks > most {
            runtime.fail(|| format!("{tasks} tasks are left after the last job"));
        }
    }
}

/// Starts failed workers again, as an operator of a fleet without a queen does.
fn operate(site: &Site, nodes: &Rc<RefCell<Nodes>>) {
    for hive in &nodes.borrow().hives {
        let Machine { hive: name, .. } = hive.machine();
        for worker in hive.machine().failed() {
            let reset = Body::Command((HiveCommand::Reset { worker }, CommandIssuer::Person).into());
            site.network.store(&format!("cmd.{name}"), reset);
        }
    }
    let (again, nodes) = (site.clone(), nodes.clone());
    site.runtime.after(OPERATE, move || operate(&again, &nodes));
}

fn inject(site: &Site, kinds: &[Kind], nodes: &Rc<RefCell<Nodes>>) {
    let draw = |count: usize| site.runtime.draw(|rng| rng.usize(0..count));
    let can_be_disturbed = |process: &Process| process.is_alive() && !process.is_frozen();
    let kind = kinds[draw(kinds.len())];
    let (site_again, nodes_again) = (site.clone(), nodes.clone());
    match kind {
        Kind::KillWorker
        | Kind::CrashWorker
        | Kind::FreezeWorker
        | Kind::HangWorker
        | Kind::CutWorker
        | Kind::RunAwayWorker => {
            fault::into_worker(site, kind);
        }
        Kind::RestartHive | Kind::FreezeHive | Kind::CutHive | Kind::CutMachine | Kind::RunAwayHive => {
            let number = draw(nodes.borrow().hives.len());
            let hive = nodes.borrow().hives[number].clone();
            if can_be_disturbed(hive.process()) {
                let machine = hive.machine().clone();
                fault::into_hive(site, kind, &hive, move || {
                    nodes_again.borrow_mut().hives[number] = Hive::start(&site_again, &machine);
                });
            }
        }
        Kind::RestartQueen | Kind::FreezeQueen | Kind::CutQueen => {
            let count = nodes.borrow().queens.len();
            let number = if count == 0 { return } else { draw(count) };
            let queen = nodes.borrow().queens[number].clone();
            if can_be_disturbed(queen.process()) {
                let name = queen.name().clone();
                fault::into_queen(site, kind, &queen, move || {
                    nodes_again.borrow_mut().queens[number] = Queen::start(&site_again, &name);
                });
            }
        }
        Kind::RestartServer | Kind::SlowDisk | Kind::LoseAnswers | Kind::NoLeader | Kind::FullOutput => {
            fault::into_server(site, kind);
        }
        Kind::CutClient => {
            let number = draw(nodes.borrow().clients.len());
            let process = nodes.borrow().clients[number].process().clone();
            fault::into_client(site, &process);
        }
    }
}
