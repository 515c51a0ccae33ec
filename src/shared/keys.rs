//! How names that others chose become parts of keys.

use std::fmt::Write as _;

/// Letters, digits, `-`, `_`, `.` and `@` as they are, every other byte as `%XX`: braces would end the hash tag, colons
/// would make two names one.
pub fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
