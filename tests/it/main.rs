//! Everything that enters by the front door or needs a real server, in one binary so that it links once.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::format_collect, reason = "a test may spend a string")]

mod support;
mod system;

mod access;
mod api_keys;
mod bad_days;
mod bad_input;
mod beside_chats;
mod bodies;
mod capturing;
mod cardinality;
mod chats;
mod cli;
#[cfg(test)]
mod config;
mod dashboards;
mod demo;
mod deploying;
mod directory;
mod docs;
mod following;
mod identity;
mod issuers;
mod limits;
mod lockouts;
mod log_files;
mod logins;
mod metrics;
mod observing;
mod proved;
mod recordings;
mod records;
mod refusals;
mod replicas;
mod sign_in;
mod stopping;
mod store_contract;
mod tls;
mod traces;
mod transport;
mod upstreams;
mod walls;
