//! What the target of a line says of it: its component, and of some its operation.

/// The part of the node that has to say something under `target`: `engine`, `recovery`, `replication`, `serve`,
/// `audit`, ..; of foreign crates their names.
pub fn component_of(target: &str) -> &str {
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some("esker" | "esker_node"), Some(part)) => part,
        (first, _) => first.unwrap_or(target),
    }
}

/// What is always being done where `target` is, if it is one thing only.
pub(super) fn operation_at(target: &str) -> Option<&'static str> {
    let mut parts = target.split("::");
    let found = match (parts.next()?, parts.next()?, parts.next()) {
        ("recovery", "pipeline", _) => "open",
        ("recovery", "repair", _) => "repair",
        ("esker", "serve", Some("remedies")) => "remedy",
        ("replication", "link", Some("dialer")) => "dial",
        ("replication", "link", Some("socket")) => "listen",
        ("replication", "link", _) => "link",
        ("replication", "replica", Some("discover")) => "discover",
        ("replication", "replica", None | Some("invitations")) => "join",
        ("replication", "replica", Some("keys")) => "link",
        ("replication", "protocol" | "engine_store", _)
        | ("replication", "replica", Some("talk")) => "session",
        ("replication", "group" | "replica", _) => "group",
        _ => return None,
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_of_components_and_some_of_one_operation() {
        for (target, component, operation) in [
            ("esker::engine", "engine", None),
            ("esker::audit", "audit", None),
            ("esker::serve::life", "serve", None),
            ("esker::serve::remedies", "serve", Some("remedy")),
            ("esker_node::health::worker", "health", None),
            ("esker", "esker", None),
            ("recovery::pipeline", "recovery", Some("open")),
            ("replication::link::dialer", "replication", Some("dial")),
            ("replication::link::bans", "replication", Some("link")),
            ("replication::replica", "replication", Some("join")),
            ("replication::replica::talk", "replication", Some("session")),
            ("replication::replica::look", "replication", Some("group")),
            ("quinn_udp::unix", "quinn_udp", None),
            ("", "", None),
        ] {
            assert_eq!((component_of(target), operation_at(target)), (component, operation));
        }
    }
}
