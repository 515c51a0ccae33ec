//! What LibreChat says on the wire. No other room knows its JSON.
//!
//! [`routes`] tells which of its routes a request is for, [`chat`] reads what a chat start asks, [`start`] what
//! LibreChat answers to it, [`frames`] the stream of the answer, [`saved`] answers as they are kept, [`tools`] the tool calls in
//! both, [`login`] sign-ins, [`cookies`] what a browser holds of them, [`openai`] the OpenAI-compatible API, [`agent_keys`] the keys for that,
//! [`reach`] says what programs may use, [`client`] speaks to LibreChat on a person's behalf, [`upstreams`] are the LibreChats, and
//! [`address`] is where one is.

pub mod actions;
pub mod address;
pub mod agent_keys;
pub mod chat;
pub mod client;
pub mod cookies;
mod deltas;
pub mod frames;
pub mod login;
pub mod openai;
pub mod page_config;
pub mod reach;
pub mod routes;
pub mod saved;
pub mod start;
pub mod tools;
pub mod upstreams;
pub mod usage;
