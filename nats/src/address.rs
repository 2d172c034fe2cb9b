//! Server addresses: `nats://USER:PASSWORD@HOST:PORT`, separated by commas.

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// Parses server addresses.
///
/// # Errors
/// An address is invalid. The message names it without its password.
pub(crate) fn servers(addresses: &str) -> Result<Vec<ServerAddr>, String> {
    let parse = |address: &str| {
        let wrong = |error| format!("`{}` is not a server address: {error}", without_secrets(address));
        address.trim().parse().map_err(wrong)
    };
    addresses.split(',').map(parse).collect()
}

/// Adds the credentials of the first address that has some: user and password, or a token, before the `@`. Characters that
/// would end them, such as a comma, are percent-encoded (`%2C`).
pub(crate) fn logged_in(options: ConnectOptions, servers: &[ServerAddr]) -> ConnectOptions {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match servers.iter().find_map(|server| Some((server.username()?, server.password()))) {
        Some((user, Some(password))) => options.user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => options.token(decoded(token)),
        None => options,
    }
}

/// Server addresses with their credentials replaced by `***`. A password may contain the characters that usually separate
/// addresses, so everything between a scheme and the last `@` before the next scheme is hidden.
pub fn without_secrets(addresses: &str) -> String {
    let hide = |part: &str| match part.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => part.to_owned(),
    };
    addresses.split("://").map(hide).collect::<Vec<_>>().join("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_address_is_reported_without_its_password() {
        assert_eq!(servers("nats://one:4222, two").map(|servers| servers.len()), Ok(2));
        let error = servers("nats://one,nats://u:word@ho st").expect_err("it has a space");
        assert!(error.contains("`nats://***@ho st` is not a server address") && !error.contains("word"), "{error}");
    }

    #[test]
    fn credentials_of_addresses_are_hidden() {
        for (value, expected) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://user:word@host:4222", "nats://***@host:4222"),
            ("nats://token@one,tls://u:p@two", "nats://***@one,tls://***@two"),
            ("nats://u:a,b@c@one,nats://two", "nats://***@one,nats://two"),
            ("user:word@host", "***@host"),
        ] {
            assert_eq!(without_secrets(value), expected);
        }
    }
}
