//! What a contract takes: in words, and a body of it for calls that somebody thinks up.

use serde_json::{Map, Value, json};

use super::{BodyContract, MediaType, Member, MemberKind};
use crate::id::DeviceRef;

impl BodyContract {
    /// What it asks for, as sentences that can be compared with those of another set.
    pub(crate) fn facts(&self) -> Vec<String> {
        let Self { media_type: MediaType::Json, required, devices, max } = self;
        let mut facts = vec![format!("takes a body of JSON of at most {} bytes", max.0)];
        let member = |Member { name, kind }: &Member| format!("needs the member `{name}`, {}", kind.as_str());
        facts.extend(required.iter().map(member));
        let devices = devices.as_ref();
        facts.extend(
            devices.map(|member| format!("acts on the devices that the member `{}` names", member.name())),
        );
        facts
    }

    /// A body with every member that is required, and these devices where the contract says.
    pub fn example(&self, devices: &[DeviceRef]) -> Value {
        let mut body = Map::new();
        for member in &self.required {
            let value = match member.kind {
                MemberKind::Text => json!("example"),
                MemberKind::Number => json!(1),
                MemberKind::Boolean => json!(true),
                MemberKind::List => json!([]),
                MemberKind::Object => json!({}),
            };
            body.insert(member.name.to_string(), value);
        }
        if let Some(member) = &self.devices {
            let names: Vec<_> = devices.iter().map(ToString::to_string).collect();
            put(&mut body, member.way(), json!(names));
        }
        Value::Object(body)
    }
}

/// Puts a value at the end of a way through objects, which are made where they are missing.
fn put(object: &mut Map<String, Value>, way: &[Box<str>], value: Value) {
    let Some((first, rest)) = way.split_first() else { return };
    if rest.is_empty() {
        object.insert(first.to_string(), value);
        return;
    }
    let inner = object.entry(first.to_string()).or_insert_with(|| json!({}));
    if let Some(inner) = inner.as_object_mut() {
        put(inner, rest, value);
    }
}
