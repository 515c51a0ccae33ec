//! Logging in, staying in, and who one is.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scripted::auth::{self, Claims};
use crate::scripted::json::{Node, Object};
use crate::scripted::options::User;
use crate::scripted::place::Place;

use super::answer;
use super::person::Person;

/// `/api/auth/*` and `/api/user`.
pub fn routes() -> Router<Arc<Place>> {
    Router::new()
        .route("/api/auth/login", post(login))
        .route("/api/auth/login/", post(login))
        .route("/API/auth/LOGIN", post(login))
        .route("/api/admin/login/local", post(login))
        .route("/api/auth/2fa/verify-temp", post(second_factor))
        .route("/api/auth/register", post(register))
        .route("/api/auth/refresh", post(refresh))
        .route("/api/auth/logout", post(logout))
        .route("/api/user", get(user))
}

/// As LibreChat's password strategy: what it finds wrong with a body is a 404 too.
async fn login(State(place): State<Arc<Place>>, body: Bytes) -> Response {
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => return answer::text(StatusCode::BAD_REQUEST, "text/html; charset=utf-8", "Bad Request"),
    };
    let wrong = |message: &str| answer::message(StatusCode::NOT_FOUND, message);
    if [&body["email"], &body["password"]].iter().any(|value| matches!(value.as_str(), Some("")) || value.is_null()) {
        return wrong("Missing credentials");
    }
    let (Some(email), Some(password)) = (body["email"].as_str().map(str::trim), body["password"].as_str()) else {
        return wrong("email: Expected string, received array");
    };
    if !email.contains('@') {
        return wrong("email: Invalid email");
    }
    if password.chars().count() < 8 {
        return wrong("password: String must contain at least 8 character(s)");
    }
    match place.user_by_email(email) {
        None => wrong("Email does not exist."),
        Some(user) if user.password != password => wrong("Incorrect password."),
        Some(user) if !user.verified => answer::message(StatusCode::UNPROCESSABLE_ENTITY, "Email not verified."),
        Some(user) if user.code.is_some() => code_asked(&place, &user),
        Some(user) => signed_in(&place, &user),
    }
}

/// What the first step leaves the second.
#[derive(Serialize, Deserialize)]
struct TempClaims {
    #[serde(rename = "userId")]
    user_id: String,
    #[serde(rename = "twoFAPending")]
    pending: bool,
    exp: i64,
}

fn code_asked(place: &Place, user: &User) -> Response {
    let claims = TempClaims { user_id: user.id.clone(), pending: true, exp: place.now().as_second() + 300 };
    let key = EncodingKey::from_secret(place.options.jwt_secret.as_bytes());
    match jsonwebtoken::encode(&Header::default(), &claims, &key) {
        Ok(token) => answer::ok(&Object::new().put("twoFAPending", true).put("tempToken", token)),
        Err(_) => answer::message(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong"),
    }
}

async fn second_factor(State(place): State<Arc<Place>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(token) = body["tempToken"].as_str() else {
        return answer::message(StatusCode::BAD_REQUEST, "Missing temporary token");
    };
    let mut rules = Validation::new(Algorithm::HS256);
    rules.validate_exp = false;
    let key = DecodingKey::from_secret(place.options.jwt_secret.as_bytes());
    let claims = jsonwebtoken::decode::<TempClaims>(token, &key, &rules).map(|token| token.claims);
    let Some(claims) = claims.ok().filter(|claims| claims.exp > place.now().as_second()) else {
        return answer::message(StatusCode::UNAUTHORIZED, "Invalid or expired temporary token");
    };
    match place.user(&claims.user_id).filter(|user| user.code.is_some()) {
        None => answer::message(StatusCode::BAD_REQUEST, "2FA is not enabled for this user"),
        Some(user) if user.code.as_deref() == body["token"].as_str() => signed_in(&place, &user),
        Some(_) => answer::message(StatusCode::UNAUTHORIZED, "Invalid 2FA code or backup code"),
    }
}

/// As LibreChat does, which says the same of an address that has an account already.
async fn register(State(place): State<Arc<Place>>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    if !place.options.registration {
        return answer::message(StatusCode::FORBIDDEN, "Registration is not allowed.");
    }
    let address = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !place.may_sign_up(address) {
        return answer::message(StatusCode::TOO_MANY_REQUESTS, "Too many accounts created, please try again after 60 minutes.");
    }
    let (name, email, password) = (text("name"), text("email"), text("password"));
    let length = |text: &str| text.chars().count();
    let wrong = [
        ((3..=80).contains(&length(name)), "name: String must contain at least 3 character(s)"),
        (email.split_once('@').is_some_and(|(_, domain)| domain.contains('.')), "email: Invalid email"),
        ((8..=128).contains(&length(password)), "password: String must contain at least 8 character(s)"),
        (password == text("confirm_password"), ": The passwords did not match"),
    ];
    if let Some((_, message)) = wrong.iter().find(|(fits, _)| !fits) {
        return answer::message(StatusCode::NOT_FOUND, message);
    }
    let user = User::new(email);
    let username = if text("username").is_empty() { user.username.clone() } else { text("username").to_lowercase() };
    place.sign_up(User { password: password.to_owned(), name: name.to_owned(), username, ..user });
    answer::message(StatusCode::OK, "Please check your email to verify your email address.")
}

async fn refresh(State(place): State<Arc<Place>>, headers: HeaderMap) -> Response {
    let mut cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let Some(token) = cookies.find_map(|cookie| cookie.trim().strip_prefix("refreshToken=")) else {
        return answer::text(StatusCode::OK, "text/html; charset=utf-8", "Refresh token not provided");
    };
    let claims = auth::verify(&refresh_secret(&place), token, place.now());
    match claims.ok().and_then(|claims| place.user(&claims.id)) {
        Some(user) => signed_in(&place, &user),
        None => answer::text(StatusCode::FORBIDDEN, "text/html; charset=utf-8", "Invalid refresh token"),
    }
}

async fn logout(Person(_): Person) -> Response {
    let mut response = answer::message(StatusCode::OK, "Logout successful");
    for name in ["refreshToken", "token_provider"] {
        set_cookie(&mut response, &format!("{name}=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"));
    }
    response
}

async fn user(Person(user): Person) -> Response {
    answer::ok(&show(&user))
}

fn signed_in(place: &Place, user: &User) -> Response {
    let now = place.now();
    let access = auth::mint(&place.options.jwt_secret, user, now);
    let refresh = Claims { exp: now.as_second() + auth::REFRESH_LIFETIME, ..Claims::of(user, now) }.sign(&refresh_secret(place));
    let (Ok(access), Ok(refresh)) = (access, refresh) else {
        return answer::message(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong");
    };
    let mut response = answer::ok(&Object::new().put("token", access).put("user", show(user)));
    let until = now.saturating_add(SignedDuration::from_secs(auth::REFRESH_LIFETIME)).unwrap_or(now).strftime("%a, %d %b %Y %H:%M:%S GMT");
    for (name, value) in [("refreshToken", refresh.as_str()), ("token_provider", "librechat")] {
        set_cookie(&mut response, &format!("{name}={value}; Path=/; Expires={until}; HttpOnly; SameSite=Strict"));
    }
    response
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

fn refresh_secret(place: &Place) -> String {
    format!("{}-refresh", place.options.jwt_secret)
}

fn show(user: &User) -> Object {
    Object::new()
        .put("_id", user.id.clone())
        .put("id", user.id.clone())
        .put("name", user.name.clone())
        .put("username", user.username.clone())
        .put("email", user.email.clone())
        .put("emailVerified", user.verified)
        .put("avatar", Value::Null)
        .put("provider", "local")
        .put("role", user.role.clone())
        .put("plugins", Vec::<Node>::new())
        .put("twoFactorEnabled", user.code.is_some())
        .put("termsAccepted", false)
        .put("favorites", Vec::<Node>::new())
}
