#!/usr/bin/env bash
# The walls of ARCHITECTURE.md: which files may name Pingora, Redis, sqlx and the JSON of LibreChat. Prints every breach
# with its place and the rule, and fails where there is one. Takes the root of the crate, by default this one.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

breaches=0

# lines PATTERN: `file:line:text` of every line of code that matches; lines that are only a comment do not count.
lines() {
    grep -rnE --include='*.rs' -- "$1" src | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//' || true
}

# without_tests: leaves out files of tests and what stands below a `#[cfg(test)]` module, which is the last thing of a file.
without_tests() {
    local file rest first
    while IFS=: read -r file rest; do
        case $file in */tests.rs | */tests/*) continue ;; esac
        first=$(awk '/^#\[cfg\(test\)\]/ { mark = NR; next } mark && /^mod / { print mark; exit } { mark = 0 }' "$file")
        if [ -z "$first" ] || [ "${rest%%:*}" -lt "$first" ]; then
            echo "$file:$rest"
        fi
    done
}

# wall RULE ALLOWED: reads matching lines and reports those whose file is not allowed.
wall() {
    local rule=$1 allowed=$2 found
    found=$(grep -vE "^($allowed)" || true)
    if [ -n "$found" ]; then
        breaches=1
        printf '%s\n' "$found" | while IFS= read -r line; do printf '%s\n    %s\n' "$line" "$rule"; done >&2
    fi
}

# A crate's name at the start of a path. One of our modules of the same name stands behind `self::` or `crate::...::`.
crate_path() {
    echo "(^|[^:_[:alnum:]])(::)?($1)::|(use|extern crate) (::)?($1)(;| as )"
}

# The words that only LibreChat's bodies, frames and answers hold. The shapes of refusals are not among them: error.rs owns
# those.
json='"(conversationId|parentMessageId|overrideParentMessageId|responseMessageId|messageId|clientRequestId|streamId|addedConvo|ephemeralAgent|isRegenerate|isContinued|generationCreatedAt|generationProtocolVersion|requestMessage|responseMessage|resumeState|contextUsage|collectedUsage|prePruneContextTokens|instructionTokens|on_context_usage|on_token_usage|on_message_delta|on_reasoning_delta|on_run_step|on_run_step_closed|activeJobIds)"'

wall "Only proxy/ and serve.rs with its room may name Pingora: they are the hand-over, the stages are plain functions." \
    'src/proxy/|src/serve(\.rs:|/)' < <(lines "$(crate_path 'pingora[_a-z]*')")
wall "Only files and rooms called redis and shared/ may name Redis; a module of ours of that name is written self::redis or crate::...::redis." \
    'src/shared/|src/([^:]*/)?redis([^/:]*\.rs:|/)' < <(lines "$(crate_path redis)")
wall "Only files called sql*.rs, postgres*.rs or sqlite*.rs and db/ may name sqlx." \
    'src/db/|src/([^:]*/)?(sql|postgres)[^/:]*\.rs:' < <(lines "$(crate_path sqlx)")
wall "Only librechat/ and scripted/ may know LibreChat's JSON; ask a typed function of librechat/ for it." \
    'src/librechat/|src/scripted/' < <(lines "$json" | without_tests)

[ "$breaches" -eq 0 ] && echo "The walls stand."
