//! The addresses of servers: `nats://USER:PASSWORD@HOST:PORT`, several of them separated by commas.

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// The servers at these addresses.
///
/// # Errors
/// Which of them is none, and why. A password is not repeated.
pub(crate) fn servers(addresses: &str) -> Result<Vec<ServerAddr>, String> {
    let parse = |address: &str| {
        let wrong = |error| format!("`{}` is no address: {error}", without_secrets(address));
        address.trim().parse().map_err(wrong)
    };
    addresses.split(',').map(parse).collect()
}

/// Who we are: what stands before the `@` of the first address that has one, a user and a password or a token alone. What
/// would end it there, such as a comma, is written as in any URL: `%2C`.
pub(crate) fn logged_in(options: ConnectOptions, servers: &[ServerAddr]) -> ConnectOptions {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match servers.iter().find_map(|server| Some((server.username()?, server.password()))) {
        Some((user, Some(password))) => options.user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => options.token(decoded(token)),
        None => options,
    }
}

/// Addresses without what stands before their `@`: a user's name and password, or a token. Several addresses may stand in a
/// row, and a password may hold what usually separates them: whatever stands between the end of a scheme and the last `@`
/// before the next scheme is hidden.
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
    fn an_address_that_is_none_is_told_without_its_password() {
        assert_eq!(servers("nats://one:4222, two").map(|servers| servers.len()), Ok(2));
        let error = servers("nats://one,nats://u:word@ho st").expect_err("it has a space");
        assert!(error.contains("`nats://***@ho st` is no address") && !error.contains("word"), "{error}");
    }

    #[test]
    fn what_stands_before_an_address_is_hidden() {
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
