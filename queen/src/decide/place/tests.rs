use std::time::Duration;

use rbee_schema::{FailureCode, HiveRecord, WorkerPhase};

use super::*;
use crate::decide::{
    fixture::{degraded, draining, fails, hive, key, looping, name, record, spec},
    fleet::Fleet,
    overlay::Overlay,
};

fn hives(records: &[(&str, HiveRecord)]) -> Fleet {
    let mut fleet = Fleet::default();
    for (hive, record) in records {
        fleet.hive_registered(name(hive), record.clone(), Instant::now());
    }
    fleet
}

fn placed(fleet: &Fleet, now: Instant) -> Result<(String, String), NoPlacement> {
    let (overlay, spec) = (Overlay::new(fleet), spec());
    place(&overlay, &name("m"), &spec, now).map(|Placement { hive, why }| (hive.to_string(), why))
}

/// Checks the hive of a worker of `m`, and its reason.
fn check(fleet: &Fleet, now: Instant, hive: &str, words: &str) {
    let (found, why) = placed(fleet, now).expect("a placement");
    assert_eq!(found, hive, "{why}");
    assert!(why.contains(words), "{why}");
}

#[test]
fn worker_goes_to_the_hive_with_the_fewest_workers() {
    let (mut fleet, now) = (hives(&[("a", hive()), ("b", hive())]), Instant::now());
    check(&fleet, now, "a", "the best of 2 hives: it runs 0 workers");
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    check(&fleet, now, "b", "0 workers");
}

#[test]
fn draining_hive_gets_no_worker() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", draining()), ("b", hive())]);
    fleet.worker_updated(key("b", "w"), record(WorkerPhase::Ready), now);
    check(&fleet, now, "b", "a is draining");
    let no_placement = placed(&hives(&[("a", draining())]), now).expect_err("no hive is left");
    assert_eq!((no_placement.outlook, no_placement.failure.code), (Outlook::Temporary, FailureCode::NoCapacity));
}

#[test]
fn degraded_hive_is_the_last_choice() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", degraded()), ("b", hive())]);
    fleet.worker_updated(key("b", "w"), record(WorkerPhase::Ready), now);
    check(&fleet, now, "b", "a is degraded");
    fleet.hive_registered(name("b"), draining(), now);
    check(&fleet, now, "a", "a is degraded (three workers crash), but no healthy hive can run it");
}

#[test]
fn hive_with_a_crash_loop_of_the_model_is_rejected() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", hive()), ("b", hive())]);
    fleet.worker_updated(key("b", "other"), record(WorkerPhase::Draining), now);
    fleet.worker_updated(key("a", "w"), looping(), now);
    check(&fleet, now, "b", "a has worker w of this model in a crash loop");
    let (overlay, another, a) = (Overlay::new(&fleet), spec(), name("a"));
    let placement = place(&overlay, &name("another"), &another, now).map(|placement| placement.hive);
    assert_eq!(placement, Ok(&a), "other models are not affected");
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Loading), now);
    check(&fleet, now, "b", "in a crash loop");
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    assert!(!placed(&fleet, now).expect("a placement").1.contains("loop"));
    fleet.worker_updated(key("a", "w"), looping(), now);
    fleet.worker_removed(&key("a", "w"));
    check(&fleet, now, "a", "the best of 2 hives");
}

#[test]
fn failure_blocks_a_hive_for_a_while_or_the_model_everywhere() {
    use FailureCode::*;
    let now = Instant::now();
    let later = now + Duration::from_secs(5);
    // Code, hive of the next try at once, hive of the next try after five seconds; `-` if the model is not tried at all.
    for (code, at_once, after) in [
        (MemoryShort, "b", "a"),
        (HiveFull, "b", "a"),
        (DiskFull, "b", "a"),
        (PortsExhausted, "b", "a"),
        (SpawnFailed, "b", "a"),
        (DeviceMissing, "b", "b"),
        (OutOfMemory, "b", "b"),
        (ModelInvalid, "-", "-"),
        (ModelMissing, "-", "-"),
    ] {
        let mut fleet = hives(&[("a", hive()), ("b", hive())]);
        fails(&mut fleet, "a", code, now);
        let goes = |at: Instant| match fleet.backoffs().of_model(&name("m")) {
            Some(_) => "-".to_owned(),
            None => placed(&fleet, at).expect("a placement").0,
        };
        assert_eq!((goes(now).as_str(), goes(later).as_str()), (at_once, after), "{code}");
    }
}

#[test]
fn permanent_failure_is_retried_for_a_new_job_or_a_restarted_hive() {
    let now = Instant::now();
    let fleet = || {
        let mut fleet = hives(&[("a", hive())]);
        fails(&mut fleet, "a", FailureCode::DeviceMissing, now);
        assert!(placed(&fleet, now).is_err());
        fleet
    };
    let mut asked = fleet();
    asked.job_queued(&name("m"), now);
    check(&asked, now, "a", "");
    fails(&mut asked, "a", FailureCode::DeviceMissing, now);
    asked.job_queued(&name("m"), now);
    assert!(placed(&asked, now).is_err(), "while jobs wait, each hive is tried once");
    let mut restarted = fleet();
    restarted.hive_registered(name("a"), HiveRecord { epoch: 2, ..hive() }, now);
    check(&restarted, now, "a", "");
}

#[test]
fn rejected_hives_are_listed_with_their_reasons() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", draining()), ("b", hive()), ("c", hive())]);
    fleet.worker_updated(key("b", "w"), looping(), now);
    fails(&mut fleet, "c", FailureCode::MemoryShort, now);
    let no_placement = placed(&fleet, now).expect_err("no hive is left");
    assert_eq!(no_placement.outlook, Outlook::Temporary, "c may have room soon");
    assert_eq!(
        no_placement.failure.to_string(),
        "no hive can run m: a is draining; b has worker w of this model in a crash loop: the worker exited 5 times, last by \
         signal 9 (crash-loop); c could not start it: as reported (memory-short) (no-capacity)"
    );
}

#[test]
fn outlook_is_permanent_if_every_present_hive_is_out_for_good() {
    use FailureCode::*;
    let now = Instant::now();
    let check = |codes: &[FailureCode], outlook: Outlook, expected: FailureCode| {
        let mut fleet = hives(&[("draining", draining())]);
        for (number, code) in codes.iter().enumerate() {
            let hive_name = format!("h{number}");
            fleet.hive_registered(name(&hive_name), hive(), now);
            match code {
                CrashLoop => drop(fleet.worker_updated(key(&hive_name, "w"), looping(), now)),
                code => fails(&mut fleet, &hive_name, *code, now),
            }
        }
        let no_placement = placed(&fleet, now).expect_err("no hive is left");
        assert_eq!((no_placement.outlook, no_placement.failure.code), (outlook, expected), "{codes:?}");
    };
    check(&[], Outlook::Temporary, NoCapacity);
    check(&[CrashLoop], Outlook::Permanent, CrashLoop);
    check(&[CrashLoop, CrashLoop], Outlook::Permanent, CrashLoop);
    check(&[CrashLoop, DeviceMissing], Outlook::Permanent, CrashLoop);
    check(&[DeviceMissing], Outlook::Permanent, DeviceMissing);
    check(&[CrashLoop, HiveFull], Outlook::Temporary, NoCapacity);
}
