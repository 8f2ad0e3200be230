//! What counts as risky.
