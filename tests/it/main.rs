//! Everything that enters by the front door or needs a real server, in one binary so that it links once.

mod support;

mod chats;
#[cfg(test)]
mod config;
mod limits;
mod metrics;
mod records;
mod replicas;
mod store_contract;
mod walls;
