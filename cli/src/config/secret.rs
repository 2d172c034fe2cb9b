//! Passwords are not shown.

use clap::Arg;
use rbee_nats::without_secrets;

/// The value of an option as it may be shown: without what stands before the `@` of an address.
pub(super) fn shown(option: &Arg, value: &str) -> String {
    // An option that hides its variable may hold a secret, and an address needs no scheme.
    let is_address = value.contains("://") || option.is_hide_env_values_set();
    if is_address { without_secrets(value) } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_an_address_is_hidden() {
        let nats = Arg::new("nats").long("nats").hide_env_values(true);
        for (value, expected) in
            [("nats://user:word@host:4222", "nats://***@host:4222"), ("user:word@host", "***@host")]
        {
            assert_eq!(shown(&nats, value), expected);
        }
    }

    #[test]
    fn an_option_without_secrets_is_shown_as_it_is() {
        let labels = Arg::new("labels").long("labels");
        assert_eq!(shown(&labels, "mail=somebody@home"), "mail=somebody@home");
        let hub = Arg::new("hub").long("hub");
        assert_eq!(shown(&hub, "https://user:word@hub"), "https://***@hub");
    }
}
