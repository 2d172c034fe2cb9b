//! Starting one worker: lease the port, bind it, start the process. Step 3 of a job's path.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
};

use rbee_nats::{ClaimError, PortClaim, PortLeases};
use rbee_schema::{HiveName, PortLease};
use tokio::process::Child;
use tracing::warn;

use crate::process::{self, Handle};

/// Everything that a start needs; it is carried out by a task of its own.
pub(crate) struct Launch {
    pub(crate) port: u16,
    /// The revision of the port's key, as far as we know it.
    pub(crate) revision: u64,
    pub(crate) lease: PortLease,
    pub(crate) command: Command,
    pub(crate) log: PathBuf,
}

/// How it went. Unless it runs, nothing is left of it.
pub(crate) enum Launched {
    Running {
        process: Handle,
        child: Child,
        claim: PortClaim,
    },
    /// Another hive of this machine has the port: try the next.
    Held {
        port: u16,
        by: HiveName,
    },
    /// A program that is none of ours has the port: try the next.
    Foreign {
        port: u16,
        cause: String,
    },
    Failed {
        port: u16,
        revision: Option<u64>,
        doing: &'static str,
        cause: String,
    },
}

impl Launch {
    pub(crate) async fn carry_out(mut self, leases: PortLeases) -> Launched {
        let port = self.port;
        let claim = match leases.claim(port, &self.lease, self.revision).await {
            Ok(claim) => claim,
            Err(ClaimError::Held(lease)) => return Launched::Held { port, by: lease.hive },
            Err(ClaimError::Bus(error)) => {
                return Launched::Failed { port, revision: None, doing: "lease a port", cause: error.to_string() };
            }
        };
        // The operating system has the last word. The socket is ours for the worker's whole life, whatever it does.
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listener,
            Err(error) => {
                release(&leases, claim, &self.lease).await;
                return Launched::Foreign { port, cause: error.to_string() };
            }
        };
        match process::spawn(&mut self.command, listener, &self.log) {
            Ok((process, child)) => Launched::Running { process, child, claim },
            Err(error) => {
                let revision = release(&leases, claim, &self.lease).await;
                Launched::Failed { port, revision, doing: "start the worker process", cause: error.to_string() }
            }
        }
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
