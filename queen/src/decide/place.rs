//! On which hive a new worker goes.

use rbee_schema::{Failure, FailureCode, HiveName};

use crate::decide::fleet::Fleet;

/// Chooses the hive that runs the fewest workers, and says why.
///
/// # Errors
/// `no-capacity`: no hive is there.
pub fn place(fleet: &Fleet) -> Result<(HiveName, String), Failure> {
    let least = fleet.hives.keys().map(|hive| (fleet.load(hive), hive)).min();
    match least {
        Some((load, hive)) => {
            let why = format!("it runs {load} workers, the fewest of {} hives", fleet.hives.len());
            Ok((hive.clone(), why))
        }
        None => Err(Failure::new(
            FailureCode::NoCapacity,
            "no hive is connected: start one with `rbee hive --nats URL`, or everything on one machine with `rbee up`",
        )),
    }
}
