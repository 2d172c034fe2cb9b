//! Recovery of a queen: a killed queen is started again. Measures the time until it knows the whole fleet.

use std::time::Duration;

use rbee_nats::Bus;
use rbee_schema::api::Status;
use rbee_tests::{fleet::Fleet, wait::soon};
use tokio::time::{Instant, sleep};

use crate::simulated::Size;

/// Pause between two requests: a fraction of the measured time.
const PAUSE: Duration = Duration::from_millis(2);

/// Times after the start of the new process.
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// The queen answers.
    pub answers: Duration,
    /// The queen knows every hive, worker and model.
    pub knows: Duration,
    /// The queen leads: the lease of the killed queen has expired, 5 s after its last renewal.
    pub leads: Duration,
}

/// Kills the queen and starts another one, which has no state.
///
/// # Panics
/// When no queen runs, or the new one does not learn the fleet in time.
pub async fn measure(fleet: &mut Fleet, size: Size) -> Recovery {
    fleet.kill_role(QUEEN);
    let begun = Instant::now();
    start(fleet);
    let answers = until(&fleet.bus, begun, |_| true).await;
    let knows = until(&fleet.bus, begun, |status| {
        let all = [status.hives as usize, status.workers_ready as usize, status.models as usize];
        all == [size.hives, size.all_workers(), size.models]
    });
    let knows = knows.await;
    let leads = until(&fleet.bus, begun, |status| status.leads).await;
    Recovery { answers, knows, leads }
}

/// Role of the measured process.
pub const QUEEN: &str = "queen";

/// Starts a queen without waiting for it.
pub fn start(fleet: &mut Fleet) {
    let mut command = fleet.command();
    command.args(["queen", "--http", "127.0.0.1:0", "--queen-name", QUEEN]);
    fleet.launch(QUEEN, command);
}

async fn until(bus: &Bus, begun: Instant, mut is_so: impl FnMut(&Status) -> bool) -> Duration {
    soon("the expected status of the queen", async {
        loop {
            let status: Result<Status, _> = bus.request("status", &()).await;
            if status.is_ok_and(|status| is_so(&status)) {
                return begun.elapsed();
            }
            sleep(PAUSE).await;
        }
    })
    .await
}
