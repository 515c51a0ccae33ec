//! Label values from bounded sets: whatever clients send, the number of series stays under a bound that is known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use parking_lot::RwLock;

/// What stands for every value that has no label of its own.
pub const OTHER: &str = "other";

/// The first so many names keep their own label, later ones share [`OTHER`]. A name never changes its label.
#[derive(Debug)]
pub struct FirstCome {
    most: usize,
    longest: usize,
    known: RwLock<HashSet<Box<str>>>,
}

impl FirstCome {
    /// At most `most` labels of their own, each of at most 100 bytes.
    pub fn new(most: usize) -> Self {
        Self { most, longest: 100, known: RwLock::default() }
    }

    /// The label of this name. Empty and very long names have none of their own.
    pub fn label<'a>(&self, name: &'a str) -> &'a str {
        if name.is_empty() || name.len() > self.longest {
            return OTHER;
        }
        {
            let known = self.known.read();
            if known.contains(name) {
                return name;
            }
            if known.len() >= self.most {
                return OTHER;
            }
        }
        let mut known = self.known.write();
        if known.contains(name) || known.len() < self.most {
            known.insert(name.into());
            name
        } else {
            OTHER
        }
    }
}

/// The first so many pairs of an org and a model stand by themselves; in later ones the model is [`OTHER`]. Both are labels
/// already, so that an org keeps what it used as a whole.
#[derive(Debug)]
pub struct Pairs(FirstCome);

impl Pairs {
    /// At most `most` pairs.
    pub fn new(most: usize) -> Self {
        Self(FirstCome { longest: 201, ..FirstCome::new(most) })
    }

    /// The label of this model beside this org.
    pub fn model<'a>(&self, org: &str, model: &'a str) -> &'a str {
        let pair = format!("{org}\n{model}");
        if model == OTHER || self.0.label(&pair) == pair { model } else { OTHER }
    }
}

/// The price table's own name for a model, where it knows it: one entry of the table may stand for any number of names.
pub type KnownModel = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Models, by the price table's own names; of these only the first so many.
pub struct ModelLabels {
    known: KnownModel,
    first: FirstCome,
}

impl ModelLabels {
    /// Models that `known` has a name for, at most `most` of these names.
    pub fn new(known: KnownModel, most: usize) -> Self {
        Self { known, first: FirstCome::new(most) }
    }

    /// The label of this model.
    pub fn label(&self, model: &str) -> Cow<'static, str> {
        match (self.known)(model) {
            Some(name) if self.first.label(&name) == name => name.into(),
            _ => OTHER.into(),
        }
    }
}

impl fmt::Debug for ModelLabels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ModelLabels").field("first", &self.first).finish_non_exhaustive()
    }
}

/// The method where it is one of HTTP's own, else [`OTHER`].
pub fn method(method: &str) -> &'static str {
    const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

/// The status where it is one that LibreChat or we answer with, else its class (`4xx`), else [`OTHER`]. 499 stands for a
/// client that went away before its answer.
pub fn status(status: u16) -> &'static str {
    const KNOWN: [(u16, &str); 41] = [
        (101, "101"),
        (200, "200"),
        (201, "201"),
        (202, "202"),
        (204, "204"),
        (206, "206"),
        (301, "301"),
        (302, "302"),
        (303, "303"),
        (304, "304"),
        (307, "307"),
        (308, "308"),
        (400, "400"),
        (401, "401"),
        (402, "402"),
        (403, "403"),
        (404, "404"),
        (405, "405"),
        (406, "406"),
        (408, "408"),
        (409, "409"),
        (410, "410"),
        (411, "411"),
        (412, "412"),
        (413, "413"),
        (414, "414"),
        (415, "415"),
        (416, "416"),
        (417, "417"),
        (422, "422"),
        (425, "425"),
        (426, "426"),
        (428, "428"),
        (429, "429"),
        (431, "431"),
        (499, "499"),
        (500, "500"),
        (501, "501"),
        (502, "502"),
        (503, "503"),
        (504, "504"),
    ];
    if let Ok(place) = KNOWN.binary_search_by_key(&status, |(code, _)| *code) {
        return KNOWN[place].1;
    }
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_keep_their_label_for_good() {
        let orgs = FirstCome::new(2);
        assert_eq!(["a", "b", "c", "a", "b", ""].map(|name| orgs.label(name)), ["a", "b", OTHER, "a", "b", OTHER]);
        assert_eq!(FirstCome::new(0).label("a"), OTHER);
        assert_eq!(FirstCome::new(9).label(&"long".repeat(100)), OTHER);
    }

    #[test]
    fn the_first_pairs_keep_their_model_and_an_org_always_has_its_other() {
        let pairs = Pairs::new(2);
        let labels = [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"), ("b", OTHER)].map(|(org, model)| pairs.model(org, model));
        assert_eq!(labels, ["x", "y", OTHER, "x", OTHER]);
        let long = "l".repeat(100);
        assert_eq!(Pairs::new(1).model(&long, &long), long, "two labels of the longest kind are a pair");
    }

    #[test]
    fn only_known_models_have_a_label_and_it_is_the_tables_own() {
        let known = |model: &str| ["gpt-4o", "gpt-5"].into_iter().find(|name| model.contains(name)).map(str::to_owned);
        let models = ModelLabels::new(Box::new(known), 1);
        assert_eq!(
            ["llama", "openai/gpt-4o-junk1", "gpt-4o-junk2", "gpt-5", "gpt-4o"].map(|model| models.label(model).into_owned()),
            [OTHER, "gpt-4o", "gpt-4o", OTHER, "gpt-4o"],
        );
    }

    #[test]
    fn methods_and_statuses_come_from_closed_sets() {
        assert_eq!([method("GET"), method("get"), method("BREW")], ["GET", OTHER, OTHER]);
        assert_eq!(
            [status(200), status(418), status(299), status(42), status(999), status(101)],
            ["200", "4xx", "2xx", OTHER, OTHER, "101"]
        );
        for code in 0..=u16::MAX {
            let label = status(code);
            assert!(label == code.to_string() || label.ends_with("xx") || label == OTHER, "{code} has the label {label}");
        }
    }
}
