//! Values that an operator may change: each declared once, with its default and its reason, and changed by a text.
//!
//! What belongs here and what does not says docs/adr/0015-what-is-a-setting.md.

use std::time::Duration;

use crate::ByteSize;

/// Declares the settings of a role: each with its type, its default and the reason why it is that much.
///
/// The type has a public field for each setting, a default, and is read from `NAME=VALUE` pairs with commas between them,
/// such as `silent=20s,hang=1m`, which change some of the defaults. It is written as the pairs that differ from them.
/// `check`, which is written by hand beside the declaration, says what is wrong about the values together.
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

/// What [`settings!`] declares.
pub trait Settings: Default {
    /// What one of them is called, such as `timer`.
    const KIND: &'static str;
    /// The names of all.
    const NAMES: &'static [&'static str];

    /// Changes one of them.
    ///
    /// # Errors
    /// There is none of that name, or it cannot have that value: what was given, and what is possible.
    fn set(&mut self, name: &str, text: &str) -> Result<(), String>;

    /// Says what is wrong about the values together.
    ///
    /// # Errors
    /// Which of them do not fit each other, and how they would.
    fn check(&self) -> Result<(), String>;

    /// All of them, for whoever documents them.
    fn describe() -> Vec<SettingInfo>;
}

/// One setting, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingInfo {
    /// Its name.
    pub name: &'static str,
    /// What it is where nobody says otherwise.
    pub default: String,
    /// Possible values, in words.
    pub expected: &'static str,
    /// What it is for, and why the default is that much.
    pub reason: &'static str,
}

/// What a setting may be.
pub trait SettingValue: Sized {
    /// What is possible, in words.
    const EXPECTED: &'static str;

    /// Reads one; none where the text is none, or the value is not possible.
    fn read(text: &str) -> Option<Self>;

    /// The text that it is read from.
    fn to_text(&self) -> String;
}

/// Shorter than a clock tick is no time that anybody waits; longer than the bound would end the arithmetic of clocks.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);

/// More than any disk holds, and few enough for the signed numbers of the server.
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

/// What may be without a bound.
impl SettingValue for Option<ByteSize> {
    const EXPECTED: &'static str = "a size from 1B to 1024TiB, or `none`";

    fn read(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { ByteSize::read(text).map(Some) }
    }

    fn to_text(&self) -> String {
        self.map_or_else(|| "none".to_owned(), |size| size.to_text())
    }
}

/// Reads `NAME=VALUE` pairs with commas between them.
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

/// Reads the value of one setting.
///
/// # Errors
/// What was given, and what is possible.
pub fn parse_setting<S: Settings, T: SettingValue>(name: &str, text: &str, default: T) -> Result<T, String> {
    T::read(text).ok_or_else(|| {
        let (kind, possible, default) = (S::KIND, T::EXPECTED, default.to_text());
        format!("{kind} `{name}={text}`: expected {possible}, such as {name}={default}")
    })
}

/// Why a name is none, and which was probably meant.
pub fn unknown_setting<S: Settings>(name: &str) -> String {
    let meant = nearest_name(name, S::NAMES.iter().map(|known| (*known, *known)));
    let meant = meant.map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
    format!("there is no {} `{name}`: {meant}known are {}", S::KIND, S::NAMES.join(", "))
}

/// What stands beside the name that a word is a misspelling of.
pub fn nearest_name<'a, T>(word: &str, known: impl IntoIterator<Item = (&'a str, T)>) -> Option<T> {
    let plain = |name: &str| name.trim_start_matches('-').replace('_', "-").to_lowercase();
    let word = plain(word);
    // Further away it is another word: half of the options are within three letters of each other.
    let most = (word.chars().count() / 3).clamp(1, 3);
    let distances = known.into_iter().map(|(name, what)| (strsim::damerau_levenshtein(&word, &plain(name)), what));
    let near = distances.filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, what)| what)
}

/// Whether a time to live is one that the server keeps to: it counts in whole seconds, and takes none below one.
///
/// # Errors
/// What was given, and what is possible.
pub fn check_whole_seconds(name: &str, value: Duration) -> Result<(), String> {
    if value.subsec_nanos() == 0 {
        return Ok(());
    }
    Err(format!("`{name}={}`: expected whole seconds, as the server counts these", value.to_text()))
}

/// Whether one duration is longer than another.
///
/// # Errors
/// Both, and how they must be.
pub fn check_longer((long, longer): (&str, Duration), (short, shorter): (&str, Duration)) -> Result<(), String> {
    if longer > shorter { Ok(()) } else { Err(refusal((long, longer), "longer than", (short, shorter))) }
}

/// Whether one duration is at least as long as another.
///
/// # Errors
/// Both, and how they must be.
pub fn check_at_least((long, longer): (&str, Duration), (short, shorter): (&str, Duration)) -> Result<(), String> {
    if longer >= shorter { Ok(()) } else { Err(refusal((long, longer), "at least as long as", (short, shorter))) }
}

fn refusal((long, longer): (&str, Duration), relation: &str, (short, shorter): (&str, Duration)) -> String {
    format!("`{long}={}`: expected {relation} {short}, which is {}", longer.to_text(), shorter.to_text())
}

/// Reads a duration that is an option of its own.
///
/// # Errors
/// What was given, and what is possible.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let read = <Duration as SettingValue>::read(text);
    read.ok_or_else(|| format!("`{text}`: expected {}, such as 90s or 5m", Duration::EXPECTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unreachable_pub, reason = "settings are public wherever they are declared")]
    mod declared {
        use std::time::Duration;

        use crate::ByteSize;

        crate::settings! {
            /// What a test may be told.
            Told, each "setting of a test" {
                /// How long it waits,
                /// at most.
                patience: Duration = Duration::from_secs(10),
                /// How often it looks.
                period: Duration = Duration::from_millis(1500),
                /// How many tries it has.
                tries: u32 = 3,
                /// What it may write.
                room: ByteSize = ByteSize(8 << 20),
                /// What it may read.
                reading: Option<ByteSize> = None,
            }
        }

        impl Told {
            fn check(&self) -> Result<(), String> {
                crate::check_longer(("patience", self.patience), ("period", self.period))
            }
        }
    }

    use self::declared::Told;

    #[test]
    fn a_text_changes_what_it_names_and_nothing_else() {
        let told: Told = "tries=4, patience=1m,room=1MiB,reading=2KiB,".parse().expect("valid");
        let expected = Told {
            tries: 4,
            patience: Duration::from_secs(60),
            room: ByteSize(1 << 20),
            reading: Some(ByteSize(2048)),
            ..Told::default()
        };
        assert_eq!(told, expected);
        assert_eq!("".parse(), Ok(Told::default()));
        assert_eq!("reading=none,tries=3".parse(), Ok(Told::default()));
    }

    #[test]
    fn what_is_written_is_what_differs_and_is_read_back() {
        assert_eq!(Told::default().to_string(), "");
        for text in ["patience=1m", "patience=2s 500ms,tries=7", "room=1MiB,reading=1000B"] {
            let told: Told = text.parse().expect("valid");
            assert_eq!(told.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_text_is_refused_with_what_was_given_and_what_is_possible() {
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
            let error = wrong.parse::<Told>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn every_setting_has_a_default_that_is_possible_and_a_reason() {
        let declared = Told::describe();
        let names: Vec<&str> = declared.iter().map(|setting| setting.name).collect();
        assert_eq!(names, Told::NAMES);
        assert_eq!(declared[0].reason, "How long it waits, at most.");
        for SettingInfo { name, default, .. } in declared {
            assert_eq!(format!("{name}={default}").parse(), Ok(Told::default()));
        }
    }

    #[test]
    fn durations_are_compared_and_times_to_live_are_whole_seconds() {
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
    fn a_misspelt_name_is_recognised_and_another_word_is_not() {
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
