// SPDX-License-Identifier: GPL-2.0

//! fsck.hotpot: checks and repairs a hotpot device that is not mounted.

#![forbid(unsafe_code)]

use clap::{error::ErrorKind, Parser};
use hotpot_utils::{
    check::{self, Failure, Finding, Report, Severity},
    device::{Access, DeviceFile},
    size,
};
use serde_json::json;
use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Check and repair a hotpot device
#[derive(Parser)]
#[command(
    name = "fsck.hotpot",
    bin_name = "fsck.hotpot",
    version,
    after_help = "Without -n, -p and -y each repair is asked for on a terminal; without a terminal none is made.\n\
                  Exit status: 0 no errors, 1 errors repaired, 4 errors left, 8 operational error, 16 usage."
)]
struct Args {
    /// Change nothing
    #[arg(short, conflicts_with_all = ["preen", "yes"])]
    n: bool,
    /// Make the repairs that lose nothing, without asking (also -a)
    #[arg(short, short_alias = 'a', conflicts_with = "yes")]
    preen: bool,
    /// Make all repairs, also those that drop what cannot be read
    #[arg(short)]
    yes: bool,
    /// Print the result as JSON; asks nothing
    #[arg(long)]
    json: bool,
    /// Block device (/dev/pmemX) or image file
    device: PathBuf,
}

const OPERATIONAL: u8 = 8;
const USAGE: u8 = 16;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Where the message cannot be written, the status says it.
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    let status = match run(&args) {
        Ok(report) => {
            let status = report.exit_status();
            if args.json {
                println!("{:#}", as_json(&args.device, &report, status));
            } else {
                print(&args.device, &report);
            }
            status
        }
        Err(message) => {
            if args.json {
                let path = args.device.display().to_string();
                println!(
                    "{:#}",
                    json!({"path": path, "status": OPERATIONAL, "error": message})
                );
            }
            eprintln!("fsck.hotpot: {}: {message}", args.device.display());
            OPERATIONAL
        }
    };
    ExitCode::from(status)
}

fn run(args: &Args) -> Result<Report, String> {
    let ask = !args.n && !args.preen && !args.yes && !args.json && io::stdin().is_terminal();
    let access = if args.preen || args.yes || ask {
        Access::Exclusive
    } else {
        Access::Read
    };
    let mut device = DeviceFile::open(&args.device, access)?;
    let mut ask_user = |finding: &Finding| ask_user(finding);
    let policy: &mut check::Policy<'_> = match (args.preen, args.yes, ask) {
        (true, _, _) => &mut check::safe,
        (_, true, _) => &mut check::everything,
        (_, _, true) => &mut ask_user,
        _ => &mut check::nothing,
    };
    check::check(&mut device, policy).map_err(|failure| match failure {
        Failure::Io(error) => format!("cannot read or write: {error}"),
        Failure::Format(error) => error.to_string(),
    })
}

fn ask_user(finding: &Finding) -> bool {
    let Some(repair) = finding.repair else {
        return false;
    };
    print!("{finding}\n  {repair}? [y/N] ");
    let mut answer = String::new();
    // No answer is a no.
    let _ = io::stdout().flush();
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}

fn print(device: &Path, report: &Report) {
    for finding in &report.findings {
        match (finding.severity, finding.repaired, finding.repair) {
            (Severity::Note, _, _) => println!("note: {finding}"),
            (_, true, Some(repair)) => println!("repaired: {finding}; did: {repair}"),
            (_, _, Some(repair)) if finding.safe => {
                println!("ERROR: {finding}; -p would: {repair}")
            }
            (_, _, Some(repair)) => println!("ERROR: {finding}; -y would: {repair}"),
            (_, _, None) => println!("ERROR: {finding}"),
        }
    }
    if report.more > 0 {
        println!("... and {} more", report.more);
    }
    let summary = &report.summary;
    if summary.size > 0 {
        println!(
            "{}: {}, node {}, {} mounts, {}",
            device.display(),
            size::show(summary.size),
            summary.node,
            summary.mounts,
            if summary.clean_unmount {
                "unmounted"
            } else {
                "not unmounted"
            }
        );
        println!(
            "{} datasets, {} of {} pages committed, {} staged; redo log: {} prepared, {} committed; \
             {} commit records open",
            summary.datasets,
            summary.committed,
            summary.pages,
            summary.staged,
            summary.log_prepared,
            summary.log_committed,
            summary.commits_open
        );
    }
    match (report.repaired, report.unrepaired) {
        (0, 0) => println!("{}: clean", device.display()),
        (repaired, 0) => println!("{}: {repaired} errors repaired", device.display()),
        (0, left) => println!("{}: {left} errors", device.display()),
        (repaired, left) => println!(
            "{}: {repaired} errors repaired, {left} left",
            device.display()
        ),
    }
}

fn as_json(device: &Path, report: &Report, status: u8) -> serde_json::Value {
    json!({
        "path": device.display().to_string(),
        "status": status,
        "report": report,
    })
}
