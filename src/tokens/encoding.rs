//! Which encoding a model's text is counted with.

use std::borrow::Cow;

use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

/// Longer names are nobody's model; they are not looked up.
const MAX_NAME_BYTES: usize = 256;

/// One of OpenAI's byte-pair encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-4o and everything since; `o200k_harmony` of gpt-oss differs in its special tokens only.
    O200kBase,
    /// GPT-4, GPT-3.5 and the embedding models.
    Cl100kBase,
}

/// How well an encoding suits a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// The model's own encoding.
    Exact,
    /// The model has another encoding, or none that is public; the count is an approximation.
    Nearest,
}

impl Encoding {
    /// The encoding for a model as LibreChat names it, and how well it fits.
    ///
    /// Names come from tiktoken's own table (exact names, then prefixes), in any case, with or without the providers in
    /// front (`openai/gpt-4o`, `openrouter/openai/gpt-4o`, `openai.gpt-oss-120b-1:0`) and variants behind (`:free`).
    /// Fine-tunes (`ft:gpt-4o:...`) count as their base model. What the table does not know, and the encodings from
    /// before GPT-3.5, are counted with the nearest, `o200k_base`.
    pub fn for_model(model: &str) -> (Self, Fit) {
        match lookup(model) {
            Some(Tokenizer::O200kBase | Tokenizer::O200kHarmony) => (Self::O200kBase, Fit::Exact),
            Some(Tokenizer::Cl100kBase) => (Self::Cl100kBase, Fit::Exact),
            Some(Tokenizer::P50kBase | Tokenizer::R50kBase | Tokenizer::P50kEdit | Tokenizer::Gpt2) | None => {
                (Self::O200kBase, Fit::Nearest)
            }
        }
    }

    /// OpenAI's name of the encoding.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::Cl100kBase => "cl100k_base",
        }
    }
}

impl Fit {
    /// The word used in records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Nearest => "nearest",
        }
    }
}

/// Asks tiktoken's table, first for the name as it is, then with one provider after the other taken off its front.
fn lookup(model: &str) -> Option<Tokenizer> {
    if model.len() > MAX_NAME_BYTES {
        return None;
    }
    let name =
        if model.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(model.to_ascii_lowercase()) } else { Cow::Borrowed(model) };
    let mut rest = name.trim();
    loop {
        if let Some(found) = lookup_bare(rest) {
            return Some(found);
        }
        rest = rest.split_once('/')?.1;
    }
}

/// A name without slashes to care about: as it is, without Bedrock's `openai.`, without a `:variant`.
fn lookup_bare(name: &str) -> Option<Tokenizer> {
    let name = name.strip_prefix("openai.").unwrap_or(name);
    get_tokenizer(name).or_else(|| get_tokenizer(name.split_once(':')?.0))
}

#[cfg(test)]
mod tests {
    use super::Encoding::{Cl100kBase, O200kBase};
    use super::Fit::{Exact, Nearest};
    use super::*;

    #[test]
    fn models_find_their_encoding() {
        let table = [
            ("gpt-4o", O200kBase, Exact),
            ("GPT-4o", O200kBase, Exact),
            ("gpt-4o-2024-05-13", O200kBase, Exact),
            ("chatgpt-4o-latest", O200kBase, Exact),
            ("gpt-4.1-mini", O200kBase, Exact),
            ("gpt-5", O200kBase, Exact),
            ("gpt-5.2-pro", O200kBase, Exact),
            ("o1", O200kBase, Exact),
            ("o3-mini", O200kBase, Exact),
            ("o4-mini", O200kBase, Exact),
            ("gpt-oss-120b", O200kBase, Exact),
            ("openai/gpt-4o", O200kBase, Exact),
            ("openrouter/openai/gpt-4o-mini", O200kBase, Exact),
            ("openai/gpt-oss-20b:free", O200kBase, Exact),
            ("openai/gpt-4o:extended", O200kBase, Exact),
            ("openai.gpt-oss-120b-1:0", O200kBase, Exact),
            ("ft:gpt-4o:acme:bot:id", O200kBase, Exact),
            ("openai/ft:gpt-3.5-turbo:acme:bot:id", Cl100kBase, Exact),
            ("gpt-4", Cl100kBase, Exact),
            ("gpt-4-turbo", Cl100kBase, Exact),
            ("gpt-4-32k-0314", Cl100kBase, Exact),
            ("gpt-3.5-turbo", Cl100kBase, Exact),
            ("gpt-35-turbo", Cl100kBase, Exact),
            ("azure/gpt-35-turbo-16k", Cl100kBase, Exact),
            ("text-embedding-3-large", Cl100kBase, Exact),
            ("text-davinci-003", O200kBase, Nearest),
            ("gpt2", O200kBase, Nearest),
            ("claude-sonnet-4-5", O200kBase, Nearest),
            ("anthropic/claude-3.5-sonnet", O200kBase, Nearest),
            ("us.anthropic.claude-opus-4-1-20250805-v1:0", O200kBase, Nearest),
            ("gemini-2.5-pro", O200kBase, Nearest),
            ("meta-llama/Llama-3.3-70B-Instruct", O200kBase, Nearest),
            ("deepseek-chat", O200kBase, Nearest),
            ("", O200kBase, Nearest),
            ("///", O200kBase, Nearest),
        ];
        for (model, encoding, fit) in table {
            assert_eq!(Encoding::for_model(model), (encoding, fit), "model {model:?}");
        }
    }

    #[test]
    fn an_endless_name_is_nobodys_model() {
        let name = format!("gpt-4-{}", "x".repeat(1_000_000));
        assert_eq!(Encoding::for_model(&name), (O200kBase, Nearest));
    }
}
