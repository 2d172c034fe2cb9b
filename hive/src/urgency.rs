//! How fast a hive is to end.

use tokio::sync::watch;

/// How much of what runs is finished before the end. Each includes what the ones before it do, sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Workers take no further jobs, finish those that they have, and end.
    Drain,
    /// Workers end at once, and their jobs go on elsewhere.
    Hurry,
    /// Workers are killed.
    Kill,
}

/// Waits until the hive is told to end. Where nobody is left who could tell it, it is told.
pub(crate) async fn told(stop: &mut watch::Receiver<Option<Urgency>>) -> Urgency {
    match stop.wait_for(Option::is_some).await {
        Ok(urgency) => urgency.unwrap_or(Urgency::Drain),
        Err(_) => Urgency::Drain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hive_is_told_once_somebody_says_how_urgent_it_is_or_nobody_is_left_to() {
        let (tell, mut stop) = watch::channel(None);
        assert!(futures::FutureExt::now_or_never(told(&mut stop)).is_none());
        tell.send_replace(Some(Urgency::Hurry));
        assert_eq!(told(&mut stop).await, Urgency::Hurry);
        let (tell, mut stop) = watch::channel(None);
        drop(tell);
        assert_eq!(told(&mut stop).await, Urgency::Drain);
    }

    #[test]
    fn each_urgency_is_more_than_the_one_before() {
        assert!(Urgency::Drain < Urgency::Hurry && Urgency::Hurry < Urgency::Kill);
    }
}
