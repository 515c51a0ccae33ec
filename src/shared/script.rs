//! Lua scripts, sent by their hash.

use redis::{Arg, Cmd};

/// A script and its hash.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    text: String,
    hash: String,
}

impl Script {
    /// A script of these pieces, one after the other.
    pub(crate) fn new(pieces: &[&str]) -> Self {
        let text = pieces.concat();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The call by hash. `fill` adds the ARGV.
    pub(super) fn by_hash(&self, keys: &[String], fill: impl FnOnce(&mut Cmd)) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        fill(&mut command);
        command
    }

    /// The same call by text.
    pub(super) fn by_text(&self, by_hash: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.text);
        for argument in by_hash.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                command.arg(bytes);
            }
        }
        command
    }
}
