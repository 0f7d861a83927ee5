//! The numbers and names in an error, one by one, for programs.

use super::Error;

impl Error {
    /// What the error says beside file and offset, by name. Never a key or a value.
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        let text = |name, value: &dyn ToString| (name, value.to_string());
        match self {
            Error::Io { action, source, .. } => {
                vec![text("doing", action), text("system", &source.kind())]
            }
            Error::Corrupt { found, .. } => vec![text("found", found)],
            Error::StaleManifest { generation, seen, .. } => {
                vec![text("generation", generation), text("seen", seen)]
            }
            Error::VersionInvalid { rule, .. }
            | Error::ReplayInvariant { rule, .. }
            | Error::CommitFailed { rule, .. } => vec![text("rule", rule)],
            Error::Locked { holder: Some(holder), .. } => vec![text("holder", holder)],
            Error::NotADatabase { found, .. } => vec![text("found", found)],
            Error::FormatUnsupported { found, supported, .. } => {
                vec![text("found", found), text("supported", supported)]
            }
            Error::KeyUnavailable { key_id, .. } => vec![text("key_id", key_id)],
            Error::ConfigMismatch { what, stored, given } => {
                vec![text("what", what), text("stored", stored), text("given", given)]
            }
            Error::ResourceShort { need, have, .. } => vec![text("need", need), text("have", have)],
            Error::TooLarge { what, limit, value } => {
                vec![text("what", what), text("limit", limit), text("value", value)]
            }
            Error::KeyspaceNotFound { name } | Error::KeyspaceDropped { name } => {
                vec![text("keyspace", name)]
            }
            Error::TooManyTransactions { limit } => vec![text("limit", limit)],
            Error::HistoryGone { asked, oldest } => {
                vec![text("asked", asked), text("oldest", oldest)]
            }
            Error::ClockSkew { by_ms, limit_ms } => {
                vec![text("by_ms", by_ms), text("limit_ms", limit_ms)]
            }
            Error::Stalled { limit_ms, .. } => vec![text("limit_ms", limit_ms)],
            _ => Vec::new(),
        }
    }
}
