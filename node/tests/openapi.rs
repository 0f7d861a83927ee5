//! The document of what can be asked, held against the routes and against what they answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::Value;
use shell::{Answered, Place, Served};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

type Operations = BTreeSet<(String, String)>;

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn document() -> Value {
    serde_json::from_str(&source("src/serve/openapi.json")).unwrap()
}

/// Method and path of everything in the document.
fn documented(document: &Value) -> Operations {
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let path = path.clone();
        methods.into_iter().map(move |method| (method, path.clone()))
    };
    paths.flat_map(methods).collect()
}

/// Method and path of every route in the code.
fn routed() -> Operations {
    let source = source("src/serve/routes.rs");
    let mut all = Operations::new();
    for rest in source.split(".route(\"").skip(1) {
        let (path, handlers) = rest.split_once("\", ").unwrap();
        let handlers = handlers.lines().next().unwrap();
        let methods = ["get", "put", "delete", "post"].into_iter().filter(|method| {
            let is_record = handlers.starts_with("record()") && *method != "post";
            is_record || handlers.contains(&format!("{method}("))
        });
        let before = all.len();
        all.extend(methods.map(|method| (method.to_owned(), path.to_owned())));
        assert!(all.len() > before, "no method in {handlers:?}");
    }
    all
}

#[test]
fn every_route_is_documented_and_everything_documented_is_a_route() {
    let (documented, routed) = (documented(&document()), routed());
    assert!(routed.len() > 40, "{}", routed.len());
    let missing: Vec<_> = routed.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&routed).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing {missing:?}, gone {invented:?}");
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// What of `value` is not as `schema` says, if anything. A field that is not in the schema is a mistake as well,
/// unless the schema has a place for others.
fn mistake_in(value: &Value, schema: &Value, document: &Value) -> Option<String> {
    const KNOWN: [&str; 10] = [
        "$ref",
        "type",
        "enum",
        "oneOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minimum",
        "format",
    ];
    let rules = schema.as_object().unwrap();
    let unknown = rules.keys().find(|rule| *rule != "description" && !KNOWN.contains(&&***rule));
    assert_eq!(unknown, None, "this test does not know the rule");
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.strip_prefix('#').unwrap()).unwrap();
        return mistake_in(value, schema, document);
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fits = all.iter().filter(|one| mistake_in(value, one, document).is_none()).count();
        return (fits != 1).then(|| format!("{value} fits {fits} of {}", all.len()));
    }
    let allowed = schema["enum"].as_array();
    if allowed.is_some_and(|allowed| !allowed.contains(value)) {
        return Some(format!("{value} is none of {}", schema["enum"]));
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null => Vec::new(),
        kind => vec![kind.clone()],
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of_kind(value, kind.as_str().unwrap())) {
        return Some(format!("{value} is no {}", schema["type"]));
    }
    if schema["minimum"].as_f64() > value.as_f64() && value.is_number() {
        return Some(format!("{value} is too small"));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| match &schema["items"] {
            Value::Null => Some("the items of an array are not described".to_owned()),
            items => mistake_in(item, items, document),
        }),
        Value::Object(fields) => mistake_in_fields(fields, schema, document),
        _ => None,
    }
}

fn is_of_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        kind => unreachable!("{kind} is no type of JSON"),
    }
}

fn mistake_in_fields(
    fields: &serde_json::Map<String, Value>,
    schema: &Value,
    document: &Value,
) -> Option<String> {
    let required = schema["required"].as_array().into_iter().flatten();
    let mut names = required.map(|name| name.as_str().unwrap());
    if let Some(missing) = names.find(|name| !fields.contains_key(*name)) {
        return Some(format!("{missing} is missing"));
    }
    fields.iter().find_map(|(name, value)| {
        let here = schema["properties"].get(name).or(schema.get("additionalProperties"));
        let found = match here {
            // A schema that names no fields leaves them open.
            None if schema["properties"].is_null() => None,
            None | Some(Value::Bool(false)) => Some("it is not in the document".to_owned()),
            Some(Value::Bool(true)) => None,
            Some(schema) => mistake_in(value, schema, document),
        };
        found.map(|found| format!("{name}: {found}"))
    })
}

#[test]
fn a_body_that_is_not_as_the_document_says_is_found() {
    let document = serde_json::json!({ "components": { "schemas": {
        "Size": { "type": "integer", "minimum": 1 },
        "Thing": {
            "type": "object", "required": ["name"],
            "properties": {
                "name": { "type": ["string", "null"] },
                "sizes": { "type": "array", "items": { "$ref": "#/components/schemas/Size" } },
                "kind": { "enum": ["a", "b"] },
                "more": { "type": "object", "additionalProperties": { "type": "boolean" } },
            },
        },
    } } });
    let thing = serde_json::json!({ "$ref": "#/components/schemas/Thing" });
    let is_right = |text: &str| mistake_in(&json(text.as_bytes()), &thing, &document).is_none();
    for right in
        ["{\"name\":null}", "{\"name\":\"x\",\"sizes\":[1,2],\"kind\":\"b\",\"more\":{\"x\":true}}"]
    {
        assert!(is_right(right), "{right}");
    }
    for wrong in [
        "[]",
        "{}",
        "{\"name\":1}",
        "{\"name\":\"x\",\"other\":1}",
        "{\"name\":\"x\",\"sizes\":[0]}",
        "{\"name\":\"x\",\"sizes\":[1.5]}",
        "{\"name\":\"x\",\"kind\":\"c\"}",
        "{\"name\":\"x\",\"more\":{\"x\":1}}",
    ] {
        assert!(!is_right(wrong), "{wrong}");
    }
}

/// A node that is asked, and the document that its answers are compared with.
struct Conversation {
    node: Served,
    document: Value,
    /// What has succeeded.
    answered: Operations,
}

impl Conversation {
    /// Asks for `path`, which is of the documented path `of`; the answer is one of those documented.
    #[track_caller]
    fn ask(
        &mut self,
        method: &str,
        of: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Answered {
        let answer = self.node.ask(method, path, headers, body);
        let operation = &self.document["paths"][of][method.to_lowercase()];
        let mut response = &operation["responses"][answer.status.to_string()];
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(response.is_object(), "{method} {path}: {} {said}", answer.status);
        if let Some(name) = response["$ref"].as_str() {
            let name = name.strip_prefix("#/components/responses/").unwrap();
            response = &self.document["components"]["responses"][name];
        }
        if let Some(kinds) = response["content"].as_object() {
            let kind = answer.header("content-type").unwrap_or_default();
            let kind = kind.split(';').next().unwrap();
            assert!(kinds.contains_key(kind), "{method} {path}: {kind}");
            let values: Vec<Value> = match kind {
                "application/json" => vec![answer.json()],
                "application/x-ndjson" => said.lines().map(|line| json(line.as_bytes())).collect(),
                _ => Vec::new(),
            };
            for value in values {
                let mistake = mistake_in(&value, &kinds[kind]["schema"], &self.document);
                assert_eq!(mistake, None, "{method} {path}: {}: {said}", answer.status);
            }
        }
        if answer.status == 200 {
            self.answered.insert((method.to_lowercase(), of.to_owned()));
        }
        answer
    }

    /// The same, for a path without parts that vary.
    #[track_caller]
    fn plain(&mut self, method: &str, path: &str, body: &str) -> Answered {
        let of = path.split('?').next().unwrap().to_owned();
        self.ask(method, &of, path, &[], body)
    }
}

#[test]
fn every_documented_operation_answers_as_documented() {
    let place = Place::new();
    let (copies, store, file) =
        (place.path("copies"), place.path("store"), place.path("node.toml"));
    fs::create_dir(&copies).unwrap();
    let text = format!("[checkpoint]\nto = {copies:?}\n[backup]\nto = {store:?}\n");
    fs::write(&file, text).unwrap();
    let node = Served::start_with(&place.path("data"), &["--config", file.to_str().unwrap()]);
    let mut talk = Conversation { node, document: document(), answered: Operations::new() };
    ask_for_records(&mut talk);
    ask_as_operator(&mut talk);
    ask_about_peers(&mut talk);
    for path in ["/health", "/health/live", "/health/ready", "/health/detailed", "/metrics", "/"] {
        talk.plain("GET", path, "").is(200, "");
    }
    let overview = talk.plain("GET", "/v1/overview", "").is(200, "").json();
    let schema = &talk.document["components"]["schemas"]["Overview"];
    let named: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(overview.as_object().unwrap().keys().collect::<BTreeSet<_>>(), named);
    let served = talk.plain("GET", "/openapi.json", "").is(200, "").json();
    assert_eq!(served, talk.document);
    talk.plain("GET", "/v1/stats?x", "").is(400, "InvalidInput");
    talk.plain("GET", "/v1/stats", "").is(200, "");
    let silent: Vec<_> = documented(&talk.document).difference(&talk.answered).cloned().collect();
    assert!(silent.is_empty(), "never asked with success: {silent:?}");
}

/// Who asks with a parameter that nobody knows is told which there are.
#[test]
fn every_operation_takes_the_parameters_that_are_documented_and_no_others() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let document = document();
    let (mut told, mut wrong) = (0, Vec::new());
    for (method, path) in documented(&document) {
        let operation = &document["paths"][&path][&method];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        let names = in_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned());
        let expected: BTreeSet<String> = names.collect();
        let parts = [("{keyspace}", "default"), ("{key}", "a"), ("{name}", "backup")];
        let parts = parts.into_iter().chain([("{id}", "0"), ("{change}", "enable")]);
        let asked = parts.fold(path.clone(), |path, (part, with)| path.replace(part, with));
        let headers = ["esker-key: YWRh"];
        let answer = node.ask(&method.to_uppercase(), &format!("{asked}?nobodys"), &headers, "");
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let listed = said.split("parameter that is none of: ").nth(1);
        let listed = listed.map(|rest| rest.split('"').next().unwrap());
        told += usize::from(listed.is_some());
        let taken: BTreeSet<String> =
            listed.unwrap_or_default().split(", ").map(str::to_owned).collect();
        if taken.into_iter().filter(|name| !name.is_empty()).collect::<BTreeSet<_>>() != expected {
            wrong.push(format!("{method} {path}: {expected:?}, but {said}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(told > 20, "{told}");
}

fn ask_for_records(talk: &mut Conversation) {
    const KEY: &str = "/v1/keyspaces/{keyspace}/records/{key}";
    const HEADER: &str = "/v1/keyspaces/{keyspace}/record";
    let key = ["esker-key: YWRh"];
    for (of, path, headers) in [
        (KEY, "/v1/keyspaces/default/records/ada", &[][..]),
        (HEADER, "/v1/keyspaces/default/record", &key[..]),
    ] {
        talk.ask("GET", of, path, headers, "").is(404, "NotFound");
        let tag = talk.ask("PUT", of, path, headers, "1").is(200, "");
        let tag = tag.header("etag").unwrap().to_owned();
        talk.ask("GET", of, path, headers, "").is(200, "");
        let tag = format!("if-none-match: {tag}");
        let not = [headers, &[&*tag]].concat();
        talk.ask("GET", of, path, &not, "").is(304, "");
        talk.ask("PUT", of, path, &not, "2").is(412, "StampMismatch");
        let both = [headers, &["if-match: *", "if-none-match: *"]].concat();
        talk.ask("DELETE", of, path, &both, "").is(400, "InvalidInput");
        talk.ask("DELETE", of, path, headers, "").is(200, "");
    }
    let record = "{\"key\":\"a\",\"value\":\"1\"}\n";
    talk.plain("POST", "/v1/load", record).is(200, "");
    talk.plain("POST", "/v1/load", "x").is(400, "BadLine");
    let operation = "{\"op\":\"put\",\"key\":\"b\",\"value\":\"1\",\"if_match\":null}";
    talk.plain("POST", "/v1/batch", operation).is(200, "");
    talk.plain("POST", "/v1/batch", operation).is(412, "StampMismatch");
    talk.plain("POST", "/v1/batch", "x").is(400, "InvalidInput");
    for (of, here, nowhere) in [
        ("/v1/keyspaces/{keyspace}/records", "default/records", "nobody/records"),
        ("/v1/keyspaces/{keyspace}/digest", "default/digest", "nobody/digest"),
    ] {
        talk.ask("GET", of, &format!("/v1/keyspaces/{here}"), &[], "").is(200, "");
        talk.ask("GET", of, &format!("/v1/keyspaces/{nowhere}"), &[], "")
            .is(404, "KeyspaceNotFound");
    }
    for path in ["/v1/keyspaces", "/v1/export", "/v1/digest"] {
        talk.plain("GET", path, "").is(200, "");
    }
}

fn ask_as_operator(talk: &mut Conversation) {
    for path in ["/v1/flush", "/v1/compact", "/v1/scrub", "/v1/backup", "/v1/reload"] {
        talk.plain("POST", path, "").is(200, "");
        talk.plain("POST", &format!("{path}?x"), "").is(400, "InvalidInput");
    }
    talk.plain("POST", "/v1/compact?keyspace=nobody", "").is(404, "KeyspaceNotFound");
    talk.plain("GET", "/v1/backups", "").is(200, "");
    talk.plain("POST", "/v1/checkpoint", "{\"name\":\"a\"}").is(200, "");
    talk.plain("POST", "/v1/checkpoint", "{\"name\":\"a\"}").is(409, "AlreadyExists");
    for (path, body) in [
        ("/v1/mode", "{\"mode\":\"read-only\"}"),
        ("/v1/mode", "{\"mode\":\"normal\"}"),
        ("/v1/log", "{\"level\":\"error\"}"),
        ("/v1/timeouts", "{\"drain\":30000}"),
    ] {
        talk.plain("POST", path, body).is(200, "");
        talk.plain("POST", path, "x").is(400, "InvalidInput");
        talk.plain("POST", path, &" ".repeat(5000)).is(413, "InvalidInput");
        talk.plain("GET", path, "").is(200, "");
    }
    talk.plain("GET", "/v1/breakers", "").is(200, "");
    talk.plain("GET", "/v1/remedies", "").is(200, "");
    let of = "/v1/breakers/{name}/reset";
    talk.ask("POST", of, "/v1/breakers/backup/reset", &[], "").is(200, "");
    talk.ask("POST", of, "/v1/breakers/nobody/reset", &[], "").is(404, "BreakerNotFound");
}

fn ask_about_peers(talk: &mut Conversation) {
    let id = "000102030405060708090a0b0c0d0eff";
    talk.plain("POST", "/v1/peers", &format!("{{\"peer\":\"{id}@127.0.0.1:9\"}}")).is(200, "");
    talk.plain("POST", "/v1/peers", "{}").is(400, "InvalidInput");
    let of = "/v1/peers/{id}/{change}";
    talk.ask("POST", of, &format!("/v1/peers/{id}/disable"), &[], "").is(200, "");
    let nobody = "0".repeat(32);
    talk.ask("POST", of, &format!("/v1/peers/{nobody}/disable"), &[], "").is(404, "PeerNotFound");
    talk.plain("POST", "/v1/peers/flush?wait_ms=1", "").is(200, "");
    talk.plain("POST", "/v1/peers/flush?wait_ms=60001", "").is(400, "InvalidInput");
    talk.plain("GET", "/v1/peers", "").is(200, "");
    talk.plain("GET", "/v1/status", "").is(200, "");
    talk.plain("POST", "/v1/invitations", "").is(200, "");
    talk.plain("POST", "/v1/promote", "").is(200, "");
}
