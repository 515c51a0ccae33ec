//! The names of what people do in LibreChat, for audit rows: `auth.login`, `file.uploaded`, `share.created`.

use super::routes::{Route, segments};

/// The name of a request that has none of its own.
const OTHER: &str = "api.request";

/// Method, path, what it is called, and what it is called when it failed where that is another name. In a path `:` stands
/// for any one part of it and `*`, at its end, for any number of them. The first line that fits counts.
pub const ACTIONS: &[(&str, &str, &str, Option<&str>)] = &[
    // Signing in and out.
    ("POST", "/api/auth/login", "auth.login", Some("auth.login_failed")),
    ("POST", "/api/auth/2fa/verify-temp", "auth.two_factor_login", Some("auth.two_factor_failed")),
    ("POST", "/api/admin/login/local", "auth.admin_login", Some("auth.admin_login_failed")),
    ("GET", "/api/librechat/auth", "auth.handed_off", Some("auth.hand_off_refused")),
    ("POST", "/api/librechat/auth", "auth.token_exchanged", Some("auth.token_exchange_refused")),
    ("GET", "/_tollgate/enter", "auth.entered", Some("auth.enter_refused")),
    ("POST", "/api/auth/logout", "auth.logout", None),
    ("POST", "/api/auth/register", "auth.registered", Some("auth.registration_failed")),
    ("POST", "/api/auth/refresh", "auth.refreshed", Some("auth.refresh_failed")),
    ("POST", "/api/auth/cloudfront/refresh", "auth.refreshed", Some("auth.refresh_failed")),
    ("POST", "/api/admin/oauth/refresh", "auth.refreshed", Some("auth.refresh_failed")),
    ("POST", "/api/admin/oauth/exchange", "auth.admin_login", Some("auth.admin_login_failed")),
    ("POST", "/api/auth/requestPasswordReset", "auth.password_reset_requested", None),
    ("POST", "/api/auth/resetPassword", "auth.password_reset", Some("auth.password_reset_failed")),
    ("POST", "/api/auth/2fa/enable", "auth.two_factor_begun", None),
    ("POST", "/api/auth/2fa/verify", "auth.two_factor_verified", Some("auth.two_factor_failed")),
    ("POST", "/api/auth/2fa/confirm", "auth.two_factor_enabled", Some("auth.two_factor_failed")),
    ("POST", "/api/auth/2fa/disable", "auth.two_factor_disabled", Some("auth.two_factor_failed")),
    ("POST", "/api/auth/2fa/backup/regenerate", "auth.backup_codes_created", None),
    ("GET", "/api/auth/graph-token", "auth.graph_token_issued", None),
    ("GET", "/oauth/:/callback", "auth.login_returned", Some("auth.login_failed")),
    ("POST", "/oauth/:/callback", "auth.login_returned", Some("auth.login_failed")),
    ("GET", "/oauth/error", "auth.login_failed", None),
    ("GET", "/oauth/:", "auth.login_begun", None),
    ("GET", "/api/admin/oauth/:/callback", "auth.login_returned", Some("auth.login_failed")),
    ("POST", "/api/admin/oauth/:/callback", "auth.login_returned", Some("auth.login_failed")),
    // A person's own account.
    ("POST", "/api/user/verify", "user.email_verified", Some("user.email_verification_failed")),
    ("POST", "/api/user/verify/resend", "user.email_verification_requested", None),
    ("POST", "/api/user/terms/accept", "user.terms_accepted", None),
    ("POST", "/api/user/plugins", "user.plugins_changed", None),
    ("PATCH", "/api/user/preferences", "user.preferences_changed", None),
    ("DELETE", "/api/user/delete", "user.deleted", None),
    ("PUT", "/api/user/settings/*", "user.settings_changed", None),
    ("POST", "/api/user/settings/*", "user.settings_changed", None),
    ("DELETE", "/api/user/settings/*", "user.settings_changed", None),
    ("POST", "/api/files/images/avatar", "user.avatar_changed", None),
    // Chats; their starts are told apart by their route, whatever their spelling.
    ("POST", "/api/agents/chat/steer/cancel", "chat.steer_cancelled", None),
    ("POST", "/api/agents/chat/steer/arm", "chat.steer_armed", None),
    ("POST", "/api/agents/chat/abort", "chat.stopped", None),
    ("POST", "/api/assistants/:/chat/abort", "chat.stopped", None),
    ("GET", "/api/agents/chat/status/:", "chat.status_read", None),
    // Conversations and messages.
    ("DELETE", "/api/convos/all", "conversation.all_deleted", None),
    ("DELETE", "/api/convos", "conversation.deleted", None),
    ("POST", "/api/convos/archive/all", "conversation.all_archived", None),
    ("POST", "/api/convos/archive", "conversation.archived", None),
    ("POST", "/api/convos/pin", "conversation.pinned", None),
    ("POST", "/api/convos/update", "conversation.changed", None),
    ("POST", "/api/convos/import", "conversation.imported", None),
    ("POST", "/api/convos/fork", "conversation.forked", None),
    ("POST", "/api/convos/duplicate", "conversation.duplicated", None),
    ("POST", "/api/messages/branch", "message.branched", None),
    ("POST", "/api/messages/artifact/:", "message.artifact_changed", None),
    ("PUT", "/api/messages/:/:/feedback", "message.rated", None),
    ("PUT", "/api/messages/:/:", "message.changed", None),
    ("DELETE", "/api/messages/:/:", "message.deleted", None),
    ("POST", "/api/messages/:", "message.created", None),
    // Files, speech and tools.
    ("POST", "/api/files/usage", "file.usage_noted", None),
    ("POST", "/api/files/speech/stt", "speech.transcribed", None),
    ("POST", "/api/files/speech/tts/*", "speech.spoken", None),
    ("POST", "/api/files/images/*", "file.uploaded", None),
    ("POST", "/api/files", "file.uploaded", None),
    ("DELETE", "/api/files", "file.deleted", None),
    ("GET", "/api/files/download/*", "file.downloaded", None),
    ("GET", "/api/files/download-url/*", "file.downloaded", None),
    ("GET", "/api/files/code/download/*", "file.downloaded", None),
    ("POST", "/api/agents/tools/:/call", "tool.called", None),
    // Agents, assistants, actions and what they run with.
    ("POST", "/api/agents", "agent.created", None),
    ("PATCH", "/api/agents/:", "agent.changed", None),
    ("POST", "/api/agents/:/duplicate", "agent.duplicated", None),
    ("POST", "/api/agents/:/revert", "agent.reverted", None),
    ("DELETE", "/api/agents/:", "agent.deleted", None),
    ("POST", "/api/agents/:/avatar", "agent.changed", None),
    ("POST", "/api/agents/actions/:", "agent.action_saved", None),
    ("DELETE", "/api/agents/actions/:/:", "agent.action_deleted", None),
    ("POST", "/api/assistants/:", "assistant.created", None),
    ("PATCH", "/api/assistants/:/:", "assistant.changed", None),
    ("DELETE", "/api/assistants/:/:", "assistant.deleted", None),
    ("POST", "/api/assistants/:/actions/:", "assistant.action_saved", None),
    ("DELETE", "/api/assistants/:/actions/*", "assistant.action_deleted", None),
    ("POST", "/api/assistants/:/:/avatar", "assistant.changed", None),
    ("POST", "/api/assistants/:/avatar/:", "assistant.changed", None),
    ("POST", "/api/actions/:/oauth/bind", "tool.connected", None),
    ("GET", "/api/actions/:/oauth/callback", "tool.connected", None),
    ("GET", "/api/mcp/:/oauth/callback", "tool.connected", None),
    ("POST", "/api/mcp/:/reinitialize", "tool_server.restarted", None),
    ("POST", "/api/mcp/*", "tool_server.changed", None),
    ("PATCH", "/api/mcp/*", "tool_server.changed", None),
    ("PUT", "/api/mcp/*", "tool_server.changed", None),
    ("DELETE", "/api/mcp/*", "tool_server.removed", None),
    ("POST", "/api/memories", "memory.created", None),
    ("PATCH", "/api/memories/*", "memory.changed", None),
    ("DELETE", "/api/memories/*", "memory.deleted", None),
    // Keys.
    ("POST", "/api/api-keys", "key.created", None),
    ("DELETE", "/api/api-keys/:", "key.deleted", None),
    ("PUT", "/api/keys", "provider_key.saved", None),
    ("DELETE", "/api/keys", "provider_key.all_deleted", None),
    ("DELETE", "/api/keys/:", "provider_key.deleted", None),
    // What is shared.
    ("POST", "/api/share/:/fork", "share.forked", None),
    ("POST", "/api/share/:", "share.created", None),
    ("PATCH", "/api/share/:", "share.changed", None),
    ("DELETE", "/api/share/:", "share.deleted", None),
    ("GET", "/api/share/link/:", OTHER, None),
    ("GET", "/api/share/:", "share.viewed", None),
    ("GET", "/api/share/:/files/:/download", "share.file_downloaded", None),
    ("PUT", "/api/permissions/*", "permission.changed", None),
    ("POST", "/api/permissions/*", "permission.changed", None),
    // Presets, prompts, skills, projects, tags.
    ("POST", "/api/presets/delete", "preset.deleted", None),
    ("POST", "/api/presets", "preset.saved", None),
    ("POST", "/api/prompts/groups/:/prompts", "prompt.created", None),
    ("POST", "/api/prompts/groups/:/use", "prompt.used", None),
    ("POST", "/api/prompts", "prompt.created", None),
    ("PATCH", "/api/prompts/*", "prompt.changed", None),
    ("DELETE", "/api/prompts/*", "prompt.deleted", None),
    ("POST", "/api/skills/import", "skill.imported", None),
    ("POST", "/api/skills/:/files", "skill.changed", None),
    ("POST", "/api/skills", "skill.created", None),
    ("PATCH", "/api/skills/:", "skill.changed", None),
    ("DELETE", "/api/skills/:/files/*", "skill.changed", None),
    ("DELETE", "/api/skills/:", "skill.deleted", None),
    ("PUT", "/api/projects/conversations/:", "project.conversation_moved", None),
    ("POST", "/api/projects", "project.created", None),
    ("PATCH", "/api/projects/:", "project.changed", None),
    ("DELETE", "/api/projects/:", "project.deleted", None),
    ("POST", "/api/tags/*", "tag.changed", None),
    ("PUT", "/api/tags/*", "tag.changed", None),
    ("DELETE", "/api/tags/*", "tag.deleted", None),
    // What LibreChat's own administrators do.
    ("PUT", "/api/roles/*", "role.permissions_changed", None),
    ("POST", "/api/admin/roles/:/members", "role.member_added", None),
    ("DELETE", "/api/admin/roles/:/members/:", "role.member_removed", None),
    ("PATCH", "/api/admin/roles/:/permissions", "role.permissions_changed", None),
    ("POST", "/api/admin/roles", "role.created", None),
    ("PATCH", "/api/admin/roles/:", "role.changed", None),
    ("DELETE", "/api/admin/roles/:", "role.deleted", None),
    ("POST", "/api/admin/groups/:/members", "group.member_added", None),
    ("DELETE", "/api/admin/groups/:/members/:", "group.member_removed", None),
    ("POST", "/api/admin/groups", "group.created", None),
    ("PATCH", "/api/admin/groups/:", "group.changed", None),
    ("DELETE", "/api/admin/groups/:", "group.deleted", None),
    ("POST", "/api/admin/grants", "grant.created", None),
    ("DELETE", "/api/admin/grants/*", "grant.deleted", None),
    ("PUT", "/api/admin/config/*", "config.changed", None),
    ("PATCH", "/api/admin/config/*", "config.changed", None),
    ("POST", "/api/admin/config/*", "config.changed", None),
    ("DELETE", "/api/admin/config/*", "config.changed", None),
    ("PUT", "/api/admin/langfuse/connection", "config.changed", None),
    ("POST", "/api/admin/langfuse/connection/test", "config.tested", None),
    ("POST", "/api/admin/skills/sync/run", "skill.synchronised", None),
    ("PUT", "/api/admin/skills/sync/credentials/:", "skill.credential_saved", None),
    ("DELETE", "/api/admin/skills/sync/credentials/:", "skill.credential_deleted", None),
    ("GET", "/api/admin/audit-log/export.csv", "audit.exported", None),
    ("GET", "/api/admin/audit-log/*", "audit.read", None),
    ("GET", "/api/admin/insights/*", "usage.read", None),
    ("GET", "/api/admin/users/*", "user.list_read", None),
];

/// The name of what a request did, or was refused to do.
pub fn action(route: &Route, method: &str, path: &str, failed: bool) -> &'static str {
    let either = |done, refused| if failed { refused } else { done };
    match route {
        Route::Chat(_) | Route::AgentApi(_) => return either("chat.started", "chat.refused"),
        Route::Steer => return either("chat.steered", "chat.steer_refused"),
        Route::Stream { .. } => return "chat.streamed",
        Route::Hidden => return "metrics.refused",
        Route::Enter => return either("auth.entered", "auth.enter_refused"),
        _ => {}
    }
    let parts = segments(path);
    let named = ACTIONS.iter().find(|(known, pattern, ..)| method.eq_ignore_ascii_case(known) && fits(pattern, &parts));
    match (named, route) {
        (Some((_, _, name, refused)), _) => either(name, refused.unwrap_or(name)),
        (None, Route::Auth | Route::Login(_) | Route::HandOff | Route::Logout) => "auth.request",
        (None, Route::Page) => "page.request",
        (None, _) => OTHER,
    }
}

/// Whether a path, in lower case, fits a pattern.
fn fits(pattern: &str, parts: &[String]) -> bool {
    let mut parts = parts.iter();
    for wanted in pattern.split('/').skip(1) {
        match (wanted, parts.next()) {
            ("*", _) => return true,
            (":", Some(_)) => {}
            (wanted, Some(part)) if wanted.eq_ignore_ascii_case(part) => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn named(method: &str, path: &str, failed: bool) -> &'static str {
        action(&Route::of(method, path), method, path, failed)
    }

    #[test]
    fn what_people_do_has_names() {
        for (method, path, done, failed) in [
            ("POST", "/api/auth/login", "auth.login", "auth.login_failed"),
            ("POST", "/API/Auth/Login/", "auth.login", "auth.login_failed"),
            ("POST", "/api/auth/logout", "auth.logout", "auth.logout"),
            ("POST", "/api/auth/register", "auth.registered", "auth.registration_failed"),
            ("POST", "/api/auth/refresh", "auth.refreshed", "auth.refresh_failed"),
            ("POST", "/api/agents/chat/openAI", "chat.started", "chat.refused"),
            ("POST", "/api/agents/chat", "chat.started", "chat.refused"),
            ("POST", "/api/agents/chat/resume", "chat.started", "chat.refused"),
            ("POST", "/api/ask/openAI", "chat.started", "chat.refused"),
            ("POST", "/api/agents/v1/responses", "chat.started", "chat.refused"),
            ("POST", "/api/agents/chat/steer", "chat.steered", "chat.steer_refused"),
            ("GET", "/api/agents/chat/stream/c1", "chat.streamed", "chat.streamed"),
            ("POST", "/api/agents/chat/abort", "chat.stopped", "chat.stopped"),
            ("POST", "/api/assistants/v2/chat/abort", "chat.stopped", "chat.stopped"),
            ("POST", "/api/files", "file.uploaded", "file.uploaded"),
            ("POST", "/api/files/images", "file.uploaded", "file.uploaded"),
            ("POST", "/api/files/images/avatar", "user.avatar_changed", "user.avatar_changed"),
            ("DELETE", "/api/files", "file.deleted", "file.deleted"),
            ("GET", "/api/files/download/u1/f1", "file.downloaded", "file.downloaded"),
            ("POST", "/api/files/speech/tts", "speech.spoken", "speech.spoken"),
            ("POST", "/api/files/speech/tts/manual", "speech.spoken", "speech.spoken"),
            ("DELETE", "/api/convos", "conversation.deleted", "conversation.deleted"),
            ("DELETE", "/api/convos/all", "conversation.all_deleted", "conversation.all_deleted"),
            ("POST", "/api/agents", "agent.created", "agent.created"),
            ("DELETE", "/api/agents/agent_1", "agent.deleted", "agent.deleted"),
            ("POST", "/api/agents/tools/execute_code/call", "tool.called", "tool.called"),
            ("POST", "/api/api-keys", "key.created", "key.created"),
            ("POST", "/api/share/c1", "share.created", "share.created"),
            ("GET", "/api/share/s1", "share.viewed", "share.viewed"),
            ("GET", "/api/share/link/c1", "api.request", "api.request"),
            ("DELETE", "/api/admin/groups/g1/members/u1", "group.member_removed", "group.member_removed"),
            ("GET", "/api/admin/audit-log/export.csv", "audit.exported", "audit.exported"),
            ("GET", "/api/admin/audit-log", "audit.read", "audit.read"),
            ("GET", "/oauth/google/callback", "auth.login_returned", "auth.login_failed"),
            ("GET", "/api/user", "api.request", "api.request"),
            ("GET", "/c/new", "page.request", "page.request"),
            ("GET", "/metrics", "metrics.refused", "metrics.refused"),
            ("GET", "/api/auth/unheard-of", "auth.request", "auth.request"),
            ("DELETE", "/api/convos/all/of/them", "api.request", "api.request"),
        ] {
            assert_eq!((named(method, path, false), named(method, path, true)), (done, failed), "{method} {path}");
        }
    }

    /// A line that another one before it hides would never be used.
    #[test]
    fn every_line_of_the_table_names_its_own_path() {
        for (method, pattern, name, _) in ACTIONS {
            let path = pattern.replace(':', "x").replace("/*", "/y");
            let route = Route::of(method, &path);
            if !matches!(route, Route::Chat(_) | Route::Steer | Route::AgentApi(_) | Route::Stream { .. }) {
                assert_eq!(action(&route, method, &path, false), *name, "{method} {pattern}");
            }
        }
    }

    #[test]
    fn names_are_words_with_one_dot() {
        let names: BTreeSet<&str> = ACTIONS.iter().flat_map(|(_, _, name, failed)| [Some(*name), *failed]).flatten().collect();
        for name in names {
            let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(name.split_once('.').is_some_and(|(thing, done)| word(thing) && word(done)), "{name}");
        }
    }

    /// Whatever changes something in LibreChat has a name.
    #[test]
    fn every_change_that_librechat_knows_has_a_name() {
        for (method, path) in [
            ("POST", "/api/auth/2fa/enable"),
            ("POST", "/api/auth/2fa/backup/regenerate"),
            ("POST", "/api/auth/requestPasswordReset"),
            ("PATCH", "/api/user/preferences"),
            ("DELETE", "/api/user/delete"),
            ("PUT", "/api/user/settings/favorites/tools/a/b"),
            ("POST", "/api/user/settings/skills/active"),
            ("PUT", "/api/keys"),
            ("DELETE", "/api/keys/openAI"),
            ("DELETE", "/api/api-keys/1"),
            ("POST", "/api/messages/branch"),
            ("PUT", "/api/messages/c1/m1/feedback"),
            ("POST", "/api/convos/import"),
            ("POST", "/api/presets/delete"),
            ("PUT", "/api/projects/conversations/c1"),
            ("PATCH", "/api/prompts/p1/tags/production"),
            ("DELETE", "/api/prompts/groups/g1"),
            ("DELETE", "/api/skills/s1/files/a/b"),
            ("PATCH", "/api/assistants/v1/a1"),
            ("POST", "/api/assistants/v1/a1/avatar"),
            ("POST", "/api/assistants/v2/avatar/a1"),
            ("DELETE", "/api/assistants/v2/actions/a1/x/gpt-4o"),
            ("POST", "/api/files/usage"),
            ("DELETE", "/api/share/s1"),
            ("POST", "/api/share/s1/fork"),
            ("PUT", "/api/roles/user/memories"),
            ("POST", "/api/agents/a1/revert"),
            ("DELETE", "/api/agents/actions/a1/x"),
            ("PATCH", "/api/admin/config/role/user/fields"),
            ("PUT", "/api/admin/langfuse/connection"),
            ("DELETE", "/api/admin/grants/role/user/x"),
            ("PUT", "/api/admin/skills/sync/credentials/x"),
            ("POST", "/api/actions/x/oauth/bind"),
        ] {
            assert!(!matches!(named(method, path, false), "api.request" | "auth.request"), "{method} {path} has no name");
        }
    }
}
