//! A worker process: it loads, reports, pulls jobs and answers them, as `worker/src/` does.

mod attempt;
mod delivery;
mod queue;
mod reporter;
mod serve;
mod shared;
mod writer;

pub(in crate::node) use self::shared::Identity;
use self::shared::Shared;
use super::{child::Child, site::Site};
use crate::words::Report;

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
