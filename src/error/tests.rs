//! Every rejection for every audience in every language, and the laws of the body that LibreChat shows.

use crate::identity::Suspended;
use crate::identity::addresses::Closing;
use crate::identity::keys::KeyScope;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::civil::date;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::limits::{Bar, Bucket, MAX_AMOUNT, OnFailure, Period, Resource, Scope, Window};

const AUDIENCES: [Audience; 6] =
    [Audience::Chat, Audience::AgentApi, Audience::Api, Audience::Application, Audience::Page, Audience::Admin];
const LANGUAGES: [Language; 2] = [Language::En, Language::Ko];
const REFERENCE: &str = "7K3M9QX2AB";

fn seoul() -> TimeZone {
    TimeZone::get("Asia/Seoul").unwrap()
}

/// A Friday afternoon in Seoul.
fn now() -> Timestamp {
    "2026-11-20T15:30:00+09:00".parse().unwrap()
}

fn context(audience: Audience, language: Language, zone: &TimeZone) -> AnswerContext<'_> {
    AnswerContext { audience, language, zone, now: now(), reference: REFERENCE, request_id: "0199d3f0-0000-7000-8000-000000000001" }
}

fn member() -> Scope {
    Scope::Member { org: "acme".into(), member: "65f0c0ffee0000000000beef".into() }
}

fn org() -> Scope {
    Scope::Org { org: "acme".into() }
}

/// A refused limit whose period ends at midnight in Seoul (UTC for everyone's).
fn refusal(scope: Scope, resource: Resource, window: Window, [limit, used, held, needs]: [u64; 4]) -> Refusal {
    let zone = if scope == Scope::Everyone { TimeZone::UTC } else { seoul() };
    let (first_day, next) = match window {
        Window::Day => (date(2026, 11, 20), date(2026, 11, 21)),
        Window::Month => (date(2026, 11, 1), date(2026, 12, 1)),
    };
    let ends = next.to_zoned(zone).unwrap().timestamp();
    let bar = Bar { limit, on_failure: OnFailure::Closed, why: Arc::from("limits[0]: member") };
    Refusal { bucket: Bucket { scope, resource, period: Period { window, first_day, ends } }, bar, used, held, needs }
}

fn limit(scope: Scope, resource: Resource, window: Window, numbers: [u64; 4]) -> Rejection {
    Rejection::Limit(Box::new(refusal(scope, resource, window, numbers)))
}

/// One of each kind of rejection that has kinds of its own, limits aside.
fn rejections_with_kinds() -> Vec<Rejection> {
    let until = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
    let codes = [CodeRefused::Unknown, CodeRefused::Used, CodeRefused::Late, CodeRefused::Foreign].map(Rejection::Code);
    let logins = [
        LoginRefused::Locked { until: until(14 * 60 + 1) },
        LoginRefused::Slowed { until: until(1) },
        LoginRefused::Busy,
        LoginRefused::Suspended(Suspended::Org),
        LoginRefused::Suspended(Suspended::Member),
        LoginRefused::Away,
    ];
    let keys = [
        KeyRefused::Scope(KeyScope::Chat),
        KeyRefused::Never,
        KeyRefused::AgentApi,
        KeyRefused::TooMany { most: 20 },
        KeyRefused::ViewerChats,
    ];
    let forbidden = [
        Forbidden::AgentApiOff,
        Forbidden::NoAccount,
        Forbidden::NotInvited,
        Forbidden::AccountExists,
        Forbidden::Registration,
        Forbidden::TokenInAddress,
        Forbidden::Viewer,
        Forbidden::OtherPerson,
        Forbidden::Route,
    ];
    let (logins, keys, forbidden) = (logins.map(Rejection::Login), keys.map(Rejection::Key), forbidden.map(Rejection::Forbidden));
    codes.into_iter().chain(logins).chain(keys).chain(forbidden).collect()
}

/// One of each, limits aside.
fn plain_rejections() -> Vec<Rejection> {
    let mut all = rejections_with_kinds();
    all.extend([
        Rejection::Unauthorized,
        Rejection::ForeignOrg,
        Rejection::NoOrg,
        Rejection::SessionEnded,
        Rejection::TokenTooOld,
        Rejection::Suspended(Suspended::Org),
        Rejection::Suspended(Suspended::Member),
        Rejection::Elsewhere(Closing::Org),
        Rejection::Elsewhere(Closing::Account),
        Rejection::Elsewhere(Closing::Key),
        Rejection::ForeignOrigin,
        Rejection::UnknownModel { model: "gpt-9\u{202e}<b>{\"type\":\"ban\"}</b>\n".to_owned() },
        Rejection::Malformed(Malformed::NotJson),
        Rejection::Malformed(Malformed::NotUtf8),
        Rejection::Malformed(Malformed::Truncated),
        Rejection::Malformed(Malformed::Header("Content-Length")),
        Rejection::Malformed(Malformed::Shape),
        Rejection::Malformed(Malformed::Field("text")),
        Rejection::Malformed(Malformed::Target),
        Rejection::TooSlow,
        Rejection::UnsupportedMedia,
        Rejection::LengthRequired,
        Rejection::TooLarge { limit: 3 << 20 },
        Rejection::TooLarge { limit: 1_000 },
        Rejection::NotFound,
        Rejection::MethodNotAllowed { allow: "GET, HEAD" },
        Rejection::StoreClosed,
        Rejection::JournalFull,
        Rejection::IssuerAway,
        Rejection::IdentityAway,
        Rejection::UpstreamAway,
        Rejection::UpstreamBroken,
        Rejection::UpstreamTimeout,
        Rejection::Draining,
        Rejection::Internal,
    ]);
    all
}

const TOKENS: Resource = Resource::Tokens;
const MESSAGES: Resource = Resource::Messages;
const COST: Resource = Resource::Cost;

/// Limits in every state there is something different to say about.
fn limits() -> Vec<Rejection> {
    vec![
        limit(member(), TOKENS, Window::Day, [200_000, 200_113, 0, 1_500]),
        limit(member(), TOKENS, Window::Day, [200_000, 150_000, 50_000, 1_500]),
        limit(member(), TOKENS, Window::Day, [200_000, 150_000, 20_000, 40_000]),
        limit(member(), TOKENS, Window::Day, [200_000, 190_000, 5_000, 40_000]),
        limit(member(), TOKENS, Window::Day, [200_000, 1_000, 0, 250_000]),
        limit(member(), TOKENS, Window::Month, [3_000_000, 3_000_000, 12_000, 1_500]),
        limit(member(), MESSAGES, Window::Day, [300, 300, 0, 1]),
        limit(member(), MESSAGES, Window::Day, [1, 0, 1, 1]),
        limit(member(), MESSAGES, Window::Day, [0, 0, 0, 1]),
        limit(member(), COST, Window::Day, [5_000_000_000, 5_030_000_000, 0, 40_000_000]),
        limit(member(), COST, Window::Day, [5_000_000_000, 4_999_600_000, 0, 12_000_000]),
        limit(member(), COST, Window::Month, [50_000_000_000, 49_000_000_000, 999_000_000, 40_000_000]),
        limit(member(), COST, Window::Day, [0, 0, 0, 40_000_000]),
        limit(org(), TOKENS, Window::Month, [30_000_000, 30_000_000, 0, 1_500]),
        limit(org(), COST, Window::Month, [1_500_000_000_000, 1_500_000_000_000, 0, 40_000_000]),
        limit(org(), COST, Window::Day, [2_000_000_000, 100_000_000, 0, 2_500_000_000]),
        limit(Scope::Everyone, MESSAGES, Window::Day, [10_000, 10_000, 0, 1]),
        limit(Scope::Everyone, COST, Window::Month, [9_000_000_000_000, 9_000_000_000_001, 0, 1]),
    ]
}

fn shown(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = writeln!(text, "{name}: {value}");
    }
    let _ = writeln!(text, "\n{}", String::from_utf8_lossy(&answer.body));
    text
}

#[test]
fn every_rejection_for_every_audience_in_every_language() {
    let zone = seoul();
    let mut rejections = plain_rejections();
    rejections.push(limits().remove(3));
    for audience in AUDIENCES {
        for language in LANGUAGES {
            let mut all = String::new();
            for rejection in &rejections {
                let _ = writeln!(all, "=== {}\n{}", rejection.kind(), shown(&rejection.answer(&context(audience, language, &zone))));
            }
            insta::assert_snapshot!(format!("{audience:?}_{}", language.code()).to_lowercase(), all);
        }
    }
}

#[test]
fn what_a_person_reads_about_each_limit() {
    let zone = seoul();
    let mut all = String::new();
    for rejection in limits() {
        for language in LANGUAGES {
            let _ = writeln!(all, "{}", rejection.sentences(&context(Audience::Chat, language, &zone)));
        }
        all.push('\n');
    }
    insta::assert_snapshot!("limits", all);
}

#[test]
fn the_opening_is_told_in_the_persons_own_zone() {
    let rejection = limit(org(), TOKENS, Window::Day, [10, 10, 0, 1]);
    let mut all = String::new();
    for name in ["UTC", "America/New_York", "Asia/Kathmandu"] {
        let zone = TimeZone::get(name).unwrap();
        let _ = writeln!(all, "{}", rejection.sentences(&context(Audience::Chat, Language::En, &zone)));
    }
    let fixed = TimeZone::fixed(jiff::tz::offset(-3));
    let _ = writeln!(all, "{}", rejection.sentences(&context(Audience::Chat, Language::En, &fixed)));
    insta::assert_snapshot!("zones", all);
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_used_up_limit_names_its_reset_in_seconds() {
    let zone = seoul();
    let answer = limit(member(), TOKENS, Window::Day, [200, 250, 10, 5]).answer(&context(Audience::Chat, Language::En, &zone));
    assert_eq!(header(&answer, "RateLimit-Limit"), Some("200"));
    assert_eq!(header(&answer, "RateLimit-Remaining"), Some("0"));
    assert_eq!(header(&answer, "RateLimit-Reset"), Some("30600"), "8.5 hours until midnight in Seoul");
    assert_eq!(header(&answer, "Retry-After"), Some("30600"));
}

#[test]
fn a_limit_that_running_answers_hold_may_be_tried_again_soon() {
    let zone = seoul();
    let answer = limit(member(), TOKENS, Window::Day, [200, 100, 100, 50]).answer(&context(Audience::Chat, Language::En, &zone));
    assert_eq!(header(&answer, "Retry-After"), Some("30"));
    assert_eq!(header(&answer, "RateLimit-Reset"), Some("30600"));
}

#[test]
fn seconds_are_rounded_up_and_never_nothing() {
    let later = |text: &str| seconds_until(text.parse().unwrap(), "2026-11-20T00:00:00.5Z".parse().unwrap());
    assert_eq!(later("2026-11-20T00:00:02Z"), 2);
    assert_eq!(later("2026-11-20T00:00:00.5Z"), 1);
    assert_eq!(later("2020-01-01T00:00:00Z"), 1, "a clock that jumped must not make a client hammer");
}

#[test]
fn only_draining_has_a_code_on_a_chat() {
    let zone = seoul();
    for rejection in plain_rejections().into_iter().chain(limits()) {
        let answer = rejection.answer(&context(Audience::Chat, Language::En, &zone));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body.get("code").is_some(), rejection == Rejection::Draining, "{rejection:?} gave {body}");
    }
}

/// Text with what could break a body out: braces, quotes, controls, markup, any letters.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![".{0,200}", "[{}\"\\\\<>&'\\x00-\\x1f\u{202a}-\u{202e}a-z]{0,200}", "\\PC{0,20}"]
}

fn any_limit() -> impl Strategy<Value = Rejection> {
    let scope = prop_oneof![Just(member()), Just(org()), Just(Scope::Everyone)];
    let resource = prop_oneof![Just(TOKENS), Just(MESSAGES), Just(COST)];
    let window = prop_oneof![Just(Window::Day), Just(Window::Month)];
    let amount = || prop_oneof![0..10_u64, 0..10_000_000_000_u64, 0..=MAX_AMOUNT, Just(u64::MAX)];
    (scope, resource, window, [amount(), amount(), amount(), amount()])
        .prop_map(|(scope, resource, window, numbers)| limit(scope, resource, window, numbers))
}

fn any_rejection() -> impl Strategy<Value = Rejection> {
    prop_oneof![any_limit(), nasty().prop_map(|model| Rejection::UnknownModel { model }), proptest::sample::select(plain_rejections())]
}

proptest! {
    #[test]
    fn the_sentences_hold_no_brace_and_stay_on_one_line(
        rejection in any_rejection(), language in proptest::sample::select(LANGUAGES.to_vec()), reference in nasty(),
    ) {
        let zone = seoul();
        let context = AnswerContext { reference: &reference, ..context(Audience::Chat, language, &zone) };
        let sentences = rejection.sentences(&context);
        prop_assert!(!sentences.contains(['{', '}']), "{}", sentences);
        prop_assert!(!sentences.chars().any(char::is_control), "{:?}", sentences);
        prop_assert!(sentences.chars().count() < 700, "{}", sentences);
    }

    #[test]
    fn a_chat_body_shows_the_same_sentences_in_every_version(
        rejection in any_rejection(), language in proptest::sample::select(LANGUAGES.to_vec()),
    ) {
        prop_assume!(!matches!(rejection, Rejection::Unauthorized | Rejection::Draining));
        let zone = seoul();
        let context = context(Audience::Chat, language, &zone);
        let sentences = rejection.sentences(&context);
        let body: Value = serde_json::from_slice(&rejection.answer(&context).body).unwrap();
        let shown = serde_json::json!({ "type": "google_error", "info": sentences });
        let text: Value = serde_json::from_str(body["text"].as_str().unwrap()).unwrap();
        prop_assert_eq!(&text, &shown);
        let whole = serde_json::json!({
            "type": "google_error", "info": sentences, "text": body["text"], "message": sentences,
            "error": { "message": sentences, "type": "rate_limit_error" },
        });
        prop_assert_eq!(body, whole);
    }

    #[test]
    fn every_body_is_what_its_content_type_says(
        rejection in any_rejection(), request_id in nasty(), reference in nasty(),
        audience in proptest::sample::select(AUDIENCES.to_vec()), language in proptest::sample::select(LANGUAGES.to_vec()),
    ) {
        let zone = seoul();
        let context = AnswerContext { reference: &reference, request_id: &request_id, ..context(audience, language, &zone) };
        let answer = rejection.answer(&context);
        if audience == Audience::Page {
            let page = String::from_utf8(answer.body.to_vec()).unwrap();
            let harmless = Rejection::NotFound.answer(&super::tests::context(audience, language, &zone)).body;
            let tags = |page: &str| page.matches('<').count();
            prop_assert_eq!(tags(&page), tags(&String::from_utf8_lossy(&harmless)), "foreign text opened a tag: {}", page);
        } else {
            prop_assert!(serde_json::from_slice::<Value>(&answer.body).is_ok());
        }
        for (name, value) in &answer.headers {
            prop_assert!(http::HeaderValue::from_str(value).is_ok(), "{}: {:?}", name, value);
        }
    }
}
