//! Settings: values that an operator may change. Each is declared once, with its default and the reason for it.
//!
//! `docs/adr/0015-what-is-a-setting.md` defines which values are settings.

use std::time::Duration;

use crate::ByteSize;

/// Declares the settings of a role, each with its type, its default and the reason for the default.
///
/// The declared type has a public field for each setting and implements `Default`. It is parsed from `NAME=VALUE` pairs,
/// separated by commas, such as `silent=20s,hang=1m`, which override defaults; it is written as the pairs that differ from
/// the defaults. The method `check`, written by hand beside the declaration, reports values that do not fit together.
#[macro_export]
macro_rules! settings {
    (
        $(#[$about:meta])*
        $role:ident, each $kind:literal {
            $($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $role {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        impl Default for $role {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl $crate::Settings for $role {
            const KIND: &'static str = $kind;
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = $crate::parse_setting::<Self, _>(name, text, Self::default().$name)?,)*
                    _ => return Err($crate::unknown_setting::<Self>(name)),
                }
                Ok(())
            }

            fn check(&self) -> Result<(), String> {
                self.check()
            }

            fn describe() -> Vec<$crate::SettingInfo> {
                let default = Self::default();
                vec![$($crate::SettingInfo {
                    name: stringify!($name),
                    default: $crate::SettingValue::to_text(&default.$name),
                    expected: <$type as $crate::SettingValue>::EXPECTED,
                    reason: concat!($($doc),*).trim(),
                }),*]
            }
        }

        impl std::str::FromStr for $role {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $crate::parse_settings(text)
            }
        }

        impl std::fmt::Display for $role {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let default = Self::default();
                let mut pairs: Vec<String> = Vec::new();
                $(if self.$name != default.$name {
                    pairs.push(format!("{}={}", stringify!($name), $crate::SettingValue::to_text(&self.$name)));
                })*
                f.write_str(&pairs.join(","))
            }
        }
    };
}

/// Settings that [`settings!`](crate::settings) declares.
pub trait Settings: Default {
    /// Kind of one setting in error messages, such as `timer`.
    const KIND: &'static str;
    /// Names of all settings.
    const NAMES: &'static [&'static str];

    /// Sets one setting from a text.
    ///
    /// # Errors
    /// The name is unknown, or the value is invalid. The message states what was found and what is expected.
    fn set(&mut self, name: &str, text: &str) -> Result<(), String>;

    /// Checks that the values fit together.
    ///
    /// # Errors
    /// Two values conflict. The message names both and states the expected relation.
    fn check(&self) -> Result<(), String>;

    /// Descriptions of all settings, for documentation.
    fn describe() -> Vec<SettingInfo>;
}

/// Description of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingInfo {
    /// Name of the setting.
    pub name: &'static str,
    /// Default value as text.
    pub default: String,
    /// Description of the valid values.
    pub expected: &'static str,
    /// Purpose of the setting, and the reason for its default.
    pub reason: &'static str,
}

/// Type of a setting's value.
pub trait SettingValue: Sized {
    /// Description of the valid values, for error messages.
    const EXPECTED: &'static str;

    /// Parses a value. `None` if the text is malformed or the value is out of range.
    fn read(text: &str) -> Option<Self>;

    /// Text that parses to this value.
    fn to_text(&self) -> String;
}

/// Shortest duration of a setting: timers do not tick faster.
const SHORTEST: Duration = Duration::from_millis(1);
/// Longest duration of a setting. Adding a much longer one to an instant would overflow.
const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);

/// Largest size of a setting: larger than any disk, and within the signed 64-bit numbers of the NATS server.
const LARGEST: ByteSize = ByteSize(1 << 50);

impl SettingValue for Duration {
    const EXPECTED: &'static str = "a duration from 1ms to 10years";

    fn read(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok().filter(|it| (SHORTEST..=LONGEST).contains(it))
    }

    fn to_text(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl SettingValue for u32 {
    const EXPECTED: &'static str = "a whole number from 1 to 1000000000";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|it| (1..=1_000_000_000).contains(it))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for ByteSize {
    const EXPECTED: &'static str = "a size from 1B to 1024TiB";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|it| (Self(1)..=LARGEST).contains(it))
    }

    fn to_text(&self) -> String {
        self.to_string().replace(' ', "")
    }
}

/// Size that may be unlimited.
impl SettingValue for Option<ByteSize> {
    const EXPECTED: &'static str = "a size from 1B to 1024TiB, or `none`";

    fn read(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { ByteSize::read(text).map(Some) }
    }

    fn to_text(&self) -> String {
        self.map_or_else(|| "none".to_owned(), |size| size.to_text())
    }
}

/// Parses `NAME=VALUE` pairs, separated by commas.
///
/// # Errors
/// See [`Settings::set`] and [`Settings::check`].
pub fn parse_settings<S: Settings>(text: &str) -> Result<S, String> {
    let mut settings = S::default();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        settings.set(name.trim(), value.trim())?;
    }
    settings.check()?;
    Ok(settings)
}

/// Parses the value of one setting.
///
/// # Errors
/// The value is invalid. The message states what was found and what is expected.
pub fn parse_setting<S: Settings, T: SettingValue>(name: &str, text: &str, default: T) -> Result<T, String> {
    T::read(text).ok_or_else(|| {
        let (kind, possible, default) = (S::KIND, T::EXPECTED, default.to_text());
        format!("{kind} `{name}={text}`: expected {possible}, such as {name}={default}")
    })
}

/// Error message for an unknown name, with the most similar known name.
pub fn unknown_setting<S: Settings>(name: &str) -> String {
    let meant = nearest_name(name, S::NAMES.iter().map(|known| (*known, *known)));
    let meant = meant.map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
    format!("there is no {} `{name}`: {meant}known are {}", S::KIND, S::NAMES.join(", "))
}

/// Value that belongs to the known name most similar to `word`. `None` if no name is similar enough to be a misspelling.
pub fn nearest_name<'a, T>(word: &str, known: impl IntoIterator<Item = (&'a str, T)>) -> Option<T> {
    let plain = |name: &str| name.trim_start_matches('-').replace('_', "-").to_lowercase();
    let word = plain(word);
    // A larger distance would match unrelated names: half of the options are within three letters of each other.
    let most = (word.chars().count() / 3).clamp(1, 3);
    let distances = known.into_iter().map(|(name, what)| (strsim::damerau_levenshtein(&word, &plain(name)), what));
    let near = distances.filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, what)| what)
}

/// Checks that a time to live is in whole seconds, because the NATS server truncates it.
///
/// # Errors
/// The value has a fraction of a second.
pub fn check_whole_seconds(name: &str, value: Duration) -> Result<(), String> {
    if value.subsec_nanos() == 0 {
        return Ok(());
    }
    Err(format!("`{name}={}`: expected whole seconds, because the server truncates fractions", value.to_text()))
}

/// Checks that the first duration is longer than the second.
///
/// # Errors
/// It is not. The message names both.
pub fn check_longer((long, longer): (&str, Duration), (short, shorter): (&str, Duration)) -> Result<(), String> {
    if longer > shorter { Ok(()) } else { Err(refusal((long, longer), "longer than", (short, shorter))) }
}

/// Checks that the first duration is at least as long as the second.
///
/// # Errors
/// It is shorter. The message names both.
pub fn check_at_least((long, longer): (&str, Duration), (short, shorter): (&str, Duration)) -> Result<(), String> {
    if longer >= shorter { Ok(()) } else { Err(refusal((long, longer), "at least as long as", (short, shorter))) }
}

fn refusal((long, longer): (&str, Duration), relation: &str, (short, shorter): (&str, Duration)) -> String {
    format!("`{long}={}`: expected {relation} {short}, which is {}", longer.to_text(), shorter.to_text())
}

/// Parses a duration given as a command-line option.
///
/// # Errors
/// The value is invalid. The message states what was found and what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let read = <Duration as SettingValue>::read(text);
    read.ok_or_else(|| format!("`{text}`: expected {}, such as 90s or 5m", Duration::EXPECTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unreachable_pub, reason = "the macro declares public settings")]
    mod declared {
        use std::time::Duration;

        use crate::ByteSize;

        crate::settings! {
            /// Settings of a test.
            TestSettings, each "setting of a test" {
                /// Time limit of a wait,
                /// in all.
                patience: Duration = Duration::from_secs(10),
                /// Interval between checks.
                period: Duration = Duration::from_millis(1500),
                /// Number of attempts.
                tries: u32 = 3,
                /// Maximum size of the output.
                room: ByteSize = ByteSize(8 << 20),
                /// Maximum size of the input.
                reading: Option<ByteSize> = None,
            }
        }

        impl TestSettings {
            fn check(&self) -> Result<(), String> {
                crate::check_longer(("patience", self.patience), ("period", self.period))
            }
        }
    }

    use self::declared::TestSettings;

    #[test]
    fn a_text_changes_only_the_settings_that_it_names() {
        let settings: TestSettings = "tries=4, patience=1m,room=1MiB,reading=2KiB,".parse().expect("valid");
        let expected = TestSettings {
            tries: 4,
            patience: Duration::from_secs(60),
            room: ByteSize(1 << 20),
            reading: Some(ByteSize(2048)),
            ..TestSettings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!("".parse(), Ok(TestSettings::default()));
        assert_eq!("reading=none,tries=3".parse(), Ok(TestSettings::default()));
    }

    #[test]
    fn only_changed_settings_are_written() {
        assert_eq!(TestSettings::default().to_string(), "");
        for text in ["patience=1m", "patience=2s 500ms,tries=7", "room=1MiB,reading=1000B"] {
            let settings: TestSettings = text.parse().expect("valid");
            assert_eq!(settings.to_string(), text);
        }
    }

    #[test]
    fn an_invalid_text_is_refused_with_what_is_expected() {
        for (wrong, words) in [
            (
                "tryes=1",
                "there is no setting of a test `tryes`: did you mean `tries`? known are patience, period, tries, room, \
                 reading",
            ),
            ("hush=1", "there is no setting of a test `hush`: known are patience, period, tries, room, reading"),
            (
                "patience",
                "setting of a test `patience=`: expected a duration from 1ms to 10years, such as patience=10s",
            ),
            ("patience=5", "setting of a test `patience=5`: expected a duration"),
            ("patience=0s", "`patience=0s`: expected a duration from 1ms"),
            ("patience=11years", "expected a duration from 1ms to 10years"),
            ("tries=0", "`tries=0`: expected a whole number from 1 to 1000000000, such as tries=3"),
            ("tries=1.5", "expected a whole number"),
            ("room=much", "`room=much`: expected a size from 1B to 1024TiB, such as room=8MiB"),
            ("room=none", "expected a size"),
            ("reading=0B", "expected a size from 1B to 1024TiB, or `none`, such as reading=none"),
            ("patience=1s", "`patience=1s`: expected longer than period, which is 1s 500ms"),
        ] {
            let error = wrong.parse::<TestSettings>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn every_default_is_valid_and_documented() {
        let declared = TestSettings::describe();
        let names: Vec<&str> = declared.iter().map(|setting| setting.name).collect();
        assert_eq!(names, TestSettings::NAMES);
        assert_eq!(declared[0].reason, "Time limit of a wait, in all.");
        for SettingInfo { name, default, .. } in declared {
            assert_eq!(format!("{name}={default}").parse(), Ok(TestSettings::default()));
        }
    }

    #[test]
    fn durations_are_compared_and_time_to_live_has_whole_seconds() {
        let (one, two) = (("one", Duration::from_secs(1)), ("two", Duration::from_secs(2)));
        assert_eq!((check_longer(two, one), check_at_least(one, one)), (Ok(()), Ok(())));
        assert_eq!(check_longer(one, one), Err("`one=1s`: expected longer than one, which is 1s".to_owned()));
        assert_eq!(check_at_least(one, two), Err("`one=1s`: expected at least as long as two, which is 2s".to_owned()));
        assert_eq!(check_whole_seconds("lease", Duration::from_secs(1)), Ok(()));
        assert!(
            check_whole_seconds("lease", Duration::from_millis(1500))
                .is_err_and(|error| error.contains("whole seconds"))
        );
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("soon").is_err_and(|error| error.contains("such as 90s")));
    }

    #[test]
    fn a_misspelt_name_is_recognized_and_an_unrelated_word_is_not() {
        let known = ["ports", "max-workers", "worker-memory", "http", "first_word"];
        for (word, expected) in [
            ("max-worker", Some("max-workers")),
            ("max_workers", Some("max-workers")),
            ("--max-workers", Some("max-workers")),
            ("prots", Some("ports")),
            ("HTTP", Some("http")),
            ("worker-memroy", Some("worker-memory")),
            ("first-wrod", Some("first_word")),
            ("threads", None),
            ("", None),
        ] {
            assert_eq!(nearest_name(word, known.map(|name| (name, name))), expected, "{word}");
        }
    }
}
