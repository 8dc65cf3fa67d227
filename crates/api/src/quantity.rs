//! Kubernetes quantities such as `500m`, `2`, `8Gi`.
//!
//! Owns: parsing, arithmetic value and text of a quantity. Does not own: which resources there are.

use crate::limits::QUANTITY_BYTES_MAX;
use std::fmt;

/// An amount, in thousandths of the base unit, together with the text it was written as.
///
/// Two quantities are equal if their texts are; compare [`Quantity::millis`] for amounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quantity {
    text: String,
    millis: i128,
}

/// A text that is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseQuantityError;

impl Quantity {
    /// Parses a quantity: a decimal number with an optional suffix (`n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei`) or exponent.
    /// Amounts below a thousandth are rounded up, as Kubernetes does for milli-units.
    pub fn parse(text: &str) -> Result<Quantity, ParseQuantityError> {
        if text.len() > QUANTITY_BYTES_MAX {
            return Err(ParseQuantityError);
        }
        parse_millis(text).map(|millis| Quantity { text: text.to_owned(), millis }).ok_or(ParseQuantityError)
    }

    /// The amount in thousandths of the base unit.
    pub fn millis(&self) -> i128 {
        self.millis
    }

    /// The amount in whole base units, rounded up (bytes, Pods).
    pub fn units(&self) -> i128 {
        self.millis.div_euclid(1000) + i128::from(self.millis.rem_euclid(1000) != 0)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Digits that a quantity may have; more could not be told apart from each other anyway and would overflow.
const DIGITS_MAX: usize = 18;

fn parse_millis(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty())
        || fraction.contains('.')
        || whole.len() + fraction.len() > DIGITS_MAX
    {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor_exponent) = multiplier_of(suffix)?;
    let mut numerator = mantissa.checked_mul(multiplier)?.checked_mul(1000)?;
    let divisor = 10_i128.checked_pow(divisor_exponent + fraction.len() as u32)?;
    numerator = numerator.div_euclid(divisor) + i128::from(numerator.rem_euclid(divisor) != 0);
    Some(if negative { -numerator } else { numerator })
}

/// The factor of a suffix, and the power of ten to divide by.
fn multiplier_of(suffix: &str) -> Option<(i128, u32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, 9),
        "u" => (1, 6),
        "m" => (1, 3),
        "k" => (1_000, 0),
        "M" => (1_000_000, 0),
        "G" => (1_000_000_000, 0),
        "T" => (1_000_000_000_000, 0),
        "P" => (1_000_000_000_000_000, 0),
        "E" => (1_000_000_000_000_000_000, 0),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok()?;
            if !(-18..=18).contains(&power) {
                return None;
            }
            if power >= 0 { (10_i128.checked_pow(power as u32)?, 0) } else { (1, power.unsigned_abs()) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, millis) in [
            ("0", 0),
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("8Gi", 8_589_934_592_000),
            ("128M", 128_000_000_000),
            ("1e3", 1_000_000),
            ("12E2", 1_200_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("100u", 1),
            ("-1", -1000),
            ("+2", 2000),
            (".5", 500),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.millis()), Ok(millis), "{text}");
        }
        assert_eq!(Quantity::parse("1500m").map(|quantity| quantity.units()), Ok(2));
    }

    #[test]
    fn texts_that_are_no_quantities() {
        for text in [
            "",
            ".",
            "-",
            "x",
            &format!("1e{}1", "0".repeat(100)),
            "1 Gi",
            "1GiB",
            "1.2.3",
            "1e99",
            "0x10",
            "99999999999999999999",
            "1 ",
            "Ki",
        ] {
            assert_eq!(Quantity::parse(text), Err(ParseQuantityError), "{text}");
        }
    }
}
