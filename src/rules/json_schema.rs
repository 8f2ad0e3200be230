//! The JSON Schema of a rule file, for editors: from the same list of facts as the compiler.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pattern::Class;
use super::schema::{
    CONFIDENCES, Differs, FACTS, GroupKind, Key, Kind, REFERENCES, REMEDY, REMEDY_KINDS, SEVERITIES, Scope,
    words,
};
use super::service::{CLASSES, SENSITIVITIES};
use crate::model::Reach;

/// JSON Schema (draft 2020-12) of one rule file, as `docs/rule.schema.json` holds it.
pub fn json_schema() -> Value {
    let mut schema = without_values();
    if let Some(definitions) = schema["$defs"].as_object_mut() {
        definitions.extend(values());
    }
    schema
}

/// JSON Schema of a service file, as `docs/service.schema.json` holds it.
pub fn service_schema() -> Value {
    let whole = json_schema();
    let classes: Vec<&str> = CLASSES.iter().map(|class| class.name()).collect();
    let severities: Vec<&str> = SEVERITIES.iter().copied().chain(["none"]).collect();
    let sensitivities: Vec<Value> =
        SENSITIVITIES.iter().map(|each| json!({ "const": each.name, "description": each.words })).collect();
    let rule = &whole["properties"];
    let mut definitions = whole["$defs"].clone();
    if let Some(map) = definitions.as_object_mut() {
        let unused =
            ["socket", "others", "accepted", "same_port", "peer", "counted", "host", "remedy", "probably"];
        unused.iter().for_each(|name| drop(map.remove(*name)));
        let text = map["process"].to_string();
        map.retain(|name, _| {
            ["process", "example"].contains(&name.as_str()) || text.contains(&format!("/{name}\""))
        });
    }
    let ports = one_or_more(json!({ "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 65535 },
        { "type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,5}$" },
    ] }));
    let programs = one_or_more(
        json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "$ref": "#/$defs/process" }] }),
    );
    let text = json!({ "type": "string", "minLength": 1 });
    let texts = one_or_more(text.clone());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A service in a rule of sockwarden",
        "description": "One file, one service: rules/README.md tells what each key means.",
        "type": "object",
        "required": ["service", "sensitivity", "why", "fires", "quiet"],
        "anyOf": [{ "required": ["tcp"] }, { "required": ["udp"] }],
        "additionalProperties": false,
        "properties": {
            "service": { "type": "string", "minLength": 1, "maxLength": 60, "description": "its name as a person writes it" },
            "title": rule["title"],
            "tcp": { "description": "TCP ports that it has as shipped", "anyOf": ports["anyOf"] },
            "udp": { "description": "UDP ports that it has as shipped", "anyOf": ports["anyOf"] },
            "shared_port": { "type": "boolean", "description": "other services have the port too: without its program little is said" },
            "kernel": { "type": "boolean", "description": "the kernel itself serves it, no process" },
            "programs": { "description": "programs that are this service on any port", "anyOf": programs["anyOf"] },
            "at_port": { "description": "programs that are this service on its ports only", "anyOf": programs["anyOf"] },
            "units": { "description": "units that switch it off", "anyOf": texts["anyOf"] },
            "sensitivity": { "description": "what it gives to whoever reaches it", "oneOf": sensitivities },
            "severity": {
                "type": "object", "minProperties": 1, "description": "where it differs from that of its sensitivity",
                "propertyNames": { "enum": classes }, "additionalProperties": { "enum": severities },
            },
            "confidence": rule["confidence"],
            "why": rule["why"],
            "references": rule["references"],
            "override": rule["override"],
            "fix": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/fix" } },
            "fires": rule["fires"],
            "quiet": rule["quiet"],
        },
        "$defs": definitions.as_object().cloned().map(|mut map| {
            map.insert("fix".to_owned(), json!({
                "type": "object", "minProperties": 1, "additionalProperties": false,
                "description": "a setting in a file, or commands",
                "properties": {
                    "title": text, "file": { "type": "string", "pattern": "^/[^ ]+$" },
                    "match": { "type": "string", "description": "the whole line that is replaced, an extended regular expression" },
                    "set": { "type": "string", "description": "the line instead, or the lines of a new file" },
                    "append": { "type": "boolean", "description": "the lines are added to the file" },
                    "restart": texts, "commands": texts, "undo": texts, "verify": text, "note": text,
                },
            }));
            map
        }),
    })
}

fn without_values() -> Value {
    let reach: Vec<&str> = Reach::ALL.iter().map(|each| each.name()).collect();
    let severity = json!({
        "description": "one word, or a table by class of reach",
        "anyOf": [
            { "enum": SEVERITIES },
            {
                "type": "object", "minProperties": 1,
                "propertyNames": { "enum": reach },
                "additionalProperties": { "enum": SEVERITIES },
            },
        ],
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A rule of sockwarden",
        "description": "One file, one rule: rules/README.md tells what each key means.",
        "type": "object",
        "required": ["title", "severity", "confidence", "why", "when"],
        "additionalProperties": false,
        "properties": {
            "title": { "type": "string", "minLength": 1, "maxLength": 90, "description": "names the bad thing, one line" },
            "severity": severity,
            "confidence": { "enum": CONFIDENCES, "description": "how sure it is that it is what the title says" },
            "why": { "type": "string", "minLength": 1, "maxLength": 1200, "description": "why it matters" },
            "references": one_or_more(json!({
                "type": "string",
                "pattern": format!("^(https?://[^ ]+|({}):[^ ]+)$", REFERENCES.join("|")),
            })),
            "override": { "type": "boolean", "description": "stands in for the shipped rule of this name" },
            "when": { "$ref": "#/$defs/socket" },
            "probably": {
                "type": "object", "additionalProperties": false, "required": ["title", "severity", "confidence", "when"],
                "description": "what is said where `when` does not hold: a guess",
                "properties": {
                    "title": { "type": "string", "minLength": 1, "maxLength": 160 },
                    "severity": severity,
                    "confidence": { "enum": CONFIDENCES },
                    "when": { "$ref": "#/$defs/socket" },
                },
            },
            "remedy": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/remedy" } },
            "fires": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/example" } },
            "quiet": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/example" } },
        },
        "$defs": {
            "socket": condition(Scope::Socket, &[
                ("process", json!({ "$ref": "#/$defs/process" })),
                ("host", json!({ "$ref": "#/$defs/host" })),
                ("others", one_or_more(json!({ "$ref": "#/$defs/others" }))),
                ("accepted", one_or_more(json!({ "$ref": "#/$defs/accepted" }))),
                ("same_port", one_or_more(json!({ "$ref": "#/$defs/same_port" }))),
                ("peer", one_or_more(json!({ "$ref": "#/$defs/peer" }))),
            ], "#/$defs/socket"),
            "process": condition(Scope::Process, &[], "#/$defs/process"),
            "host": condition(Scope::Host, &[], "#/$defs/host"),
            "others": group(GroupKind::Others),
            "accepted": group(GroupKind::Accepted),
            "same_port": group(GroupKind::SamePort),
            "peer": group(GroupKind::Peer),
            "counted": condition(Scope::Socket, &[
                ("process", json!({ "$ref": "#/$defs/process" })),
                ("host", json!({ "$ref": "#/$defs/host" })),
            ], "#/$defs/counted"),
            "remedy": remedy(),
            "example": {
                "type": "object",
                "required": ["name"],
                "description": "a small host; what is not given is unknown",
                "properties": {
                    "name": { "type": "string" },
                    "severity": { "enum": SEVERITIES },
                    "socket": { "type": "object" },
                    "process": { "type": ["object", "array", "string"] },
                    "others": { "type": ["object", "array"] },
                    "host": { "type": "object" },
                    "like": { "type": "string", "description": "name of the [[fires]] that this is made from" },
                    "change": { "type": "object" },
                    "unset": one_or_more(json!({ "type": "string" })),
                },
                "additionalProperties": false,
            },
        },
    })
}

fn one_or_more(item: Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "minItems": 1, "items": item }] })
}

/// The keys of a condition; dotted names become tables.
fn condition(scope: Scope, more: &[(&str, Value)], itself: &str) -> Value {
    json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": keys(scope, more, itself) })
}

fn keys(scope: Scope, more: &[(&str, Value)], itself: &str) -> Map<String, Value> {
    let mut keys = Map::new();
    let nested = one_or_more(json!({ "$ref": itself }));
    for word in ["any", "all", "not"] {
        keys.insert(word.to_owned(), nested.clone());
    }
    for (name, schema) in more {
        keys.insert((*name).to_owned(), schema.clone());
    }
    for fact in FACTS.iter().filter(|fact| fact.scope == scope) {
        let schema = value(fact.key);
        let Some((table, name)) = fact.name.split_once('.') else {
            keys.insert(fact.name.to_owned(), schema);
            continue;
        };
        let plain = keys.remove(table);
        let mut object = match plain {
            Some(Value::Object(known)) if known.contains_key("properties") => known,
            Some(other) => {
                // `container` is a word or a table.
                let mut both = Map::new();
                both.insert("oneOf".to_owned(), json!([other, table_of()]));
                both
            }
            None => table_of().as_object().cloned().unwrap_or_default(),
        };
        let slot = match object.get_mut("oneOf") {
            Some(both) => &mut both[1]["properties"],
            None => object.entry("properties").or_insert_with(|| json!({})),
        };
        slot[name] = schema;
        keys.insert(table.to_owned(), Value::Object(object));
    }
    keys
}

fn table_of() -> Value {
    json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": {} })
}

/// What may stand behind a fact's `=`.
fn value(key: Key) -> Value {
    let fact = key.fact();
    json!({ "$ref": format!("#/$defs/{}", value_name(key)), "description": fact.words })
}

/// Facts of one kind share a definition; words have one for each fact.
fn value_name(key: Key) -> String {
    match key.fact().kind {
        Kind::Flag => "flag".to_owned(),
        Kind::Number(most) => format!("number-{most}"),
        Kind::Address => "address".to_owned(),
        Kind::Text | Kind::Words | Kind::Stream => "text".to_owned(),
        Kind::Word(_) | Kind::Capability | Kind::Protocol | Kind::Reach | Kind::Mode | Kind::Presence => {
            format!("value-{}", key.full_name())
        }
    }
}

/// The definitions that `value` refers to.
fn values() -> Map<String, Value> {
    FACTS.iter().map(|fact| (value_name(fact.key), one_or_more(item(fact.kind)))).collect()
}

fn item(kind: Kind) -> Value {
    // `!` before a word, and the words for presence.
    let of_words = |known: &[&str]| {
        let all = known.iter().copied().chain(["any", "none"]);
        let all: BTreeSet<String> = all.flat_map(|word| [word.to_owned(), format!("!{word}")]).collect();
        json!({ "enum": all })
    };
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Word(_) | Kind::Capability => of_words(&words(kind)),
        Kind::Protocol => {
            json!({ "anyOf": [of_words(&words(kind)), { "type": "string", "pattern": "^!?family-[0-9]+$" }] })
        }
        Kind::Reach => {
            json!({ "anyOf": [of_words(&words(kind)), { "type": "string", "pattern": "^!?(>=|<=|>|<) *[a-z]+$" }] })
        }
        Kind::Number(most) => json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": most },
            { "type": "string", "pattern": "^!?(any|none|[0-9]+|[0-9]+ *- *[0-9]+|(>=|<=|>|<) *[0-9]+)$" },
        ] }),
        Kind::Address => {
            let classes: Vec<&str> = Class::ALL.iter().map(|(name, _)| *name).collect();
            json!({ "anyOf": [of_words(&classes), { "type": "string", "pattern": "^!?[0-9a-fA-F.:/-]+$" }] })
        }
        Kind::Mode => json!({ "type": "string", "pattern": "^!?([ugoa]+\\+[rwx]+|any|none)$" }),
        Kind::Presence => json!({ "enum": ["any", "none", "!any", "!none"] }),
        Kind::Text | Kind::Words | Kind::Stream => {
            json!({ "type": "string", "minLength": 1, "maxLength": 1024 })
        }
    }
}

fn group(kind: GroupKind) -> Value {
    let mut keys = keys(
        Scope::Socket,
        &[("process", json!({ "$ref": "#/$defs/process" })), ("host", json!({ "$ref": "#/$defs/host" }))],
        "#/$defs/counted",
    );
    keys.insert("count".to_owned(), {
        let mut count = value(Key::Uid);
        count["description"] = json!("how many there must be, \">= 1\" unless given");
        count
    });
    if kind == GroupKind::SamePort {
        let names: Vec<&str> = Differs::ALL.iter().map(|(name, _)| *name).collect();
        keys.insert("differs".to_owned(), one_or_more(json!({ "enum": names })));
    }
    json!({ "type": "object", "additionalProperties": false, "properties": keys })
}

fn remedy() -> Value {
    let mut properties = Map::new();
    for key in REMEDY {
        let schema = match *key {
            "kind" => json!({ "enum": REMEDY_KINDS }),
            "commands" | "undo" => one_or_more(json!({ "type": "string", "minLength": 1 })),
            _ => json!({ "type": "string", "minLength": 1 }),
        };
        properties.insert((*key).to_owned(), schema);
    }
    json!({ "type": "object", "required": ["kind", "title"], "additionalProperties": false, "properties": properties })
}
