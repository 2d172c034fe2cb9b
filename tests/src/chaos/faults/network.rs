//! Three machines, each with a hive and an address of its own. One is disconnected, dies, or its hive freezes; then it comes
//! back. The queen has its default timers.

use std::time::SystemTime;

use futures::FutureExt as _;
use rbee_schema::{Event, HiveName, ModelReference, ModelSpec, QueenEvent, Replicas, WorkerEvent, WorkerName};

use super::{answer::Answer, setup::millis};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::{Fleet, HiveSetup, signal},
    wait::{PATIENCE, eventually},
};

const HIVES: [&str; 3] = ["one", "two", "three"];

/// Limit for `hive-suspected`: 3 s after the last heartbeat, which came at most 1 s before, and what a busy machine adds.
const SUSPECT: Option<std::time::Duration> = millis(4_500);

/// Limit for the replacement: 10 s without a heartbeat, and the start of a worker.
const REPLACED: Option<std::time::Duration> = millis(12_500);

/// A model with two workers on two of three machines, each of which computes two answers.
struct Scene {
    events: EventReader,
    answers: Vec<Answer>,
    /// The two workers that run before the fault.
    workers: Vec<WorkerName>,
    /// Index of the machine that fails: it runs the worker of the first answer.
    victim: usize,
}

/// Times at which the failed machine was suspected and its worker replaced.
struct Replaced {
    suspected: SystemTime,
    ready: SystemTime,
}

fn setup(fleet: &Fleet, machine: usize) -> HiveSetup {
    let (name, first) = (HIVES[machine].to_owned(), 10 * machine as u16);
    HiveSetup {
        role: name.clone(),
        data: fleet.folder().join(&name),
        ports: fleet.ports.part(first, first + 9),
        name,
        ..fleet.hive_one("")
    }
}

impl Scene {
    async fn start(fleet: &mut Fleet) -> Self {
        fleet.queen().await;
        for machine in 0..HIVES.len() {
            let setup = setup(fleet, machine);
            fleet.start_hive_on(machine, &setup).await;
        }
        let spec = ModelSpec::new(ModelReference::Mock("tokens=900,interval=20ms".to_owned()));
        fleet.serve("m", ModelSpec { replicas: Replicas { min: 2, max: 2 }, slots: 4, ..spec }).await;
        let workers = fleet.ready(2).await;
        assert_ne!(workers[0].hive, workers[1].hive, "the workers are on different machines");
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(Answer::start(fleet, "m", "Hi", 5).await);
        }
        let worker = answers[0].worker();
        let at = workers.iter().find(|found| found.name == worker).expect("one of the two runs the job").hive.clone();
        let victim = HIVES.iter().position(|name| *name == at.as_str()).expect("one of the three");
        let workers = workers.into_iter().map(|found| found.name).collect();
        Self { events: EventReader::start(&fleet.bus).await, answers, workers, victim }
    }

    fn hive(&self) -> HiveName {
        HIVES[self.victim].parse().expect("a name")
    }

    /// Waits until another worker has replaced the one on the failed machine.
    async fn replaced(&mut self) -> Replaced {
        let victim = self.hive();
        let is_suspected =
            |event: &Event| matches!(event, Event::Queen(_, QueenEvent::HiveSuspected { hive, .. }) if *hive == victim);
        // One of the first two may be started again, where its hive received no heartbeat for too long.
        let is_another = |worker: &WorkerName| !self.workers.contains(worker);
        let is_ready =
            |event: &Event| matches!(event, Event::Worker(_, worker, WorkerEvent::Ready { .. }) if is_another(worker));
        let what = "`hive-suspected`, and `ready` of another worker";
        let (suspected, ready) = self.events.find_both(what, is_suspected, is_ready).await;
        Replaced { suspected, ready }
    }

    /// Waits until the hive has returned and the surplus worker is removed.
    async fn healed(&mut self) -> SystemTime {
        let victim = self.hive();
        let is_back =
            |event: &Event| matches!(event, Event::Queen(_, QueenEvent::HiveReturned { hive, .. }) if *hive == victim);
        let is_removed = |event: &Event| matches!(event, Event::Worker(_, _, WorkerEvent::Removed { .. }));
        let (back, removed) =
            self.events.find_both("`hive-returned`, and `removed` of a worker", is_back, is_removed).await;
        back.max(removed)
    }

    /// Waits until every answer is complete and two workers are left.
    async fn finish(mut self, fleet: &Fleet) {
        for answer in &mut self.answers {
            answer.finish().await;
        }
        eventually("two workers are left", PATIENCE, async || fleet.workers().await.len() == 2).await;
        fleet.ready(2).await;
    }
}

pub(in crate::chaos) const CUT_OFF: Fault = Fault {
    name: "machine-cut-off",
    injected: "the link of one machine of three goes down in the middle of answers, and up again when its worker was replaced",
    outcome: "its worker is replaced, its answers continue on other workers, and when it is back nothing runs twice",
    detected_within: SUSPECT,
    recovered_within: REPLACED,
    healed_within: millis(15_000),
    ports: 30,
    needs: Needs::Network,
    inject: |fleet| cut_off(fleet).boxed_local(),
};

pub(in crate::chaos) const CUT_OFF_WITH_BROKER: Fault = Fault {
    name: "machine-with-broker-cut-off",
    injected: "the same with one of three servers on each machine: queen, hives and workers may use the disconnected one",
    outcome: "the same; two of three servers continue, and clients of the third connect to another",
    // Streams that the server led are stored again after an election of up to 10 s. Events come only then.
    detected_within: millis(15_000),
    // A queen that used the server notices after 6 s, restarts the timeout of every hive, and leads again after 13 s.
    recovered_within: millis(30_000),
    // When the server is back, streams elect leaders again, in up to 10 s, and their consumers do so after them.
    healed_within: millis(25_000),
    needs: Needs::Cluster,
    ..CUT_OFF
};

async fn cut_off(fleet: &mut Fleet) -> Measured {
    let mut scene = Scene::start(fleet).await;
    let injected = SystemTime::now();
    fleet.network().disconnect(scene.victim);
    let Replaced { suspected, ready } = scene.replaced().await;
    scene.answers[0].resumes_elsewhere().await;
    let reconnected = SystemTime::now();
    fleet.network().reconnect(scene.victim);
    let healed = scene.healed().await;
    scene.finish(fleet).await;
    Measured::between(injected, suspected, ready).with_healing(reconnected, healed)
}

pub(in crate::chaos) const DIED: Fault = Fault {
    name: "machine-died",
    injected: "SIGKILL to the hive and the worker of one machine of three in the middle of answers; the hive is started again \
               when they were replaced",
    outcome: "suspect at once, its answers continue on other workers at once, replaced after 10 s, and nothing runs twice",
    detected_within: millis(250),
    recovered_within: REPLACED,
    healed_within: millis(5_000),
    ports: 30,
    needs: Needs::Network,
    inject: |fleet| died(fleet).boxed_local(),
};

async fn died(fleet: &mut Fleet) -> Measured {
    let mut scene = Scene::start(fleet).await;
    let workers = fleet.workers().await;
    let lost: Vec<u32> =
        workers.iter().filter(|worker| worker.hive == scene.hive()).filter_map(|worker| worker.record.pid).collect();
    let injected = SystemTime::now();
    fleet.kill_role(HIVES[scene.victim]);
    for pid in lost {
        signal(pid, "KILL");
    }
    let resumed = scene.answers[0].resumes_elsewhere().await;
    let Replaced { suspected, ready } = scene.replaced().await;
    assert!(resumed < ready, "the other worker has free slots for its answers");
    let returned = SystemTime::now();
    let setup = setup(fleet, scene.victim);
    fleet.start_hive_on(scene.victim, &setup).await;
    let healed = scene.healed().await;
    scene.finish(fleet).await;
    Measured::between(injected, suspected, ready).with_healing(returned, healed)
}

pub(in crate::chaos) const FROZEN: Fault = Fault {
    name: "machine-hive-frozen",
    injected: "SIGSTOP to the hive of one machine of three in the middle of answers, SIGCONT when its worker was replaced",
    outcome: "its worker keeps serving, and is one of the two that are left, or has finished its answers",
    detected_within: SUSPECT,
    recovered_within: REPLACED,
    healed_within: millis(15_000),
    ports: 30,
    needs: Needs::Network,
    inject: |fleet| frozen(fleet).boxed_local(),
};

async fn frozen(fleet: &mut Fleet) -> Measured {
    let mut scene = Scene::start(fleet).await;
    let injected = SystemTime::now();
    fleet.signal_role(HIVES[scene.victim], "STOP");
    let Replaced { suspected, ready } = scene.replaced().await;
    let thawed = SystemTime::now();
    fleet.signal_role(HIVES[scene.victim], "CONT");
    let healed = scene.healed().await;
    assert!(scene.answers.iter().all(|answer| answer.resume_count() == 0), "no answer was interrupted");
    scene.finish(fleet).await;
    Measured::between(injected, suspected, ready).with_healing(thawed, healed)
}
