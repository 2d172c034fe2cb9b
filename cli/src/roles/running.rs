//! A role that runs as a task of this process.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

/// A running queen or gateway.
pub(crate) struct RunningRole {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<(), CliError>>,
    result: Option<Result<(), CliError>>,
}

impl RunningRole {
    pub(super) fn new(name: &'static str, stop: CancellationToken, task: JoinHandle<Result<(), CliError>>) -> Self {
        Self { name, stop, task, result: None }
    }

    /// Waits until the role ends, and returns its result. May be called again afterwards.
    pub(crate) async fn ended(&mut self) -> Result<(), CliError> {
        if let Some(result) = &self.result {
            return result.clone();
        }
        let panicked = |error| Err(CliError::failed(format!("the {} panicked: {error}", self.name)));
        let result = (&mut self.task).await.unwrap_or_else(panicked);
        self.result.insert(result).clone()
    }

    /// Stops the role gracefully and waits until it has ended.
    pub(crate) async fn stop(mut self) -> Result<(), CliError> {
        self.stop.cancel();
        self.ended().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_role_keeps_its_result_and_reports_a_panic() {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped.cancelled().await;
            Err(CliError::unavailable("away"))
        });
        let mut role = RunningRole::new("queen", stop.clone(), task);
        stop.cancel();
        for _ in 0..2 {
            assert_eq!(role.ended().await, Err(CliError::unavailable("away")));
        }
        assert_eq!(role.stop().await, Err(CliError::unavailable("away")));

        let task = tokio::spawn(async { panic!("a test") });
        let error = RunningRole::new("gateway", CancellationToken::new(), task).stop().await.expect_err("it panicked");
        assert!(error.message().contains("the gateway panicked"), "{}", error.message());
    }
}
