use std::time::Duration;

use rbee_schema::{FailureCode, HiveRecord, WorkerPhase};

use super::*;
use crate::decide::{
    fixture::{degraded, draining, fails, hive, key, looping, name, record, spec},
    fleet::Fleet,
};

fn hives(records: &[(&str, HiveRecord)]) -> Fleet {
    let mut fleet = Fleet::default();
    for (hive, record) in records {
        fleet.hive_is_there(name(hive), record.clone(), Instant::now());
    }
    fleet
}

fn placed(fleet: &Fleet, now: Instant) -> Result<(String, String), Nowhere> {
    place(fleet, &name("m"), &spec(), now).map(|(hive, why)| (hive.to_string(), why))
}

/// Checks where a worker of `m` goes, and that the reason says so.
fn check(fleet: &Fleet, now: Instant, hive: &str, words: &str) {
    let (found, why) = placed(fleet, now).expect("a place");
    assert_eq!(found, hive, "{why}");
    assert!(why.contains(words), "{why}");
}

#[test]
fn a_worker_goes_where_the_fewest_run() {
    let (mut fleet, now) = (hives(&[("a", hive()), ("b", hive())]), Instant::now());
    check(&fleet, now, "a", "the best of 2 hives: it runs 0 workers");
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    check(&fleet, now, "b", "0 workers");
}

#[test]
fn a_hive_that_drains_gets_no_worker() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", draining()), ("b", hive())]);
    fleet.worker_is(key("b", "w"), record(WorkerPhase::Ready), now);
    check(&fleet, now, "b", "a drains");
    let nowhere = placed(&hives(&[("a", draining())]), now).expect_err("none is left");
    assert_eq!((nowhere.outlook, nowhere.failure.code), (Outlook::MayPass, FailureCode::NoCapacity));
}

#[test]
fn a_degraded_hive_gets_a_worker_only_where_there_is_no_other() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", degraded()), ("b", hive())]);
    fleet.worker_is(key("b", "w"), record(WorkerPhase::Ready), now);
    check(&fleet, now, "b", "a is degraded");
    fleet.hive_is_there(name("b"), draining(), now);
    check(&fleet, now, "a", "it is degraded (three workers loop), and no other");
}

#[test]
fn a_model_is_not_placed_where_a_worker_of_it_loops_until_that_one_is_ready() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", hive()), ("b", hive())]);
    fleet.worker_is(key("b", "other"), record(WorkerPhase::Draining), now);
    fleet.worker_is(key("a", "w"), looping(), now);
    check(&fleet, now, "b", "a has worker w of it in a crash loop");
    assert_eq!(
        place(&fleet, &name("another"), &spec(), now).map(|(hive, _)| hive),
        Ok(name("a")),
        "it is the model's alone"
    );
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Loading), now);
    check(&fleet, now, "b", "in a crash loop");
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    assert!(!placed(&fleet, now).expect("a place").1.contains("loop"));
    fleet.worker_is(key("a", "w"), looping(), now);
    fleet.worker_is_gone(&key("a", "w"));
    check(&fleet, now, "a", "the best of 2 hives");
}

#[test]
fn a_failure_keeps_a_model_from_a_hive_or_from_all_and_for_as_long_as_it_says() {
    use FailureCode::*;
    let now = Instant::now();
    let later = now + Duration::from_secs(5);
    // Code, where the worker goes at once, where it goes after five seconds; `-` for nowhere or held everywhere.
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
        let goes = |at: Instant| match fleet.held.everywhere(&name("m")) {
            Some(_) => "-".to_owned(),
            None => placed(&fleet, at).expect("a place").0,
        };
        assert_eq!((goes(now).as_str(), goes(later).as_str()), (at_once, after), "{code}");
    }
}

#[test]
fn what_holds_for_good_is_tried_again_when_somebody_asks_or_the_hive_begins_anew() {
    let now = Instant::now();
    let fleet = || {
        let mut fleet = hives(&[("a", hive())]);
        fails(&mut fleet, "a", FailureCode::DeviceMissing, now);
        assert!(placed(&fleet, now).is_err());
        fleet
    };
    let mut asked = fleet();
    asked.job_waits(&name("m"), now);
    check(&asked, now, "a", "");
    fails(&mut asked, "a", FailureCode::DeviceMissing, now);
    asked.job_waits(&name("m"), now);
    assert!(placed(&asked, now).is_err(), "while somebody waits, each hive is tried once");
    let mut restarted = fleet();
    restarted.hive_is_there(name("a"), HiveRecord { epoch: 2, ..hive() }, now);
    check(&restarted, now, "a", "");
}

#[test]
fn where_no_hive_is_left_each_is_listed_with_its_reason() {
    let now = Instant::now();
    let mut fleet = hives(&[("a", draining()), ("b", hive()), ("c", hive())]);
    fleet.worker_is(key("b", "w"), looping(), now);
    fails(&mut fleet, "c", FailureCode::MemoryShort, now);
    let nowhere = placed(&fleet, now).expect_err("none is left");
    assert_eq!(nowhere.outlook, Outlook::MayPass, "c may have room soon");
    assert_eq!(
        nowhere.failure.to_string(),
        "no hive can run m: a drains; b has worker w of it in a crash loop: it ended 5 times by signal 9 (crash-loop); \
         c could not start it: told so (memory-short) (no-capacity)"
    );
}

#[test]
fn waiting_cannot_help_where_every_hive_that_does_not_drain_is_out_for_good() {
    use FailureCode::*;
    let now = Instant::now();
    let check = |codes: &[FailureCode], outlook: Outlook, told: FailureCode| {
        let mut fleet = hives(&[("draining", draining())]);
        for (number, code) in codes.iter().enumerate() {
            let hive_name = format!("h{number}");
            fleet.hive_is_there(name(&hive_name), hive(), now);
            match code {
                CrashLoop => drop(fleet.worker_is(key(&hive_name, "w"), looping(), now)),
                code => fails(&mut fleet, &hive_name, *code, now),
            }
        }
        let nowhere = placed(&fleet, now).expect_err("none is left");
        assert_eq!((nowhere.outlook, nowhere.failure.code), (outlook, told), "{codes:?}");
    };
    check(&[], Outlook::MayPass, NoCapacity);
    check(&[CrashLoop], Outlook::Stays, CrashLoop);
    check(&[CrashLoop, CrashLoop], Outlook::Stays, CrashLoop);
    check(&[CrashLoop, DeviceMissing], Outlook::Stays, CrashLoop);
    check(&[DeviceMissing], Outlook::Stays, DeviceMissing);
    check(&[CrashLoop, HiveFull], Outlook::MayPass, NoCapacity);
}
