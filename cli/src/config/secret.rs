//! Passwords in values, redacted before the values are printed.

use clap::Arg;
use rbee_nats::without_secrets;

/// The value of an option without the credentials in URLs.
pub(super) fn redact(option: &Arg, value: &str) -> String {
    // The URL of the bus needs no scheme, so that only its option tells it apart from a text with an `@`.
    let is_address = value.contains("://") || option.get_id() == "nats";
    if is_address { without_secrets(value) } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_url_are_redacted() {
        let nats = Arg::new("nats").long("nats");
        for (value, expected) in
            [("nats://user:word@host:4222", "nats://***@host:4222"), ("user:word@host", "***@host")]
        {
            assert_eq!(redact(&nats, value), expected);
        }
        let hub = Arg::new("hub").long("hub");
        assert_eq!(redact(&hub, "https://user:word@hub"), "https://***@hub");
    }

    #[test]
    fn a_value_without_credentials_is_unchanged() {
        let labels = Arg::new("labels").long("labels");
        assert_eq!(redact(&labels, "mail=somebody@home"), "mail=somebody@home");
    }
}
