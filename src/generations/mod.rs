//! What runs now. A generation outlives the request that started it: it has an owner, which follows it to its end and
//! settles it once, however many streams, tabs, reconnects and replicas saw it.
//!
//! [`start`] is what is known when it is admitted, [`observation`] what has been seen of it, [`reader`] how a stream is
//! seen, [`tools`] the tool calls in it and [`tool_rules`] which of them failed, [`charge`] what it costs by what was seen.
//! [`generation`] is one of them alive, [`registry`] all of them,
//! [`attend`] follows one to its end, [`search`] looks for one whose start was not answered, [`settle`] closes the books,
//! [`pauses`] divides one that waits for a person, [`claims`] tells whose a lost run is, [`telling`] passes on what was seen,
//! between replicas as [`told`], [`leases`] keeps and takes over ownership, [`recover`] takes up what the process before left,
//! [`recall`] remembers what they taught about the next, [`whereabouts`] tells at which LibreChat they run, [`trace`] which trace they are.

pub mod attend;
pub mod charge;
pub mod claims;
mod ending;
pub mod generation;
pub mod leases;
pub mod observation;
pub mod pauses;
pub mod reader;
pub mod recall;
pub mod recover;
pub mod redis_board;
pub mod registry;
pub mod search;
pub mod settle;
pub mod start;
pub mod telling;
pub mod told;
pub mod tool_rules;
pub mod tools;
pub mod trace;
pub mod whereabouts;

pub use generation::{Generation, Phase, Watch};
pub use observation::{End, Observation};
pub use registry::Generations;
pub use start::Start;
pub use tool_rules::ToolRules;
pub use tools::{ToolCall, tool_calls};
