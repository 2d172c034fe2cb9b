//! Three machines, each with a hive and an address of its own: one is cut off, dies, or its hive freezes; then it is brought
//! back. The queen has the timers that she has where nobody says otherwise.

use std::time::SystemTime;

use futures::FutureExt as _;
use rbee_schema::{Event, HiveName, ModelReference, ModelSpec, QueenEvent, Replicas, WorkerEvent, WorkerName};

use super::{Answer, millis};
use crate::{
    chaos::{Fault, Measured, Needs, Story},
    fleet::{Fleet, HiveSetup, signal},
    wait::{PATIENCE, eventually},
};

const HIVES: [&str; 3] = ["one", "two", "three"];

/// A heartbeat may have been sent just before: silence is counted from it, a second at most. The rest is the machine's.
const SUSPECT: Option<std::time::Duration> = millis(4_500);

/// Ten seconds of silence, and a start.
const REPLACED: Option<std::time::Duration> = millis(12_500);

/// A model of two workers on two of three machines, each with two answers under way.
struct Scene {
    story: Story,
    answers: Vec<Answer>,
    /// The two that are there before anything happens.
    workers: Vec<WorkerName>,
    /// The machine that something happens to: it runs the worker of the first answer.
    victim: usize,
}

/// What has become of the fleet.
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
        ..fleet.one("")
    }
}

impl Scene {
    async fn of(fleet: &mut Fleet) -> Self {
        fleet.queen().await;
        for machine in 0..HIVES.len() {
            let setup = setup(fleet, machine);
            fleet.start_hive_on(machine, &setup).await;
        }
        let spec = ModelSpec::new(ModelReference::Mock("tokens=900,interval=20ms".to_owned()));
        fleet.serve("m", ModelSpec { replicas: Replicas { min: 2, max: 2 }, slots: 4, ..spec }).await;
        let workers = fleet.ready(2).await;
        assert_ne!(workers[0].hive, workers[1].hive, "they are spread");
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(Answer::of(fleet, "m", "Hi", 5).await);
        }
        let worker = answers[0].worker();
        let at = workers.iter().find(|found| found.name == worker).expect("one of the two answers").hive.clone();
        let victim = HIVES.iter().position(|name| *name == at.as_str()).expect("one of the three");
        let workers = workers.into_iter().map(|found| found.name).collect();
        Self { story: Story::of(&fleet.bus).await, answers, workers, victim }
    }

    fn hive(&self) -> HiveName {
        HIVES[self.victim].parse().expect("a name")
    }

    /// Waits until another worker has taken the place of the one on the victim.
    async fn replaced(&mut self) -> Replaced {
        let victim = self.hive();
        let is_suspected =
            |event: &Event| matches!(event, Event::Queen(_, QueenEvent::HiveSuspected { hive, .. }) if *hive == victim);
        // One that was there may be started again, where its hive could not hear it for too long.
        let is_another = |worker: &WorkerName| !self.workers.contains(worker);
        let is_ready =
            |event: &Event| matches!(event, Event::Worker(_, worker, WorkerEvent::Ready { .. }) if is_another(worker));
        let what = "`hive-suspected`, and `ready` of another worker";
        let (suspected, ready) = self.story.both(what, is_suspected, is_ready).await;
        Replaced { suspected, ready }
    }

    /// Waits until the hive is heard again and a worker that is too many is gone.
    async fn healed(&mut self) -> SystemTime {
        let victim = self.hive();
        let is_back =
            |event: &Event| matches!(event, Event::Queen(_, QueenEvent::HiveReturned { hive, .. }) if *hive == victim);
        let is_removed = |event: &Event| matches!(event, Event::Worker(_, _, WorkerEvent::Removed { .. }));
        let (back, removed) = self.story.both("`hive-returned`, and `removed` of a worker", is_back, is_removed).await;
        back.max(removed)
    }

    /// Every answer comes to its end, and two workers are left.
    async fn end(mut self, fleet: &Fleet) {
        for answer in &mut self.answers {
            answer.end().await;
        }
        eventually("two workers are left", PATIENCE, async || fleet.workers().await.len() == 2).await;
        fleet.ready(2).await;
    }
}

pub(super) const CUT_OFF: Fault = Fault {
    name: "machine-cut-off",
    injected: "the link of one machine of three goes down in the middle of answers, and up again when it was replaced",
    outcome: "its worker is replaced, its answers go on elsewhere, and when it is back nothing runs twice",
    detected_within: SUSPECT,
    recovered_within: REPLACED,
    healed_within: millis(15_000),
    ports: 30,
    needs: Needs::Network,
    inject: |fleet| cut_off(fleet).boxed_local(),
};

pub(super) const CUT_OFF_WITH_BROKER: Fault = Fault {
    name: "machine-with-broker-cut-off",
    injected: "the same where each machine has one of three servers: hives, queen and workers may use the one that is cut off",
    outcome: "the same: two of three servers go on, and whoever used the third finds another",
    // What that server led is stored again after an election of up to 10 s, and told then.
    detected_within: millis(15_000),
    // A queen who used it notices after 6 s, gives every hive its time anew, and leads again after 13 s.
    recovered_within: millis(30_000),
    // When it is back some leaders are elected anew, in up to 10 s, and then those of what hangs on them.
    healed_within: millis(25_000),
    needs: Needs::Cluster,
    ..CUT_OFF
};

async fn cut_off(fleet: &mut Fleet) -> Measured {
    let mut scene = Scene::of(fleet).await;
    let injected = SystemTime::now();
    fleet.network().cut(scene.victim);
    let Replaced { suspected, ready } = scene.replaced().await;
    scene.answers[0].goes_on_elsewhere().await;
    let mended = SystemTime::now();
    fleet.network().mend(scene.victim);
    let healed = scene.healed().await;
    scene.end(fleet).await;
    Measured::between(injected, suspected, ready).and_healed(mended, healed)
}

pub(super) const DIED: Fault = Fault {
    name: "machine-died",
    injected: "SIGKILL to the hive and the worker of one machine of three in the middle of answers; the hive is started again \
               when they were replaced",
    outcome: "suspect at once, its answers go on elsewhere at once, replaced after ten seconds, and nothing runs twice",
    detected_within: millis(250),
    recovered_within: REPLACED,
    healed_within: millis(5_000),
    ports: 30,
    needs: Needs::Network,
    inject: |fleet| died(fleet).boxed_local(),
};

async fn died(fleet: &mut Fleet) -> Measured {
    let mut scene = Scene::of(fleet).await;
    let workers = fleet.workers().await;
    let lost: Vec<u32> =
        workers.iter().filter(|worker| worker.hive == scene.hive()).filter_map(|worker| worker.record.pid).collect();
    let injected = SystemTime::now();
    fleet.kill_role(HIVES[scene.victim]);
    for pid in lost {
        signal(pid, "KILL");
    }
    let went_on = scene.answers[0].goes_on_elsewhere().await;
    let Replaced { suspected, ready } = scene.replaced().await;
    assert!(went_on < ready, "the other worker has room for its answers");
    let returned = SystemTime::now();
    let setup = setup(fleet, scene.victim);
    fleet.start_hive_on(scene.victim, &setup).await;
    let healed = scene.healed().await;
    scene.end(fleet).await;
    Measured::between(injected, suspected, ready).and_healed(returned, healed)
}

pub(super) const FROZEN: Fault = Fault {
    name: "machine-hive-frozen",
    injected: "SIGSTOP to the hive of one machine of three in the middle of answers, SIGCONT when its worker was replaced",
    outcome: "its worker serves on all the while, and is one of the two that are left, or has finished its answers",
    detected_within: SUSPECT,
    recovered_within: REPLACED,
    healed_within: millis(15_000),
    ports: 30,
    needs: Needs::Network,
    inject: |fleet| frozen(fleet).boxed_local(),
};

async fn frozen(fleet: &mut Fleet) -> Measured {
    let mut scene = Scene::of(fleet).await;
    let injected = SystemTime::now();
    fleet.signal_role(HIVES[scene.victim], "STOP");
    let Replaced { suspected, ready } = scene.replaced().await;
    let thawed = SystemTime::now();
    fleet.signal_role(HIVES[scene.victim], "CONT");
    let healed = scene.healed().await;
    assert!(scene.answers.iter().all(|answer| answer.resumed() == 0), "no answer noticed");
    scene.end(fleet).await;
    Measured::between(injected, suspected, ready).and_healed(thawed, healed)
}
