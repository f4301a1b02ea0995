//! The Luhn check (ISO/IEC 7812-1 annex B) and card brands by their leading digits.

/// True if the ASCII digits pass the Luhn check.
#[must_use]
pub fn is_valid(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit.wrapping_sub(b'0'));
            let doubled = if place % 2 == 1 { digit * 2 } else { digit };
            doubled / 10 + doubled % 10
        })
        .sum();
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && sum.is_multiple_of(10)
}

/// The brand of a card number, by its leading digits.
#[must_use]
pub fn brand(digits: &str) -> &'static str {
    let lead = |n: usize| digits.get(..n).and_then(|d| d.parse::<u32>().ok()).unwrap_or(0);
    let (two, three, four) = (lead(2), lead(3), lead(4));
    match () {
        () if two == 34 || two == 37 => "amex",
        () if (300..=305).contains(&three) || two == 36 || two == 38 || two == 39 => "diners",
        () if (3528..=3589).contains(&four) => "jcb",
        () if four == 6011 || (644..=649).contains(&three) || two == 65 => "discover",
        () if two == 62 => "unionpay",
        () if (51..=55).contains(&two) || (2221..=2720).contains(&four) => "mastercard",
        () if matches!(two, 50 | 56 | 57 | 58 | 63 | 67 | 69) => "maestro",
        () if lead(1) == 4 => "visa",
        () => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_numbers_are_told_apart() {
        for (number, name) in [
            ("4242424242424242", "visa"),
            ("5555555555554444", "mastercard"),
            ("2223003122003222", "mastercard"),
            ("378282246310005", "amex"),
            ("6011111111111117", "discover"),
            ("3056930009020004", "diners"),
            ("3566002020360505", "jcb"),
            ("6200000000000005", "unionpay"),
        ] {
            assert!(is_valid(number), "{number}");
            assert_eq!(brand(number), name);
        }
        assert!(!is_valid("4242424242424241"));
        assert!(!is_valid(""));
    }
}
