//! What only a fork has, and what it must not have.
