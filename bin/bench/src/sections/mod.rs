//! What is measured: each section a question, and those who answer it.

mod array;
mod counter;
mod idle;
mod memory;
mod mutex;
mod pipe;
mod pool;
mod queue;
mod recovery;
mod round_trip;
mod rwlock;
mod score;
mod start;
mod supervise;

use std::fs;

use crate::stage::{Recording, Result, Stage, Trouble};

/// A question, and those who answer it. The figures of all are comparable.
pub(crate) struct Section {
    pub(crate) name: String,
    /// What is done, in half a sentence.
    pub(crate) what: String,
    /// What the figures are; the first one is compared.
    pub(crate) columns: Vec<&'static str>,
    pub(crate) better: Better,
    /// Makes a recording into figures, one for each column.
    pub(crate) score: Score,
    pub(crate) contestants: Vec<Contestant>,
    /// Whether it is played once and no more, as it takes so long and varies so little.
    pub(crate) once: bool,
}

/// Which figures one would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// What comes of a recording.
type Score = Box<dyn Fn(&Recording) -> Vec<f64>>;

/// How a contestant plays a round.
type Play = Box<dyn Fn(&Stage) -> Result<Recording>>;

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) play: Play,
}

/// What our contestants' names begin with. The first of a section is what others are compared with.
pub(crate) const OURS: &str = "multiproc";
/// What the names of those begin with that show the least that it can cost.
pub(crate) const FLOOR: &str = "floor";

impl Section {
    fn new(name: impl Into<String>, what: impl Into<String>, better: Better) -> Section {
        Section {
            name: name.into(),
            what: what.into(),
            columns: Vec::new(),
            better,
            score: Box::new(|recording| recording.figures.clone()),
            contestants: Vec::new(),
            once: false,
        }
    }

    /// Says what comes of a recording.
    fn scored<const COLUMNS: usize>(
        mut self,
        columns: [&'static str; COLUMNS],
        score: impl Fn(&Recording) -> [f64; COLUMNS] + 'static,
    ) -> Section {
        self.columns = columns.to_vec();
        self.score = Box::new(move |recording| score(recording).to_vec());
        self
    }

    /// Adds a contestant.
    fn with(
        mut self,
        name: &'static str,
        play: impl Fn(&Stage) -> Result<Recording> + 'static,
    ) -> Section {
        self.contestants.push(Contestant { name, play: Box::new(play) });
        self
    }

    /// Adds a contestant that cannot play, with what would be needed.
    fn without(self, name: &'static str, why: &'static str) -> Section {
        self.with(name, move |_| Err(Trouble::Missing(why.into())))
    }
}

/// Adds a contestant that is a crate of its own, where such are built in.
macro_rules! with_peer {
    ($section:expr, $name:literal, $play:expr) => {{
        #[cfg(feature = "peers")]
        let section = $section.with($name, $play);
        #[cfg(not(feature = "peers"))]
        let section = $section.without($name, "not built in: build with the feature `peers`");
        section
    }};
}
use with_peer;

/// All sections, in the order in which they are played.
pub(crate) fn all() -> Vec<Section> {
    let mut sections = Vec::new();
    sections.extend(mutex::sections());
    sections.extend(rwlock::sections());
    sections.extend(counter::sections());
    sections.extend(queue::small());
    sections.extend(queue::large());
    sections.extend(round_trip::sections());
    sections.extend(queue::handed_over());
    sections.extend(queue::huge());
    sections.extend(queue::encoded());
    sections.extend(pipe::sections());
    sections.extend(array::sections());
    sections.extend(pool::sections());
    sections.extend(start::sections());
    sections.extend(idle::sections());
    sections.extend(supervise::sections());
    sections.extend(recovery::sections());
    sections.extend(memory::sections());
    sections
}

/// Whether a contestant of a section is meant by `filter`: a part of the name of either.
pub(crate) fn is_meant(filter: Option<&str>, section: &str, contestant: &str) -> bool {
    let Some(filter) = filter.map(str::to_lowercase) else { return true };
    let matches = |name: &str| name.to_lowercase().contains(&filter);
    matches(section) || matches(contestant)
}

/// KiB of memory of a process: all that it has alone, and its part of what it shares.
fn proportional(pid: u32) -> Result<u64> {
    number_in(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")
}

fn number_in(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or(Trouble::Failed(format!("the kernel does not say what {name} is")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn filter_absent_means_everybody() {
        assert!(is_meant(None, "queue-8B-1to1", "pipe"));
    }

    #[test]
    fn filter_part_of_either_name_means_it() {
        assert!(is_meant(Some("8B"), "queue-8B-1to1", "pipe"));
        assert!(is_meant(Some("pip"), "queue-8B-1to1", "pipe"));
        assert!(!is_meant(Some("mutex"), "queue-8B-1to1", "pipe"));
    }

    #[test]
    fn filter_in_any_case_means_it() {
        assert!(is_meant(Some("python"), "serde-200B", "Python Queue"));
        assert!(is_meant(Some("SERDE"), "serde-200B", "Python Queue"));
    }

    #[test]
    fn sections_and_their_contestants_have_names_of_their_own() {
        let sections = all();
        let names: HashSet<&str> = sections.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names.len(), sections.len());
        for section in &sections {
            let names: HashSet<&str> = section.contestants.iter().map(|it| it.name).collect();
            assert_eq!(names.len(), section.contestants.len(), "{}", section.name);
            assert!(!section.columns.is_empty(), "{}", section.name);
        }
    }

    #[test]
    fn sections_all_have_us_among_them() {
        for section in all() {
            assert!(
                section.contestants.iter().any(|it| it.name.starts_with(OURS)),
                "{}",
                section.name
            );
        }
    }
}
