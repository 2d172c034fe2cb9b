//! The addresses of servers, as they may be shown.

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
