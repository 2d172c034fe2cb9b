//! A worker process: it loads, reports, pulls jobs and answers them, as `worker/src/` does.

mod attempt;
mod delivery;
mod queue;
mod reporter;
mod serve;
mod writer;

use rbee_schema::{HiveName, ModelName, WorkerName};

use super::{child::Child, site::Site};
use crate::{
    network::Connection,
    words::{Body, Report},
};

/// Identity of a worker process.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) hive: HiveName,
    pub(super) worker: WorkerName,
    pub(super) model: ModelName,
    pub(super) epoch: u64,
    pub(super) slots: u32,
}

/// Everything that the tasks of a worker share.
#[derive(Debug, Clone)]
struct Shared {
    site: Site,
    child: Child,
    connection: Connection,
    identity: std::rc::Rc<Identity>,
}

impl Shared {
    fn report(&self, report: Report) {
        let Identity { hive, worker, epoch, .. } = &*self.identity;
        self.connection.publish(format!("word.{hive}"), Body::Report((worker.clone(), *epoch, report).into()));
    }
}

/// Starts the tasks of a worker process.
pub(super) fn start(site: &Site, child: &Child, identity: Identity) {
    let connection = site.network.connect(child.process());
    let shared = Shared { site: site.clone(), child: child.clone(), connection, identity: identity.into() };
    let process = child.process().clone();
    process.spawn(async move {
        let (load, steps) = (shared.site.settings.load, 4_u32);
        for step in 0..steps {
            shared.report(Report::Loading { done: u64::from(step) << 20, total: u64::from(steps) << 20 });
            shared.child.process().sleep(load / steps).await;
        }
        shared.report(Report::Ready);
        serve::serve(shared).await;
    });
}
