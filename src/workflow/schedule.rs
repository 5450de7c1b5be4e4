//! `on.schedule`: five fields of cron, and when they next come true.
//!
//! As cron has it, a day counts if it fits the day of the month *or* the day of the week where both are narrowed. Times are
//! those of UTC unless a time zone is named, in whole minutes. Everything is arithmetic on the civil calendar: no clock is read
//! here.
//!
//! Where a zone's clocks are set forward, a time that is left out comes as much later as they are set; where they are set back,
//! a time comes once, unless the schedule is for every hour.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::document::Complaint;
use crate::document::reader::quoted;

const MINUTE_MS: i64 = 60_000;
const MINUTES_OF_A_DAY: i64 = 24 * 60;

/// Days that are looked at for the next time: every 29 February within a century's gap is among them.
const HORIZON_DAYS: i64 = 9 * 366;

const HINT: &str =
    "minute, hour, day of the month, month, day of the week: `30 6 * * 1-5`; times are UTC without `timezone`";

/// What stands before the name of a time zone in the form that is stored, which crontabs know, too.
const ZONE: &str = "CRON_TZ=";

/// Five fields: minute, hour, day of the month, month, day of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    source: String,
    /// Another one than UTC.
    zone: Option<TimeZone>,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// The values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// Whether the field begins with `*`: then it does not narrow the days.
    is_any: bool,
}

impl Set {
    fn has(self, value: u32) -> bool {
        self.bits & (1 << value) != 0
    }
}

/// A field's name for messages, its bounds, and words for its values.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    words: &'static [&'static str],
}

const MINUTES: Field = Field { name: "minute", first: 0, last: 59, words: &[] };
const HOURS: Field = Field { name: "hour", first: 0, last: 23, words: &[] };
const DAYS: Field = Field { name: "day of the month", first: 1, last: 31, words: &[] };
const MONTHS: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const WEEKDAYS: Field =
    Field { name: "day of the week", first: 0, last: 6, words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

impl Schedule {
    /// Reads five fields.
    ///
    /// # Errors
    /// What is wrong with them; also where they never come true, such as on 30 February.
    pub fn parse(source: &str) -> Result<Self, Complaint> {
        let fields: Vec<&str> = source.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            let message = format!("a schedule has five fields, {} has {}", quoted(source), fields.len());
            return Err(Complaint::new(message).hint(HINT));
        };
        let schedule = Self {
            source: source.to_owned(),
            zone: None,
            minutes: MINUTES.set(minutes)?,
            hours: HOURS.set(hours)?,
            days: DAYS.set(days)?,
            months: MONTHS.set(months)?,
            weekdays: WEEKDAYS.set(weekdays)?,
        };
        if schedule.next_after(0).is_none() {
            return Err(Complaint::new(format!("{} is on no day of the calendar", quoted(source))));
        }
        Ok(schedule)
    }

    /// The same by the clocks of a time zone.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn in_zone(self, name: &str) -> Result<Self, Complaint> {
        let zone = TimeZone::get(name).map_err(|_| {
            Complaint::new(format!("there is no time zone {}", quoted(name)))
                .hint("zones are `UTC`, `Europe/Berlin` and the like")
        })?;
        Ok(Self { zone: Some(zone).filter(|zone| *zone != TimeZone::UTC), ..self })
    }

    /// The text as it was written: what `github.event.schedule` is.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text with its time zone, from which [`Schedule::try_from`] makes the same again.
    pub fn stored(&self) -> String {
        match self.zone.as_ref().and_then(TimeZone::iana_name) {
            Some(name) => format!("{ZONE}{name} {}", self.source),
            None => self.source.clone(),
        }
    }

    /// The first time after `after_ms` at which the schedule is due, in milliseconds since the epoch, as `after_ms` is.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        if let Some(zone) = &self.zone {
            return self.next_in(zone, after_ms);
        }
        let first = after_ms.div_euclid(MINUTE_MS) + 1;
        let today = first.div_euclid(MINUTES_OF_A_DAY);
        (today..today + HORIZON_DAYS).filter(|day| self.has_day(*day)).find_map(|day| {
            let midnight = day * MINUTES_OF_A_DAY;
            let minute = (first.max(midnight)..midnight + MINUTES_OF_A_DAY).find(|minute| {
                let of_day = u32::try_from(minute - midnight).unwrap_or_default();
                self.hours.has(of_day / 60) && self.minutes.has(of_day % 60)
            })?;
            Some(minute * MINUTE_MS)
        })
    }

    fn next_in(&self, zone: &TimeZone, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?;
        let today = zone.to_datetime(after).date();
        let epoch = Date::constant(1970, 1, 1);
        let today_number = i64::from(epoch.until(today).ok()?.get_days());
        let days = (today_number..today_number + HORIZON_DAYS).filter(|day| self.has_day(*day));
        days.filter_map(|day| epoch.checked_add(Span::new().try_days(day).ok()?).ok())
            .find_map(|day| {
                self.times_of(day).flat_map(|time| self.instants(zone, time)).filter(|time| *time > after).min()
            })
            .map(Timestamp::as_millisecond)
    }

    /// The times of a day, by its clocks.
    fn times_of(&self, day: Date) -> impl Iterator<Item = DateTime> {
        let hours = (0..24i8).filter(|hour| self.hours.has(hour.unsigned_abs().into()));
        let minutes = move || (0..60i8).filter(|minute| self.minutes.has(minute.unsigned_abs().into()));
        hours.flat_map(move |hour| minutes().map(move |minute| day.at(hour, minute, 0, 0)))
    }

    /// When the clocks of a zone show a time.
    fn instants(&self, zone: &TimeZone, time: DateTime) -> impl Iterator<Item = Timestamp> {
        let shown = zone.to_ambiguous_timestamp(time);
        let again = shown.later().ok().filter(|_| self.hours.is_any);
        shown.compatible().ok().into_iter().chain(again)
    }

    fn has_day(&self, day: i64) -> bool {
        let (month, of_month) = month_and_day(day);
        // The epoch was a Thursday.
        let weekday = u32::try_from((day + 4).rem_euclid(7)).unwrap_or_default();
        let (in_month, in_week) = (self.days.has(of_month), self.weekdays.has(weekday));
        let fits = if self.days.is_any || self.weekdays.is_any { in_month && in_week } else { in_month || in_week };
        self.months.has(month) && fits
    }
}

impl Field {
    fn set(&self, text: &str) -> Result<Set, Complaint> {
        let mut set = Set { bits: 0, is_any: text.starts_with('*') };
        for part in text.split(',') {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let step = step.map_or(Some(1), |step| number(step).filter(|step| (1..=self.last).contains(step)));
            let step = step.ok_or_else(|| self.complaint(part))?;
            let (first, last) = self.range(range, part.contains('/')).ok_or_else(|| self.complaint(part))?;
            let values = (first..=last).step_by(step as usize);
            set.bits |= values.fold(0, |bits, value| bits | 1 << value);
        }
        Ok(set)
    }

    /// `*`, `2`, `1-5`; a value with a step goes on to the end.
    fn range(&self, text: &str, has_step: bool) -> Option<(u32, u32)> {
        if text == "*" {
            return Some((self.first, self.last));
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if has_step => (self.value(text)?, self.last),
            None => (self.value(text)?, self.value(text)?),
        };
        (first <= last).then_some((first, last))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().zip(self.first..).find(|(word, _)| word.eq_ignore_ascii_case(text));
        let value = word.map_or_else(|| number(text), |(_, value)| Some(value))?;
        (self.first..=self.last).contains(&value).then_some(value)
    }

    fn complaint(&self, part: &str) -> Complaint {
        let words = match self.words {
            [] => String::new(),
            words => format!(" or {} to {}", words[0], words[words.len() - 1]),
        };
        let message = format!("{} is no {} ({} to {}{words})", quoted(part), self.name, self.first, self.last);
        Complaint::new(message).hint(HINT)
    }
}

/// Digits alone, few enough for every field.
fn number(text: &str) -> Option<u32> {
    let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Month and day of the month of a day since the epoch. Years are taken to begin in March, so that the leap day is the last.
fn month_and_day(day: i64) -> (u32, u32) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const TO_MARCH_OF_YEAR_0: i64 = 719_468;
    let of_era = (day + TO_MARCH_OF_YEAR_0).rem_euclid(DAYS_OF_400_YEARS);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (u32::try_from(month).unwrap_or_default(), u32::try_from(of_month).unwrap_or_default())
}

impl TryFrom<String> for Schedule {
    type Error = Complaint;
    fn try_from(stored: String) -> Result<Self, Complaint> {
        match stored.strip_prefix(ZONE).and_then(|rest| rest.split_once(' ')) {
            Some((zone, source)) => Self::parse(source)?.in_zone(zone),
            None => Self::parse(&stored),
        }
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> String {
        schedule.stored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: i64 = MINUTES_OF_A_DAY * MINUTE_MS;
    /// Saturday, 1 January 2000.
    const Y2000: i64 = 10_957 * DAY_MS;

    /// Days and minutes from 2000 on until the next times.
    fn next(cron: &str, times: usize) -> String {
        let schedule = Schedule::parse(cron).unwrap();
        let mut at = Y2000 - 1;
        let mut told = Vec::new();
        for _ in 0..times {
            at = schedule.next_after(at).unwrap();
            let of_day = (at - Y2000).rem_euclid(DAY_MS) / MINUTE_MS;
            told.push(format!("{}+{:02}:{:02}", (at - Y2000) / DAY_MS, of_day / 60, of_day % 60));
        }
        told.join(" ")
    }

    #[test]
    fn times_follow_the_five_fields() {
        let told = [
            "* * * * *",
            "30 6 * * 1-5",
            "*/20 */12 * * *",
            "5/25 0 * * SUN",
            "0 0 29 2 *",
            "0 0 13 * FRI",
            "0 0 */10 * *",
            "59 23 31 DEC *",
            "0 12 1,15 jan-feb *",
        ]
        .map(|cron| format!("{cron}: {}", next(cron, 4)));
        insta::assert_snapshot!(told.join("\n"), @"
        * * * * *: 0+00:00 0+00:01 0+00:02 0+00:03
        30 6 * * 1-5: 2+06:30 3+06:30 4+06:30 5+06:30
        */20 */12 * * *: 0+00:00 0+00:20 0+00:40 0+12:00
        5/25 0 * * SUN: 1+00:05 1+00:30 1+00:55 8+00:05
        0 0 29 2 *: 59+00:00 1520+00:00 2981+00:00 4442+00:00
        0 0 13 * FRI: 6+00:00 12+00:00 13+00:00 20+00:00
        0 0 */10 * *: 0+00:00 10+00:00 20+00:00 30+00:00
        59 23 31 DEC *: 365+23:59 730+23:59 1095+23:59 1460+23:59
        0 12 1,15 jan-feb *: 0+12:00 14+12:00 31+12:00 45+12:00
        ");
    }

    #[test]
    fn mistakes_are_named() {
        let told = [
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "1,,2 * * * *",
            "@daily",
            "0 0 30 2 *",
            "+1 * * * *",
        ]
        .map(|cron| Schedule::parse(cron).unwrap_err().to_string().lines().next().unwrap().to_owned());
        insta::assert_snapshot!(told.join("\n"), @"
        a schedule has five fields, `* * * *` has 4
        `60` is no minute (0 to 59)
        `24` is no hour (0 to 23)
        `0` is no day of the month (1 to 31)
        `13` is no month (1 to 12 or JAN to DEC)
        `7` is no day of the week (0 to 6 or SUN to SAT)
        `5-1` is no minute (0 to 59)
        `*/0` is no minute (0 to 59)
        `` is no minute (0 to 59)
        a schedule has five fields, `@daily` has 1
        `0 0 30 2 *` is on no day of the calendar
        `+1` is no minute (0 to 59)
        ");
    }

    #[test]
    fn a_schedule_is_stored_as_it_was_written() {
        let schedule = Schedule::parse("0  6 * * mon").unwrap();
        let stored = serde_json::to_string(&schedule).unwrap();
        assert_eq!(stored, "\"0  6 * * mon\"");
        assert_eq!(serde_json::from_str::<Schedule>(&stored).unwrap(), schedule);
    }

    /// The next times in Berlin after a time of UTC.
    fn berlin(cron: &str, after: &str, times: usize) -> String {
        let schedule = Schedule::parse(cron).unwrap().in_zone("Europe/Berlin").unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let mut told = Vec::new();
        for _ in 0..times {
            at = Timestamp::from_millisecond(schedule.next_after(at.as_millisecond()).unwrap()).unwrap();
            told.push(at.to_string());
        }
        told.join(" ")
    }

    #[test]
    fn a_time_zone_has_its_own_clocks() {
        insta::assert_snapshot!(berlin("0 6 * * 1", "2026-06-30T00:00:00Z", 2), @"2026-07-06T04:00:00Z 2026-07-13T04:00:00Z");
        insta::assert_snapshot!(berlin("30 0 1 1 *", "2026-06-30T00:00:00Z", 1), @"2026-12-31T23:30:00Z");
        // Forward at 2:00 on 29 March, back at 3:00 on 25 October.
        insta::assert_snapshot!(berlin("30 2 * * *", "2026-03-28T00:00:00Z", 3), @"2026-03-28T01:30:00Z 2026-03-29T01:30:00Z 2026-03-30T00:30:00Z");
        insta::assert_snapshot!(berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2), @"2026-10-25T00:30:00Z 2026-10-26T01:30:00Z");
        insta::assert_snapshot!(berlin("0 * * * *", "2026-10-24T23:30:00Z", 4), @"2026-10-25T00:00:00Z 2026-10-25T01:00:00Z 2026-10-25T02:00:00Z 2026-10-25T03:00:00Z");
        let zone = |name: &str| Schedule::parse("0 6 * * *").unwrap().in_zone(name);
        insta::assert_snapshot!(zone("Europe/Nowhere").unwrap_err(), @r"
        there is no time zone `Europe/Nowhere`
          hint: zones are `UTC`, `Europe/Berlin` and the like
        ");
        for name in ["Asia/Kolkata", "America/New_York", "UTC", "Etc/UTC"] {
            let schedule = zone(name).unwrap();
            assert_eq!(Schedule::try_from(schedule.stored()).unwrap(), schedule, "{name}");
            assert_eq!(schedule.source(), "0 6 * * *");
        }
    }

    proptest! {
        #[test]
        fn the_next_time_comes_later_and_is_the_first(minute in 0..60u32, hour in 0..24u32, day in 1..=28u32, after in 0..4_000_000_000_000i64) {
            let schedule = Schedule::parse(&format!("{minute} {hour} {day} * *")).unwrap();
            let next = schedule.next_after(after).unwrap();
            prop_assert!(next > after && next - after <= 62 * DAY_MS);
            prop_assert_eq!(month_and_day(next.div_euclid(DAY_MS)).1, day);
            prop_assert_eq!(schedule.next_after(next - 1), Some(next));
        }

        #[test]
        fn whatever_stands_there_is_read_or_refused(text in "[-*/,0-9a-z ]{0,24}") {
            drop(Schedule::parse(&text));
        }
    }
}
