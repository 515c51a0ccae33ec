//! From when to when a certificate is valid: the two dates of X.509, and nothing else of it (RFC 5280 4.1).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, where it is not the first.
const VERSION: u8 = 0xa0;

/// When a certificate, in DER, begins to be valid, and when it expires.
pub(super) fn of(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (certificate, _) = take(certificate, SEQUENCE)?;
    let (mut rest, _) = take(certificate, SEQUENCE)?;
    if let Some((_, after)) = take(rest, VERSION) {
        rest = after;
    }
    let (_serial, rest) = take(rest, INTEGER)?;
    let (_algorithm, rest) = take(rest, SEQUENCE)?;
    let (_issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, _) = take(rest, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some((from, until))
}

/// The contents of the element that comes first, if it has this tag, and what comes after it.
fn take(from: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = from.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    // Below 128 it is the length, above it is how many bytes the length has; none is longer than three here.
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Years of two digits are those from 1950 to 2049; all times are UTC (RFC 5280 4.1.2.5).
fn time(from: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, century, rest) = match take(from, UTC_TIME) {
        Some((text, rest)) => (text, if *text.first()? < b'5' { "20" } else { "19" }, rest),
        None => take(from, GENERALIZED_TIME).map(|(text, rest)| (text, "", rest))?,
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some((time.to_zoned(TimeZone::UTC).ok()?.timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(from: i32, until: i32) -> Vec<u8> {
        let mut wanted = rcgen::CertificateParams::new(vec!["chat.test".to_owned()]).expect("a name");
        wanted.not_before = rcgen::date_time_ymd(from, 2, 28);
        wanted.not_after = rcgen::date_time_ymd(until, 3, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        wanted.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn dates_of_either_form_are_read() {
        for (from, until) in [(1950, 2049), (1999, 2000), (2026, 2050), (2051, 4096)] {
            let read = of(&made(from, until)).map(|(from, until)| (from.to_string(), until.to_string()));
            assert_eq!(read, Some((format!("{from}-02-28T00:00:00Z"), format!("{until}-03-01T00:00:00Z"))));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let made = made(2026, 2027);
        for short in 0..made.len() {
            assert!(of(&made[..short]).is_none(), "{short} of {} bytes", made.len());
        }
        for other in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"hello"] {
            assert_eq!(of(other), None);
        }
    }
}
