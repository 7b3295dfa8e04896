// SPDX-License-Identifier: GPL-2.0

//! Sizes as people write them: `512K`, `64M`, `2G`; powers of two.

/// Reads a size in bytes, with one of the suffixes K, M, G, T or none.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size; write for example 65536, 64K, 16M or 2G");
    let number = text
        .strip_suffix("iB")
        .unwrap_or(text)
        .trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[number.len()..].trim_end_matches("iB") {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(wrong()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(wrong)
}

/// A size for people: exact, in the largest unit that makes it a whole number
/// of at least 1, or rounded down to one digit behind the point.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return if tenths % 10 == 0 {
                format!("{} {unit}", tenths / 10)
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64K"), Ok(65536));
        assert_eq!(parse("16MiB"), Ok(16 << 20));
        assert_eq!(parse("2g"), Ok(2 << 30));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "12X", "-1", "1.5G", "99999999999T", "4 K", "ß"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit() {
        assert_eq!(show(512), "512 B");
        assert_eq!(show(8 << 20), "8 MiB");
        assert_eq!(show((3 << 30) / 2), "1.5 GiB");
    }
}
