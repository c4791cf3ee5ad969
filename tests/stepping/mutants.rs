//! Whether deliberate errors are found: each by the script that it names.

use std::process::{Command, Stdio};

use multiproc_ipc::testing::MUTANTS;

/// Plays the script that must find each mutant, in a process of its own, and counts those found.
pub(crate) fn all_are_caught() {
    let found = MUTANTS.iter().filter(|(name, script)| {
        let caught = !passes(Some(name), script);
        let verdict = if caught { "caught" } else { "missed" };
        println!("{verdict}: {name} by {script}");
        caught
    });
    let found = found.count();
    // Without an error, the same scripts find nothing.
    let scripts: std::collections::BTreeSet<&str> =
        MUTANTS.iter().map(|(_, script)| *script).collect();
    let sound = scripts.iter().filter(|script| !passes(None, script)).collect::<Vec<_>>();
    println!("mutants caught {found} of {}", MUTANTS.len());
    assert!(sound.is_empty(), "these scripts fail without a mutant: {sound:?}");
    assert_eq!(found, MUTANTS.len(), "see the lines that begin with `missed`");
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
