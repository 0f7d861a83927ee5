//! Moments as people write them: RFC 3339, or milliseconds since the Unix epoch.
//!
//! ```text
//! 2026-03-01T12:30:05.250Z      2026-03-01 12:30:05+01:00      1772368205250
//! ```

use std::fmt;
use std::str::FromStr;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// A tick has 44 bits of milliseconds.
const MS_MAX: u64 = (1 << 44) - 1;

/// A moment, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.ms / DAY_MS);
        let ms = self.ms % DAY_MS;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        write!(f, ".{:03}Z", ms % 1000)
    }
}

/// The text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMoment;

impl fmt::Display for NotAMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "it is neither a time such as 2026-03-01T12:30:05Z, from 1970 to 2527, nor milliseconds \
             since 1970",
        )
    }
}

impl std::error::Error for NotAMoment {}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Moment, NotAMoment> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let ms = if is_number { text.parse().ok() } else { parse(text) };
        let ms = ms.filter(|ms| *ms <= MS_MAX).ok_or(NotAMoment)?;
        Ok(Moment { ms })
    }
}

/// RFC 3339; also with a blank instead of the `T`. A leap second counts as the one before it.
fn parse(text: &str) -> Option<u64> {
    let mut rest = Rest(text);
    let year = rest.number(4)?;
    let month = rest.after("-")?.number(2).filter(|month| (1..=12).contains(month))?;
    let day = rest.after("-")?.number(2)?;
    if day < 1 || day > days_of(year, month) {
        return None;
    }
    let is_separated = ["T", "t", " "].into_iter().any(|separator| rest.skip(separator));
    let hour = is_separated.then(|| rest.number(2)).flatten().filter(|hour| *hour < 24)?;
    let minute = rest.after(":")?.number(2).filter(|minute| *minute < 60)?;
    let second = rest.after(":")?.number(2).filter(|second| *second <= 60)?.min(59);
    let ms = if rest.skip(".") { rest.fraction()? } else { 0 };
    let offset_ms = rest.offset()?;
    let of_day = ((hour * 60 + minute) * 60 + second) * 1000 + ms;
    let local = i64::try_from(days_before(year, month, day)? * DAY_MS + of_day).ok()?;
    u64::try_from(local - offset_ms).ok()
}

struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn skip(&mut self, text: &str) -> bool {
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn after(&mut self, text: &str) -> Option<&mut Self> {
        self.skip(text).then_some(self)
    }

    fn number(&mut self, digits: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.0 = rest;
        number.parse().ok()
    }

    /// Milliseconds; what is finer is cut off.
    fn fraction(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let ms = fraction.bytes().chain(*b"000").take(3);
        (digits > 0).then(|| ms.fold(0, |ms, digit| ms * 10 + u64::from(digit - b'0')))
    }

    /// The zone at the end, in milliseconds east of Greenwich.
    fn offset(&mut self) -> Option<i64> {
        if matches!(self.0, "Z" | "z") {
            return Some(0);
        }
        let is_west = self.skip("-");
        if !is_west && !self.skip("+") {
            return None;
        }
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        let minutes = self.after(":")?.number(2).filter(|minutes| *minutes < 60)?;
        let ms = i64::try_from((hours * 60 + minutes) * 60_000).ok()?;
        self.0.is_empty().then_some(if is_west { -ms } else { ms })
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the epoch to a date.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    (year >= 1970).then_some(years + months + day - 1)
}

/// The date that many days behind the epoch.
fn date_of(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn ms(text: &str) -> u64 {
        text.parse::<Moment>().unwrap().ms
    }

    #[test]
    fn known_moments_are_read() {
        assert_eq!(ms("1970-01-01T00:00:00Z"), 0);
        assert_eq!(ms("2000-02-29t23:59:59.999z"), 951_868_799_999);
        assert_eq!(ms("2026-03-01T12:30:05.2509Z"), 1_772_368_205_250);
        assert_eq!(ms("2026-03-01 13:30:05.25+01:00"), 1_772_368_205_250);
        assert_eq!(ms("2026-03-01T10:00:05.250-02:30"), 1_772_368_205_250);
        assert_eq!(ms("1772368205250"), 1_772_368_205_250);
        assert_eq!(ms("2016-12-31T23:59:60Z"), ms("2016-12-31T23:59:59Z"));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "-1",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Zx",
            "2026-01-01T00:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:30:00+01:00",
            "9999-01-01T00:00:00Z",
            "99999999999999999999",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(NotAMoment), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_comes_back(ms in 0..=MS_MAX) {
            let moment = Moment { ms };
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
            prop_assert_eq!(ms.to_string().parse(), Ok(moment));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Moment>();
        }
    }
}
