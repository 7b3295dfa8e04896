// SPDX-License-Identifier: GPL-2.0

//! What the kernel said since we began.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

/// Lines shown with an error.
const SHOWN: usize = 15;

pub struct KernelLog(Option<File>);

impl KernelLog {
    /// Remembers where the log stands now. Without permission it stays empty.
    pub fn from_now() -> Self {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .and_then(|mut file| {
                file.seek(SeekFrom::End(0))?;
                Ok(file)
            });
        KernelLog(file.ok())
    }

    /// The last lines since then.
    pub fn tail(&mut self) -> Vec<String> {
        let Some(file) = &mut self.0 else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(n) => lines.push(message(&String::from_utf8_lossy(&record[..n]))),
                // Records were overwritten before we read them: go on with the next.
                Err(e) if e.raw_os_error() == Some(nix::libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        let skip = lines.len().saturating_sub(SHOWN);
        lines.split_off(skip)
    }
}

/// "level,seq,usec,flags;text\n KEY=value" becomes "[sec.usec] text".
fn message(record: &str) -> String {
    let Some((head, text)) = record.split_once(';') else {
        return record.trim_end().to_string();
    };
    let text = text.lines().next().unwrap_or("");
    match head.split(',').nth(2).and_then(|t| t.parse::<u64>().ok()) {
        Some(usec) => format!("[{:5}.{:06}] {text}", usec / 1_000_000, usec % 1_000_000),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_a_line() {
        assert_eq!(
            message("6,339,5140900,-;hotpot: mounted\n SUBSYSTEM=x\n"),
            "[    5.140900] hotpot: mounted"
        );
        assert_eq!(message("odd"), "odd");
    }
}
