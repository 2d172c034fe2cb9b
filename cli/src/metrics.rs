//! Metrics of this process: one recorder for all its roles, and the socket that serves it.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;
use tracing::info;

use crate::{error::CliError, host::host};

/// Metrics address without `--metrics`.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7834);

/// Bucket bounds of every histogram, in seconds. The test engine is ready within 0.1 s; a large model on a slow disk takes
/// up to 15 min to load.
const BUCKETS: [f64; 14] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0];

/// Interval of recorder upkeep. The recorder buffers histogram samples until upkeep folds them into the buckets. Without
/// it the buffers of a process that nobody scrapes grow forever; every 10 s keeps them small at no measurable cost.
const UPKEEP: Duration = Duration::from_secs(10);

/// Installs the recorder of this process, once.
///
/// # Errors
/// A recorder is installed already.
pub(crate) fn start() -> Result<PrometheusHandle, CliError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    let recorder = builder.and_then(PrometheusBuilder::install_recorder);
    let recorder =
        recorder.map_err(|error| CliError::failed(format!("failed to install the metrics recorder: {error}")))?;
    let upkept = recorder.clone();
    tokio::spawn(async move {
        loop {
            sleep(UPKEEP).await;
            upkept.run_upkeep();
        }
    });
    Ok(recorder)
}

/// Binds the metrics address. Without `--metrics` that is the default address, or any free port if it is taken, so that a
/// second hive on a machine starts without options.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn listen(named: Option<SocketAddr>) -> Result<TcpListener, CliError> {
    let refuse = |address: SocketAddr, error| {
        CliError::failed(format!(
            "failed to serve metrics on {address}: {error}; choose another address with --metrics"
        ))
    };
    let address = named.unwrap_or(DEFAULT_ADDRESS);
    match TcpListener::bind(address) {
        Ok(listener) => Ok(listener),
        Err(error) if named.is_none() && error.kind() == ErrorKind::AddrInUse => {
            info!(taken = %address, "the default metrics port is taken; a free port is used");
            let any = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(any).map_err(|error| refuse(any, error))
        }
        Err(error) => Err(refuse(address, error)),
    }
}

/// URL of the metrics, as other machines reach it.
///
/// # Errors
/// The socket has no address.
pub(crate) fn url(listener: &TcpListener) -> Result<String, CliError> {
    let address = listener.local_addr();
    let address = address.map_err(|error| CliError::failed(format!("failed to read the metrics address: {error}")))?;
    Ok(match address.ip() {
        // 0.0.0.0 is no address to connect to; the name of the machine is.
        ip if ip.is_unspecified() => format!("http://{}:{}/metrics", host(), address.port()),
        _ => format!("http://{address}/metrics"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hive_gets_a_free_metrics_port() {
        let first = listen(None).expect("a port is free");
        let second = listen(None).expect("another port is free");
        assert_ne!(url(&first), url(&second));
    }

    #[test]
    fn a_named_metrics_port_that_is_taken_is_refused() {
        let first = listen(Some("127.0.0.1:0".parse().expect("an address"))).expect("a port is free");
        let taken = first.local_addr().expect("it is bound");
        let error = listen(Some(taken)).expect_err("it is taken");
        assert!(error.message().contains("--metrics"), "{}", error.message());
        assert_eq!(url(&first), Ok(format!("http://127.0.0.1:{}/metrics", taken.port())));
    }

    #[test]
    fn an_unspecified_metrics_address_is_shown_with_the_host_name() {
        let everywhere = listen(Some("0.0.0.0:0".parse().expect("an address"))).expect("a port is free");
        let url = url(&everywhere).expect("it is bound");
        assert!(url.starts_with(&format!("http://{}:", host())), "{url}");
    }
}
