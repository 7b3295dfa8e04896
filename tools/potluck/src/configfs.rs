// SPDX-License-Identifier: GPL-2.0

//! Directories of configfs: made, set, switched on and off, removed.

use crate::netns;
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Makes a directory from within a namespace (None: ours), to which that binds
/// what it stands for, and writes those of its attributes that have a value. What
/// refuses one is not left behind.
pub fn make<'a>(
    dir: &Path,
    namespace: Option<&str>,
    attributes: impl IntoIterator<Item = (&'a str, Option<String>)>,
    deadline: Duration,
) -> Result<()> {
    let dir = dir.to_path_buf();
    let attributes: Vec<_> = attributes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_string(), value?)))
        .collect();
    netns::within(namespace, deadline, move || {
        fs::create_dir(&dir).with_context(|| match dir.exists() {
            true => format!("{} is there already", dir.display()),
            false => format!(
                "mkdir {} (is configfs mounted and the module loaded?)",
                dir.display()
            ),
        })?;
        for (name, value) in attributes {
            if let Err(error) = fs::write(dir.join(&name), &value) {
                // What else is wrong with it, the error says.
                let _ = fs::remove_dir(&dir);
                return Err(error).with_context(|| {
                    format!("{name} = {value} was refused; the kernel log may say why")
                });
            }
        }
        Ok(())
    })
}

/// As [`make`], and switches it on.
pub fn switch_on<'a>(
    dir: &Path,
    namespace: Option<&str>,
    attributes: impl IntoIterator<Item = (&'a str, Option<String>)>,
    deadline: Duration,
) -> Result<()> {
    let power = ("power", Some("1".to_string()));
    make(
        dir,
        namespace,
        attributes.into_iter().chain([power]),
        deadline,
    )
}

/// Switches off and removes what a directory stands for. rmdir of what is on is
/// refused.
pub fn switch_off(dir: &Path, deadline: Duration) -> Result<()> {
    power_off(dir, deadline)?;
    let path = dir.to_path_buf();
    netns::within(None, deadline, move || {
        fs::remove_dir(&path).context("rmdir was refused")
    })
    .with_context(|| dir.display().to_string())
}

/// Switches it off if it is on.
pub fn power_off(dir: &Path, deadline: Duration) -> Result<()> {
    let is_on = || attribute(dir, "power").is_some_and(|power| power != "0");
    if !is_on() {
        return Ok(());
    }
    match set(dir, "power", "0", deadline) {
        Err(error) if is_on() => Err(error),
        Err(error) => {
            eprintln!("potluck: it is off, but: {error:#}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether an error is of this errno.
pub fn is(error: &anyhow::Error, errno: Errno) -> bool {
    let found = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    found.and_then(io::Error::raw_os_error) == Some(errno as i32)
}

/// Writes an attribute.
pub fn set(dir: &Path, name: &'static str, value: &'static str, deadline: Duration) -> Result<()> {
    let path = dir.join(name);
    netns::within(None, deadline, move || Ok(fs::write(path, value)?))
        .with_context(|| format!("{}: {name} = {value} was refused", dir.display()))
}

/// The value of an attribute, without white space around it.
pub fn attribute(dir: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(dir.join(name)).ok()?.trim().to_string())
}

/// The directories below one, in the order of their names.
pub fn directories(top: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(top) else {
        return Vec::new();
    };
    let mut dirs: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    dirs.sort();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_setting_is_named() {
        let top = std::env::temp_dir().join(format!("potluck-configfs-{}", std::process::id()));
        fs::create_dir_all(top.join("gone")).unwrap();
        fs::remove_dir(top.join("gone")).unwrap();
        let settings = [("none", None), ("a/b", Some("7".to_string()))];
        let error = switch_on(&top.join("x"), None, settings, Duration::from_secs(10));
        let error = error.unwrap_err();
        assert!(is(&error, Errno::ENOENT) && !is(&error, Errno::EBUSY));
        let error = format!("{error:#}");
        assert!(error.contains("a/b = 7 was refused"), "{error}");
        assert!(directories(&top).is_empty(), "it was left behind");
        fs::remove_dir(&top).unwrap();
    }
}
