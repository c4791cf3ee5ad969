//! A control group for each process, where the kernel lets us have them: it ends whole, whoever has left which
//! session.
//!
//! # Limits
//!
//! Only commands have one: they enter it before they are executed. Functions are started by others' rules.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::Place;

/// A directory of the second version of control groups that is ours to make groups in.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    base: PathBuf,
}

impl Cgroups {
    /// Makes a directory for this supervisor in one that was delegated to it.
    pub(super) fn in_directory(delegated: &Path, id: &str) -> io::Result<Cgroups> {
        let base = delegated.join(format!("multiproc-{id}"));
        match fs::create_dir(&base) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match base.join("cgroup.kill").exists() {
            true => Ok(Cgroups { base }),
            false => {
                let _ = fs::remove_dir(&base);
                Err(io::Error::new(io::ErrorKind::Unsupported, "no cgroup.kill there"))
            }
        }
    }

    fn group(&self, place: Place) -> PathBuf {
        let Place { slot, incarnation } = place;
        self.base.join(format!("{}.{}.{incarnation}", slot.worker, slot.index))
    }

    /// Makes a group for a process, which enters it through this.
    pub(super) fn make(&self, place: Place) -> io::Result<Arc<OwnedFd>> {
        let group = self.group(place);
        fs::create_dir(&group)?;
        let processes = File::options().write(true).open(group.join("cgroup.procs"))?;
        Ok(Arc::new(processes.into()))
    }

    /// Kills all that are in a process's group.
    pub(super) fn kill(&self, place: Place) {
        // One that was never made has nobody in it.
        let _ = fs::write(self.group(place).join("cgroup.kill"), "1");
    }

    /// Kills who is left of a process that has ended, and takes its group away: not at once, if somebody
    /// takes his time to die.
    pub(super) fn end(&self, place: Place) -> bool {
        self.kill(place);
        match fs::remove_dir(self.group(place)) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        }
    }

    /// Takes everything away.
    pub(super) fn remove(&self) {
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.base);
    }
}
