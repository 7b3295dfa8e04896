// SPDX-License-Identifier: GPL-2.0

//! mkfs.hotpot and fsck.hotpot from the outside.

mod image;

use image::Image;
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

fn mkfs(args: &[&str], device: &Path) -> Output {
    run(env!("CARGO_BIN_EXE_mkfs-hotpot"), args, device)
}

fn fsck(args: &[&str], device: &Path) -> Output {
    run(env!("CARGO_BIN_EXE_fsck-hotpot"), args, device)
}

fn run(program: &str, args: &[&str], device: &Path) -> Output {
    Command::new(program)
        .args(args)
        .arg(device)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

/// A directory with an empty file of `mib` MiB.
fn file(mib: u64) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pmem");
    File::create(&path).unwrap().set_len(mib << 20).unwrap();
    (directory, path)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_file_is_formatted_and_checked() {
    let (_directory, path) = file(64);
    let made = mkfs(&["--node-id", "3", "--label", "left"], &path);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stdout(&made).contains("data pages"));
    let checked = fsck(&["-n"], &path);
    assert_eq!(checked.status.code(), Some(0));
    assert!(stdout(&checked).contains(": clean"));
}

#[test]
fn options_arrive_on_the_device() {
    let (_directory, path) = file(64);
    let cluster = "0123abcd-4567-49ef-8123-456789abcdef";
    let made = mkfs(
        &[
            "--json",
            "--node-id",
            "3",
            "--cluster",
            cluster,
            "--label",
            "left",
            "--log-size",
            "8M",
            "--datasets",
            "100",
        ],
        &path,
    );
    let made = json(&made);
    assert_eq!(made["node"], 3);
    assert_eq!(made["cluster"], cluster);
    assert_eq!(made["log_blocks"], 2048);
    assert_eq!(made["datasets"], 100);
    let checked = json(&fsck(&["-n", "--json"], &path));
    let summary = &checked["report"]["summary"];
    assert_eq!(summary["label"], "left");
    assert_eq!(summary["cluster"], cluster);
    assert_eq!(summary["device"], made["device"]);
    assert_eq!(summary["pages"], made["pages"]);
    assert_eq!(checked["status"], 0);
}

#[test]
fn a_formatted_device_is_formatted_again_only_by_force() {
    let (_directory, path) = file(16);
    assert!(mkfs(&[], &path).status.success());
    let before = fs::read(&path).unwrap();
    let again = mkfs(&[], &path);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("holds hotpot data"));
    assert!(fs::read(&path).unwrap() == before);
    assert!(mkfs(&["--force"], &path).status.success());
}

#[test]
fn the_data_of_others_are_not_overwritten() {
    let signatures: [(&str, usize, &[u8]); 5] = [
        ("ext", 0x438, &[0x53, 0xef]),
        ("xfs", 0, b"XFSB"),
        ("btrfs", 0x10040, b"_BHRfS_M"),
        ("swap", 4086, b"SWAPSPACE2"),
        ("GPT", 512, b"EFI PART"),
    ];
    for (name, offset, bytes) in signatures {
        let (_directory, path) = file(16);
        let mut image = fs::read(&path).unwrap();
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, &image).unwrap();
        let refused = mkfs(&[], &path);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(name), "{}", stderr(&refused));
        assert!(fs::read(&path).unwrap() == image);
        assert!(mkfs(&["-f"], &path).status.success());
    }
}

#[test]
fn nothing_of_an_earlier_life_is_left() {
    let (_directory, path) = file(16);
    fs::write(&path, vec![0xa5; 16 << 20]).unwrap();
    assert!(mkfs(&["-f"], &path).status.success());
    let checked = fsck(&["-n"], &path);
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
}

#[test]
fn a_sparse_file_stays_sparse() {
    use std::os::unix::fs::MetadataExt;
    let (_directory, path) = file(1 << 14);
    assert!(mkfs(&[], &path).status.success());
    assert!(fs::metadata(&path).unwrap().blocks() < 1000);
}

#[test]
fn what_cannot_be_formatted_is_refused_with_its_reason() {
    let (directory, path) = file(4);
    assert!(stderr(&mkfs(&[], &path)).contains("too small: 4 MiB"));
    assert!(stderr(&mkfs(&[], directory.path())).contains("neither a block device nor a file"));
    assert!(stderr(&mkfs(&[], &directory.path().join("none"))).contains("cannot open"));
    let (_directory, path) = file(16);
    assert!(stderr(&mkfs(&["--log-size", "15M"], &path)).contains("less than half"));
    assert!(stderr(&mkfs(&["--label", &"x".repeat(65)], &path)).contains("label"));
    for wrong in [
        ["--node-id", "0"],
        ["--node-id", "65536"],
        ["--cluster", "me"],
        ["--log-size", "much"],
        ["--datasets", "-1"],
    ] {
        assert_eq!(mkfs(&wrong, &path).status.code(), Some(2), "{wrong:?}");
    }
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn fsck_says_by_its_status_what_it_did() {
    let (directory, path) = file(16);
    let not_formatted = fsck(&["-y"], &path);
    assert_eq!(not_formatted.status.code(), Some(8));
    assert!(stderr(&not_formatted).contains("not a hotpot device"));
    assert_eq!(fsck(&["--wrong"], &path).status.code(), Some(16));
    assert_eq!(fsck(&["-n", "-y"], &path).status.code(), Some(16));
    let none = fsck(&[], &directory.path().join("none"));
    assert_eq!(none.status.code(), Some(8));

    let mut image = Image::quiet();
    let superblock = image.newest_superblock().offset();
    image.bytes[superblock as usize + 99] ^= 1;
    let page = image.geometry().page(2);
    image.bytes[page as usize] ^= 1;
    fs::write(&path, &image.bytes).unwrap();
    for args in [&["-n"][..], &[], &["--json"]] {
        assert_eq!(fsck(args, &path).status.code(), Some(4));
        assert!(
            fs::read(&path).unwrap() == image.bytes,
            "written with {args:?}"
        );
    }
    let preened = fsck(&["-p"], &path);
    assert_eq!(preened.status.code(), Some(4));
    assert!(stdout(&preened).contains("repaired: superblock"));
    assert!(stdout(&preened).contains("1 errors repaired, 1 left"));
    assert_eq!(fsck(&["-y"], &path).status.code(), Some(1));
    assert_eq!(fsck(&["-a"], &path).status.code(), Some(0));
    assert_eq!(fsck(&["-n"], &path).status.code(), Some(0));
}

#[test]
fn a_device_that_was_not_unmounted_is_no_error() {
    let (_directory, path) = file(16);
    fs::write(&path, &Image::busy().bytes).unwrap();
    let checked = fsck(&["-p"], &path);
    assert_eq!(checked.status.code(), Some(0));
    assert!(stdout(&checked).contains("mount recovers"));
}

#[test]
fn findings_are_there_as_json() {
    let (_directory, path) = file(16);
    let mut image = Image::quiet();
    let page = image.geometry().page(2);
    image.bytes[page as usize] ^= 1;
    fs::write(&path, &image.bytes).unwrap();
    let checked = json(&fsck(&["-n", "--json"], &path));
    let finding = &checked["report"]["findings"][0];
    assert_eq!(checked["status"], 4);
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["part"], "page");
    assert_eq!(finding["index"], 2);
    assert_eq!(finding["repaired"], false);
}

#[test]
fn a_newer_format_is_left_alone() {
    let (_directory, path) = file(16);
    let mut bytes = Image::quiet().bytes;
    for copy in bytes[..8192].chunks_mut(4096) {
        copy[8] = 2;
        let crc = hotpot_utils::format::crc32c(&copy[..4092]);
        copy[4092..].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&path, &bytes).unwrap();
    let refused = fsck(&["-y"], &path);
    assert_eq!(refused.status.code(), Some(8));
    assert!(stderr(&refused).contains("newer"));
    assert!(fs::read(&path).unwrap() == bytes);
}
