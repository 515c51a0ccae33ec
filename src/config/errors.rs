//! What is wrong with a configuration: everything at once, sorted, each with its path, its place and what is allowed.

use std::cmp::Ordering;
use std::fmt;

use super::layers::{Origin, Table, origin_of};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key: `limits[2].member`; empty when the file as a whole could not be read.
    pub path: String,
    /// What is wrong and what is allowed, in a sentence without a full stop. Holds no secret.
    pub message: String,
    /// Where it was written: `tollgate.toml, line 3` or `set by TOLLGATE_PUBLIC__LISTEN`; `None` for what is nowhere.
    pub place: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration; never empty. `Display` gives one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    missing_secrets: Vec<&'static str>,
}

impl ConfigErrors {
    /// Every error, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// Which secrets are missing that have no default: LibreChat's, and that of the accounts that Tollgate makes.
    pub fn missing_secrets(&self) -> &[&'static str] {
        &self.missing_secrets
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors while the configuration is read and checked.
#[derive(Default)]
pub(super) struct Errors {
    found: Vec<ConfigError>,
    unreadable: Vec<String>,
    missing_secrets: Vec<&'static str>,
}

impl Errors {
    /// The value at `path` breaks a rule. Dropped when that value, or one around it, could not even be read: that was
    /// said already, and what is checked now is only its stand-in.
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if !self.unreadable.iter().any(|unreadable| lies_within(&path, unreadable)) {
            self.found.push(ConfigError { path, message: message.into(), place: None });
        }
    }

    /// The value at `path` could not be read.
    pub(super) fn unreadable(&mut self, path: &str, message: String) {
        self.add(path, message);
        self.unreadable.push(path.to_owned());
    }

    /// Something without a path, such as a file that is not TOML.
    pub(super) fn whole(&mut self, message: String, place: Option<String>) {
        self.found.push(ConfigError { path: String::new(), message, place });
    }

    /// The secret at `path` is missing.
    pub(super) fn lacks_secret(&mut self, path: &'static str, message: &str) {
        let before = self.found.len();
        self.add(path, message);
        if self.found.len() > before {
            self.missing_secrets.push(path);
        }
    }

    /// Whether something at or below `path` could not be read, so that what refers to it cannot be judged.
    pub(super) fn clouds(&self, path: &str) -> bool {
        self.unreadable.iter().any(|unreadable| lies_within(unreadable, path))
    }

    /// Every error, with its path.
    pub(super) fn messages(&self) -> impl Iterator<Item = String> {
        self.found.iter().map(ToString::to_string)
    }

    /// How many errors there are.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether anything was wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Sorts, and says of each where it was written.
    pub(super) fn finish(mut self, tree: &Table) -> ConfigErrors {
        for error in &mut self.found {
            if error.place.is_none() {
                error.place = origin_of(tree, &error.path).and_then(place);
            }
        }
        self.found.sort_by(|a, b| by_path(&a.path, &b.path).then_with(|| a.message.cmp(&b.message)));
        ConfigErrors { errors: self.found, missing_secrets: self.missing_secrets }
    }
}

fn place(origin: &Origin) -> Option<String> {
    match origin {
        Origin::BuiltIn => None,
        Origin::File { name, line } => Some(format!("{name}, line {line}")),
        Origin::Variable(name) => Some(format!("set by {name}")),
    }
}

fn lies_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Alphabetical, with the numbers of lists in their order: `limits[2]` before `limits[10]`.
fn by_path(a: &str, b: &str) -> Ordering {
    let parts = |path: &str| -> Vec<(usize, String)> {
        path.split(['.', '[', ']']).map(|part| part.parse().map_or((0, part.to_owned()), |number: usize| (number, String::new()))).collect()
    };
    parts(a).cmp(&parts(b))
}
