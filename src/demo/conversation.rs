//! The conversation: one chat that is answered, one refused for each kind of limit, and a token that is not genuine.

use reqwest::StatusCode;

use super::people::{ADA, BEN, CAROL, DAN, Person};
use super::place::{Place, random_secret};
use super::screen::Screen;
use super::{PATIENCE, Wrong};
use crate::scripted::client::{Answer, ChatBody, ChatClient};

/// Everyone's model, whose price is in the table.
const ENDPOINT: &str = "openAI";
/// See [`ENDPOINT`].
pub const MODEL: &str = "gpt-4o";

/// How many chats of the conversation are answered.
pub const ANSWERED: usize = 4;
/// How many are refused for a limit.
pub const REFUSED: usize = 4;

/// Plays it, and says what was not as it should be.
pub async fn play(place: &Place, screen: &Screen) -> Vec<Wrong> {
    let stage = Stage { place, screen };
    let acts = [
        ("Ada", stage.ada().await),
        ("Ben", stage.ben().await),
        ("Carol", stage.carol().await),
        ("Dan", stage.dan().await),
        ("A token that is not genuine", stage.stranger().await),
    ];
    acts.into_iter().filter_map(|(act, result)| result.err().map(|wrong| Wrong(format!("{act}: {wrong}")))).collect()
}

struct Stage<'a> {
    place: &'a Place,
    screen: &'a Screen,
}

impl Stage<'_> {
    async fn ada(&self) -> Result<(), Wrong> {
        self.screen.heading("1. Ada asks something and is answered");
        self.is_answered(ADA, "What does the keeper of a tollgate do all day?").await
    }

    async fn ben(&self) -> Result<(), Wrong> {
        self.screen.heading("2. Ben may use 1,000 tokens a day");
        self.is_answered(BEN, "Please tell me a story.").await?;
        let said = self.is_refused(BEN, "And then?", "").await?;
        expect_words(&said, &["Your daily token limit is reached: 1,000 of 1,000 tokens used.", "It opens again tomorrow at"])
    }

    async fn carol(&self) -> Result<(), Wrong> {
        self.screen.heading("3. Carol may send one message a day");
        self.is_answered(CAROL, "Good morning!").await?;
        let said = self.is_refused(CAROL, "How are you?", "").await?;
        expect_words(&said, &["Your daily message limit is reached: 1 of 1 message used.", "It opens again tomorrow at"])?;
        self.screen.line("  The same after she chose Korean in LibreChat's settings:");
        let said = self.is_refused(CAROL, "How are you?", "lang=ko").await?;
        let is_korean = said.chars().any(|letter| matches!(letter, '\u{ac00}'..='\u{d7a3}'));
        if is_korean { Ok(()) } else { Err(Wrong(format!("this should be Korean: {said}"))) }
    }

    async fn dan(&self) -> Result<(), Wrong> {
        self.screen.heading("4. Dan may spend $0.004 a day");
        self.is_answered(DAN, "What is the cheapest way to Rome?").await?;
        let said = self.is_refused(DAN, "And back?", "").await?;
        expect_words(&said, &["Your daily budget is used up: $0.004 of $0.004 used.", "It opens again tomorrow at"])
    }

    async fn stranger(&self) -> Result<(), Wrong> {
        self.screen.heading("5. Someone signs a token in Ada's name with another secret");
        let forged = self.place.token_signed_with(ADA, &random_secret());
        let before = self.place.runs();
        let answer = ChatClient::new(&self.place.url(), &forged).start(&body(ADA, "It is me, Ada.")).await?;
        self.speaks("?", "It is me, Ada.");
        self.speaks(answer.status.as_str(), &answer.text);
        expect_status(&answer, StatusCode::UNAUTHORIZED)?;
        self.expect_nothing_forwarded(before)
    }

    /// They ask, LibreChat answers, and the books of that answer are closed.
    async fn is_answered(&self, person: Person, text: &str) -> Result<(), Wrong> {
        let exchange = self.client(person).exchange(&body(person, text)).await?;
        self.speaks(person.name, text);
        if exchange.last().is_none() {
            self.speaks(exchange.start.status.as_str(), &exchange.start.text);
            return Err(Wrong(format!("no whole answer, but status {} and {}", exchange.start.status, exchange.start.text)));
        }
        self.speaks("LibreChat", &exchange.text());
        let settled = tokio::time::timeout(PATIENCE, self.place.app().generations.all_closed()).await;
        settled.map_err(|_| Wrong("the answer came to its end, but was not charged".to_owned()))
    }

    /// They ask, a limit is in the way, and LibreChat hears nothing of it. Gives what they are shown.
    async fn is_refused(&self, person: Person, text: &str, cookie: &str) -> Result<String, Wrong> {
        let before = self.place.runs();
        let client = self.client(person);
        let client = if cookie.is_empty() { client } else { client.header("Cookie", cookie) };
        let answer = client.start(&body(person, text)).await?;
        self.speaks(person.name, text);
        let json = answer.json();
        let said = json["message"].as_str().unwrap_or(&answer.text).to_owned();
        self.speaks(answer.status.as_str(), &said);
        expect_status(&answer, StatusCode::TOO_MANY_REQUESTS)?;
        // LibreChat's page shows what stands in `info` of this kind of error, word for word.
        if json["type"] != "google_error" || json["info"].as_str() != Some(&said) || said.contains(['{', '}']) {
            return Err(Wrong(format!("LibreChat's page would not show this: {}", answer.text)));
        }
        if !answer.headers.contains_key("retry-after") {
            return Err(Wrong("a refusal without Retry-After".to_owned()));
        }
        self.expect_nothing_forwarded(before)?;
        Ok(said)
    }

    fn client(&self, person: Person) -> ChatClient {
        ChatClient::new(&self.place.url(), &self.place.token(person))
    }

    fn speaks(&self, who: &str, text: &str) {
        self.screen.paragraph(&format!("  {who:<11}"), text);
    }

    fn expect_nothing_forwarded(&self, before: usize) -> Result<(), Wrong> {
        if self.place.runs() == before { Ok(()) } else { Err(Wrong("it was refused, but LibreChat answers it".to_owned())) }
    }
}

fn body(person: Person, text: &str) -> ChatBody {
    ChatBody::new(text).model(ENDPOINT, MODEL).with("timezone", person.zone)
}

fn expect_status(answer: &Answer, expected: StatusCode) -> Result<(), Wrong> {
    if answer.status == expected { Ok(()) } else { Err(Wrong(format!("status {} instead of {expected}", answer.status))) }
}

fn expect_words(said: &str, expected: &[&str]) -> Result<(), Wrong> {
    match expected.iter().find(|words| !said.contains(**words)) {
        None => Ok(()),
        Some(words) => Err(Wrong(format!("{words:?} is missing in {said:?}"))),
    }
}
