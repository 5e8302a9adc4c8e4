//! JSON Schemas of policy files, made from the types that they are read into, for editors that complete and check.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// The schema of a file, which grows key by key.
#[derive(Debug)]
pub struct FileSchema {
    name: &'static str,
    generator: SchemaGenerator,
    keys: Map<String, Value>,
}

// === impl FileSchema ===

impl FileSchema {
    /// Of a file that may say nothing yet.
    pub fn new(name: &'static str) -> Self {
        let generator = SchemaSettings::draft2020_12().into_generator();
        Self { name, generator, keys: Map::new() }
    }

    /// It may have any number of `[[key]]`.
    pub fn entries<T: JsonSchema>(mut self, key: &str) -> Self {
        let entry = self.generator.subschema_for::<T>();
        self.keys.insert(key.to_owned(), json!({ "type": "array", "items": entry }));
        self
    }

    /// It may have `key`.
    pub fn value<T: JsonSchema>(mut self, key: &str) -> Self {
        let value = self.generator.subschema_for::<T>();
        self.keys.insert(key.to_owned(), value.to_value());
        self
    }

    /// It may have `key`, of this schema.
    pub fn schema(mut self, key: &str, schema: fn(&mut SchemaGenerator) -> Schema) -> Self {
        let value = schema(&mut self.generator);
        self.keys.insert(key.to_owned(), value.to_value());
        self
    }

    /// The name of the file, or of one of its kind.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The whole schema.
    pub fn into_value(mut self) -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "type": "object",
            "properties": self.keys,
            "additionalProperties": false,
            "$defs": self.generator.take_definitions(true),
        })
    }
}

/// A list of names, or the word `"all"`.
pub fn list_or_all(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "const": "all" }, { "type": "array", "items": { "type": "string" } }] })
}

/// One name, or a list of them.
pub fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

/// A table of whatever.
pub fn table(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// A table, or a text.
pub fn table_or_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "string"] })
}
