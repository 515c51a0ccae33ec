//! Every sentence in Korean, in the polite form.

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
                "요청하신 모델(\"{model}\")은 가격이 등록되어 있지 않아 사용하실 수 없습니다. 다른 모델을 선택하시거나 관리자에게 문의해 주세요."
            );
        }
        Rejection::Login(refused) => return login(*refused, context),
        Rejection::TooLarge { limit } => return format!("요청이 너무 큽니다. 최대 {}까지 보내실 수 있습니다.", size(*limit, "바이트")),
        Rejection::Malformed(reason) => return format!("요청을 읽을 수 없습니다. {}", malformed(*reason)),
        Rejection::Unauthorized => "로그인 정보가 없거나 만료되었습니다. 다시 로그인해 주세요.",
        Rejection::ForeignOrg => "현재 로그인 정보로는 이 조직을 이용하실 수 없습니다.",
        Rejection::NoOrg => "계정이 등록된 조직에 속해 있지 않아 메시지를 보내실 수 없습니다. 관리자에게 문의해 주세요.",
        Rejection::SessionEnded => "로그아웃되었습니다. 다시 로그인해 주세요.",
        Rejection::Code(_) => {
            "이 링크는 이미 사용되었거나, 너무 오래되었거나, 이곳에서 사용할 수 없습니다. 이용 중인 애플리케이션에서 채팅을 다시 열어 주세요."
        }
        Rejection::TokenTooOld => "로그인한 지 너무 오래되었습니다. 이용 중인 애플리케이션에 다시 로그인해 주세요.",
        Rejection::Suspended(Suspended::Org) => "소속 조직의 이용이 정지되어 메시지를 보내실 수 없습니다. 관리자에게 문의해 주세요.",
        Rejection::Suspended(Suspended::Member) => "계정이 정지되어 메시지를 보내실 수 없습니다. 관리자에게 문의해 주세요.",
        Rejection::Key(refused) => return key(*refused),
        Rejection::Elsewhere(Closing::Org) => {
            "소속 조직에서 현재 네트워크를 통한 접속을 허용하지 않습니다. 허용된 네트워크에서 이용하시거나 관리자에게 문의해 주세요."
        }
        Rejection::Elsewhere(Closing::Account) => {
            "현재 네트워크에서는 이 계정을 사용하실 수 없습니다. 허용된 네트워크에서 이용하시거나 관리자에게 문의해 주세요."
        }
        Rejection::Elsewhere(Closing::Key) => "현재 네트워크에서는 이 API 키를 사용하실 수 없습니다.",
        Rejection::Forbidden(what) => forbidden(*what),
        Rejection::ForeignOrigin => "다른 사이트의 페이지에서 보낸 요청은 허용되지 않습니다.",
        Rejection::TooSlow => "요청이 도착하는 데 시간이 너무 오래 걸렸습니다. 다시 시도해 주세요.",
        Rejection::UnsupportedMedia => "요청은 압축하지 않은 JSON(Content-Type: application/json)이어야 합니다.",
        Rejection::LengthRequired => "요청이 커서 길이(Content-Length)를 함께 보내셔야 합니다.",
        Rejection::NotFound => "요청하신 주소를 찾을 수 없습니다.",
        Rejection::MethodNotAllowed { .. } => "이 주소에서는 사용할 수 없는 메서드입니다.",
        Rejection::StoreClosed => "지금은 사용 한도를 확인할 수 없어 메시지를 받을 수 없습니다. 1분 후에 다시 시도해 주세요.",
        Rejection::JournalFull => "지금은 메시지를 기록할 수 없습니다. 1분 후에 다시 시도해 주세요.",
        Rejection::IssuerAway | Rejection::IdentityAway => "지금은 로그인 정보를 확인할 수 없습니다. 1분 후에 다시 시도해 주세요.",
        Rejection::UpstreamAway => "지금은 채팅 서비스에 연결할 수 없습니다. 1분 후에 다시 시도해 주세요.",
        Rejection::UpstreamBroken => {
            "채팅 서비스와의 연결이 끊어졌습니다. 메시지가 이미 전달되었을 수 있으니 페이지를 새로 고쳐 확인하신 뒤, 보이지 않으면 1분 후에 다시 시도해 주세요."
        }
        Rejection::UpstreamTimeout => {
            "채팅 서비스의 응답이 너무 늦어지고 있습니다. 메시지가 이미 전달되었을 수 있으니 페이지를 새로 고쳐 확인하신 뒤, 보이지 않으면 1분 후에 다시 시도해 주세요."
        }
        Rejection::Draining => "서비스를 다시 시작하고 있습니다. 잠시 후 다시 시도해 주세요.",
        Rejection::Internal => "처리 중 문제가 발생했습니다. 다시 시도해 주시고, 문제가 계속되면 관리자에게 알려 주세요.",
    };
    said.to_owned()
}

fn forbidden(what: Forbidden) -> &'static str {
    match what {
        Forbidden::AgentApiOff => "에이전트 API를 사용할 수 없도록 설정되어 있습니다. 웹 페이지를 이용하시거나 관리자에게 문의해 주세요.",
        Forbidden::NoAccount => "회원님의 이메일 주소로 등록된 채팅 계정이 아직 없습니다. 관리자에게 문의해 주세요.",
        Forbidden::NotInvited => "소속 조직에서 아직 채팅에 초대하지 않았습니다. 관리자에게 문의해 주세요.",
        Forbidden::AccountExists => "회원님의 이메일 주소로 등록된 다른 채팅 계정이 있어 로그인할 수 없습니다. 관리자에게 문의해 주세요.",
        Forbidden::Registration => "이곳의 계정은 애플리케이션에서 만들어집니다. 애플리케이션에서 로그인해 주세요.",
        Forbidden::TokenInAddress => {
            "이 주소에는 로그인 정보가 들어 있어 사용할 수 없습니다. 이용 중인 애플리케이션에서 채팅을 열거나 관리자에게 문의해 주세요."
        }
        Forbidden::OtherPerson => "이 브라우저에는 다른 사람으로 로그인되어 있습니다. 페이지를 새로 고쳐 주세요.",
        Forbidden::Viewer => "이 계정은 읽기만 할 수 있어 메시지를 보내실 수 없습니다. 관리자에게 문의해 주세요.",
        Forbidden::Route => "이 작업을 수행할 권한이 없습니다. 관리자에게 문의해 주세요.",
    }
}

fn key(refused: KeyRefused) -> String {
    match refused {
        KeyRefused::Scope(scope) => format!("이 API 키에는 이 요청에 필요한 \"{}\" 권한이 없습니다.", scope.as_str()),
        KeyRefused::Never => "이 작업에는 API 키를 사용하실 수 없습니다.".to_owned(),
        KeyRefused::AgentApi => {
            "에이전트 API에는 LibreChat 설정에서 발급한 API 키(sk-...)만 사용하실 수 있습니다. 이 키는 다른 경로에서 사용해 주세요."
                .to_owned()
        }
        KeyRefused::TooMany { most } => {
            format!(
                "API 키는 {most}개까지 보유하실 수 있습니다. 사용하지 않는 키를 폐기해 주세요. 최근 하루 안에 폐기한 키도 개수에 포함됩니다."
            )
        }
        KeyRefused::ViewerChats => "보기 전용 사용자는 메시지를 보낼 수 없으므로 키에 \"chat\" 권한을 주실 수 없습니다.".to_owned(),
    }
}

fn login(refused: LoginRefused, context: &AnswerContext<'_>) -> String {
    let minutes = |until| thousands(u128::from(minutes_until(until, context.now).unsigned_abs()));
    match refused {
        LoginRefused::Locked { until } => {
            format!("이 이름으로 로그인에 너무 많이 실패했습니다. {}분 후에 다시 시도하시거나 관리자에게 문의해 주세요.", minutes(until))
        }
        LoginRefused::Slowed { until } => {
            format!("현재 네트워크에서 로그인에 너무 많이 실패했습니다. {}분 후에 다시 시도해 주세요.", minutes(until))
        }
        LoginRefused::Busy => "같은 로그인 요청을 여러 건 확인하고 있습니다. 잠시 후 다시 시도해 주세요.".to_owned(),
        LoginRefused::Suspended(Suspended::Org) => {
            "소속 조직의 이용이 정지되어 로그인하실 수 없습니다. 관리자에게 문의해 주세요.".to_owned()
        }
        LoginRefused::Suspended(Suspended::Member) => "계정이 정지되어 로그인하실 수 없습니다. 관리자에게 문의해 주세요.".to_owned(),
        LoginRefused::Away => "지금은 로그인을 확인할 수 없습니다. 1분 후에 다시 시도해 주세요.".to_owned(),
    }
}

fn malformed(reason: Malformed) -> String {
    match reason {
        Malformed::NotJson => "본문이 JSON 객체가 아닙니다.".to_owned(),
        Malformed::NotUtf8 => "텍스트가 올바른 UTF-8이 아닙니다.".to_owned(),
        Malformed::Truncated => "본문이 중간에 끊겼습니다.".to_owned(),
        Malformed::Header(name) => format!("헤더가 없거나 올바르지 않습니다({name})."),
        Malformed::Shape => "본문의 필드 형식이 올바르지 않거나 같은 필드가 두 번 있습니다.".to_owned(),
        Malformed::Field(name) => format!("필드가 없거나 올바르지 않습니다({name})."),
        Malformed::Target => "주소가 올바르지 않습니다.".to_owned(),
    }
}

fn limit(refusal: &Refusal, opening: &Opening) -> String {
    let facts = Facts::of(refusal);
    let resource = refusal.bucket.resource;
    let name = limit_name(refusal);
    let words = Words::of(resource, &facts);
    let needs = words.amount(facts.needs);
    let Words { subject, name_subject, toward, .. } = words;
    let smaller = smaller(resource);
    let noun = if resource == Resource::Cost { "예산" } else { "한도" };
    let state = words.state(&facts, noun);
    let opens = opens(opening);
    match facts.reason() {
        Reason::Closed => {
            format!("{name}{name_subject} {}{toward} 설정되어 있어 메시지를 보내실 수 없습니다. 관리자에게 문의해 주세요.", words.amount(0))
        }
        Reason::UsedUp => format!("{name}{name_subject} 모두 소진되었습니다. {state} {opens}에 초기화되어 다시 이용하실 수 있습니다."),
        Reason::TooSmall => {
            let whole = words.amount(facts.limit);
            format!(
                "이 메시지를 보내기에는 {name}{name_subject} 너무 작습니다. 최소 {needs}{subject} 필요하지만 전체 {noun}{name_subject} {whole}입니다. {state}{smaller}"
            )
        }
        Reason::Held => format!(
            "지금은 {name}에 여유가 없습니다. {state} 진행 중인 답변이 끝난 뒤에 다시 시도해 주세요. {opens}에는 {noun} 전체가 초기화됩니다."
        ),
        Reason::NotEnough { fits_later } => {
            let left = words.left(&facts);
            let wait = if fits_later { " 진행 중인 답변이 끝난 뒤에 다시 시도하셔도 됩니다." } else { "" };
            format!(
                "이 메시지를 보내기에는 {name}{name_subject} 부족합니다. {state} 이 메시지에는 최소 {needs}{subject} 필요하지만 {left}만 남아 있습니다.{smaller}{wait} {opens}에는 {noun} 전체가 초기화됩니다."
            )
        }
    }
}

fn limit_name(refusal: &Refusal) -> String {
    let whose = match refusal.bucket.scope {
        Scope::Member { .. } => "회원님의",
        Scope::Org { .. } => "소속 조직의",
        Scope::Everyone => "전체 이용자가 함께 쓰는",
    };
    let window = match refusal.bucket.period.window {
        Window::Day => "일일",
        Window::Month => "월간",
    };
    let what = match refusal.bucket.resource {
        Resource::Tokens => "토큰 한도",
        Resource::Messages => "메시지 한도",
        Resource::Cost => "예산",
    };
    format!("{whose} {window} {what}")
}

/// What a person can do about a message that is too large.
fn smaller(resource: Resource) -> &'static str {
    match resource {
        Resource::Tokens => " 메시지를 줄이거나 새 대화를 시작하면 보내실 수도 있습니다.",
        Resource::Cost => " 메시지를 줄이거나, 새 대화를 시작하거나, 더 저렴한 모델을 선택하면 보내실 수도 있습니다.",
        Resource::Messages => "",
    }
}

fn opens(opening: &Opening) -> String {
    let Opening { day, date, time, zone } = opening;
    let weekday = match date.weekday() {
        Weekday::Monday => "월요일",
        Weekday::Tuesday => "화요일",
        Weekday::Wednesday => "수요일",
        Weekday::Thursday => "목요일",
        Weekday::Friday => "금요일",
        Weekday::Saturday => "토요일",
        Weekday::Sunday => "일요일",
    };
    let whole = format!("{}년 {}월 {}일 {weekday}", date.year(), date.month(), date.day());
    match day {
        Day::Today => format!("오늘 {time}({zone})"),
        Day::Tomorrow => format!("내일 {time}({whole}, {zone})"),
        Day::Later => format!("{whole} {time}({zone})"),
    }
}

/// Amounts of one resource in words, and the particles that follow their unit and the limit's name.
struct Words {
    unit: &'static str,
    money: Option<Money>,
    object: &'static str,
    subject: &'static str,
    toward: &'static str,
    name_subject: &'static str,
}

impl Words {
    fn of(resource: Resource, facts: &Facts) -> Self {
        match resource {
            Resource::Tokens => Self { unit: "토큰", money: None, object: "을", subject: "이", toward: "으로", name_subject: "가" },
            Resource::Messages => Self { unit: "건", money: None, object: "을", subject: "이", toward: "으로", name_subject: "가" },
            Resource::Cost => {
                Self { unit: "달러", money: Some(Money::of(facts)), object: "를", subject: "가", toward: "로", name_subject: "이" }
            }
        }
    }

    /// `1,000토큰`, `5.00달러`.
    fn amount(&self, amount: u64) -> String {
        let shown = self.money.as_ref().map_or_else(|| thousands(u128::from(amount)), |money| money.show(u128::from(amount)));
        format!("{shown}{}", self.unit)
    }

    fn left(&self, facts: &Facts) -> String {
        self.money.as_ref().map_or_else(|| self.amount(facts.left()), |money| format!("{}{}", money.left(facts), self.unit))
    }

    /// What is used of the limit, or of more than it allows, and what running answers hold.
    fn state(&self, facts: &Facts, noun: &str) -> String {
        let Self { object, subject, .. } = self;
        let (limit, used) = (self.amount(facts.limit), self.amount(facts.used));
        let (said, end, goes_on) = if facts.used > facts.limit && used != limit {
            (format!("{noun} {limit}, 사용 {used}"), "입니다.", "이며")
        } else {
            (format!("{limit} 중 {used}{object} 사용했"), "습니다.", "고")
        };
        if facts.held == 0 {
            format!("{said}{end}")
        } else {
            format!("{said}{goes_on}, 진행 중인 답변에 {}{subject} 더 예약되어 있습니다.", self.amount(facts.held))
        }
    }
}
