//! `multiproc check`: what is wrong with a configuration.

use std::process::ExitCode;

use crate::arguments;
use crate::config;
use crate::failure::Failure;

pub(crate) fn check(arguments: &arguments::Check) -> Result<ExitCode, Failure> {
    let configuration = config::load(&arguments.config)?;
    let slots: u32 = configuration.workers.iter().map(|worker| worker.count).sum();
    let (workers, groups) = (configuration.workers.len(), configuration.groups.len());
    eprintln!("multiproc: nothing is wrong: {workers} workers, {groups} groups, {slots} slots");
    Ok(ExitCode::SUCCESS)
}
