// SPDX-License-Identifier: GPL-2.0

//! Sizes as people write them.

/// Bytes; a suffix K, M, G or T (with or without "iB") means powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a size such as 64M"))?;
    let shift = match suffix {
        "" | "B" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "m" | "MiB" => 20,
        "G" | "g" | "GiB" => 30,
        "T" | "t" | "TiB" => 40,
        _ => return Err(format!("'{suffix}' is no unit: use K, M, G or T")),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("'{text}' is more than 64 bits hold"))
}

/// The shortest exact form.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes % (1 << shift) == 0 {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// A short form that is not exact: for columns of figures that grow.
pub fn about(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift != 0 {
            return format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64K"), Ok(65536));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert!(parse("").is_err());
        assert!(parse("M").is_err());
        assert!(parse("1.5G").is_err());
        assert!(parse("1X").is_err());
        assert!(parse("99999999T").is_err());
    }

    #[test]
    fn sizes_are_shown_exactly() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(4097), "4097 B");
        assert_eq!(show(4 << 20), "4 MiB");
        assert_eq!(show(1536 << 20), "1536 MiB");
    }

    #[test]
    fn figures_that_grow_stay_short() {
        assert_eq!(about(1023), "1023 B");
        assert_eq!(about(1536), "1.5 KiB");
        assert_eq!(about((3 << 30) + 1), "3.0 GiB");
        assert_eq!(about(u64::MAX), "16777216.0 TiB");
    }
}
