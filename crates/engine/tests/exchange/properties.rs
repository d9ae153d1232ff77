//! Random programs through both exchanges.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::program::{Line, Runner, World, line, world};

fn run(world: World, lines: &[Line]) -> Runner {
    let mut runner = Runner::new(world);
    for line in lines {
        runner.run(line);
    }
    runner.pair.close_batch();
    runner
}

proptest! {
    /// Whatever is asked, in whatever order: the engine's answer, its fills, its fees, its balances and its books are those of
    /// the naive exchange, its invariants hold, and who follows it comes to the same state.
    #[test]
    fn prop_the_engine_agrees_with_the_naive_exchange(
        world in world(), lines in vec(line(), 1..120)
    ) {
        run(world, &lines);
    }
}
