//! Everything that the tasks of a worker share.

use std::rc::Rc;

use rbee_schema::{HiveName, ModelName, WorkerName};

use super::super::{child::Child, site::Site};
use crate::{
    network::Connection,
    words::{Body, Report},
};

/// Identity of a worker process.
#[derive(Debug, Clone)]
pub(in crate::node) struct Identity {
    pub(in crate::node) hive: HiveName,
    pub(in crate::node) worker: WorkerName,
    pub(in crate::node) model: ModelName,
    pub(in crate::node) epoch: u64,
    pub(in crate::node) slots: u32,
}

/// Everything that the tasks of a worker share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) site: Site,
    pub(super) child: Child,
    pub(super) connection: Connection,
    pub(super) identity: Rc<Identity>,
}

impl Shared {
    pub(super) fn report(&self, report: Report) {
        let Identity { hive, worker, epoch, .. } = &*self.identity;
        self.connection.publish(format!("word.{hive}"), Body::Report((worker.clone(), *epoch, report).into()));
    }
}
