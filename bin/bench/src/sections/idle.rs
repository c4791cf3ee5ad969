//! What a crowd of children takes that do nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use multiproc_ipc::{Barrier, Segment};
use multiproc_process::{Process, Spawner, StartMethod};

use super::{Better, Section, number_in, proportional};
use crate::stage::{Recording, Result, Stage, Trouble};

/// How many there are.
const CHILDREN: u64 = 1000;

pub(super) fn sections() -> Vec<Section> {
    let what =
        "a thousand children that wait (fewer with --quick): memory, and who wakes up by itself";
    let section = Section::new("idle-children", what, Better::Less)
        .scored(["KiB each", "wake-ups/s", "children"], |recording| {
            let [memory, wakes, children] = recording.figures[..] else { return [f64::NAN; 3] };
            [memory, wakes, children]
        })
        .with("multiproc Process, Spawn", |stage| idle(stage, StartMethod::Spawn))
        .with("multiproc Process, ForkServer", |stage| idle(stage, StartMethod::ForkServer));
    vec![Section { once: true, ..section }]
}

/// Waits until everybody is here, and then for nothing.
fn wait(here: Barrier) {
    let _ = here.wait();
    loop {
        thread::park();
    }
}

fn idle(stage: &Stage, method: StartMethod) -> Result<Recording> {
    let children = CHILDREN / stage.shrink;
    let participants = u32::try_from(children)? + 8;
    let segment = Segment::builder().participants(participants).named(&stage.name)?;
    let here = Barrier::new_in(&segment, participants - 7)?;
    let spawner = Spawner::new().segment(&segment).method(method);
    let crowd = (0..children)
        .map(|_| spawner.spawn(wait, (here.clone(),)))
        .collect::<Result<Vec<Process<()>>, _>>()?;
    here.wait().map_err(|error| Trouble::Failed(error.to_string()))?;
    // What is to be done once is done.
    thread::sleep(stage.window);
    let before = wakes(&crowd)?;
    thread::sleep(stage.window);
    let per_second = (wakes(&crowd)? - before) as f64 / stage.window.as_secs_f64();
    let proportional = crowd.iter().map(|child| proportional(child.pid())).sum::<Result<u64>>()?;
    crowd.iter().try_for_each(|child| child.child().kill().map(drop))?;
    for child in &crowd {
        let _ = child.join_timeout(Duration::from_secs(10));
    }
    let figures = vec![proportional as f64 / children as f64, per_second, children as f64];
    Ok(Recording { seconds: stage.window.as_secs_f64(), counts: vec![children], figures })
}

/// How often the threads of this process, but for this one, and those of its children have come to a
/// processor.
fn wakes(crowd: &[Process<()>]) -> Result<u64> {
    let own = fs::read_to_string("/proc/thread-self/status")?;
    let own = number_in(&own, "Pid:")?;
    let processes = crowd.iter().map(Process::pid).chain([std::process::id()]);
    let mut count = 0;
    for process in processes {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            if number_in(&status, "Pid:")? != own {
                count += number_in(&status, "voluntary_ctxt_switches:")?;
                count += number_in(&status, "nonvoluntary_ctxt_switches:")?;
            }
        }
    }
    Ok(count)
}
