//! Whether deliberate errors are found: each by the script that it names.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use multiproc_ipc::testing::MUTANTS;

use crate::launch::on_each_processor;

/// Plays the script that must find each mutant, in a process of its own, and counts those found.
/// Without an error, the same scripts must find nothing.
pub(crate) fn all_are_caught() {
    let scripts: BTreeSet<&str> = MUTANTS.iter().map(|(_, script)| *script).collect();
    let broken = MUTANTS.iter().map(|(name, script)| (Some(*name), *script));
    let sound = scripts.into_iter().map(|script| (None, script));
    let pending: Mutex<Vec<_>> = Mutex::new(sound.chain(broken).collect());
    let (caught, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    on_each_processor(|| {
        loop {
            let Some((mutant, script)) = pending.lock().expect("no panic").pop() else { return };
            match (mutant, passes(mutant, script)) {
                (Some(name), false) => {
                    caught.fetch_add(1, Relaxed);
                    println!("caught: {name} by {script}");
                }
                (Some(name), true) => println!("missed: {name} by {script}"),
                (None, true) => {}
                (None, false) => {
                    failed.fetch_add(1, Relaxed);
                    println!("failed: {script}, without a mutant");
                }
            }
        }
    });
    println!("mutants caught {} of {}", caught.load(Relaxed), MUTANTS.len());
    assert_eq!(failed.load(Relaxed), 0, "see the lines that begin with `failed`");
    assert_eq!(caught.load(Relaxed), MUTANTS.len(), "see the lines that begin with `missed`");
}

/// Whether a script, with all of its states, passes in a program that is broken in this way.
fn passes(mutant: Option<&str>, script: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "whole", "--ignored", "--test-threads=1"])
        .env(crate::launch::ONLY, script)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match mutant {
        Some(name) => command.env("MULTIPROC_MUTANT", name),
        None => command.env_remove("MULTIPROC_MUTANT"),
    };
    command.status().expect("a process more").success()
}
