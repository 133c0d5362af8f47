//! Part of the exact check.
