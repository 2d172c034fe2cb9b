//! Resolution of a name on the command line to a hive, or to a worker of a hive, by their registries.

use rbee_nats::{Bus, Registry};
use rbee_schema::{HiveName, HiveRecord, WorkerName, WorkerRecord};

use crate::error::CliError;

/// A hive or worker that a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    /// A connected hive and the number of its workers.
    Hive { hive: HiveName, record: HiveRecord, workers: usize },
    /// A worker of a connected hive.
    Worker { hive: HiveName, worker: WorkerName, record: WorkerRecord },
}

impl Target {
    /// Resolves `HIVE`, `WORKER`, or `HIVE/WORKER` if several hives have a worker of that name.
    ///
    /// # Errors
    /// The name stands for nothing, or for several things.
    pub(crate) async fn find(bus: &Bus, name: &str) -> Result<Self, CliError> {
        let hives = Registry::hives(bus).all().await?;
        let workers = Registry::workers(bus).all().await?;
        resolve(name, hives, workers).map_err(CliError::failed)
    }
}

fn resolve(
    name: &str,
    hives: Vec<(String, HiveRecord)>,
    workers: Vec<(String, WorkerRecord)>,
) -> Result<Target, String> {
    let hives: Vec<(HiveName, HiveRecord)> =
        hives.into_iter().filter_map(|(key, record)| Some((key.parse().ok()?, record))).collect();
    let workers: Vec<(HiveName, WorkerName, WorkerRecord)> = workers
        .into_iter()
        .filter_map(|(key, record)| {
            let (hive, worker) = key.split_once('.')?;
            Some((hive.parse().ok()?, worker.parse().ok()?, record))
        })
        .collect();
    let (hive_name, worker_name) = match name.split_once('/') {
        Some((hive, "")) => (Some(hive), None),
        Some((hive, worker)) => (None, Some((Some(hive), worker))),
        None => (Some(name), Some((None, name))),
    };
    let hive = hives.iter().find(|(hive, _)| hive_name == Some(hive.as_str()));
    let found: Vec<_> = workers
        .iter()
        .filter(|(at, worker, _)| {
            worker_name
                .is_some_and(|(hive, name)| worker.as_str() == name && hive.is_none_or(|hive| at.as_str() == hive))
        })
        .collect();
    match (hive, found.as_slice()) {
        (Some((hive, record)), []) => {
            let workers = workers.iter().filter(|(at, ..)| at == hive).count();
            Ok(Target::Hive { hive: hive.clone(), record: record.clone(), workers })
        }
        (None, [(hive, worker, record)]) => {
            if !hives.iter().any(|(connected, _)| connected == hive) {
                return Err(format!(
                    "worker {worker} belongs to hive {hive}, which is not connected: start the hive again, and it \
                     recovers its workers"
                ));
            }
            Ok(Target::Worker { hive: hive.clone(), worker: worker.clone(), record: record.clone() })
        }
        (None, []) => Err(unknown(name, &hives, &workers)),
        (Some(_), found) => Err(format!(
            "{name} is a hive and a worker: use `{name}/` for the hive, or {} for the worker",
            list(found.iter().map(|(hive, worker, _)| format!("`{hive}/{worker}`")), " or ")
        )),
        (None, found) => Err(format!(
            "{} hives have a worker {name}: use {}",
            found.len(),
            list(found.iter().map(|(hive, worker, _)| format!("`{hive}/{worker}`")), " or ")
        )),
    }
}

fn unknown(name: &str, hives: &[(HiveName, HiveRecord)], workers: &[(HiveName, WorkerName, WorkerRecord)]) -> String {
    let hives = list(hives.iter().map(|(hive, _)| hive.to_string()), ", ");
    let workers = list(workers.iter().map(|(hive, worker, _)| format!("{hive}/{worker}")), ", ");
    format!("no hive or worker is named {name}; hives: {hives}; workers: {workers}")
}

fn list(names: impl Iterator<Item = String>, separator: &str) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(separator) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hive(name: &str) -> (String, HiveRecord) {
        let record = r#"{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2}"#;
        (name.to_owned(), serde_json::from_str(record).expect("a record"))
    }

    fn worker(key: &str) -> (String, WorkerRecord) {
        let record = r#"{"model":"m","phase":"ready","epoch":1,"slots":2}"#;
        (key.to_owned(), serde_json::from_str(record).expect("a record"))
    }

    #[test]
    fn a_name_resolves_to_one_hive_or_worker_or_is_refused() {
        let hives = || vec![hive("one"), hive("two"), hive("both")];
        let workers = || vec![worker("one.w"), worker("one.x"), worker("two.x"), worker("two.both"), worker("gone.y")];
        let check = |name: &str, expected: Result<&str, &str>| {
            let found = match resolve(name, hives(), workers()) {
                Ok(Target::Hive { hive, workers, .. }) => Ok(format!("{hive} with {workers}")),
                Ok(Target::Worker { hive, worker, .. }) => Ok(format!("{hive}/{worker}")),
                Err(message) => Err(message),
            };
            match (found, expected) {
                (Ok(found), expected) => assert_eq!(Ok(found.as_str()), expected, "{name}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{name}: {found}"),
                (Err(found), Ok(_)) => panic!("{name}: {found}"),
            }
        };
        check("one", Ok("one with 2"));
        check("w", Ok("one/w"));
        check("two/x", Ok("two/x"));
        check("x", Err("2 hives have a worker x: use `one/x` or `two/x`"));
        check("both", Err("use `both/` for the hive, or `two/both` for the worker"));
        check("both/", Ok("both with 0"));
        check("two/both", Ok("two/both"));
        check("y", Err("belongs to hive gone, which is not connected"));
        check("z", Err("hives: both, one, two; workers: gone/y, one/w, one/x, two/both, two/x"));
        check("one/z", Err("no hive or worker is named one/z"));
        assert!(resolve("z", vec![], vec![]).is_err_and(|found| found.ends_with("hives: none; workers: none")));
    }
}
