//! A queen is killed and started again: how long she takes to know everything anew.

use std::time::Duration;

use rbee_nats::Bus;
use rbee_schema::api::Status;
use rbee_tests::{fleet::Fleet, wait::soon};
use tokio::time::{Instant, sleep};

use crate::simulated::Size;

/// Between two questions: a fraction of what is measured.
const PAUSE: Duration = Duration::from_millis(2);

/// Counted from the start of the new process.
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// She answers.
    pub answers: Duration,
    /// She answers with every hive, worker and model.
    pub knows: Duration,
    /// She leads: the lease of the killed one has lapsed, which is 5 s after its last renewal.
    pub leads: Duration,
}

/// Kills the queen and starts another one in her place, which has nothing of hers.
///
/// # Panics
/// When there is none, or the new one does not come to know the fleet.
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

/// The role whose process is measured.
pub const QUEEN: &str = "queen";

/// Starts a queen and waits for nothing.
pub fn start(fleet: &mut Fleet) {
    let mut command = fleet.command();
    command.args(["queen", "--http", "127.0.0.1:0", "--queen-name", QUEEN]);
    fleet.launch(QUEEN, command);
}

async fn until(bus: &Bus, begun: Instant, mut is_so: impl FnMut(&Status) -> bool) -> Duration {
    soon("answer of the queen that says so", async {
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
