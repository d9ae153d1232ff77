//! Checks of the tree itself: layout, purity, sizes.
fn main() {}
