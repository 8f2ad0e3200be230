//! The JSON Schema of a rule file, for editors: from the same list of facts as the compiler.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pattern::Class;
use super::schema::{
    CONFIDENCES, Differs, FACTS, GroupKind, Key, Kind, REFERENCES, REMEDY, REMEDY_KINDS, SEVERITIES, Scope,
    words,
};
use crate::model::Reach;

/// JSON Schema (draft 2020-12) of one rule file, as `docs/rule.schema.json` holds it.
pub fn json_schema() -> Value {
    let mut schema = without_values();
    if let Some(definitions) = schema["$defs"].as_object_mut() {
        definitions.extend(values());
    }
    schema
}

fn without_values() -> Value {
    let reach: Vec<&str> = Reach::ALL.iter().map(|each| each.name()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A rule of sockwarden",
        "description": "One file, one rule: rules/README.md tells what each key means.",
        "type": "object",
        "required": ["title", "severity", "confidence", "why", "when"],
        "additionalProperties": false,
        "properties": {
            "title": { "type": "string", "minLength": 1, "maxLength": 90, "description": "names the bad thing, one line" },
            "severity": {
                "description": "one word, or a table by class of reach",
                "anyOf": [
                    { "enum": SEVERITIES },
                    {
                        "type": "object", "minProperties": 1,
                        "propertyNames": { "enum": reach },
                        "additionalProperties": { "enum": SEVERITIES },
                    },
                ],
            },
            "confidence": { "enum": CONFIDENCES, "description": "how sure it is that it is what the title says" },
            "why": { "type": "string", "minLength": 1, "maxLength": 1200, "description": "why it matters" },
            "references": one_or_more(json!({
                "type": "string",
                "pattern": format!("^(https?://[^ ]+|({}):[^ ]+)$", REFERENCES.join("|")),
            })),
            "override": { "type": "boolean", "description": "stands in for the shipped rule of this name" },
            "when": { "$ref": "#/$defs/socket" },
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
