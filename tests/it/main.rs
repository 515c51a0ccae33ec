//! Everything that enters by the front door or needs a real server, in one binary so that it links once.

mod support;

mod chats;
#[cfg(test)]
mod config;
mod recordings;
mod records;
mod store_contract;
mod walls;
