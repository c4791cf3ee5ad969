//! Pools, as Python's `Pool` and `ProcessPoolExecutor` are tested, and where their tests have holes.

mod guests;

use multiproc::Pool;

multiproc::init_before_main!();

#[test]
fn map_gives_values_in_order() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let expected: Vec<u64> = (0..100_000).map(|it: u64| it * it).collect();
    assert_eq!(pool.map(|number: u64| number * number, 0..100_000).unwrap(), expected);
}
