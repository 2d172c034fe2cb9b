//! Starting one worker: lease the port, bind it, start the process. Step 3 of a job's path.

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use rbee_nats::{ClaimError, PortClaim, PortLeases};
use rbee_schema::{ByteSize, HiveName, Limits, ModelReference, PortLease, WorkerName};
use tracing::warn;

use crate::{
    limits::{Cage, Enforcer},
    process::{self, Process, Start},
};

/// Everything that a start needs; it is carried out by a task of its own.
pub(crate) struct Launch {
    pub(crate) port: u16,
    /// The revision of the port's key, as far as we know it.
    pub(crate) revision: u64,
    pub(crate) lease: PortLease,
    /// The model on this machine.
    pub(crate) reference: ModelReference,
    pub(crate) cage: Caged,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) log: PathBuf,
    pub(crate) log_size: ByteSize,
}

/// What keeps it within its limits.
pub(crate) struct Caged {
    pub(crate) enforcer: Enforcer,
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
}

/// How it went. Unless it runs, nothing is left of it.
pub(crate) enum Launched {
    Running {
        process: Process,
        cage: Cage,
        claim: PortClaim,
    },
    /// Another hive of this machine has the port: try the next.
    Held {
        port: u16,
        by: HiveName,
        reference: Box<ModelReference>,
    },
    /// A program that is none of ours has the port: try the next.
    Foreign {
        port: u16,
        cause: String,
        reference: Box<ModelReference>,
    },
    Failed {
        port: u16,
        revision: Option<u64>,
        doing: &'static str,
        cause: String,
    },
}

impl Launch {
    pub(crate) async fn carry_out(self, leases: PortLeases) -> Launched {
        let port = self.port;
        let claim = match leases.claim(port, &self.lease, self.revision).await {
            Ok(claim) => claim,
            Err(ClaimError::Held(lease)) => {
                return Launched::Held { port, by: lease.hive, reference: Box::new(self.reference) };
            }
            Err(ClaimError::Bus(error)) => {
                return Launched::Failed { port, revision: None, doing: "lease a port", cause: error.to_string() };
            }
        };
        // The operating system has the last word. The socket is ours for the worker's whole life, whatever it does.
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listener,
            Err(error) => {
                release(&leases, claim, &self.lease).await;
                let (cause, reference) = (error.to_string(), Box::new(self.reference));
                return Launched::Foreign { port, cause, reference };
            }
        };
        let start = Start {
            program: &self.program,
            arguments: self.arguments,
            environment: self.environment,
            listener,
            epoch: self.cage.epoch,
            log: &self.log,
            log_size: self.log_size,
        };
        match self.cage.start(&self.lease.worker, start) {
            Ok((process, cage)) => Launched::Running { process, cage, claim },
            Err(error) => {
                let revision = release(&leases, claim, &self.lease).await;
                Launched::Failed { port, revision, doing: "start the worker process", cause: error.to_string() }
            }
        }
    }
}

impl Caged {
    /// Makes the cage, then starts the process. It is put in by whoever hears that it runs: the kernel takes some ten
    /// milliseconds for that, in which the worker has only begun.
    fn start(&self, worker: &WorkerName, start: Start<'_>) -> io::Result<(Process, Cage)> {
        let cage = self.enforcer.cage(worker, self.epoch, &self.limits)?;
        let process = process::spawn(start).inspect_err(|_| drop(cage.remove()))?;
        Ok((process, cage))
    }
}

async fn release(leases: &PortLeases, claim: PortClaim, lease: &PortLease) -> Option<u64> {
    match leases.release(claim, lease).await {
        Ok(revision) => Some(revision),
        Err(error) => {
            warn!(%error, "a lease is left to lapse");
            None
        }
    }
}
