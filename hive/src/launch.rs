//! Starting one worker: lease the port, bind it, start the process. Step 3 of a job's path.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

use rbee_nats::{ClaimError, PortClaim, PortLeases};
use rbee_schema::{HiveName, Limits, ModelReference, PortLease};
use tokio::task::spawn_blocking;

use crate::{
    limits::{Enforcer, WorkerCgroup},
    process::{self, Process, WorkerCommand},
};

/// Everything that a start needs. A task of its own carries it out.
pub(crate) struct Launch {
    pub(crate) port: u16,
    /// Revision of the port's key, as far as the hive knows it; 0 for a key that never existed.
    pub(crate) revision: u64,
    pub(crate) lease: PortLease,
    /// The model on this machine, for a further attempt on another port.
    pub(crate) reference: ModelReference,
    pub(crate) sandbox: Sandbox,
    pub(crate) command: WorkerCommand,
}

/// The limits of the new process, and what enforces them.
pub(crate) struct Sandbox {
    pub(crate) enforcer: Enforcer,
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
}

/// Outcome of a launch. Unless the process runs, no process and no cgroup is left of it. A claim that is still held comes
/// with its lease, for the owner to release.
pub(crate) enum Launched {
    Running {
        process: Process,
        cgroup: WorkerCgroup,
        claim: PortClaim,
    },
    /// Another hive of this machine has leased the port: try the next.
    Held {
        port: u16,
        by: HiveName,
        reference: Box<ModelReference>,
    },
    /// The port was leased and cannot be bound, because a program outside of rbee holds it: try the next.
    Foreign {
        claim: PortClaim,
        lease: PortLease,
        cause: String,
        reference: Box<ModelReference>,
    },
    NotLeased {
        port: u16,
        cause: String,
    },
    NotStarted {
        claim: PortClaim,
        lease: PortLease,
        cause: String,
    },
}

impl Launch {
    pub(crate) async fn run(self, leases: PortLeases) -> Launched {
        let Self { port, revision, lease, reference, sandbox, command } = self;
        let claim = match leases.claim(port, &lease, revision).await {
            Ok(claim) => claim,
            Err(ClaimError::Held(held)) => {
                return Launched::Held { port, by: held.hive, reference: Box::new(reference) };
            }
            Err(ClaimError::Bus(error)) => return Launched::NotLeased { port, cause: error.to_string() },
        };
        // The lease settles the port among hives, the operating system among all programs. The hive holds the socket for
        // the worker's whole life, whatever the worker does.
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listener,
            Err(error) => {
                return Launched::Foreign { claim, lease, cause: error.to_string(), reference: Box::new(reference) };
            }
        };
        let worker = lease.worker.clone();
        // Creating cgroups and a process blocks for some milliseconds, and for up to 2 s where an old cgroup is in the way.
        let started = spawn_blocking(move || {
            let cgroup = sandbox.enforcer.create(&worker, sandbox.epoch, &sandbox.limits)?;
            let process = process::spawn(command, listener).inspect_err(|_| drop(cgroup.remove()))?;
            Ok((process, cgroup))
        });
        match started.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            // The owner moves the process into its cgroup when it handles the report. The kernel takes some ten milliseconds for
            // that, in which the worker has only begun.
            Ok((process, cgroup)) => Launched::Running { process, cgroup, claim },
            Err(error) => Launched::NotStarted { claim, lease, cause: error.to_string() },
        }
    }
}
