// SPDX-License-Identifier: GPL-2.0

//! Directories of configfs: made, set, switched on and off, removed.

use crate::netns;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Makes a directory from within a namespace (None: ours), to which that binds
/// what it stands for, writes those of its attributes that have a value, and
/// switches it on. What cannot be switched on is not left behind.
pub fn switch_on<'a>(
    dir: &Path,
    namespace: Option<&str>,
    attributes: impl IntoIterator<Item = (&'a str, Option<String>)>,
    deadline: Duration,
) -> Result<()> {
    let dir = dir.to_path_buf();
    let power = ("power", Some("1".to_string()));
    let attributes: Vec<_> = attributes
        .into_iter()
        .chain([power])
        .filter_map(|(name, value)| Some((name.to_string(), value?)))
        .collect();
    netns::within(namespace, deadline, move || {
        fs::create_dir(&dir).with_context(|| {
            format!(
                "mkdir {} (is configfs mounted and the module loaded?)",
                dir.display()
            )
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
    match attribute(dir, "power").as_deref() {
        None | Some("0") => Ok(()),
        Some(_) => set(dir, "power", "0", deadline).context("EBUSY: it is mounted, or open"),
    }
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
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("a/b = 7 was refused"), "{error}");
        assert!(directories(&top).is_empty(), "it was left behind");
        fs::remove_dir(&top).unwrap();
    }
}
