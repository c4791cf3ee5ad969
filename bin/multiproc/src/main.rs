//! The `multiproc` command: supervises worker processes, and looks inside from another terminal.

mod arguments;
mod census;
mod check;
mod config;
mod failure;
mod inspect;
mod instance;
mod output;
mod progress;
mod roster;
mod run;
mod signals;
mod status;
mod stop;
mod table;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Request};
use failure::Failure;

fn main() -> ExitCode {
    multiproc::init();
    let arguments = Arguments::parse();
    let done = match arguments.request {
        Request::Run(run) => run::run(run),
        Request::Status(status) => status::status(&status),
        Request::Inspect(inspect) => inspect::inspect(&inspect),
        Request::Stop(stop) => stop::stop(&stop),
        Request::Check(check) => check::check(&check),
        Request::Document => output::print(&config::document()),
    };
    match done {
        Ok(code) => code,
        // Who reads our output has gone: there is nobody to tell.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("multiproc: {failure}");
            failure.exit_code()
        }
    }
}
