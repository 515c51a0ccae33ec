//! Servers of their own for tests.

pub mod redis;
