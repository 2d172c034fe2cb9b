//! Waiting for the request to stop the hive.

use rbee_schema::StopMode;
use tokio::sync::watch;

/// Waits until the hive is asked to stop, and returns the mode. When every sender is dropped, the hive drains.
pub(crate) async fn stop_requested(stop: &mut watch::Receiver<Option<StopMode>>) -> StopMode {
    match stop.wait_for(Option::is_some).await {
        Ok(mode) => mode.unwrap_or(StopMode::Drain),
        Err(_) => StopMode::Drain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_is_requested_by_a_message_or_by_a_closed_channel() {
        let (sender, mut stop) = watch::channel(None);
        assert!(futures::FutureExt::now_or_never(stop_requested(&mut stop)).is_none());
        sender.send_replace(Some(StopMode::Terminate));
        assert_eq!(stop_requested(&mut stop).await, StopMode::Terminate);
        let (sender, mut stop) = watch::channel(None);
        drop(sender);
        assert_eq!(stop_requested(&mut stop).await, StopMode::Drain);
    }
}
