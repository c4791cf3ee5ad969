//! Instances: which supervisors of this user run, or ran, and where their shared memory is.
//!
//! Each has a file `NAME.lock` in a directory that only the user can enter. Who runs is told by the
//! kernel, which holds the file's locks: the owner's is the supervisor's, and gone with it; the
//! family's is held by every worker that inherited the file. The file lists the segments that the
//! instance made; the last one is its present one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multiproc::Segment;
use multiproc::view::View;
use multiproc_sys::clock::Deadline;
use multiproc_sys::{descriptor, host, lock};

use crate::failure::Failure;

/// How long a new instance waits for the workers of the last one of its name to be gone.
const SURVIVORS: Duration = Duration::from_secs(2);
/// How often it looks. Only at a start, and only behind an instance that was killed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Workers may be passed descriptors below this number, besides the instance's file.
const PASSED: i32 = 200;
/// Default names that are tried before giving up.
const DEFAULT_NAMES: usize = 1000;

/// An instance, as seen from another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) name: String,
    /// Its supervisor, if that runs.
    pub(crate) pid: Option<u32>,
    /// The name of its segment, if it has left one.
    pub(crate) segment: Option<String>,
}

impl Instance {
    /// Its shared memory, to look into.
    pub(crate) fn view(&self) -> Result<View, Failure> {
        let none = || Failure::NoSegment(self.name.clone());
        match View::of_name(self.segment.as_ref().ok_or_else(none)?) {
            // Recorded, but killed before it was made, or about to be.
            Err(multiproc::Error::Missing(_)) => Err(none()),
            view => Ok(view?),
        }
    }
}

/// The directory of this user's instances, made if need be.
fn directory() -> Result<PathBuf, Failure> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let path = match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(runtime) => runtime.join("multiproc"),
        None => std::env::temp_dir().join(format!("multiproc-{}", host::user())),
    };
    let doing = || format!("making the directory {}", path.display());
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::system(doing())(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&path).map_err(Failure::system(doing()))?;
    if !found.is_dir() || found.uid() != host::user() || found.mode() & 0o077 != 0 {
        return Err(Failure::Directory { path: path.display().to_string() });
    }
    Ok(path)
}

pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if (1..=64).contains(&name.len()) && name.chars().all(plain) {
        Ok(())
    } else {
        Err(Failure::Name(name.into()))
    }
}

fn open(path: &Path, create: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

fn recorded_segments(mut file: &File) -> std::io::Result<Vec<String>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(String::from).collect())
}

/// Where the supervisor of an instance listens to orders.
pub(crate) fn control_path(name: &str) -> Result<PathBuf, Failure> {
    Ok(directory()?.join(format!("{name}.sock")))
}

/// All instances that run, or that left something.
pub(crate) fn all() -> Result<Vec<Instance>, Failure> {
    let directory = directory()?;
    let doing = || format!("listing {}", directory.display());
    let mut instances = Vec::new();
    for entry in fs::read_dir(&directory).map_err(Failure::system(doing()))? {
        let path = entry.map_err(Failure::system(doing()))?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_none_or(|extension| extension != "lock") || check_name(name).is_err()
        {
            continue;
        }
        // One that ends at this moment takes its file with it.
        let Ok(file) = open(&path, false) else { continue };
        let pid = lock::owner(&file).map_err(Failure::system("asking who runs"))?;
        let segments = recorded_segments(&file).unwrap_or_default();
        instances.push(Instance { name: name.into(), pid, segment: segments.last().cloned() });
    }
    instances.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(instances)
}

/// The instance of this name, running or not; without a name, the only one that runs.
pub(crate) fn select(name: Option<&str>) -> Result<Instance, Failure> {
    let instances = all()?;
    let names = |found: &[&Instance]| {
        found.iter().map(|instance| instance.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let running: Vec<&Instance> = instances.iter().filter(|found| found.pid.is_some()).collect();
    if let Some(name) = name {
        check_name(name)?;
        let found = instances.iter().find(|instance| instance.name == name).cloned();
        let others = match &running[..] {
            [] => String::new(),
            running => format!("; running: {}", names(running)),
        };
        return found.ok_or(Failure::NoInstance { name: name.into(), others });
    }
    match &running[..] {
        [] if instances.is_empty() => Err(Failure::NoneRunning { dead: String::new() }),
        [] => {
            let dead = names(&instances.iter().collect::<Vec<_>>());
            let dead = format!("; killed, and still to be inspected with --name: {dead}");
            Err(Failure::NoneRunning { dead })
        }
        [only] => Ok((*only).clone()),
        several => Err(Failure::Several(names(several))),
    }
}

/// An instance that this process runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    path: PathBuf,
    file: Arc<OwnedFd>,
    /// The segments of killed instances of the same name, kept until the new one is ready.
    old: Vec<String>,
    segment: Option<String>,
}

impl Running {
    /// Takes the name, or the first default name that is free.
    pub(crate) fn begin(name: Option<&str>) -> Result<Running, Failure> {
        if let Some(name) = name {
            check_name(name)?;
            return Running::begin_as(name);
        }
        let mut busy = None;
        for number in 1..=DEFAULT_NAMES {
            let name = if number == 1 { "default".into() } else { format!("default-{number}") };
            match Running::begin_as(&name) {
                Err(Failure::Busy { name, pid }) => busy = Some(Failure::Busy { name, pid }),
                begun => return begun,
            }
        }
        Err(busy.expect("at least one name was tried"))
    }

    /// The instance that this process was before it executed the program that runs now: its file has this
    /// number, and is still locked.
    pub(crate) fn resume(
        name: &str,
        file: RawFd,
        segment: Option<&str>,
    ) -> Result<Running, Failure> {
        let path = directory()?.join(format!("{name}.lock"));
        descriptor::close_on_exec(file).map_err(Failure::system("taking over the instance"))?;
        // SAFETY: it is open, as was seen, and nobody has owned it since the exec.
        let file = Arc::new(unsafe { OwnedFd::from_raw_fd(file) });
        let (name, segment) = (name.into(), segment.map(Into::into));
        Ok(Running { name, path, file, old: Vec::new(), segment })
    }

    fn begin_as(name: &str) -> Result<Running, Failure> {
        let path = directory()?.join(format!("{name}.lock"));
        let doing = || format!("locking {}", path.display());
        let file = loop {
            let file = open(&path, true).map_err(Failure::system(doing()))?;
            // Before it is locked: its owner's lock would go with any descriptor of it.
            let file = descriptor::above(file, PASSED).map_err(Failure::system(doing()))?;
            if !lock::try_own(&file).map_err(Failure::system(doing()))? {
                // The owner may have gone since; then the name is free in the next round.
                match lock::owner(&file).map_err(Failure::system(doing()))? {
                    Some(pid) => return Err(Failure::Busy { name: name.into(), pid }),
                    None => continue,
                }
            }
            // Who ended meanwhile took the file away, and what we locked is nobody's.
            if lock::is_still_at(&file, &path) {
                break file;
            }
        };
        let old = recorded_segments(&file).map_err(Failure::system(doing()))?;
        let deadline = Deadline::after(SURVIVORS);
        while !lock::try_lock_family(&file).map_err(Failure::system(doing()))? {
            if deadline.passed() {
                return Err(Failure::Survivors { name: name.into(), pids: survivors(&file) });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let file = Arc::new(OwnedFd::from(file));
        Ok(Running { name: name.into(), path, file, old, segment: None })
    }

    /// Makes the instance's segment, with room for `participants` processes.
    pub(crate) fn make_segment(&mut self, participants: u32) -> Result<Segment, Failure> {
        let doing = || format!("writing {}", self.path.display());
        let number = host::random().map_err(Failure::system("drawing a random number"))?;
        let name = format!("multiproc.{}.{}.{number:016x}", host::user(), self.name);
        // Recorded first: if we are killed in between, the next one looks for it in vain, but never
        // overlooks it.
        descriptor::append(&*self.file, format!("{name}\n").as_bytes())
            .map_err(Failure::system(doing()))?;
        self.segment = Some(name.clone());
        Ok(Segment::builder().participants(participants).named(&name)?)
    }

    /// Says that the new segment is ready: those of killed instances go.
    pub(crate) fn ready(&mut self) {
        for name in self.old.drain(..) {
            // Most are gone, with the instance that made them.
            let _ = Segment::unlink(&name);
        }
    }

    /// The name of its segment, once that was made.
    pub(crate) fn segment(&self) -> Option<&str> {
        self.segment.as_deref()
    }

    /// The file that workers inherit, so that nobody takes the name while one of them lives.
    pub(crate) fn file(&self) -> Arc<OwnedFd> {
        self.file.clone()
    }
}

impl Drop for Running {
    /// A clean end leaves nothing behind, but what a killed instance before it has left.
    fn drop(&mut self) {
        if let Some(name) = &self.segment {
            let _ = Segment::unlink(name);
        }
        if self.old.is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The processes that hold the family's lock of an instance: that inherited its file, open.
fn survivors(file: &File) -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids: Vec<String> =
        pids.filter(|pid| holds_family(*pid, file)).map(|pid: u32| pid.to_string()).collect();
    if pids.is_empty() { String::new() } else { format!(" ({})", pids.join(", ")) }
}

/// Whether a process has the file open in the very way in which its family's lock was taken: who
/// has only opened it, as we have, does not show a lock of this kind.
fn holds_family(pid: u32, file: &File) -> bool {
    let Ok(ours) = file.metadata() else { return false };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|entry| {
        let same = fs::metadata(entry.path())
            .is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()));
        let information = format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy());
        same && fs::read_to_string(information).is_ok_and(|text| text.contains("FLOCK"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_name_refuses_what_could_leave_the_directory() {
        for name in ["", ".", "..", "a/b", "a.b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("web-2_b").is_ok());
    }
}
