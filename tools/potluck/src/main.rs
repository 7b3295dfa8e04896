// SPDX-License-Identifier: GPL-2.0

//! potluck: the control tool. One file a command; the kernel's ABI is in
//! `uapi`, what is known of this kernel's nodes in `node`.

mod cli;
mod command;
mod configfs;
mod dataset;
mod events;
mod kernel_log;
mod lab;
mod launch;
mod lite;
mod map;
mod mem;
mod netns;
mod node;
mod scrub;
mod size;
mod status;
mod uapi;

use clap::{CommandFactory, Parser};
use cli::Command;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match cli::Cli::parse().command {
        Command::Lab(cli::Lab::Up(args)) => lab::up::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Lab(cli::Lab::Down(args)) => lab::down::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => launch::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Map(command) => map::run(command).map(|()| ExitCode::SUCCESS),
        Command::Events(args) => events::run(&args),
        Command::Lite(cli::Lite::Top(args)) => lite::top(&args),
        Command::Barrier(args) => dataset::barrier(&args).map(|()| ExitCode::SUCCESS),
        Command::Dataset(command) => dataset::run(command).map(|()| ExitCode::SUCCESS),
        Command::Scrub(args) => scrub::run(&args),
        Command::Mem(command) => mem::run(&command),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut cli::Cli::command(),
                "potluck",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("potluck: error: {error:#}");
        ExitCode::FAILURE
    })
}
