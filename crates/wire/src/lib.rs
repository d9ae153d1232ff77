//! What crosses the edge: decimals, addresses, API types.
