//! Ending a process and all that descends from it.
//!
//! Whoever kills one process after the other comes too late for what these start meanwhile. So nobody
//! is killed before all have been stopped:
//!
//! 1. A process is *stopped*, and waited for until it is. From then on it cannot fork, so that its
//!    children, which are listed only now, are all that it will ever have.
//! 2. Each of them becomes a member of the tree in the same way, until no new one turns up.
//! 3. Then all processes there are are looked at, for those that have lost their parent but are in the
//!    session or the process group that the root leads. Is one found, or was any process started
//!    meanwhile, which may have been behind our back, then again from 2.
//! 4. Then all are *killed*, which a stopped process doesn't survive either.
//! 5. And once more from the start, until there is nobody left to kill.
//!
//! # Invariants
//!
//! - I1 A number alone is never signalled. A member is known by number and identity; a signal goes to a
//!   pidfd that was opened for that number and turned out to have that identity.
//! - I2 A process becomes a member only if it was seen to belong, by its pidfd being open before it was
//!   looked at and not having ended after, and its parent being a member still, likewise.
//! - I3 Nobody is left stopped: what can go wrong is told when all who are known have been killed.
//!
//! # Limits
//!
//! What has lost its parent, and has left the session and the group of the root, is not found: the kernel
//! knows no more of where it comes from. Nor may be a child that is made by a process in an
//! uninterruptible sleep, which is waited for only for a moment: a parent in `vfork` is in such a sleep
//! for as long as its child likes. And where others start processes all the time, it is not waited for
//! ever until they don't.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use multiproc_sys::pidfd::PidFd;

const ESRCH: i32 = 3;
const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

/// How long a stop is waited for, at most: a process needs to come to a processor for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often all processes are looked at in vain while somebody starts others.
const LOOKS: u32 = 20;
/// How long it is waited for whoever sleeps uninterruptibly.
const ASLEEP: Duration = Duration::from_millis(50);
/// How long to sleep between two looks at one that is to stop: from, and to.
const NAPS: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(2));

/// Kills the process `pid`, which `pidfd` holds, all its descendants, and all in the session and the
/// process group that it leads; says how many were killed. Blocks for some milliseconds.
///
/// The caller sees to it that nobody reaps the process meanwhile, so that its number stays its own, and
/// reaps it afterwards. Descendants are reaped by their parents, or whoever inherits them.
///
/// # Errors
/// When one cannot be signalled, as it is another user's, or cannot be looked at. All others are killed
/// all the same.
pub(crate) fn kill_tree(pid: u32, pidfd: &PidFd) -> io::Result<usize> {
    let mut tree = Tree { root: pid, members: BTreeMap::new() };
    tree.add(pid, pidfd)?;
    let mut count = 0;
    loop {
        let gathered = tree.gather();
        let killed = tree.kill();
        gathered?;
        match killed? {
            0 => return Ok(count),
            killed => count += killed,
        }
    }
}

/// Who has been found to belong.
struct Tree {
    root: u32,
    members: BTreeMap<u32, Member>,
}

/// What is known of the bearer of a number.
#[derive(Clone, Copy)]
struct Member {
    identity: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was told to stop.
    Stopping,
    /// It has, or was waited for in vain.
    Stopped,
    /// It was told to end.
    Killed,
}

impl Tree {
    /// Makes a process a member, and tells it to stop.
    fn add(&mut self, pid: u32, pidfd: &PidFd) -> io::Result<()> {
        let identity = pidfd.identity()?;
        // Whoever cannot be stopped cannot be killed: `kill` tells.
        let stops = pidfd.signal(SIGSTOP).is_ok();
        let state = if stops { State::Stopping } else { State::Stopped };
        self.members.insert(pid, Member { identity, state });
        Ok(())
    }

    /// Stops all that there are.
    fn gather(&mut self) -> io::Result<()> {
        let mut in_vain = 0;
        loop {
            let before = last_started();
            let mut more = self.meet_children()?;
            if !more {
                // The newest first: who always forks and exits is among them.
                for process in numbers_in("/proc").into_iter().rev() {
                    more |= self.meet(process)?;
                }
            }
            if more {
                in_vain = 0;
                continue;
            }
            in_vain += 1;
            if before == last_started() || in_vain == LOOKS {
                return Ok(());
            }
        }
    }

    /// Makes the children of those who have just stopped members; says whether there were any.
    fn meet_children(&mut self) -> io::Result<bool> {
        let mut more = false;
        for parent in self.wait_until_stopped() {
            for child in children_of(parent) {
                more |= self.meet(child)?;
            }
        }
        Ok(more)
    }

    /// Waits for those who were told to stop; says who they are.
    fn wait_until_stopped(&mut self) -> Vec<u32> {
        let begun = Instant::now();
        let (mut nap, longest) = NAPS;
        let mut new = Vec::new();
        for (pid, member) in &mut self.members {
            if member.state != State::Stopping {
                continue;
            }
            while !is_at_rest(*pid, begun.elapsed()) && begun.elapsed() < PATIENCE {
                thread::sleep(nap);
                nap = (nap * 2).min(longest);
            }
            member.state = State::Stopped;
            new.push(*pid);
        }
        new
    }

    /// Makes a process a member if it belongs, lives, and is none yet; says whether it did.
    fn meet(&mut self, pid: u32) -> io::Result<bool> {
        let may_belong = |stat: Stat| stat.state != 'Z' && self.is_near(&stat);
        if pid == std::process::id() || !Stat::of(pid).is_some_and(may_belong) {
            return Ok(false);
        }
        let Some(pidfd) = open(pid)? else { return Ok(false) };
        if self.knows(pid, &pidfd)? {
            return Ok(false);
        }
        // I2, from here on it is looked at anew: by now, the number may be another's.
        let Some(stat) = Stat::of(pid) else { return Ok(false) };
        if !self.is_near(&stat) || !(self.is_led_by_root(&stat) || self.is_member(stat.parent)?) {
            return Ok(false);
        }
        let lives = !pidfd.has_ended()?;
        if lives {
            self.add(pid, &pidfd)?;
        }
        Ok(lives)
    }

    /// Whether a process may belong, by the numbers it names.
    fn is_near(&self, stat: &Stat) -> bool {
        self.is_led_by_root(stat) || self.members.contains_key(&stat.parent)
    }

    /// The root is not reaped meanwhile, so its number is nobody else's.
    fn is_led_by_root(&self, stat: &Stat) -> bool {
        stat.session == self.root || stat.group == self.root
    }

    /// Whether this is the member of that number.
    fn knows(&self, pid: u32, pidfd: &PidFd) -> io::Result<bool> {
        let Some(member) = self.members.get(&pid) else { return Ok(false) };
        Ok(pidfd.identity()? == member.identity)
    }

    /// Whether the bearer of a number is a member that lives.
    fn is_member(&self, pid: u32) -> io::Result<bool> {
        let Some(pidfd) = open(pid)? else { return Ok(false) };
        Ok(self.knows(pid, &pidfd)? && !pidfd.has_ended()?)
    }

    /// Kills all who have not been yet; says how many there were.
    fn kill(&mut self) -> io::Result<usize> {
        let (mut count, mut failed) = (0, None);
        for (pid, member) in &mut self.members {
            if member.state == State::Killed {
                continue;
            }
            member.state = State::Killed;
            let killed = || -> io::Result<bool> {
                let Some(pidfd) = open(*pid)? else { return Ok(false) };
                let lives = pidfd.identity()? == member.identity && !pidfd.has_ended()?;
                Ok(lives && pidfd.signal(SIGKILL)?)
            };
            match killed() {
                Ok(killed) => count += usize::from(killed),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(count), Err)
    }
}

/// Whether anybody who can still run is in the session or the group of this process.
pub(crate) fn is_led_by(leader: u32) -> bool {
    let is_led = |stat: Stat| {
        !matches!(stat.state, 'Z' | 'X') && (stat.session == leader || stat.group == leader)
    };
    numbers_in("/proc").into_iter().any(|pid| Stat::of(pid).is_some_and(is_led))
}

/// The process that has this number now, if any.
fn open(pid: u32) -> io::Result<Option<PidFd>> {
    match PidFd::open(pid) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number that was given away last: another one as soon as any process or thread is started.
fn last_started() -> Option<u32> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().last()?.parse().ok()
}

/// The children of all threads of a process.
fn children_of(pid: u32) -> Vec<u32> {
    let threads = numbers_in(&format!("/proc/{pid}/task")).into_iter();
    let lists = threads.filter_map(|thread| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).ok()
    });
    let numbers = |list: String| -> Vec<u32> {
        list.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    lists.flat_map(numbers).collect()
}

/// The entries of a directory that are numbers: processes or threads. None if it is gone.
fn numbers_in(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether no thread of a process can go on, after having waited for so long.
fn is_at_rest(pid: u32, waited: Duration) -> bool {
    numbers_in(&format!("/proc/{pid}/task")).into_iter().all(|thread| {
        match Stat::read(&format!("/proc/{pid}/task/{thread}/stat")).map(|stat| stat.state) {
            // Stopped, also by a debugger; or dead.
            None | Some('T' | 't' | 'Z' | 'X' | 'x') => true,
            Some('D') => waited > ASLEEP,
            _ => false,
        }
    })
}

/// What the kernel says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    group: u32,
    session: u32,
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        Stat::read(&format!("/proc/{pid}/stat"))
    }

    fn read(path: &str) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(path).ok()?)
    }

    /// `number (name) state parent group session …`, where the name may contain anything.
    fn parse(text: &str) -> Option<Stat> {
        let mut words = text.rsplit_once(')')?.1.split_whitespace();
        let state = words.next()?.chars().next()?;
        let mut number = || words.next()?.parse().ok();
        Some(Stat { state, parent: number()?, group: number()?, session: number()? })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use multiproc_sys::process::become_subreaper;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);
    const MARKER: &str = "MULTIPROC_TREE_OF";

    static TURN: Mutex<()> = Mutex::new(());

    /// A tree of processes, all of whom have a marker in their environment.
    struct Grown {
        root: Child,
        marker: String,
        _turn: MutexGuard<'static, ()>,
    }

    impl Grown {
        /// Lets a shell grow a tree.
        fn by(script: &str, own_session: bool) -> Grown {
            let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            become_subreaper(true).unwrap();
            let value = format!("{} {:?}", std::process::id(), Instant::now());
            let shell = ["bash", "-c", script];
            // As it leads no group, `setsid` becomes the shell.
            let words =
                if own_session { &["setsid", shell[0], shell[1], shell[2]][..] } else { &shell };
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).env(MARKER, &value).stdin(Stdio::null());
            if !own_session {
                command.process_group(0);
            }
            let root = command.stderr(Stdio::null()).spawn().unwrap();
            Grown { root, marker: format!("{MARKER}={value}"), _turn: turn }
        }

        /// Those who can still run.
        fn running(&self) -> Vec<u32> {
            let is_marked = |pid: &u32| {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|one| one == self.marker.as_bytes())
            };
            let runs = |pid: &u32| Stat::of(*pid).is_some_and(|it| !matches!(it.state, 'Z' | 'X'));
            numbers_in("/proc").into_iter().filter(is_marked).filter(runs).collect()
        }

        fn wait_for(&self, count: usize) {
            eventually("it grows", || self.running().len() >= count);
        }

        /// Kills the tree, and makes sure that nobody is left.
        fn kill(mut self) -> usize {
            let pid = self.root.id();
            let killed = kill_tree(pid, &PidFd::open(pid).unwrap()).unwrap();
            eventually("nobody is left", || self.running().is_empty());
            self.root.wait().unwrap();
            killed
        }
    }

    impl Drop for Grown {
        fn drop(&mut self) {
            for pid in self.running() {
                let _ = PidFd::open(pid).and_then(|left| left.signal(SIGKILL));
            }
            let _ = self.root.wait();
            // Orphans come to this process. No other test that runs meanwhile has children.
            eventually("all are reaped", || {
                let children = children_of(std::process::id());
                children.iter().filter_map(|pid| PidFd::open(*pid).ok()).for_each(|orphan| {
                    let _ = orphan.reap();
                });
                children.is_empty()
            });
        }
    }

    #[track_caller]
    fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < SOON, "in vain: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn shell_and_all_that_it_has_started_are_killed() {
        let tree = Grown::by("sleep 1000 & (sleep 1000 & sleep 1000; true) & wait", false);
        tree.wait_for(5);
        assert_eq!(tree.kill(), 5);
    }

    #[test]
    fn one_alone_is_killed_and_one_that_has_ended_is_nobody() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alone = Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = PidFd::open(alone.id()).unwrap();
        assert_eq!(kill_tree(alone.id(), &pidfd).unwrap(), 1);
        assert!(pidfd.wait(None).unwrap());
        assert_eq!(kill_tree(alone.id(), &pidfd).unwrap(), 0);
        alone.wait().unwrap();
    }

    #[test]
    fn descendants_in_sessions_of_their_own_are_killed() {
        let script = "setsid bash -c 'setsid sleep 1000 & sleep 1000; true' & wait";
        let tree = Grown::by(script, false);
        tree.wait_for(4);
        assert_eq!(tree.kill(), 4);
    }

    #[test]
    fn stopped_ones_are_killed() {
        let tree = Grown::by("sleep 1000 & kill -STOP $!; kill -STOP $$", false);
        let is_stopped = |pid: &u32| Stat::of(*pid).is_some_and(|stat| stat.state == 'T');
        eventually("both stop", || {
            tree.running().iter().filter(|pid| is_stopped(pid)).count() == 2
        });
        assert_eq!(tree.kill(), 2);
    }

    #[test]
    fn orphans_in_the_same_session_are_killed_in_whichever_group() {
        // With `set -m`, each job has a group of its own.
        let script = "set -m; bash -c 'sleep 1000 & sleep 1000 &' & wait; exec sleep 1000";
        let tree = Grown::by(script, true);
        let us = std::process::id();
        let is_orphan = |pid: &u32| {
            *pid != tree.root.id() && Stat::of(*pid).is_some_and(|stat| stat.parent == us)
        };
        eventually("two are orphans", || {
            tree.running().iter().filter(|pid| is_orphan(pid)).count() == 2
        });
        // Their parent may not quite have ended.
        assert!(tree.kill() >= 3);
    }

    #[test]
    fn orphans_whose_root_has_ended_are_killed() {
        let tree = Grown::by("sleep 1000 & sleep 1000 &", true);
        let root = PidFd::open(tree.root.id()).unwrap();
        assert!(root.wait(None).unwrap());
        eventually("both sleep", || tree.running().len() == 2);
        assert_eq!(tree.kill(), 2);
    }

    #[test]
    fn storm_of_forks_is_killed() {
        let script =
            "f() { for i in 1 2 3; do if [ $1 -gt 0 ]; then f $(($1 - 1)) & fi; done; wait; }
                      while :; do f 3; done";
        for round in 0..10 {
            let tree = Grown::by(script, false);
            tree.wait_for(10);
            thread::sleep(Duration::from_millis(3 * round));
            tree.kill();
        }
    }

    #[test]
    fn tree_that_still_grows_is_killed_although_nothing_but_parents_leads_to_its_leaves() {
        let script = r#"export S='if [ $1 -gt 0 ]; then
                            for i in 1 2; do setsid bash -c "$S" f $(($1 - 1)) & done; wait
                        else exec sleep 1000; fi'
                        bash -c "$S" f 4; true"#;
        for round in 0..10 {
            let tree = Grown::by(script, false);
            tree.wait_for(2);
            thread::sleep(Duration::from_millis(3 * round));
            tree.kill();
        }
    }

    #[test]
    fn one_that_always_forks_and_exits_is_killed() {
        for round in 0..10 {
            let tree = Grown::by("f() { f & }; f; f; sleep 1000; true", true);
            tree.wait_for(2);
            thread::sleep(Duration::from_millis(3 * round));
            tree.kill();
        }
    }

    #[test]
    fn stat_of_a_name_with_anything_in_it_is_read() {
        let stat = Stat::parse("17 (a) b) (c) S 1 2 3 0 -1\n");
        assert_eq!(stat, Some(Stat { state: 'S', parent: 1, group: 2, session: 3 }));
        for wrong in ["", "17 (a)", "17 (a) S 1 2", "17 (a) S x 2 3"] {
            assert_eq!(Stat::parse(wrong), None, "{wrong}");
        }
    }
}
