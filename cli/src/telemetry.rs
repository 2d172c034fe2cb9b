//! The metrics of this process: one recorder for all its roles, and the socket where they are served.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;
use tracing::info;

use crate::{fleet::host, outcome::Outcome};

/// Where metrics are served where nobody says otherwise.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7834);

/// Upper bounds of the buckets of every histogram, in seconds: a test engine is ready within a tenth of a second, a large
/// model from a slow disk after a quarter of an hour.
const BUCKETS: [f64; 14] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0];

/// How often what histograms have recorded is summed up, so that it does not pile up where nobody reads them.
const UPKEEP: Duration = Duration::from_secs(10);

/// Counts from now on. Once for each process.
pub(crate) fn start() -> Result<PrometheusHandle, Outcome> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    let metrics = builder.and_then(PrometheusBuilder::install_recorder);
    let metrics = metrics.map_err(|error| Outcome::failed(format!("failed to count: {error}")))?;
    let kept_up = metrics.clone();
    tokio::spawn(async move {
        loop {
            sleep(UPKEEP).await;
            kept_up.run_upkeep();
        }
    });
    Ok(metrics)
}

/// Binds the address that was named. Where none was, the default, or any free port when that is taken: a second hive on a
/// machine starts without options.
pub(crate) fn listen(named: Option<SocketAddr>) -> Result<TcpListener, Outcome> {
    let refuse = |address: SocketAddr, error| {
        Outcome::failed(format!("{address} cannot be used: {error}; choose another with --metrics"))
    };
    let address = named.unwrap_or(DEFAULT);
    match TcpListener::bind(address) {
        Ok(listener) => Ok(listener),
        Err(error) if named.is_none() && error.kind() == ErrorKind::AddrInUse => {
            info!(taken = %address, "the usual port for metrics is taken; any free one is used");
            let any = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(any).map_err(|error| refuse(any, error))
        }
        Err(error) => Err(refuse(address, error)),
    }
}

/// Where the metrics are, for whoever wants to read them.
pub(crate) fn url(listener: &TcpListener) -> Result<String, Outcome> {
    let address =
        listener.local_addr().map_err(|error| Outcome::failed(format!("a socket has no address: {error}")))?;
    Ok(match address.ip() {
        // It listens everywhere; others reach it by the machine's name.
        ip if ip.is_unspecified() => format!("http://{}:{}/metrics", host(), address.port()),
        _ => format!("http://{address}/metrics"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hive_finds_a_free_port_by_itself() {
        let first = listen(None).expect("a port is free");
        let second = listen(None).expect("another port is free");
        assert_ne!(url(&first), url(&second));
    }

    #[test]
    fn a_port_that_was_named_and_is_taken_is_refused_with_what_to_do() {
        let first = listen(Some("127.0.0.1:0".parse().expect("an address"))).expect("a port is free");
        let taken = first.local_addr().expect("it is bound");
        let error = listen(Some(taken)).expect_err("it is taken");
        assert!(error.message().contains("--metrics"), "{}", error.message());
        assert_eq!(url(&first), Ok(format!("http://127.0.0.1:{}/metrics", taken.port())));
    }

    #[test]
    fn who_listens_everywhere_is_reached_by_the_name_of_the_machine() {
        let everywhere = listen(Some("0.0.0.0:0".parse().expect("an address"))).expect("a port is free");
        let url = url(&everywhere).expect("it is bound");
        assert!(url.starts_with(&format!("http://{}:", host())), "{url}");
    }
}
