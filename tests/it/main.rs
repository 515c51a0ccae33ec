//! Everything that enters by the front door or needs a real server, in one binary so that it links once.

mod support;

mod bad_input;
mod bodies;
mod chats;
#[cfg(test)]
mod config;
mod identity;
mod records;
mod refusals;
mod stopping;
mod store_contract;
mod transport;
mod walls;
