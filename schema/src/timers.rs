//! How long a role waits for what: declared once, changed by a text.

use std::time::Duration;

/// Declares the timers of a role: each with its default and the reason why it is that long.
///
/// The type has a public field for each timer, a default, the list of its names, and is read from `NAME=DURATION` pairs
/// with commas between them, such as `silent=20s,hang=1m`, which change some of the defaults.
#[macro_export]
macro_rules! timers {
    ($(#[$about:meta])* $role:ident { $($(#[$doc:meta])* $name:ident: $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $role {
            $($(#[$doc])* pub $name: std::time::Duration,)*
        }

        impl Default for $role {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl $role {
            /// The names of all timers.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];
        }

        impl std::str::FromStr for $role {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let mut timers = Self::default();
                for (name, value) in $crate::timer_pairs(text, Self::NAMES)? {
                    match name {
                        $(stringify!($name) => timers.$name = value,)*
                        _ => {}
                    }
                }
                Ok(timers)
            }
        }
    };
}

/// Reads `NAME=DURATION` pairs with commas between them.
///
/// # Errors
/// A pair that is none, or a name that is not `known`.
pub fn timer_pairs<'a>(text: &'a str, known: &[&str]) -> Result<Vec<(&'a str, Duration)>, String> {
    let read = |pair: &'a str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = humantime::parse_duration(value)
            .map_err(|_| format!("timer `{pair}`: expected NAME=DURATION, such as {}=10s", known[0]))?;
        if known.contains(&name) {
            Ok((name, value))
        } else {
            Err(format!("there is no timer `{name}`: known are {}", known.join(", ")))
        }
    };
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unreachable_pub, reason = "timers are public wherever they are declared")]
    mod declared {
        use std::time::Duration;

        crate::timers! {
            /// What a test waits for.
            Timers {
                /// One.
                one: Duration::from_secs(1),
                /// Two.
                two: Duration::from_secs(2),
            }
        }
    }

    use self::declared::Timers;

    #[test]
    fn a_text_changes_what_it_names_and_nothing_else() {
        let timers: Timers = "two=500ms, ".parse().expect("valid");
        assert_eq!(timers, Timers { two: Duration::from_millis(500), ..Timers::default() });
        assert_eq!("".parse(), Ok(Timers::default()));
        for (wrong, words) in
            [("three=1s", "known are one, two"), ("one", "NAME=DURATION"), ("one=5", "such as one=10s")]
        {
            let error = wrong.parse::<Timers>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
    }
}
