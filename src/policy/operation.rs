//! The calls of the API: what each asks of its caller.

use std::collections::HashSet;

use http::Method;
use toml::Spanned;

use crate::id::{ActionId, DeviceRef, OperationId, Permission, plain_name};
use crate::outcome::Rate;
use crate::policy::body::{BodyContract, MaxBody};
use crate::policy::compile::{Reading, Sought, Taken};
use crate::policy::document::{ActionWord, MethodWord, OneOrMany, OperationDocument, Word};
use crate::policy::role::RolePermission;
use crate::policy::route::{Captures, Parameter, PathTemplate, RouteTable};
use crate::source::{OPERATION, Place, PolicyFiles, Problems};

/// One call of the API.
#[derive(Debug)]
pub struct Operation {
    id: OperationId,
    method: Method,
    path: Box<str>,
    template: PathTemplate,
    application: Vec<Permission>,
    delegated: Vec<Permission>,
    roles: Vec<RolePermission>,
    body: Option<BodyContract>,
    limits: Vec<Rate>,
    places: OperationPlaces,
    action: Option<ActionWord>,
    tags: TagEffect,
}

/// Where an operation says what it asks.
#[derive(Debug, Clone)]
pub struct OperationPlaces {
    /// Its name.
    pub name: Place,
    /// The list `application`.
    pub application: Place,
    /// The list `delegated`.
    pub delegated: Place,
    /// The role permissions; none if any role will do.
    pub role: Option<Place>,
    /// The first of the documented limits; none if there are none.
    pub limits: Option<Place>,
}

/// What a call does to the tags of devices, by which device groups may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagEffect {
    /// It may set or remove them.
    Changes,
    /// It leaves them as they are.
    Leaves,
}

/// Whether it is known, before a call is forwarded, which devices it acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceScope {
    /// The path names a device, or an action behind which there is one, or the body names devices.
    Named,
    /// Nothing in the call says it: lists, hunting, exports.
    Unscoped,
}

/// The operations of `operations.toml` and of the files in `operations/`.
#[derive(Debug)]
pub(crate) struct Operations {
    list: Vec<Operation>,
    routes: RouteTable<usize>,
}

/// A permission that no token can carry: `scp` is split at spaces, and refusals quote it in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{word}` is not a permission: visible ASCII characters without space, `\"` and `\\` (RFC 6749, scope-token)"
)]
struct InvalidPermission {
    word: String,
}

// === impl Operation ===

impl Operation {
    /// Its name.
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its path as `operations.toml` writes it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The permissions of which an application needs one; none at all if no application may call it.
    pub fn application(&self) -> &[Permission] {
        &self.application
    }

    /// The permissions of which a user's token needs one; none at all if no user may call it.
    pub fn delegated(&self) -> &[Permission] {
        &self.delegated
    }

    /// The role permissions of which a user needs one; if none is listed, any role will do.
    pub fn roles(&self) -> &[RolePermission] {
        &self.roles
    }

    /// The limits that the API's documents state, counted per tenant, application and operation.
    pub fn limits(&self) -> &[Rate] {
        &self.limits
    }

    /// Where it says what it asks.
    pub fn places(&self) -> &OperationPlaces {
        &self.places
    }

    /// What its body must be; none if the body is not read before it is forwarded.
    pub fn body(&self) -> Option<&BodyContract> {
        self.body.as_ref()
    }

    /// Whether the devices that it acts on are known beforehand.
    pub fn device_scope(&self) -> DeviceScope {
        let names = |parameter| matches!(parameter, Parameter::Device | Parameter::Action);
        let in_body = self.body.as_ref().is_some_and(BodyContract::names_devices);
        if in_body || self.template.parameters().any(names) {
            DeviceScope::Named
        } else {
            DeviceScope::Unscoped
        }
    }

    /// Whether a successful answer is a machine action whose `id` belongs to the device of the call.
    pub fn starts_action(&self) -> bool {
        matches!(self.action, Some(ActionWord::Started))
    }

    /// Whether a successful answer is a machine action or a list of them, from which one sees how they stand.
    pub fn shows_actions(&self) -> bool {
        matches!(self.action, Some(ActionWord::Shown))
    }

    /// Whether the call may change the tags of devices, and so the device group that they are in.
    pub(crate) fn changes_tags(&self) -> bool {
        self.tags == TagEffect::Changes
    }

    fn read(document: OperationDocument, reading: &mut Reading<'_>) -> Option<Self> {
        let id: Option<OperationId> = reading.parse(&document.name);
        let template: Option<PathTemplate> = reading.parse(&document.path);
        let roles = match &document.role {
            Some(words) => role_permissions(words, reading)?,
            None => Vec::new(),
        };
        let max: Option<MaxBody> = document.max_body.as_ref().and_then(|word| reading.parse(word));
        if let (Some(word), None) = (&document.max_body, &document.body) {
            reading.at(word.span(), "`max_body` without `body`: a body that is not read has no limit here");
        }
        let devices = template.as_ref().map(|path| path.parameters().any(|p| p == Parameter::Device));
        if let (Some(action), Some(false)) = (&document.action, devices)
            && matches!(action.get_ref(), ActionWord::Started)
        {
            reading.at(action.span(), "`action` needs a `{device}` in the path: whose would the action be");
        }
        let application = permissions(document.application.get_ref(), reading);
        let delegated = permissions(document.delegated.get_ref(), reading);
        let limits = rates(&document.limits, reading);
        let places = OperationPlaces {
            name: reading.place(document.name.span()),
            application: reading.place(document.application.span()),
            delegated: reading.place(document.delegated.span()),
            role: document.role.as_ref().map(|words| reading.place(words.span())),
            limits: document.limits.first().map(|word| reading.place(word.span())),
        };
        let body = document.body.map(|body| {
            let devices = body.devices.as_ref().and_then(|word| reading.parse(word));
            BodyContract::new(body.media_type, body.required, devices, max)
        });
        Some(Self {
            id: id?,
            method: document.method.into_inner().into(),
            path: document.path.get_ref().as_str().into(),
            template: template?,
            application,
            delegated,
            roles,
            body,
            limits,
            places,
            action: document.action.map(|word| word.into_inner()),
            tags: if document.changes_tags { TagEffect::Changes } else { TagEffect::Leaves },
        })
    }

    /// The device and the action that a path's parameters name; none at all if a value can't be either.
    pub(crate) fn named(&self, captures: &Captures<'_>) -> Option<(Option<DeviceRef>, Option<ActionId>)> {
        let (mut device, mut action) = (None, None);
        for (parameter, value) in self.template.parameters().zip(captures) {
            // `find(key='…')`, `$count`, `@alias`: to the API these are no names, and no device is called so.
            let function = value.starts_with(['$', '@']) || value.contains(['(', ')', '\'']);
            match parameter {
                Parameter::Device | Parameter::Action if function => return None,
                Parameter::Device if plain_name(value).is_empty() => return None,
                Parameter::Device => device = Some(DeviceRef::parse(value)),
                Parameter::Action => action = Some(ActionId::parse(value)?),
                Parameter::Other => {}
            }
        }
        Some((device, action))
    }
}

fn permissions(words: &[Word], reading: &mut Reading<'_>) -> Vec<Permission> {
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let mut list = Vec::new();
    for word in words {
        let text = word.get_ref();
        if text.is_empty() || !text.bytes().all(visible) {
            reading.at(word.span(), InvalidPermission { word: text.clone() });
            continue;
        }
        list.push(Permission::from(text.as_str()));
    }
    list
}

/// The role permissions of `role`; none if one is unknown, or the list is empty: that would be any role by accident.
fn role_permissions(words: &Spanned<OneOrMany>, reading: &mut Reading<'_>) -> Option<Vec<RolePermission>> {
    let list = match words.get_ref() {
        OneOrMany::One(word) => &[Word::new(words.span(), word.clone())][..],
        OneOrMany::Many(list) => list,
    };
    if list.is_empty() {
        reading.at(words.span(), "an empty list of role permissions: leave `role` out if any role will do");
        return None;
    }
    let parsed = list.iter().filter_map(|word| reading.parse_one_of(word, RolePermission::words()));
    let permissions: Vec<_> = parsed.collect();
    (permissions.len() == list.len()).then_some(permissions)
}

fn rates(words: &[Word], reading: &mut Reading<'_>) -> Vec<Rate> {
    let mut windows = HashSet::new();
    let mut list: Vec<Rate> = Vec::new();
    for word in words {
        let Some(rate) = reading.parse::<Rate>(word) else { continue };
        if !windows.insert(rate.window) {
            reading.at(word.span(), "two limits of one operation have windows of the same length");
            continue;
        }
        list.push(rate);
    }
    list
}

// === impl Operations ===

impl Operations {
    /// The file that says it, without its ending, and the folder whose files say it together.
    const FILES: &str = "operations";

    /// What one is called in messages.
    pub(crate) const ONE: &str = OPERATION;

    pub(crate) fn compile(files: &PolicyFiles, problems: &mut Problems) -> Self {
        let mut operations = Self { list: Vec::new(), routes: RouteTable::new() };
        let mut names = Taken::new(Self::ONE);
        let sources = files.gather(Self::FILES, problems);
        if sources.is_empty() {
            problems.leave_out(Self::ONE, None);
        }
        for source in sources {
            let opened = Sought::open(Self::ONE, Self::ONE, Some(source), problems);
            let Some((mut file, mut sought)) = opened else { continue };
            let documents = file.entries::<OperationDocument>(Self::ONE, problems);
            sought.finish(file, problems);
            operations.read(documents, &mut names, &mut Reading::new(source, problems));
            sought.leave_out(|name| operations.get(name).is_some(), problems);
        }
        operations
    }

    fn read(
        &mut self,
        documents: Vec<Spanned<OperationDocument>>,
        names: &mut Taken<String>,
        reading: &mut Reading<'_>,
    ) {
        for document in documents {
            let document = document.into_inner();
            reading.take(names, document.name.get_ref().clone(), document.name.span());
            let (path, name) = (document.path.span(), document.name.get_ref().clone());
            let before = reading.mistakes();
            if let Some(operation) = Operation::read(document, reading) {
                self.add(operation, path, reading);
            }
            // What is said of it elsewhere, such as of its limits, may miss what the mistake took away.
            if reading.mistakes() > before {
                reading.leave_out(Self::ONE, name);
            }
        }
    }

    fn add(&mut self, operation: Operation, path: std::ops::Range<usize>, reading: &mut Reading<'_>) {
        match self.routes.insert(&operation.method, &operation.template, self.list.len()) {
            Ok(()) => self.list.push(operation),
            Err(taken) => {
                let other = self.list.get(taken).map_or("", |other| other.id.as_str());
                let message = format!("a request could ask for this operation and for `{other}` alike");
                reading.at(path, message);
            }
        }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Operation> {
        self.list.iter()
    }

    /// The operation of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Operation> {
        self.list.iter().find(|operation| operation.id.as_str() == name)
    }

    /// The operation that a raw request target asks for, with the parameters of its path.
    pub(crate) fn find<'r>(&self, method: &Method, target: &'r str) -> Option<(&Operation, Captures<'r>)> {
        let (index, captures) = self.routes.find(method, target)?;
        Some((self.list.get(index)?, captures))
    }
}

impl From<MethodWord> for Method {
    fn from(word: MethodWord) -> Self {
        match word {
            MethodWord::Get => Self::GET,
            MethodWord::Post => Self::POST,
            MethodWord::Put => Self::PUT,
            MethodWord::Patch => Self::PATCH,
            MethodWord::Delete => Self::DELETE,
        }
    }
}
