//! What the roles of a fleet count.

/// What a metric has come to, all of its labels together, where `url` is that of a role's metrics. It is 0 before it was
/// counted for the first time. `metric` may name a label too: `rbee_queen_ignored_total{what="declaration"}`.
///
/// # Panics
/// When nobody answers.
pub async fn counted(url: &str, metric: &str) -> f64 {
    let answer = reqwest::get(url).await.unwrap_or_else(|error| panic!("{url} does not answer: {error}"));
    let text = answer.text().await.expect("metrics are text");
    let lines = text.lines().filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
