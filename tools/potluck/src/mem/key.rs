// SPDX-License-Identifier: GPL-2.0

//! Keys of address spaces: 128 bits, written as 32 hex digits.

use anyhow::{bail, Context, Result};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

pub type Key = [u64; 2];

/// A key that nobody guesses.
pub fn new() -> Result<Key> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    let whole = u128::from_le_bytes(bytes);
    Ok([(whole >> 64) as u64, whole as u64])
}

pub fn text(key: Key) -> String {
    format!("{:016x}{:016x}", key[0], key[1])
}

fn parse(text: &str) -> Result<Key> {
    let digits = text.trim();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("a key is 32 hex digits");
    }
    let whole = u128::from_str_radix(digits, 16)?;
    Ok([(whole >> 64) as u64, whole as u64])
}

/// The key in a file; without the file, a new one, which is written there for
/// its owner only.
pub fn of_file(path: &Path) -> Result<Key> {
    let shown = || format!("key file {}", path.display());
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).with_context(shown),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = new()?;
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| writeln!(file, "{}", text(key)))
                .with_context(shown)?;
            Ok(key)
        }
        Err(e) => Err(e).with_context(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_only() {
        let path = std::env::temp_dir().join(format!("potluck-key-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let key = of_file(&path).unwrap();
        assert_eq!(of_file(&path).unwrap(), key);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn keys_are_32_hex_digits() {
        let key = [0x0123_4567_89ab_cdef, 0xfedc];
        assert_eq!(parse(&text(key)).unwrap(), key);
        assert!(parse("0123").is_err());
        assert!(parse(&"g".repeat(32)).is_err());
        assert!(parse(&format!("+{}", "0".repeat(31))).is_err());
    }
}
