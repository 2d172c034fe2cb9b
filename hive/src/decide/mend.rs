//! Differences between what a hive has and what the registries say, in both directions. Whoever writes to the bus by hand, or
//! deletes a bucket, makes them; the hive mends them.

use std::collections::BTreeMap;

use rbee_schema::{HiveName, PortLease, WorkerName, WorkerRecord};

/// A difference, as what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// A worker has no lease of its port, or none that it shows: claim it.
    ClaimLease(WorkerName),
    /// A lease may belong to nobody: look at it.
    InspectLease(u16),
    /// The record of a worker is missing or another one: write it.
    WriteRecord(WorkerName),
    /// A record names a worker that is not here: look at it.
    InspectRecord(WorkerName),
}

/// A worker as its hive knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownWorker {
    /// Port of its process, while it has one.
    pub port: Option<u16>,
    /// Record that the hive wrote last; `None` before the first.
    pub record: Option<WorkerRecord>,
}

/// Content of the registries: the leases of the machine, and the records of the hive. A lease that cannot be read is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Registered {
    /// Leases by port.
    pub leases: BTreeMap<u16, Option<PortLease>>,
    /// Records by worker.
    pub records: BTreeMap<WorkerName, WorkerRecord>,
}

/// Compares the workers of `hive` with the registries.
pub fn differences(hive: &HiveName, workers: &BTreeMap<WorkerName, KnownWorker>, registered: &Registered) -> Vec<Mend> {
    let has_port = |lease: &PortLease, port: u16| {
        lease.hive == *hive && workers.get(&lease.worker).is_some_and(|worker| worker.port == Some(port))
    };
    let mut found = Vec::new();
    for (port, lease) in &registered.leases {
        if !lease.as_ref().is_some_and(|lease| has_port(lease, *port)) {
            found.push(Mend::InspectLease(*port));
        }
    }
    for (name, worker) in workers {
        let lease = worker.port.map(|port| registered.leases.get(&port));
        if let Some(lease) = lease
            && !lease
                .is_some_and(|lease| lease.as_ref().is_some_and(|lease| lease.hive == *hive && lease.worker == *name))
        {
            found.push(Mend::ClaimLease(name.clone()));
        }
        if worker.record.as_ref().is_some_and(|record| registered.records.get(name) != Some(record)) {
            found.push(Mend::WriteRecord(name.clone()));
        }
    }
    let strangers = registered.records.keys().filter(|name| !workers.contains_key(*name));
    found.extend(strangers.cloned().map(Mend::InspectRecord));
    found
}

/// Reason to remove a lease that is in the bucket; `None` if it may stay. `is_ours` is true if a worker of this hive has the
/// port, or is being started on it.
pub fn reason_to_remove(lease: Option<&PortLease>, expires: bool, hive: &HiveName, is_ours: bool) -> Option<String> {
    match lease {
        None => Some("its content is no lease".to_owned()),
        Some(lease) if lease.hive == *hive && !is_ours => Some("no worker of that name has it".to_owned()),
        Some(lease) if lease.hive != *hive && !expires => {
            Some(format!("it has no time to live, so hive {} did not write it", lease.hive))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WorkerName {
        text.parse().expect("a name")
    }

    fn hive() -> HiveName {
        "h".parse().expect("a name")
    }

    fn lease(hive: &str, worker: &str) -> PortLease {
        PortLease { hive: hive.parse().expect("a name"), hive_epoch: 1, worker: name(worker) }
    }

    fn record(phase: &str) -> WorkerRecord {
        let record = format!(r#"{{"model":"m","phase":"{phase}","epoch":1,"slots":2}}"#);
        serde_json::from_str(&record).expect("a record")
    }

    fn check(leases: &[(u16, Option<PortLease>)], records: &[(&str, &str)], expected: &[Mend]) {
        let worker = |port| KnownWorker { port, record: Some(record("ready")) };
        let workers = BTreeMap::from([(name("a"), worker(Some(1))), (name("b"), worker(None))]);
        let records = records.iter().map(|(worker, phase)| (name(worker), record(phase))).collect();
        let registered = Registered { leases: leases.iter().cloned().collect(), records };
        assert_eq!(differences(&hive(), &workers, &registered), expected, "{registered:?}");
    }

    #[test]
    fn each_difference_is_found_in_both_directions() {
        let ours = (1, Some(lease("h", "a")));
        let recorded = [("a", "ready"), ("b", "ready")];
        check(std::slice::from_ref(&ours), &recorded, &[]);
        check(&[], &recorded, &[Mend::ClaimLease(name("a"))]);
        let others = [ours.clone(), (2, Some(lease("h", "gone"))), (3, Some(lease("other", "x"))), (4, None)];
        check(&others, &recorded, &[Mend::InspectLease(2), Mend::InspectLease(3), Mend::InspectLease(4)]);
        for stolen in [Some(lease("other", "a")), Some(lease("h", "b")), None] {
            check(&[(1, stolen)], &recorded, &[Mend::InspectLease(1), Mend::ClaimLease(name("a"))]);
        }
        check(std::slice::from_ref(&ours), &recorded[..1], &[Mend::WriteRecord(name("b"))]);
        check(std::slice::from_ref(&ours), &[("a", "loading"), recorded[1]], &[Mend::WriteRecord(name("a"))]);
        let strange = [recorded[0], recorded[1], ("gone", "ready")];
        check(&[ours], &strange, &[Mend::InspectRecord(name("gone"))]);
    }

    #[test]
    fn a_worker_without_a_first_record_is_not_written() {
        let workers = BTreeMap::from([(name("a"), KnownWorker { port: None, record: None })]);
        assert_eq!(differences(&hive(), &workers, &Registered::default()), []);
    }

    #[test]
    fn a_lease_that_nobody_holds_is_removed_with_a_reason() {
        let reason =
            |lease: Option<PortLease>, expires, is_ours| reason_to_remove(lease.as_ref(), expires, &hive(), is_ours);
        for (lease, expires, is_ours, part) in [
            (None, true, true, "no lease"),
            (Some(lease("h", "a")), true, false, "no worker of that name"),
            (Some(lease("h", "a")), false, false, "no worker of that name"),
            (Some(lease("ghost", "a")), false, false, "hive ghost did not write it"),
            (Some(lease("ghost", "a")), false, true, "hive ghost did not write it"),
        ] {
            let reason = reason(lease.clone(), expires, is_ours);
            assert!(reason.as_ref().is_some_and(|reason| reason.contains(part)), "{lease:?}: {reason:?}");
        }
        assert_eq!(reason(Some(lease("h", "a")), true, true), None);
        // The next renewal writes it with a time to live.
        assert_eq!(reason(Some(lease("h", "a")), false, true), None);
        assert_eq!(reason(Some(lease("other", "a")), true, false), None);
    }
}
