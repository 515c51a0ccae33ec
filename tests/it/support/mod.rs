//! Servers that tests start for themselves.

pub mod browser;
pub mod commits;
pub mod gateway;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod recorded;
pub mod redis;
pub mod silence;
pub mod wire;
