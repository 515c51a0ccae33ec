//! Every sentence in English.

use crate::identity::Suspended;
use crate::identity::addresses::Closing;
use jiff::civil::Weekday;

use super::amounts::{Money, thousands};
use super::facts::{Day, Facts, Opening, Reason};
use super::texts::{clean, opening, size};
use super::{AnswerContext, Forbidden, KeyRefused, LoginRefused, Malformed, Rejection, minutes_until};
use crate::limits::{Refusal, Resource, Scope, Window};

/// What a person is told.
pub(super) fn say(rejection: &Rejection, context: &AnswerContext<'_>) -> String {
    let said = match rejection {
        Rejection::Limit(refusal) => return limit(refusal, &opening(refusal, context)),
        Rejection::UnknownModel { model } => {
            let model = clean(model);
            return format!(
                "The model \"{model}\" cannot be used here, because it has no price. Please choose another model or ask your administrator."
            );
        }
        Rejection::Login(refused) => return login(*refused, context),
        Rejection::TooLarge { limit } => return format!("The request is larger than the {} accepted here.", size(*limit, " bytes")),
        Rejection::Malformed(reason) => return format!("The request could not be read: {}.", malformed(*reason)),
        Rejection::Unauthorized => "Your sign-in is missing or no longer valid. Please sign in again.",
        Rejection::ForeignOrg => "Your sign-in is not valid for this organization.",
        Rejection::NoOrg => {
            "Your account does not belong to an organization here, so you cannot send messages. Please ask your administrator."
        }
        Rejection::SessionEnded => "You were signed out. Please sign in again.",
        Rejection::Code(_) => {
            "This link was used before, is too old, or is not for here. Please open the chat again from your application."
        }
        Rejection::TokenTooOld => "Your sign-in is too old. Please sign in to your application again.",
        Rejection::Suspended(Suspended::Org) => {
            "Your organization is suspended here, so you cannot send messages. Please ask your administrator."
        }
        Rejection::Suspended(Suspended::Member) => {
            "Your account is suspended here, so you cannot send messages. Please ask your administrator."
        }
        Rejection::Key(refused) => return key(*refused),
        Rejection::Elsewhere(Closing::Org) => {
            "Your organization does not allow access from this network. Please use a network that it allows, or ask your administrator."
        }
        Rejection::Elsewhere(Closing::Account) => {
            "Your account may not be used from this network. Please use a network that it allows, or ask your administrator."
        }
        Rejection::Elsewhere(Closing::Key) => "This API key may not be used from this network.",
        Rejection::Forbidden(what) => forbidden(*what),
        Rejection::ForeignOrigin => "This request came from a page of another site, which is not allowed here.",
        Rejection::TooSlow => "The request took too long to arrive. Please try again.",
        Rejection::UnsupportedMedia => "The request must be uncompressed JSON (Content-Type: application/json).",
        Rejection::LengthRequired => "The request is too large to be sent without its length (Content-Length).",
        Rejection::NotFound => "There is nothing here.",
        Rejection::MethodNotAllowed { .. } => "This address does not take this method.",
        Rejection::StoreClosed => "Limits cannot be checked right now, so no messages are accepted. Please try again in a minute.",
        Rejection::JournalFull => "Messages cannot be recorded right now. Please try again in a minute.",
        Rejection::IssuerAway | Rejection::IdentityAway => "Your sign-in cannot be checked right now. Please try again in a minute.",
        Rejection::UpstreamAway => "The chat service cannot be reached right now. Please try again in a minute.",
        Rejection::UpstreamBroken => {
            "The connection to the chat service was lost. Your message may have arrived: please reload the page, and try again in a minute if it is not there."
        }
        Rejection::UpstreamTimeout => {
            "The chat service took too long to answer. Your message may have arrived: please reload the page, and try again in a minute if it is not there."
        }
        Rejection::Draining => "The service is restarting. Please try again in a moment.",
        Rejection::Internal => "Something went wrong on our side. Please try again; if it happens again, tell your administrator.",
    };
    said.to_owned()
}

fn forbidden(what: Forbidden) -> &'static str {
    match what {
        Forbidden::AgentApiOff => "The agents API is switched off here. Please use the web page or ask your administrator.",
        Forbidden::NoAccount => "There is no chat account under your e-mail address yet. Please ask your administrator.",
        Forbidden::NotInvited => "Your organization has not invited you to the chat. Please ask your administrator.",
        Forbidden::AccountExists => {
            "There is another chat account under your e-mail address, so you cannot be signed in. Please ask your administrator."
        }
        Forbidden::Registration => "Accounts are made by your application here. Please sign in there.",
        Forbidden::TokenInAddress => {
            "This address holds a sign-in, which is not accepted here. Please open the chat from your application, or ask your administrator."
        }
        Forbidden::OtherPerson => "You are signed in as somebody else in this browser. Please reload the page.",
        Forbidden::Viewer => "You can read here, but not send messages. Please ask your administrator.",
        Forbidden::Route => "You are not allowed to do this. Please ask your administrator.",
    }
}

fn key(refused: KeyRefused) -> String {
    match refused {
        KeyRefused::Scope(scope) => format!("This API key does not have the scope \"{}\", which this needs.", scope.as_str()),
        KeyRefused::Never => "API keys cannot be used for this.".to_owned(),
        KeyRefused::AgentApi => {
            "The agents API takes LibreChat's own API keys (sk-...), which are made in its settings. This key is for the other routes."
                .to_owned()
        }
        KeyRefused::TooMany { most } => {
            format!("You have as many API keys as you may ({most}). Please revoke some; those revoked in the last day are still counted.")
        }
        KeyRefused::ViewerChats => "Viewers do not send messages, so a key of yours cannot have the scope \"chat\".".to_owned(),
    }
}

fn login(refused: LoginRefused, context: &AnswerContext<'_>) -> String {
    let wait = |until| match minutes_until(until, context.now) {
        1 => "a minute".to_owned(),
        minutes => format!("{} minutes", thousands(u128::from(minutes.unsigned_abs()))),
    };
    match refused {
        LoginRefused::Locked { until } => {
            format!("Too many sign-ins with this name have failed. Please try again in {}, or ask your administrator.", wait(until))
        }
        LoginRefused::Slowed { until } => {
            format!("Too many sign-ins from your network have failed. Please try again in {}.", wait(until))
        }
        LoginRefused::Busy => "Several sign-ins like this one are being checked right now. Please try again in a moment.".to_owned(),
        LoginRefused::Suspended(Suspended::Org) => {
            "Your organization is suspended here, so you cannot sign in. Please ask your administrator.".to_owned()
        }
        LoginRefused::Suspended(Suspended::Member) => {
            "Your account is suspended here, so you cannot sign in. Please ask your administrator.".to_owned()
        }
        LoginRefused::Away => "Sign-ins cannot be checked right now. Please try again in a minute.".to_owned(),
    }
}

fn malformed(reason: Malformed) -> String {
    match reason {
        Malformed::NotJson => "its body is not a JSON object".to_owned(),
        Malformed::NotUtf8 => "its text is not valid UTF-8".to_owned(),
        Malformed::Truncated => "its body ended too early".to_owned(),
        Malformed::Header(name) => format!("its header {name} is missing or wrong"),
        Malformed::Shape => "a field of its body has the wrong type, or stands twice".to_owned(),
        Malformed::Field(name) => format!("its field {name} is missing or wrong"),
        Malformed::Target => "its address is not valid".to_owned(),
    }
}

fn limit(refusal: &Refusal, opening: &Opening) -> String {
    let facts = Facts::of(refusal);
    let resource = refusal.bucket.resource;
    let name = limit_name(refusal);
    let amounts = Amounts::of(resource, &facts);
    let held = amounts.show(facts.held);
    let and_held = if facts.held > 0 { format!(", and answers still running hold {held} more") } else { String::new() };
    let needs = amounts.with_unit(facts.needs);
    let smaller = smaller(resource);
    let (noun, full) = if resource == Resource::Cost { ("budget", "used up") } else { ("limit", "reached") };
    let used = amounts.used_of_limit(&facts, noun);
    let opens = opens(opening);
    match facts.reason() {
        Reason::Closed => format!("{name} is {}, so you cannot send messages. Please ask your administrator.", amounts.with_unit(0)),
        Reason::UsedUp => format!("{name} is {full}: {used}{and_held}. It opens again {opens}."),
        Reason::TooSmall => {
            let name = lower_first(&name);
            format!("This message needs at least {needs}, more than the whole of {name}: {used}{and_held}.{smaller}")
        }
        Reason::Held => {
            format!(
                "{name} has no room right now: {used}{and_held}. Please try again when they have finished. The {noun} starts anew {opens}."
            )
        }
        Reason::NotEnough { fits_later } => {
            let left = amounts.left(&facts);
            let wait = if fits_later { " It may also fit when the running answers have finished." } else { "" };
            format!(
                "{name} does not have enough left for this message: {used}{and_held}. This message needs at least {needs}, more than the {left} left.{smaller}{wait} The {noun} starts anew {opens}."
            )
        }
    }
}

fn limit_name(refusal: &Refusal) -> String {
    let window = match refusal.bucket.period.window {
        Window::Day => "daily",
        Window::Month => "monthly",
    };
    let what = match refusal.bucket.resource {
        Resource::Tokens => "token limit",
        Resource::Messages => "message limit",
        Resource::Cost => "budget",
    };
    match refusal.bucket.scope {
        Scope::Member { .. } => format!("Your {window} {what}"),
        Scope::Org { .. } => format!("Your organization's {window} {what}"),
        Scope::Everyone => format!("The {window} {what} shared by everyone"),
    }
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_lowercase(), letters.as_str()))
}

/// What a person can do about a message that is too large.
fn smaller(resource: Resource) -> &'static str {
    match resource {
        Resource::Tokens => " A shorter message or a new conversation may fit.",
        Resource::Cost => " A shorter message, a new conversation or a less expensive model may fit.",
        Resource::Messages => "",
    }
}

fn opens(opening: &Opening) -> String {
    let Opening { day, date, time, zone } = opening;
    let weekday = match date.weekday() {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    };
    let month = MONTHS[usize::from(date.month().unsigned_abs()) - 1];
    let (number, year) = (date.day(), date.year());
    match day {
        Day::Today => format!("today at {time} ({zone})"),
        Day::Tomorrow => format!("tomorrow at {time} ({weekday}, {number} {month} {year}, {zone})"),
        Day::Later => format!("on {weekday}, {number} {month} {year}, at {time} ({zone})"),
    }
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// Amounts of one resource in words.
enum Amounts {
    Tokens,
    Messages,
    Cost(Money),
}

impl Amounts {
    fn of(resource: Resource, facts: &Facts) -> Self {
        match resource {
            Resource::Tokens => Self::Tokens,
            Resource::Messages => Self::Messages,
            Resource::Cost => Self::Cost(Money::of(facts)),
        }
    }

    /// `1,000`, `$5.00`.
    fn show(&self, amount: u64) -> String {
        match self {
            Self::Tokens | Self::Messages => thousands(u128::from(amount)),
            Self::Cost(money) => format!("${}", money.show(u128::from(amount))),
        }
    }

    fn left(&self, facts: &Facts) -> String {
        match self {
            Self::Tokens | Self::Messages => self.show(facts.left()),
            Self::Cost(money) => format!("${}", money.left(facts)),
        }
    }

    /// `1,000 tokens`, `1 message`, `$5.00`.
    fn with_unit(&self, amount: u64) -> String {
        let shown = self.show(amount);
        match (self, amount) {
            (Self::Tokens, 1) => format!("{shown} token"),
            (Self::Tokens, _) => format!("{shown} tokens"),
            (Self::Messages, 1) => format!("{shown} message"),
            (Self::Messages, _) => format!("{shown} messages"),
            (Self::Cost(_), _) => shown,
        }
    }

    /// `200 of 1,000 tokens used`, or `1,113 tokens used, the limit is 1,000` where more was used than it allows.
    fn used_of_limit(&self, facts: &Facts, noun: &str) -> String {
        let (used, limit) = (self.show(facts.used), self.show(facts.limit));
        if facts.used > facts.limit && used != limit {
            return format!("{} used, the {noun} is {limit}", self.with_unit(facts.used));
        }
        format!("{used} of {} used", self.with_unit(facts.limit))
    }
}
