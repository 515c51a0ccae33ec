//! Everything that enters by the front door or needs a real server, in one binary so that it links once.

mod store_contract;
mod support;
