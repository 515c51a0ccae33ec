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
        .route("/api/auth/register", post(register))
        .route("/api/auth/refresh", post(refresh))
        .route("/api/auth/logout", post(logout))
        .route("/api/user", get(user))
}

async fn login(State(place): State<Arc<Place>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    match place.user_by_email(text("email")).filter(|user| user.password == text("password")) {
        Some(user) => signed_in(&place, &user),
        None => answer::message(StatusCode::NOT_FOUND, "Incorrect password."),
    }
}

async fn register(State(place): State<Arc<Place>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty());
    let (Some(email), Some(password), Some(name)) = (text("email").filter(|email| email.contains('@')), text("password"), text("name"))
    else {
        return answer::message(StatusCode::BAD_REQUEST, "Validation failed");
    };
    let user = User::new(email);
    let username = text("username").map_or(user.username.clone(), str::to_lowercase);
    place.register(User { password: password.to_owned(), name: name.to_owned(), username, ..user });
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
        .put("emailVerified", true)
        .put("avatar", Value::Null)
        .put("provider", "local")
        .put("role", user.role.clone())
        .put("plugins", Vec::<Node>::new())
        .put("twoFactorEnabled", false)
        .put("termsAccepted", false)
        .put("favorites", Vec::<Node>::new())
}
