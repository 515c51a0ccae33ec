//! Tollgate stands where LibreChat stood: it knows whose request it is, decides before anything is forwarded whether
//! their limits allow it, follows the answer to its end, charges what was really used, and writes down who did what.

// Both panic where nobody reads any more; `cli::say` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
#[cfg(feature = "demo")]
pub mod demo;
pub mod error;
pub mod generations;
pub mod identity;
pub mod librechat;
pub mod limits;
pub mod masking;
pub mod prices;
pub mod proxy;
pub mod records;
#[cfg(feature = "demo")]
pub mod scripted;
pub mod serve;
pub mod shared;
pub mod sse;
pub mod telemetry;
#[cfg(feature = "tls")]
pub mod tls;
pub mod tokens;
