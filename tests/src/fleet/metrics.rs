//! Metrics of the roles of a fleet.

/// Sum of a metric over all of its labels, where `url` is the address of a role's metrics. It is 0 before its first
/// increment. `metric` may also name a label: `rbee_queen_ignored_total{what="declaration"}`.
///
/// # Panics
/// When the role does not answer.
pub async fn metric_value(url: &str, metric: &str) -> f64 {
    let answer = reqwest::get(url).await.unwrap_or_else(|error| panic!("{url} does not answer: {error}"));
    let text = answer.text().await.expect("metrics are text");
    let lines = text.lines().filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
