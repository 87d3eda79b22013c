//! `strftime_now` of chat templates: the date as Python's `strftime` writes it, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

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
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment by the calendar, in UTC.
struct Civil {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
    /// From Sunday, 0.
    weekday: u64,
    /// Since midnight.
    seconds: u64,
}

/// Writes `now` by a format of Python's `strftime`.
///
/// # Errors
/// When the format has a directive that is not known here: a sentence.
pub fn strftime(now: SystemTime, format: &str) -> Result<String, String> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let civil = civil(since.as_secs());
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut directive = rest.next();
        let is_bare = directive == Some('-');
        if is_bare {
            directive = rest.next();
        }
        let written = directive.and_then(|directive| civil.write(directive));
        let written = written.ok_or_else(|| {
            format!("the date format {format:?} has a directive that is not known here")
        })?;
        // `%-d` is `%d` without the zeros in front.
        let bare = written.trim_start_matches('0');
        text.push_str(match is_bare {
            true if bare.is_empty() => "0",
            true => bare,
            false => &written,
        });
    }
    Ok(text)
}

impl Civil {
    fn write(&self, directive: char) -> Option<String> {
        let (hour, minute) = (self.seconds / 3600, self.seconds / 60 % 60);
        let month = MONTHS[self.month as usize - 1];
        let day = DAYS[self.weekday as usize];
        let half = if hour < 12 { "AM" } else { "PM" };
        Some(match directive {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'M' => format!("{minute:02}"),
            'S' => format!("{:02}", self.seconds % 60),
            'p' => half.into(),
            'B' => month.into(),
            'b' => month[..3].into(),
            'A' => day.into(),
            'a' => day[..3].into(),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => format!("{hour:02}:{minute:02}:{:02}", self.seconds % 60),
            'Z' => "UTC".into(),
            'z' => "+0000".into(),
            '%' => "%".into(),
            _ => return None,
        })
    }
}

/// The civil date of seconds since 1970 (the proleptic Gregorian calendar).
fn civil(unix_seconds: u64) -> Civil {
    let days = unix_seconds / 86_400;
    // 1970 began on a Thursday.
    let weekday = (days + 4) % 7;
    // Counted from 1 March of year 0, the leap day ends the year and months follow one formula.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    Civil { year, month, day, weekday, seconds: unix_seconds % 86_400 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64, format: &str) -> String {
        strftime(UNIX_EPOCH + Duration::from_secs(seconds), format).unwrap()
    }

    #[test]
    fn dates_are_written_as_python_does() {
        // 2026-11-21 is a Saturday.
        let noon = 1_795_262_400;
        assert_eq!(at(noon, "%d %b %Y"), "21 Nov 2026");
        assert_eq!(at(noon, "%A, %B %-d, %Y %I:%M %p"), "Saturday, November 21, 2026 12:00 PM");
        assert_eq!(at(951_782_400, "%F %T %a"), "2000-02-29 00:00:00 Tue");
        assert_eq!(at(951_782_400, "%-H|%-I|%I|%y|%e|100%%"), "0|12|12|00|29|100%");
        assert_eq!(at(0, "%-d/%-m/%Y"), "1/1/1970");
        let error = strftime(UNIX_EPOCH, "%Q").unwrap_err();
        assert_eq!(error, "the date format \"%Q\" has a directive that is not known here");
    }
}
