//! Reason for which a queued job waits, as a sentence.

use rbee_schema::api::{Explanation, Model};

/// Reason for which the jobs of a model wait. `placement` is that of another worker of the model, needed if none is ready.
pub fn why_waits(model: &Model, placement: Option<&Explanation>) -> String {
    let Model { name, ready, starting, jobs_running, slots, failure, .. } = model;
    if *ready > 0 && jobs_running >= slots {
        return match slots {
            1 => format!("the only slot of {name} is busy"),
            slots => format!("all {slots} slots of {name} are busy"),
        };
    }
    if *ready > 0 {
        return format!("{name} has a free slot, which is about to take a job");
    }
    if *starting > 0 {
        let tried = failure.as_ref().map(|failure| format!("; the last one failed: {failure}")).unwrap_or_default();
        return format!("a worker of {name} is starting{tried}");
    }
    match placement {
        Some(Explanation { hive: Some(hive), .. }) => {
            format!("no worker of {name} runs; one is about to start on {hive}")
        }
        Some(Explanation { hive: None, why, .. }) => format!("no worker of {name} runs, and none can be placed: {why}"),
        None => match failure {
            Some(failure) => format!("no worker of {name} runs: {failure}"),
            None => format!("no worker of {name} runs"),
        },
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{Failure, FailureCode, ModelReference, ModelSpec};

    use super::*;

    #[test]
    fn sentence_names_what_the_job_waits_for() {
        let model = |ready, starting, jobs_running, failure| Model {
            name: "m".parse().expect("a name"),
            spec: ModelSpec::new(ModelReference::Mock(String::new())),
            ready,
            starting,
            jobs_running,
            jobs_queued: 1,
            slots: 2 * ready,
            answer_ms: None,
            failure,
        };
        let placement = |hive: Option<&str>| Explanation {
            model: "m".parse().expect("a name"),
            hive: hive.map(|hive| hive.parse().expect("a name")),
            why: "no hive is connected".to_owned(),
            hives: Vec::new(),
        };
        let failure = || Some(Failure::new(FailureCode::ModelMissing, "there is no such file"));
        for (model, placement, expected) in [
            (model(1, 0, 2, None), None, "all 2 slots of m are busy"),
            (Model { slots: 1, ..model(1, 0, 1, None) }, None, "the only slot of m is busy"),
            (model(1, 0, 1, None), None, "m has a free slot"),
            (model(0, 1, 0, None), None, "a worker of m is starting"),
            (model(0, 1, 0, failure()), None, "the last one failed: there is no such file"),
            (model(0, 0, 0, None), Some(placement(None)), "none can be placed: no hive is connected"),
            (model(0, 0, 0, None), Some(placement(Some("attic"))), "about to start on attic"),
            (model(0, 0, 0, failure()), None, "no worker of m runs: there is no such file"),
        ] {
            let found = why_waits(&model, placement.as_ref());
            assert!(found.contains(expected), "{found}");
        }
    }
}
