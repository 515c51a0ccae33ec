//! Directives: words inside the text of a message, in double square brackets, that steer the run it starts.
//!
//! `Tell me [[tokens=40 delay=20 out=57]]`. Several blocks add up and the last word on a key counts. Keys that are not
//! in this table are ignored, numbers are cut to their bound, and text that is no directive at all changes nothing.
//!
//! | key | default | what it does |
//! |---|---|---|
//! | `tokens=n` | 12 | words of answer in each model call |
//! | `reasoning=n` (`reason=n`) | 0 | words of reasoning before the first answer |
//! | `delay=ms` | 0 | between two words |
//! | `first=ms` | 0 | between the context estimate and the first word |
//! | `silent=ms` | 0 | nothing at all after the first word |
//! | `context=n` | from the conversation | `prePruneContextTokens` of the context estimate |
//! | `instructions=n` | 0 | `instructionTokens` of the context estimate |
//! | `usage=on\|off` | on | whether the provider gives usage |
//! | `in=n` `out=n` `cached=n` `written=n` | context, words said, 0, 0 | what usage says per call; `in` includes `cached` |
//! | `calls=n` | 1, or tools + 1 | model calls in the run |
//! | `tools=n` | 0 | tool calls, one after each of the first model calls; an assistant's come before its text |
//! | `tool=name` | `web_search` | the tool that is called; `find_mcp_library` is one of an MCP server |
//! | `tool_fails` | | its result is an error |
//! | `tool_hangs` | | its call is never answered; the run goes on |
//! | `tool_delay=ms` | 0 | how long it takes |
//! | `pause`, `pause=n` | 0 | the run waits for `/chat/resume` after each of its first n model calls, `pause` is 1; 0.8.8 only |
//! | `die=n` | | the provider dies after n words of a call: a `final` with an error part, no usage |
//! | `error=type` | | refused on the stream, right after `created`: `token_balance`, `illegal_model_request`, ... |
//! | `refuse=message_limit` | | the start answers 200 with an SSE refusal and no content type |
//! | `refuse=concurrent` | | the start answers 429 JSON |
//! | `refuse=ban` | | the start answers 403 JSON |
//! | `refuse=not_ready` | | the start answers 503 `SERVER_NOT_READY` |
//! | `refuse=model` | | the model is not available: on the stream, on the direct wire without `created` |
//! | `answer_delay=ms` | 0 | before the start is answered; the run begins at once |
//! | `reset=before_answer` | | the run begins, and the connection of its start is reset |
//! | `reset=before_start` | | the connection of the start is reset, and no run begins |
//! | `cut=n` | | the first stream's connection is reset after n frames; the run goes on, except on the direct wire |
//! | `stumble=n` | | the first stream ends with an error frame after n frames; the run goes on |
//! | `split=n` | | streams are written in pieces of n bytes |
//! | `model=name` | `gpt-4o` | the model behind a saved agent, whose start names none |

use std::time::Duration;

/// At most this many words in one model call.
const MAX_TOKENS: u64 = 200_000;
/// At most this many model or tool calls in one run.
const MAX_CALLS: u64 = 100;
/// At most this long a wait, in milliseconds: an hour.
const MAX_WAIT: u64 = 3_600_000;
/// At most this large a number where usage or context are told.
const MAX_COUNT: u64 = 1 << 53;

/// How a start is turned away before any run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `LIMIT_MESSAGE_USER`: 200 with an SSE body.
    MessageLimit,
    /// `LIMIT_CONCURRENT_MESSAGES`: 429 JSON.
    Concurrent,
    /// A banned person: 403 JSON.
    Ban,
    /// LibreChat is still starting: 503 JSON with `Retry-After`.
    NotReady,
    /// The model is not available.
    Model,
}

/// When the connection of a start is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Before a run begins.
    BeforeStart,
    /// After the run began, before its answer was written.
    BeforeAnswer,
}

/// What comes of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolResult {
    /// The tool answers.
    Answers,
    /// The tool fails, and says so.
    Fails,
    /// The tool says nothing.
    Hangs,
}

impl ToolResult {
    /// What the model, and whoever listens, is told.
    pub fn output(self) -> Option<&'static str> {
        match self {
            Self::Answers => Some("nothing was found"),
            Self::Fails => Some("Error: api_key=hunter2 is not known here\n Please fix your mistakes."),
            Self::Hangs => None,
        }
    }
}

/// How a run goes. The table above is the documentation of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `tokens`
    pub tokens: u64,
    /// `reasoning`
    pub reasoning: u64,
    /// `delay`
    pub delay: Duration,
    /// `first`
    pub first: Duration,
    /// `silent`
    pub silent: Duration,
    /// `context`
    pub context: Option<u64>,
    /// `instructions`
    pub instructions: u64,
    /// `usage`
    pub usage: bool,
    /// `in`
    pub input: Option<u64>,
    /// `out`
    pub output: Option<u64>,
    /// `cached`
    pub cached: u64,
    /// `written`
    pub written: u64,
    /// `calls`
    pub calls: Option<u64>,
    /// `tools`
    pub tools: u64,
    /// `tool`
    pub tool: Option<String>,
    /// `tool_fails`, `tool_hangs`
    pub tool_result: ToolResult,
    /// `tool_delay`
    pub tool_delay: Duration,
    /// `pause`
    pub pause: u64,
    /// `die`
    pub die: Option<u64>,
    /// `error`
    pub error: Option<String>,
    /// `refuse`
    pub refuse: Option<Refusal>,
    /// `answer_delay`
    pub answer_delay: Duration,
    /// `reset`
    pub reset: Option<Reset>,
    /// `cut`
    pub cut: Option<u64>,
    /// `stumble`
    pub stumble: Option<u64>,
    /// `split`
    pub split: Option<usize>,
    /// `model`
    pub model: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            tokens: 12,
            reasoning: 0,
            delay: Duration::ZERO,
            first: Duration::ZERO,
            silent: Duration::ZERO,
            context: None,
            instructions: 0,
            usage: true,
            input: None,
            output: None,
            cached: 0,
            written: 0,
            calls: None,
            tools: 0,
            tool: None,
            tool_result: ToolResult::Answers,
            tool_delay: Duration::ZERO,
            pause: 0,
            die: None,
            error: None,
            refuse: None,
            answer_delay: Duration::ZERO,
            reset: None,
            cut: None,
            stumble: None,
            split: None,
            model: None,
        }
    }
}

impl Directives {
    /// These directives, changed by the blocks in `text`.
    #[must_use]
    pub fn read(mut self, text: &str) -> Self {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("[[") {
            let Some((block, behind)) = after.split_once("]]") else { break };
            for word in block.split_whitespace() {
                self.apply(word);
            }
            rest = behind;
        }
        self
    }

    /// Model calls in the run.
    pub fn calls(&self) -> u64 {
        self.calls.unwrap_or(self.tools + 1).clamp(1, MAX_CALLS)
    }

    /// The tool that is called.
    pub fn tool(&self) -> &str {
        self.tool.as_deref().unwrap_or("web_search")
    }

    fn apply(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "tokens" => set(&mut self.tokens, number(value, MAX_TOKENS)),
            "reasoning" | "reason" => set(&mut self.reasoning, number(value, MAX_TOKENS)),
            "delay" => set(&mut self.delay, wait(value)),
            "first" => set(&mut self.first, wait(value)),
            "silent" => set(&mut self.silent, wait(value)),
            "answer_delay" => set(&mut self.answer_delay, wait(value)),
            "context" => self.context = number(value, MAX_COUNT).or(self.context),
            "instructions" => set(&mut self.instructions, number(value, MAX_COUNT)),
            "usage" => self.usage = value != "off",
            "in" => self.input = number(value, MAX_COUNT).or(self.input),
            "out" => self.output = number(value, MAX_COUNT).or(self.output),
            "cached" => set(&mut self.cached, number(value, MAX_COUNT)),
            "written" => set(&mut self.written, number(value, MAX_COUNT)),
            "calls" => self.calls = number(value, MAX_CALLS).or(self.calls),
            "tools" => set(&mut self.tools, number(value, MAX_CALLS - 1)),
            "tool" if !value.is_empty() => self.tool = Some(value.to_owned()),
            "tool_fails" => self.tool_result = ToolResult::Fails,
            "tool_hangs" => self.tool_result = ToolResult::Hangs,
            "tool_delay" => set(&mut self.tool_delay, wait(value)),
            "pause" => self.pause = number(value, MAX_CALLS).unwrap_or(1),
            "die" => self.die = number(value, MAX_TOKENS).or(self.die),
            "error" if !value.is_empty() => self.error = Some(value.to_owned()),
            "refuse" => self.refuse = refusal(value).or(self.refuse),
            "reset" => self.reset = reset(value).or(self.reset),
            "cut" => self.cut = number(value, MAX_COUNT).or(self.cut),
            "stumble" => self.stumble = number(value, MAX_COUNT).or(self.stumble),
            "split" => self.split = number(value, MAX_COUNT).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
            "model" if !value.is_empty() => self.model = Some(value.to_owned()),
            _ => {}
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A decimal number, cut to `most`; `None` for anything else.
fn number(value: &str, most: u64) -> Option<u64> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number that does not fit is larger than every bound.
    Some(value.parse().unwrap_or(u64::MAX).min(most))
}

fn wait(value: &str) -> Option<Duration> {
    number(value, MAX_WAIT).map(Duration::from_millis)
}

fn refusal(value: &str) -> Option<Refusal> {
    match value {
        "message_limit" => Some(Refusal::MessageLimit),
        "concurrent" => Some(Refusal::Concurrent),
        "ban" => Some(Refusal::Ban),
        "not_ready" => Some(Refusal::NotReady),
        "model" => Some(Refusal::Model),
        _ => None,
    }
}

fn reset(value: &str) -> Option<Reset> {
    match value {
        "before_start" => Some(Reset::BeforeStart),
        "before_answer" => Some(Reset::BeforeAnswer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_several_blocks_add_up() {
        let read = Directives::default().read("a [[tokens=3 delay=20 usage=off]] b [[tokens=4 pause in=100 cached=64]] [[");
        assert_eq!((read.tokens, read.delay, read.usage, read.pause), (4, Duration::from_millis(20), false, 1));
        assert_eq!((read.input, read.output, read.cached), (Some(100), None, 64));
    }

    #[test]
    fn one_tool_needs_two_model_calls() {
        assert_eq!(Directives::default().read("[[tools=1]]").calls(), 2, "the model is asked again with the tool's answer");
        assert_eq!(Directives::default().read("[[calls=0]]").calls(), 1, "a run makes at least one model call");
    }

    #[test]
    fn nonsense_changes_nothing_and_huge_numbers_are_cut() {
        let nonsense = "[[tokens=-1 delay=x split=0 refuse=what reset= =3 in=1e9 [[ tokens ]] ]] [[]]";
        assert_eq!(Directives::default().read(nonsense), Directives::default(), "what is no directive is ignored");
        let huge = Directives::default().read("[[tokens=99999999999999999999999 tools=7000000]]");
        assert_eq!((huge.tokens, huge.tools), (MAX_TOKENS, MAX_CALLS - 1), "numbers are cut to their bound");
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_read(text in "\\PC{0,60}", block in "[a-z_=0-9 \\[\\]]{0,60}") {
            let read = Directives::default().read(&format!("{text}[[{block}]]{text}"));
            proptest::prop_assert!(read.tokens <= MAX_TOKENS && read.calls() <= MAX_CALLS);
        }
    }
}
