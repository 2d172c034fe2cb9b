//! A moment in words, as templates ask for it by `strftime`.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;
/// 1970 began on a Thursday.
const FIRST_WEEKDAY: u64 = 4;

/// A second of the Gregorian calendar, in UTC: a worker knows no other place.
pub(super) struct Moment {
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// From 1.
    day_of_year: u64,
    weekday: usize,
    second_of_day: u64,
}

impl Moment {
    /// The calendar's view of a time; times before 1970 are taken for its beginning.
    pub(super) fn at(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let days = seconds / SECONDS_OF_A_DAY;
        let (mut year, mut rest) = (1970, days);
        while rest >= days_of_year(year) {
            rest -= days_of_year(year);
            year += 1;
        }
        let day_of_year = rest + 1;
        let mut month = 0;
        while rest >= days_of_month(year, month) {
            rest -= days_of_month(year, month);
            month += 1;
        }
        let weekday = ((days + FIRST_WEEKDAY) % 7) as usize;
        Self { year, month, day: rest + 1, day_of_year, weekday, second_of_day: seconds % SECONDS_OF_A_DAY }
    }

    /// The moment in a format of `strftime`; directives that are not known stay as they are.
    pub(super) fn written(&self, format: &str) -> String {
        let (mut written, mut rest) = (String::new(), format.chars());
        while let Some(character) = rest.next() {
            if character != '%' {
                written.push(character);
                continue;
            }
            let directive: String = match rest.next() {
                Some('-') => ['-'].into_iter().chain(rest.next()).collect(),
                other => other.into_iter().collect(),
            };
            written.push_str(&self.directive(&directive).unwrap_or_else(|| format!("%{directive}")));
        }
        written
    }

    fn directive(&self, directive: &str) -> Option<String> {
        let (hour, minute, second) = (self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60);
        let (month, day, year) = (self.month + 1, self.day, self.year);
        let of_twelve = (hour + 11) % 12 + 1;
        Some(match directive {
            "Y" => format!("{year}"),
            "y" => format!("{:02}", year % 100),
            "m" => format!("{month:02}"),
            "-m" => format!("{month}"),
            "B" => MONTHS[self.month].to_owned(),
            "b" => MONTHS[self.month][..3].to_owned(),
            "d" => format!("{day:02}"),
            "-d" => format!("{day}"),
            "e" => format!("{day:2}"),
            "j" => format!("{:03}", self.day_of_year),
            "A" => DAYS[self.weekday].to_owned(),
            "a" => DAYS[self.weekday][..3].to_owned(),
            "H" => format!("{hour:02}"),
            "I" => format!("{of_twelve:02}"),
            "p" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            "M" => format!("{minute:02}"),
            "S" => format!("{second:02}"),
            "F" => format!("{year}-{month:02}-{day:02}"),
            "T" => format!("{hour:02}:{minute:02}:{second:02}"),
            "Z" => "UTC".to_owned(),
            "z" => "+0000".to_owned(),
            "%" => "%".to_owned(),
            _ => return None,
        })
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

/// The month from 0.
fn days_of_month(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_written_as_strftime_does() {
        for (seconds, format, expected) in [
            (0, "%A %d %B %Y, %H:%M:%S %Z", "Thursday 01 January 1970, 00:00:00 UTC"),
            (951_782_400, "%d %b %Y", "29 Feb 2000"),
            (951_868_799, "%F %T day %j", "2000-02-29 23:59:59 day 060"),
            (4_107_542_400, "%a %-d/%-m/%y", "Mon 1/3/00"),
            (1_709_210_096, "%I:%M %p, %e%%", "12:34 PM, 29%"),
            (1_735_689_599, "%F %a", "2024-12-31 Tue"),
            (1_735_689_600, "%F %a", "2025-01-01 Wed"),
            (0, "%q %-q % %", "%q %-q % %"),
        ] {
            let moment = Moment::at(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(moment.written(format), expected);
        }
    }
}
