//! The `multiproc` command: supervises worker processes, and looks inside from another terminal.

mod arguments;
mod census;
mod check;
mod colour;
mod config;
mod failure;
mod inspect;
mod instance;
mod json;
mod manual;
mod narrator;
mod orders;
mod output;
mod progress;
mod reexecute;
mod roster;
mod run;
mod signals;
mod status;
mod stop;
mod supervise;
mod table;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Document, Request};
use failure::Failure;

fn main() -> ExitCode {
    multiproc::init();
    let arguments = Arguments::parse();
    let color = arguments.color;
    let done = match arguments.request {
        Request::Run(run) => run::run(run),
        Request::Check(check) => check::check(&check),
        Request::Status(status) => status::status(&status, color),
        Request::Start(order) => orders::start(order),
        Request::Stop(stop) if stop.targets.is_empty() => stop::stop(&stop),
        Request::Stop(stop) => orders::stop(stop),
        Request::Restart(order) => orders::restart(order),
        Request::Reload(reload) => orders::reload(reload),
        Request::Reset(order) => orders::reset(order),
        Request::Scale(scale) => orders::scale(scale),
        Request::Signal(signal) => orders::signal(signal),
        Request::Wait(wait) => orders::wait(wait),
        Request::Logs(logs) => watch::logs(logs, color),
        Request::Events(events) => watch::events(events),
        Request::Crashes(crashes) => watch::crashes(crashes),
        Request::Inspect(inspect) => inspect::inspect(&inspect),
        Request::Completions { shell } => manual::completions(shell),
        Request::Man { dir } => manual::man(dir.as_deref()),
        Request::Document { what: Document::Configuration } => output::print(&config::document()),
        Request::Document { what: Document::Json } => output::print(&json::document()),
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
