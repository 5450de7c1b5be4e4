//! Numbers as the language reads and writes them: 64-bit floats, shown with at most 15 significant digits.

/// Significant digits of a number shown as text.
const DIGITS: usize = 15;

/// Reads a number as coercion does: surrounding white space is ignored, nothing is 0, anything else that is no number is NaN.
pub(super) fn parse(text: &str) -> f64 {
    let text = text.trim();
    match text {
        "" => 0.0,
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => parse_radix(text, "0x", 16)
            .or_else(|| parse_radix(text, "0o", 8))
            .or_else(|| parse_decimal(text))
            .unwrap_or(f64::NAN),
    }
}

fn parse_radix(text: &str, prefix: &str, radix: u32) -> Option<f64> {
    let digits = text.strip_prefix(prefix).filter(|digits| !digits.is_empty())?;
    // Large numbers lose digits, as everywhere in the language.
    digits.chars().try_fold(0.0, |value, digit| Some(value * f64::from(radix) + f64::from(digit.to_digit(radix)?)))
}

/// The standard parser also takes `inf` and `nan` in any case, which are no numbers here.
fn parse_decimal(text: &str) -> Option<f64> {
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if is_decimal { text.parse().ok() } else { None }
}

/// Writes a number: `1`, `-0.5`, `1E+20`, `NaN`, `-Infinity`; minus zero is `0`.
pub(super) fn format(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() };
    }
    let scientific = format!("{value:.*e}", DIGITS - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a decimal exponent");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    format!("{sign}{}", place_point(digits, exponent))
}

/// `digits` are those of a number between 1 and 10, to be multiplied by ten to the power of `exponent`.
fn place_point(digits: &str, exponent: i32) -> String {
    match usize::try_from(exponent) {
        Ok(exponent) if exponent < DIGITS => {
            if digits.len() <= exponent + 1 {
                format!("{digits:0<width$}", width = exponent + 1)
            } else {
                format!("{}.{}", &digits[..=exponent], &digits[exponent + 1..])
            }
        }
        Err(_) if exponent >= -5 => {
            let zeros = usize::try_from(-exponent - 1).expect("the exponent is negative");
            format!("0.{}{digits}", "0".repeat(zeros))
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{first}{point}{rest}E{sign}{:02}", exponent.unsigned_abs())
        }
    }
}

/// The number in JSON: whole ones without a fraction; null for what JSON lacks.
pub(super) fn to_json(value: f64) -> serde_json::Value {
    /// Up to here every whole number is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
        return serde_json::Value::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_fifteen_digits() {
        let cases = [
            (0.1 + 0.2, "0.3"),
            (1e14, "100000000000000"),
            (1e15, "1E+15"),
            (1.5e300, "1.5E+300"),
            (0.00001, "0.00001"),
            (0.000_001_2, "1.2E-06"),
            (123_456.789, "123456.789"),
            (-120.0, "-120"),
            (2.0 / 3.0, "0.666666666666667"),
        ];
        for (value, text) in cases {
            assert_eq!(format(value), text, "{value:e}");
        }
    }

    #[test]
    fn only_numbers_are_read_as_numbers() {
        for (text, value) in [("", 0.0), (" 7 ", 7.0), ("0xff", 255.0), ("0o17", 15.0), ("-.5", -0.5), ("1E+2", 100.0)]
        {
            assert_eq!(parse(text), value, "{text}");
        }
        for text in ["inf", "nan", "infinity", "0x", "0x+1", "0xg", "-0x1", "1_000", "e", ".", "abc"] {
            assert!(parse(text).is_nan(), "{text}");
        }
    }
}
