//! What the words `web`, `web:3`, `*:0` and `all` mean.
//!
//! | word | means |
//! |---|---|
//! | `all` | everything |
//! | `NAME` | all slots of the worker of that name, or of the workers of the group |
//! | `NAME:INDEX` | one slot of a worker |
//! | with `*` or `?` before the colon | all workers and groups whose name fits |
//! | with `*` or `?` behind the colon | all slots whose index fits |

/// What there is to choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The workers, in the order in which they are listed.
    pub workers: Vec<WorkerName>,
    /// The groups that have a name of their own.
    pub groups: Vec<GroupName>,
}

/// A worker, by its name and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerName {
    /// Its number, which no other worker has.
    pub id: u32,
    /// Its name, which no other worker has.
    pub name: String,
    /// How many slots it has: their indices are those below.
    pub slots: u32,
}

/// A group, by its name and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    /// Its number, which no other group has.
    pub id: u32,
    /// Its name, which no other group has.
    pub name: String,
    /// The numbers of its workers.
    pub workers: Vec<u32>,
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Everything.
    All,
    /// A group, by its number.
    Group(u32),
    /// A worker, by its number.
    Worker(u32),
    /// A slot of a worker.
    Slot {
        /// The worker's number.
        worker: u32,
        /// The slot's index.
        index: u32,
    },
}

/// Why a word means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There was no word.
    #[error("no target was named; \"all\" means everything")]
    None,
    /// No name fits.
    #[error("nothing is named {word:?}; there are: {there}")]
    Unknown {
        /// The word.
        word: String,
        /// The names that there are.
        there: String,
    },
    /// The worker has no such slot.
    #[error("{word:?}: the worker {worker:?} has {slots} slots, which are numbered from 0")]
    NoSlot {
        /// The word.
        word: String,
        /// The worker.
        worker: String,
        /// How many slots it has.
        slots: u32,
    },
    /// No slot fits.
    #[error("no slot fits {word:?}; there are: {there}")]
    NoneFits {
        /// The word.
        word: String,
        /// The names that there are.
        there: String,
    },
}

impl Names {
    /// What the words mean, in their order, without what occurs twice.
    ///
    /// # Errors
    /// For the first word that means nothing.
    ///
    /// ```
    /// use multiproc_supervisor::control::target::{Chosen, Names, WorkerName};
    ///
    /// let web = WorkerName { id: 7, name: "web".into(), slots: 2 };
    /// let names = Names { workers: vec![web], groups: vec![] };
    /// let slot = Chosen::Slot { worker: 7, index: 1 };
    /// assert_eq!(names.choose(&["web:1"]), Ok(vec![slot]));
    /// assert_eq!(
    ///     names.choose(&["wbe"]).unwrap_err().to_string(),
    ///     "nothing is named \"wbe\"; there are: web (2)",
    /// );
    /// ```
    pub fn choose<S: AsRef<str>>(&self, words: &[S]) -> Result<Vec<Chosen>, TargetError> {
        if words.is_empty() {
            return Err(TargetError::None);
        }
        let mut chosen = Vec::new();
        for word in words {
            for one in self.meaning(word.as_ref())? {
                if !chosen.contains(&one) {
                    chosen.push(one);
                }
            }
        }
        Ok(chosen)
    }

    /// The slots of what was chosen, each once, in the order of the workers and of their indices.
    pub fn slots(&self, chosen: &[Chosen]) -> Vec<(u32, u32)> {
        let is_chosen = |worker: u32, slot: u32| {
            chosen.iter().any(|one| match *one {
                Chosen::All => true,
                Chosen::Group(id) => self
                    .groups
                    .iter()
                    .any(|group| group.id == id && group.workers.contains(&worker)),
                Chosen::Worker(id) => id == worker,
                Chosen::Slot { worker: id, index } => (id, index) == (worker, slot),
            })
        };
        let all = self.workers.iter().flat_map(|one| (0..one.slots).map(|index| (one.id, index)));
        all.filter(|(worker, slot)| is_chosen(*worker, *slot)).collect()
    }

    fn meaning(&self, word: &str) -> Result<Vec<Chosen>, TargetError> {
        match word.split_once(':') {
            None if word == "all" => Ok(vec![Chosen::All]),
            None => self.whole(word),
            Some((name, index)) => self.single(word, name, index),
        }
    }

    fn whole(&self, word: &str) -> Result<Vec<Chosen>, TargetError> {
        let workers = self.workers.iter().filter(|worker| fits(word, &worker.name));
        let workers: Vec<Chosen> = workers.map(|worker| Chosen::Worker(worker.id)).collect();
        // A group that is called like its only worker adds nothing.
        let is_worker = |name: &str| self.workers.iter().any(|worker| worker.name == name);
        let groups =
            self.groups.iter().filter(|group| fits(word, &group.name) && !is_worker(&group.name));
        let found: Vec<Chosen> =
            groups.map(|group| Chosen::Group(group.id)).chain(workers).collect();
        if found.is_empty() { Err(self.unknown(word)) } else { Ok(found) }
    }

    fn single(&self, word: &str, name: &str, index: &str) -> Result<Vec<Chosen>, TargetError> {
        let workers: Vec<&WorkerName> =
            self.workers.iter().filter(|worker| fits(name, &worker.name)).collect();
        let found: Vec<Chosen> = workers
            .iter()
            .flat_map(|worker| (0..worker.slots).map(|slot| (worker.id, slot)))
            .filter(|(_, slot)| fits(index, &slot.to_string()))
            .map(|(worker, index)| Chosen::Slot { worker, index })
            .collect();
        match &workers[..] {
            _ if !found.is_empty() => Ok(found),
            [] => Err(self.unknown(word)),
            [only] => {
                let worker = only.name.clone();
                Err(TargetError::NoSlot { word: word.into(), worker, slots: only.slots })
            }
            _ => Err(TargetError::NoneFits { word: word.into(), there: self.there() }),
        }
    }

    fn unknown(&self, word: &str) -> TargetError {
        TargetError::Unknown { word: word.into(), there: self.there() }
    }

    /// The names that there are, workers with how many slots they have.
    fn there(&self) -> String {
        let workers = self.workers.iter().map(|one| format!("{} ({})", one.name, one.slots));
        let is_worker = |name: &str| self.workers.iter().any(|worker| worker.name == name);
        let groups = self.groups.iter().filter(|group| !is_worker(&group.name));
        let groups = groups.map(|group| format!("{} (a group)", group.name));
        let names: Vec<String> = workers.chain(groups).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any letters and `?` for one.
///
/// ```
/// use multiproc_supervisor::control::target::fits;
///
/// assert!(fits("web*", "web-2") && fits("we?", "web") && !fits("web", "web-2"));
/// ```
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut place) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind it, one letter further.
    let mut star = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, place));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[place] => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((behind, begun)) = star else { return false };
                star = Some((behind, begun + 1));
                (at, place) = (behind, begun + 1);
            }
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: u32, name: &str, slots: u32) -> WorkerName {
        WorkerName { id, name: name.into(), slots }
    }

    /// `web` and `web-admin` in the group `front`, `db` in one of its own, `idle` without slots.
    fn names() -> Names {
        let group = |id, name: &str, workers: &[u32]| GroupName {
            id,
            name: name.into(),
            workers: workers.into(),
        };
        Names {
            workers: vec![
                worker(10, "web", 3),
                worker(11, "web-admin", 1),
                worker(12, "db", 2),
                worker(13, "idle", 0),
            ],
            groups: vec![group(1, "front", &[10, 11]), group(2, "db", &[12])],
        }
    }

    fn slot(worker: u32, index: u32) -> Chosen {
        Chosen::Slot { worker, index }
    }

    #[test]
    fn words_mean_workers_groups_and_slots() {
        let meanings: [(&str, &[Chosen]); 12] = [
            ("all", &[Chosen::All]),
            ("web", &[Chosen::Worker(10)]),
            ("front", &[Chosen::Group(1)]),
            ("db", &[Chosen::Worker(12)]),
            ("idle", &[Chosen::Worker(13)]),
            ("web:2", &[slot(10, 2)]),
            ("web*", &[Chosen::Worker(10), Chosen::Worker(11)]),
            ("*-admin", &[Chosen::Worker(11)]),
            ("?b", &[Chosen::Worker(12)]),
            ("*:0", &[slot(10, 0), slot(11, 0), slot(12, 0)]),
            ("db:*", &[slot(12, 0), slot(12, 1)]),
            ("f*", &[Chosen::Group(1)]),
        ];
        for (word, meaning) in meanings {
            assert_eq!(names().choose(&[word]).as_deref(), Ok(meaning), "{word}");
        }
    }

    #[test]
    fn words_that_mean_nothing_are_named_beside_what_there_is() {
        let there = "web (3), web-admin (1), db (2), idle (0), front (a group)";
        let messages = [
            ("wbe", format!("nothing is named \"wbe\"; there are: {there}")),
            ("x*", format!("nothing is named \"x*\"; there are: {there}")),
            ("", format!("nothing is named \"\"; there are: {there}")),
            ("front:0", format!("nothing is named \"front:0\"; there are: {there}")),
            (
                "web:3",
                "\"web:3\": the worker \"web\" has 3 slots, which are numbered from 0".into(),
            ),
            ("web:", "\"web:\": the worker \"web\" has 3 slots, which are numbered from 0".into()),
            (
                "web:00",
                "\"web:00\": the worker \"web\" has 3 slots, which are numbered from 0".into(),
            ),
            ("web*:7", format!("no slot fits \"web*:7\"; there are: {there}")),
        ];
        for (word, message) in messages {
            assert_eq!(names().choose(&["all", word]).unwrap_err().to_string(), message);
        }
        assert_eq!(names().choose::<&str>(&[]), Err(TargetError::None));
        let nothing = Names::default().choose(&["web"]).unwrap_err();
        assert_eq!(nothing.to_string(), "nothing is named \"web\"; there are: none");
    }

    #[test]
    fn words_that_overlap_choose_each_slot_once() {
        let names = names();
        let chosen = names.choose(&["web:1", "db", "web:1", "*:1", "db"]).unwrap();
        assert_eq!(chosen, [slot(10, 1), Chosen::Worker(12), slot(12, 1)]);
        assert_eq!(names.slots(&chosen), [(10, 1), (12, 0), (12, 1)]);
        let all = [(10, 0), (10, 1), (10, 2), (11, 0), (12, 0), (12, 1)];
        assert_eq!(names.slots(&[Chosen::All]), all);
        assert_eq!(names.slots(&[Chosen::Group(1)]), all[..4]);
    }

    #[test]
    fn fits_backtracks_to_the_last_star() {
        for (pattern, text) in
            [("*", ""), ("*", "a"), ("a*c", "abcbc"), ("*a*b", "xaab"), ("??", "ab"), ("a**", "a")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("a*c", "abcb"), ("*a", "ab"), ("A", "a")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn fits_with_many_stars_ends() {
        let (pattern, text) = ("*a".repeat(2000), "a".repeat(1999));
        assert!(!fits(&pattern, &text));
    }
}
