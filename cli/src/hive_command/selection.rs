//! The option `--hive`, which names the hives that a command is sent to.

use clap::Args;
use rbee_nats::{Bus, Registry};
use rbee_schema::HiveName;

use crate::error::CliError;

/// Hives that a command is sent to.
#[derive(Debug, Args)]
pub(crate) struct HiveSelection {
    /// Send the command to this hive only [default: every connected hive].
    #[arg(long, value_name = "NAME")]
    hive: Option<HiveName>,
}

impl HiveSelection {
    /// The connected hives that are selected.
    ///
    /// # Errors
    /// No hive is connected, or not the one that is named.
    pub(crate) async fn find(&self, bus: &Bus) -> Result<Vec<HiveName>, CliError> {
        let connected = Registry::hives(bus).all().await?;
        let connected: Vec<HiveName> = connected.iter().filter_map(|(key, _)| key.parse().ok()).collect();
        self.select(connected)
    }

    fn select(&self, connected: Vec<HiveName>) -> Result<Vec<HiveName>, CliError> {
        match &self.hive {
            _ if connected.is_empty() => {
                Err(CliError::failed("no hive is connected; start one with `rbee hive --nats URL`"))
            }
            Some(hive) if !connected.contains(hive) => {
                let names: Vec<&str> = connected.iter().map(HiveName::as_str).collect();
                Err(CliError::failed(format!("hive {hive} is not connected; connected are: {}", names.join(", "))))
            }
            Some(hive) => Ok(vec![hive.clone()]),
            None => Ok(connected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_holds_the_named_hive_or_all_that_are_connected() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect::<Vec<HiveName>>();
        let select = |hive: Option<&str>, connected: &[&str]| {
            let hive = hive.map(|name| name.parse().expect("a name"));
            HiveSelection { hive }.select(names(connected)).map_err(|error| error.message().to_owned())
        };
        assert_eq!(select(None, &["a", "b"]), Ok(names(&["a", "b"])));
        assert_eq!(select(Some("b"), &["a", "b"]), Ok(names(&["b"])));
        assert_eq!(select(Some("c"), &["a", "b"]), Err("hive c is not connected; connected are: a, b".to_owned()));
        assert!(select(None, &[]).is_err_and(|error| error.contains("rbee hive --nats URL")));
    }
}
