//! The document of what can be asked, held against the routes and against what they answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use serde_json::Value;
use shell::{Answered, Place, Served};
use std::collections::{BTreeMap, BTreeSet};
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

/// All schemas in `part` of the document, also those inside others, and where they are.
fn schemas_in<'a>(part: &'a Value, place: &str, all: &mut Vec<(String, &'a Value)>) {
    let inside: Vec<(String, &Value)> = match part {
        Value::Object(fields) => fields.iter().map(|(name, part)| (name.clone(), part)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, part)| (at.to_string(), part)).collect()
        }
        _ => return,
    };
    if part["type"] == "object"
        || part["type"].as_array().is_some_and(|k| k.contains(&"object".into()))
    {
        all.push((place.to_owned(), part));
    }
    inside.into_iter().for_each(|(name, part)| schemas_in(part, &format!("{place}/{name}"), all));
}

/// An object is a map, or all its fields are named, and it is said which of them are always there.
#[test]
fn every_object_of_the_document_says_what_is_in_it() {
    let document = document();
    let mut all = Vec::new();
    schemas_in(&document, "", &mut all);
    assert!(all.len() > 60, "{}", all.len());
    // The document itself is described elsewhere.
    all.retain(|(place, _)| {
        !place.starts_with("/paths/~openapi") && !place.contains("/openapi.json/")
    });
    let is_told = |schema: &Value| match schema["properties"].as_object() {
        None => schema["additionalProperties"].is_object(),
        Some(named) => schema["required"].as_array().is_some_and(|required| {
            let is_named = |name: &Value| named.contains_key(name.as_str().unwrap());
            let is_closed =
                matches!(schema["additionalProperties"], Value::Null | Value::Bool(false));
            is_closed && required.iter().all(is_named)
        }),
    };
    let vague: Vec<_> = all.iter().filter(|(_, schema)| !is_told(schema)).collect();
    assert!(vague.is_empty(), "{vague:#?}");
}

/// Fields that answers may lack, by schema and name, and whether one did.
type Optional = BTreeMap<(String, String), bool>;

/// Notes which optional fields all objects in `value` have, which is as `schema` says.
fn note_optional(
    value: &Value,
    schema: &Value,
    place: &str,
    document: &Value,
    seen: &mut Optional,
) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.strip_prefix('#').unwrap()).unwrap();
        return note_optional(value, schema, name, document, seen);
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fit = all.iter().find(|one| mistake_in(value, one, document).is_none());
        return note_optional(value, fit.unwrap(), place, document, seen);
    }
    for item in value.as_array().into_iter().flatten() {
        note_optional(item, &schema["items"], place, document, seen);
    }
    let Some(fields) = value.as_object() else { return };
    let required = schema["required"].as_array();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = fields.get(name) {
            note_optional(value, schema, &format!("{place} {name}"), document, seen);
        }
        if !required.is_some_and(|required| required.contains(&name.as_str().into())) {
            let was_absent = seen.entry((place.to_owned(), name.clone())).or_default();
            *was_absent |= !fields.contains_key(name);
        }
    }
    if let others @ Value::Object(_) = &schema["additionalProperties"] {
        fields.values().for_each(|value| note_optional(value, others, place, document, seen));
    }
}

/// What is in every answer is not said to be optional.
fn assert_optional(seen: &Optional) {
    // Failures inside others have none.
    const OTHERWISE: [(&str, &str); 1] = [("#/components/schemas/Failure", "exit")];
    assert!(seen.len() > 12, "{seen:?}");
    let always = seen.iter().filter(|(_, was_absent)| !**was_absent).map(|(field, _)| field);
    let wrong: Vec<_> =
        always.filter(|(place, name)| !OTHERWISE.contains(&(place, name))).collect();
    assert!(wrong.is_empty(), "always there, and not required: {wrong:?}");
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
    /// What answers lacked.
    optional: Optional,
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
                let schema = &kinds[kind]["schema"];
                let mistake = mistake_in(&value, schema, &self.document);
                assert_eq!(mistake, None, "{method} {path}: {}: {said}", answer.status);
                note_optional(&value, schema, of, &self.document, &mut self.optional);
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
    let other = format!("orders={}", place.path("orders").display());
    let options = ["--config", file.to_str().unwrap(), "--dataset", &other];
    let node = Served::start_with(&place.path("data"), &options);
    let (answered, optional) = (Operations::new(), Optional::new());
    let mut talk = Conversation { node, document: document(), answered, optional };
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
    for path in ["/health", "/health/ready"] {
        talk.ask("GET", path, &format!("/v1/datasets/orders{path}"), &[], "").is(200, "");
    }
    assert_optional(&talk.optional);
}

/// What is asked has no fields but those of the document.
#[test]
fn a_request_with_a_field_that_nobody_knows_is_refused() {
    let place = Place::new();
    let node = Served::start(&place.path("data"));
    let document = document();
    let id = "000102030405060708090a0b0c0d0eff";
    let right = [
        ("/v1/batch", "{\"op\":\"put\",\"key\":\"b\",\"value\":\"1\"}".to_owned()),
        ("/v1/load", "{\"key\":\"a\",\"value\":\"1\"}".to_owned()),
        ("/v1/checkpoint", "{\"name\":\"a\"}".to_owned()),
        ("/v1/mode", "{\"mode\":\"normal\"}".to_owned()),
        ("/v1/log", "{\"level\":\"error\"}".to_owned()),
        ("/v1/peers", format!("{{\"peer\":\"{id}@127.0.0.1:9\"}}")),
    ];
    for (path, body) in right {
        let kinds = &document["paths"][path]["post"]["requestBody"]["content"];
        let mut schema = &kinds.as_object().unwrap().values().next().unwrap()["schema"];
        if let Some(name) = schema["$ref"].as_str() {
            schema = document.pointer(name.strip_prefix('#').unwrap()).unwrap();
        }
        assert_eq!(schema["additionalProperties"], false, "{path}");
        assert_eq!(mistake_in(&json(body.as_bytes()), schema, &document), None, "{path}");
        let wrong = body.replacen('{', "{\"nobodys\":1,", 1);
        assert_eq!(node.ask("POST", path, &[], &wrong).status, 400, "{path}: {wrong}");
    }
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
        told +=
            usize::from(listed.is_some() || said.contains("a parameter, and none is taken here"));
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
    let record = "{\"key\":\"a\",\"value\":\"1\"}\n{\"key_b64\":\"/w==\",\"value_b64\":\"/w==\"}\n";
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
    talk.plain("GET", "/v1/datasets", "").is(200, "");
    talk.plain("GET", "/v1/datasets?x", "").is(400, "InvalidInput");
    let of = "/v1/datasets/{dataset}";
    talk.ask("GET", of, "/v1/datasets/orders", &[], "").is(200, "");
    talk.ask("GET", of, "/v1/datasets/nobody", &[], "").is(404, "DatasetNotFound");
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
