//! Plain numbers in header values.

/// Returns the value of digits, possibly with a fraction: no sign, no exponent, no `inf`. Too many digits are infinite.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_with_at_most_one_point() {
        let check = |text: &str, expected| assert_eq!(decimal(text), expected, "{text:?}");
        check("0", Some(0.0));
        check("007", Some(7.0));
        check("12.5", Some(12.5));
        check(&"9".repeat(400), Some(f64::INFINITY));
        for invalid in ["", ".", "-1", "+1", "1e3", "inf", "nan", "1.2.3", "1,5", " 1", "٣", "0x1"] {
            check(invalid, None);
        }
    }
}
