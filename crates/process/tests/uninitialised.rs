//! A program that does not call `init`.

use multiproc_process::{Command, Process, SpawnError, Spawner, StartMethod};

#[test]
fn functions_cannot_be_started_and_the_error_says_what_to_do() {
    let error = Process::spawn(|| (), ()).unwrap_err();
    assert!(matches!(error, SpawnError::NotInitialised));
    assert!(error.to_string().contains("call multiproc::init() first in main"), "{error}");
    for method in [StartMethod::ForkServer, StartMethod::Fork] {
        let error = Spawner::new().method(method).spawn(|| (), ()).unwrap_err();
        assert!(matches!(error, SpawnError::NotInitialised));
    }
    // Programs can.
    Command::new("true").spawn().unwrap().join().unwrap();
}
