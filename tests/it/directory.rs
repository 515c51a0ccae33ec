//! Orgs and members: kept in both databases alike, imported, found on first sight, and suspended at once everywhere.

mod importing;
mod keeping;
mod suspending;
