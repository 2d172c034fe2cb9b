//! Reports of the hive's own tasks.

use tokio::task::JoinError;
use tracing::error;

use super::{report::Report, state::Supervisor};

impl Supervisor {
    pub(super) fn handle_report(&mut self, report: Result<Report, JoinError>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => return error!(%error, "a task of the hive panicked"),
        };
        match report {
            Report::Provided { worker, epoch, provided } => self.provided(&worker, epoch, provided),
            Report::Fetched { reference, outcome } => self.fetched(reference, outcome),
            Report::FileRemoved { reference, outcome } => self.file_removed(reference, outcome),
            Report::Launched(worker, launched) => self.launched(&worker, launched),
            Report::Exited { worker, epoch, exit } => self.exited(&worker, epoch, exit),
            Report::LeaseReleased(release) => self.lease_released(release),
            Report::LeaseRenewed(lease, claim) => self.lease_renewed(lease, claim),
            Report::LeaseFound { port, found } => self.lease_found(port, found),
            Report::RecordFound(worker) => self.record_found(&worker),
            Report::Registered(registered) => self.mend(&registered),
            Report::NotLimited { worker, pid, error } => self.not_limited(&worker, pid, &error),
            Report::DiskMeasured(measured) => self.machine.disk_measured(measured),
            Report::Health { worker, epoch, healthy } => self.health_checked(&worker, epoch, healthy),
            Report::Done => {}
        }
    }
}
