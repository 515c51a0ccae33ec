//! `GET /api/config`, by which LibreChat's page knows what to show: ways in that lead nowhere are taken out of it.
//!
//! What is hidden is not forbidden by that; see the routes for what is.

use serde_json::Value;

/// The largest configuration that is read. LibreChat's is about 1 KB, and more with many model presets.
pub const MAX_BYTES: usize = 1024 * 1024;

/// What the page does not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hidden {
    /// LibreChat's own ways to sign in.
    pub logins: bool,
    /// Making oneself an account.
    pub registration: bool,
}

/// The configuration without what is hidden; `None` where it is none.
pub fn without(json: &[u8], hidden: Hidden) -> Option<Vec<u8>> {
    let Value::Object(mut config) = serde_json::from_slice(json).ok()? else { return None };
    if hidden.registration {
        config.insert("registrationEnabled".to_owned(), Value::Bool(false));
    }
    if hidden.logins {
        for (name, value) in &mut config {
            if name.ends_with("LoginEnabled") && value.is_boolean() {
                *value = Value::Bool(false);
            }
        }
        for name in ["emailLoginEnabled", "socialLoginEnabled", "passwordResetEnabled", "registrationEnabled", "openidAutoRedirect"] {
            config.insert(name.to_owned(), Value::Bool(false));
        }
        config.insert("socialLogins".to_owned(), Value::Array(Vec::new()));
    }
    serde_json::to_vec(&config).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(config: &Value, logins: bool, registration: bool) -> Value {
        let rewritten = without(config.to_string().as_bytes(), Hidden { logins, registration }).expect("a configuration");
        serde_json::from_slice(&rewritten).expect("JSON")
    }

    #[test]
    fn ways_in_are_hidden_and_the_rest_stays() {
        let config = json!({
            "appTitle": "Acme", "emailLoginEnabled": true, "googleLoginEnabled": true, "openidLoginEnabled": true, "openidLabel": "Go",
            "openidAutoRedirect": true, "socialLoginEnabled": true, "socialLogins": ["google"], "registrationEnabled": true,
            "passwordResetEnabled": true, "ldap": {"enabled": false}, "interface": {"mcpServers": {"use": true}},
        });
        assert_eq!(shown(&config, false, false), config);
        let mut closed = config.clone();
        closed["registrationEnabled"] = json!(false);
        assert_eq!(shown(&config, false, true), closed);
        let hidden = shown(&config, true, true);
        for (name, value) in hidden.as_object().expect("an object") {
            let stays = ["appTitle", "openidLabel", "ldap", "interface"].contains(&name.as_str());
            assert!(if stays { *value == config[name] } else { *value == json!(false) || *value == json!([]) }, "{name}: {value}");
        }
    }

    #[test]
    fn what_is_no_configuration_stays_as_it_is() {
        for other in ["", "[]", "<html>", "{\"a\":", "null"] {
            assert_eq!(without(other.as_bytes(), Hidden { logins: true, registration: true }), None, "{other:?}");
        }
    }
}
