//! Once cell: made once each, by whoever comes first and lives to finish.

use multiproc::{Array, Error, OnceCell, Process, Segment, SpawnError, Spawner};
use serde::{Deserialize, Serialize};

use super::{Entry, Findings, Job, Role};
use crate::desk::{Desk, Stage, breathe, hesitate};

pub(super) const ENTRY: Entry =
    Entry { name: "once", roles: &[Role { name: "maker", workers: 3, stage: Stage::First }], make };

const CELLS: usize = 128;

#[derive(Clone, Serialize, Deserialize)]
struct Cells {
    cells: Vec<OnceCell<[u64; 2]>>,
    /// What somebody has seen in each cell.
    seen: Array<u64>,
}

fn fill(desk: Desk, cells: Cells) {
    let mut random = desk.random();
    while desk.goes_on() {
        let which = random.below(CELLS as u64) as usize;
        let cell = &cells.cells[which];
        let mine = desk.place as u64 + 1 + 1000 * desk.life;
        let [value, again] = match random.below(3) {
            0 => match desk.op("get", || cell.get()) {
                Some(value) => value,
                None => continue,
            },
            _ => desk.op("get or make", || {
                cell.get_or_init(|| {
                    hesitate(&mut random);
                    [mine; 2]
                })
            }),
        };
        assert_eq!(value, again, "it is torn");
        let before = cells.seen.get(which);
        assert!(before == 0 || before == value, "{value} was {before} before");
        cells.seen.set(which, value);
        breathe(&mut random);
    }
}

struct Makers(Cells);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let cells = (0..CELLS).map(|_| OnceCell::new_in(segment)).collect::<Result<_, _>>()?;
    Ok(Box::new(Makers(Cells { cells, seen: Array::new_in(segment, CELLS)? })))
}

impl Job for Makers {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(fill, (desk, self.0.clone()))
    }

    fn verdict(&mut self, _: &[Desk], findings: &mut Findings) {
        for (which, cell) in self.0.cells.iter().enumerate() {
            let (seen, now) = (self.0.seen.get(which), cell.get());
            let same = seen == 0 || now == Some([seen; 2]);
            findings.expect(same, || format!("once: cell {which} is {now:?}, and was {seen}"));
        }
    }
}
