//! Arguments and results that fail, or kill, while they are encoded or decoded. Python's
//! `ExecutorDeadlockTest`.

use multiproc::pool::{Pool, TaskError};
use multiproc::{Array, Exit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use support::guard;

use crate::{SIGKILL, crew, doubled, goes_on, kill_oneself, twice};

/// When it goes off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Encoding,
    Decoding,
}

/// What it does then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum How {
    Kills,
    Exits,
    Fails,
    Panics,
    Nothing,
}

impl How {
    const ALL: [How; 4] = [How::Kills, How::Exits, How::Fails, How::Panics];

    /// An error is for the caller.
    fn go_off(self) -> Result<(), &'static str> {
        match self {
            How::Kills => kill_oneself(),
            How::Exits => std::process::exit(7),
            How::Panics => panic!("a trap"),
            How::Fails => return Err("a trap"),
            How::Nothing => {}
        }
        Ok(())
    }

    /// Whether this is what comes of what it does to a worker, and how many die of it.
    #[track_caller]
    fn check(self, error: &TaskError, deaths: u64) {
        let exit = match error {
            TaskError::Crashed(certificates) => Some(certificates[0].ended.unwrap().exit),
            _ => None,
        };
        match self {
            How::Kills => assert_eq!(exit, Some(Exit::Signal { signal: SIGKILL, core: false })),
            How::Exits => assert_eq!(exit, Some(Exit::Code(7))),
            _ => assert!(exit.is_none() && error.to_string().contains("a trap"), "{error}"),
        }
        assert_eq!(deaths, if exit.is_some() { 1 } else { 0 }, "{error}");
    }
}

/// A value that does something when it is encoded, or decoded.
#[derive(Debug)]
struct Trap(When, How);

const HARMLESS: Trap = Trap(When::Encoding, How::Nothing);

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == When::Encoding {
            self.1.go_off().map_err(ser::Error::custom)?;
        }
        self.1.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Trap, D::Error> {
        let how = How::deserialize(deserializer)?;
        how.go_off().map_err(de::Error::custom)?;
        Ok(Trap(When::Decoding, how))
    }
}

/// What `work` gives, in a pool of its own, for each way to go off.
fn each_way(ways: &[How], work: impl Fn(&Pool, How) -> TaskError) {
    for how in ways {
        let pool = Pool::builder(2).no_retry().build().unwrap();
        let error = work(&pool, *how);
        how.check(&error, pool.deaths());
        goes_on(&pool, 2);
    }
}

#[test]
fn arguments_that_go_off_as_they_are_encoded_are_an_error() {
    let _guard = guard();
    each_way(&[How::Fails], |pool, how| {
        pool.apply(|_: Trap| (), (Trap(When::Encoding, how),)).unwrap_err()
    });
}

#[test]
fn arguments_that_go_off_in_the_worker_cost_their_task_alone() {
    let _guard = guard();
    each_way(&How::ALL, |pool, how| {
        pool.apply(|_: Trap| (), (Trap(When::Decoding, how),)).unwrap_err()
    });
}

#[test]
fn long_arguments_that_go_off_in_the_worker_cost_their_task_alone() {
    let _guard = guard();
    each_way(&How::ALL, |pool, how| {
        let arguments = (vec![0; 100_000], Trap(When::Decoding, how));
        pool.apply(|_: Vec<u8>, _: Trap| (), arguments).unwrap_err()
    });
}

#[test]
fn function_that_goes_off_costs_its_task_alone() {
    let _guard = guard();
    each_way(&[How::Kills, How::Exits, How::Panics], |pool, how| {
        pool.apply(|how: How| assert!(how.go_off().is_ok()), (how,)).unwrap_err()
    });
}

#[test]
fn result_that_goes_off_in_the_worker_costs_its_task_alone() {
    let _guard = guard();
    each_way(&How::ALL, |pool, how| {
        pool.apply(|how: How| Trap(When::Encoding, how), (how,)).unwrap_err()
    });
}

#[test]
fn long_result_that_goes_off_in_the_worker_costs_its_task_alone() {
    let _guard = guard();
    each_way(&How::ALL, |pool, how| {
        let long = |how: How| (vec![0_u8; 100_000], Trap(When::Encoding, how));
        pool.apply(long, (how,)).unwrap_err()
    });
}

#[test]
fn result_that_goes_off_here_is_an_error_and_costs_no_worker() {
    let _guard = guard();
    each_way(&[How::Fails, How::Panics], |pool, how| {
        pool.apply(|how: How| Trap(When::Decoding, how), (how,)).unwrap_err()
    });
}

#[test]
fn result_that_goes_off_here_while_nobody_waits_is_an_error() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    for how in [How::Fails, How::Panics] {
        let task = pool.submit(|how: How| Trap(When::Decoding, how), (how,)).unwrap();
        let (told, errors) = std::sync::mpsc::channel();
        task.on_done(move |outcome| told.send(outcome.is_err()).unwrap());
        assert!(errors.recv_timeout(support::SOON).unwrap());
    }
    goes_on(&pool, 1);
}

/// A result of some length, with a trap in it.
fn make((place, how, runs): (usize, How, Array<u32>)) -> (Vec<u8>, Trap, usize) {
    runs.fetch_add(place, 1);
    let when = if place.is_multiple_of(2) { When::Encoding } else { When::Decoding };
    (vec![0; place * 3], Trap(when, how), place)
}

#[test]
fn results_beside_one_that_goes_off_are_kept() {
    let _guard = guard();
    let pool = Pool::builder(1).no_retry().build().unwrap();
    let whole = pool.with_chunk(20);
    let before = crew(&pool);
    for how in [How::Fails, How::Panics] {
        for guilty in [6, 7, 19] {
            let runs = Array::<u32>::new(20).unwrap();
            let items = (0..20).map(|place| {
                (place, if place == guilty { how } else { How::Nothing }, runs.clone())
            });
            let items: Vec<_> = items.collect();
            let outcomes: Vec<_> = whole.imap(make, items).unwrap().collect();
            for (place, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    Ok((_, _, given)) => assert!(given == place && place != guilty),
                    Err(error) => {
                        assert_eq!(place, guilty, "{error}");
                        assert!(error.to_string().contains("a trap"), "{error}");
                    }
                }
            }
            assert_eq!(runs.to_vec(), [1; 20], "each was run once");
        }
    }
    assert_eq!(crew(&pool), before, "no worker was lost");
}

#[test]
fn arguments_beside_some_that_go_off_are_kept() {
    let _guard = guard();
    let pool = Pool::builder(1).no_retry().build().unwrap();
    for how in How::ALL {
        let items = (0..20_u64).map(move |place| {
            (place, if place == 9 { Trap(When::Decoding, how) } else { HARMLESS })
        });
        let take = |(place, _): (u64, Trap)| place;
        let outcomes: Vec<_> = pool.with_chunk(20).imap(take, items).unwrap().collect();
        for (place, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(given) => assert!(given == place as u64 && place != 9),
                Err(error) => assert_eq!(place, 9, "{error}"),
            }
        }
    }
    assert_eq!(pool.deaths(), 2);
}

#[test]
fn result_that_panics_as_it_is_dropped_changes_nothing() {
    #[derive(Serialize, Deserialize)]
    struct Bomb(u64);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0 != 5 || multiproc::parent_process().is_none(), "a bomb");
        }
    }
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let before = crew(&pool);
    let bombs = pool.with_chunk(10).map(Bomb, 0..10).unwrap();
    let numbers: Vec<u64> = bombs.iter().map(|bomb| 2 * bomb.0).collect();
    assert_eq!(numbers, doubled(10));
    assert_eq!(crew(&pool), before);
    assert_eq!(pool.apply(twice, (1,)).unwrap(), 2);
}

#[test]
fn many_results_that_cannot_be_encoded_lose_no_worker() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let before = crew(&pool);
    for _ in 0..20 {
        let error = pool.apply(|| Trap(When::Encoding, How::Fails), ()).unwrap_err();
        assert!(matches!(&error, TaskError::Result(why) if why.contains("a trap")), "{error}");
    }
    assert_eq!(crew(&pool), before);
    assert_eq!(pool.deaths(), 0);
}
