//! Everything that enters by the front door or needs a real server, in one binary so that it links once.

mod support;

mod chats;
mod cli;
#[cfg(test)]
mod config;
mod records;
mod store_contract;
mod walls;
