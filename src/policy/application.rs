//! Applications: what each is confined to, whatever its token says.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;

use crate::id::{ApplicationId, ApplicationName, OperationId};
use crate::policy::compile::{Reading, Sought, Taken, quoted};
use crate::policy::device_group::{DeviceGroups, GroupIndex, GroupSet};
use crate::policy::document::{ApplicationDocument, ListOrAll, Unlisted, Word};
use crate::policy::operation::{DeviceScope, Operation, Operations};
use crate::principal::{Subject, Tenants};
use crate::source::{OWNER, Place, PolicyFiles, Problems, did_you_mean};

/// One entry of `applications.toml`.
#[derive(Debug)]
pub(crate) struct Application {
    name: ApplicationName,
    tenants: Tenants,
    operations: Allowed<OperationId>,
    /// None if it is not confined to any.
    device_groups: Option<GroupSet>,
    unscoped_operations: HashSet<OperationId, foldhash::fast::RandomState>,
    places: ApplicationPlaces,
}

/// Where an entry says what it confines to.
#[derive(Debug, Clone)]
pub(crate) struct ApplicationPlaces {
    /// Its id.
    pub(crate) id: Place,
    /// Its name.
    pub(crate) name: Place,
    /// Its operations.
    pub(crate) operations: Place,
    /// Its device groups.
    pub(crate) device_groups: Place,
}

/// What a list names, or everything.
#[derive(Debug)]
enum Allowed<T> {
    Only(HashSet<T, foldhash::fast::RandomState>),
    All,
}

/// The entries of `applications.toml`.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    /// Of each application, of which no tenant has two.
    entries: HashMap<ApplicationId, SmallVec<[Application; 1]>, foldhash::fast::RandomState>,
    unlisted: Unlisted,
    /// Where it says so, if it does.
    unlisted_place: Option<Place>,
}

/// What an entry says of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationAnswer {
    /// The entry names it.
    Named,
    /// The entry does not.
    Omitted,
}

/// What an entry says of a device group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupAnswer {
    /// The entry names it, or names none because all are open.
    Inside,
    /// The entry does not.
    Outside,
}

/// What an entry says of a call whose devices are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnscopedAnswer {
    /// The application is not confined to device groups, or the entry lists the operation.
    Allowed,
    /// Neither.
    Refused,
}

/// The label of applications without an entry, in metrics.
const RESERVED_NAME: &str = "other";

// === impl Applications ===

impl Applications {
    /// The file that says it.
    pub(crate) const FILE: &str = "applications.toml";

    pub(crate) fn compile(
        files: &PolicyFiles,
        operations: &Operations,
        groups: &DeviceGroups,
        problems: &mut Problems,
    ) -> Self {
        let mut applications = Self::default();
        let source = files.require(Self::FILE, problems);
        let opened = Sought::open(OWNER, "application", source, problems);
        let (Some(source), Some((mut file, mut sought))) = (source, opened) else { return applications };
        if let Some(word) = file.value("unlisted", problems) {
            applications.unlisted_place = Some(source.place_of(word.span()));
            applications.unlisted = word.into_inner();
        }
        let documents = file.entries::<ApplicationDocument>("application", problems);
        sought.finish(file, problems);

        let mut reading = Reading::new(source, problems);
        let mut names = Taken::new("application");
        for document in documents {
            let document = document.into_inner();
            let id = reading.parse::<ApplicationId>(&document.id);
            reading.take(&mut names, document.name.get_ref().clone(), document.name.span());
            let application = Application::read(&document, operations, groups, &mut reading);
            if let (Some(id), Some(application)) = (id, application) {
                applications.add(id, application, &document.id, &mut reading);
            }
        }
        let there: HashSet<&str> = applications.iter().map(|(_, entry)| entry.name.as_str()).collect();
        sought.leave_out(|name| there.contains(name), problems);
        applications
    }

    fn add(&mut self, id: ApplicationId, application: Application, word: &Word, reading: &mut Reading<'_>) {
        let entries = self.entries.entry(id).or_default();
        if let Some(first) = entries.iter().find(|other| other.tenants.meet(&application.tenants)) {
            let every = [&first.tenants, &application.tenants].into_iter().all(|one| *one == Tenants::Every);
            let (twice, line) = (if every { "twice" } else { "twice for one tenant" }, first.places.id.line);
            let message =
                format!("the application id `{id}` is given {twice}, in line {line} for the first time");
            reading.at(word.span(), message);
        }
        entries.push(application);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.values().map(SmallVec::len).sum()
    }

    /// The entry that holds for a caller.
    pub(crate) fn of(&self, subject: &Subject) -> Option<&Application> {
        self.named(&subject.application).find(|entry| entry.tenants.have(&subject.tenant))
    }

    /// Every entry of an application.
    pub(crate) fn named(&self, id: &ApplicationId) -> impl Iterator<Item = &Application> {
        self.entries.get(id).into_iter().flatten()
    }

    /// What becomes of an application without an entry.
    pub(crate) fn unlisted(&self) -> Unlisted {
        self.unlisted
    }

    /// Where the file says so; none if it leaves it out.
    pub(crate) fn unlisted_place(&self) -> Option<&Place> {
        self.unlisted_place.as_ref()
    }

    /// Every entry, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ApplicationId, &Application)> {
        self.entries.iter().flat_map(|(id, entries)| entries.iter().map(move |entry| (id, entry)))
    }
}

// === impl Application ===

impl Application {
    fn read(
        document: &ApplicationDocument,
        operations: &Operations,
        groups: &DeviceGroups,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let name = reading.name::<ApplicationName>(&document.name);
        if document.name.get_ref() == RESERVED_NAME {
            reading.at(document.name.span(), "`other` stands for every application without an entry");
        }
        let known = |word: &Word, reading: &mut Reading<'_>| {
            let operation = operations.get(word.get_ref());
            if operation.is_none() {
                let known = did_you_mean(word.get_ref(), operations.iter().map(|known| known.id().as_str()));
                reading.unknown(Operations::ONE, word, known);
            }
            operation
        };
        let allowed = match document.operations.get_ref() {
            ListOrAll::All => Allowed::All,
            ListOrAll::List(words) => Allowed::Only(
                words.iter().filter_map(|word| Some(known(word, reading)?.id().clone())).collect(),
            ),
        };
        let device_groups = match document.device_groups.get_ref() {
            ListOrAll::All => None,
            ListOrAll::List(words) => {
                Some(words.iter().filter_map(|word| groups.named(word, reading)).collect())
            }
        };
        let mut unscoped_operations = HashSet::default();
        for word in &document.unscoped_operations {
            let Some(operation) = known(word, reading) else { continue };
            if operation.device_scope() == DeviceScope::Named {
                let message = format!("`{}` names its device, so `device_groups` decides", operation.id());
                reading.at(word.span(), message);
            } else if !allowed.names(operation.id()) {
                let message = format!("`{}` is not among this entry's `operations`", operation.id());
                reading.at(word.span(), message);
            }
            unscoped_operations.insert(operation.id().clone());
        }
        let tenants = reading.tenants(document.tenants.as_ref());
        let places = ApplicationPlaces {
            id: reading.place(document.id.span()),
            name: reading.place(document.name.span()),
            operations: reading.place(document.operations.span()),
            device_groups: reading.place(document.device_groups.span()),
        };
        let application =
            Self { name: name?, tenants, operations: allowed, device_groups, unscoped_operations, places };
        application.warn(document, operations, groups, reading);
        Some(application)
    }

    /// Says where a confined entry could be left: by calls that name no device, and by tags that move one.
    fn warn(
        &self,
        document: &ApplicationDocument,
        operations: &Operations,
        groups: &DeviceGroups,
        reading: &mut Reading<'_>,
    ) {
        if self.confining().is_none() {
            return;
        }
        let name = &self.name;
        for word in &document.unscoped_operations {
            let message = format!(
                "`{name}` is confined to device groups but may call `{}`, which can tell of or act on any device",
                word.get_ref()
            );
            reading.warn(word.span(), message);
        }
        let tagging = operations.iter().filter(|operation| {
            let granted = self.operations.names(operation.id()) && !operation.application().is_empty();
            operation.changes_tags() && granted
        });
        let tagging = quoted(tagging.map(Operation::id));
        if groups.match_by_tag() && !tagging.is_empty() {
            let message = format!(
                "`{name}` is confined to device groups, some groups match by tag, and it may change tags by {tagging}: it could move a device into another group"
            );
            reading.warn(document.name.span(), message);
        }
    }

    /// Where it says what it confines to.
    pub(crate) fn places(&self) -> &ApplicationPlaces {
        &self.places
    }

    /// Whether it may make the call on at least one device.
    pub(crate) fn allows_somewhere(&self, operation: &Operation) -> OperationAnswer {
        let reached = match (operation.device_scope(), &self.device_groups) {
            (DeviceScope::Named, Some(groups)) => !groups.is_empty(),
            (DeviceScope::Named, None) => true,
            (DeviceScope::Unscoped, _) => self.unscoped(operation.id()) == UnscopedAnswer::Allowed,
        };
        if reached { self.operation(operation.id()) } else { OperationAnswer::Omitted }
    }

    pub(crate) fn name(&self) -> &ApplicationName {
        &self.name
    }

    /// The tenants in which it holds.
    pub(crate) fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    pub(crate) fn operation(&self, id: &OperationId) -> OperationAnswer {
        if self.operations.names(id) { OperationAnswer::Named } else { OperationAnswer::Omitted }
    }

    pub(crate) fn device_group(&self, group: GroupIndex) -> GroupAnswer {
        match &self.device_groups {
            None => GroupAnswer::Inside,
            Some(groups) if groups.holds(group) => GroupAnswer::Inside,
            Some(_) => GroupAnswer::Outside,
        }
    }

    pub(crate) fn unscoped(&self, id: &OperationId) -> UnscopedAnswer {
        match &self.device_groups {
            None => UnscopedAnswer::Allowed,
            Some(_) if self.unscoped_operations.contains(id) => UnscopedAnswer::Allowed,
            Some(_) => UnscopedAnswer::Refused,
        }
    }

    /// The entry if it confines to device groups.
    pub(crate) fn confining(&self) -> Option<&Self> {
        self.device_groups.is_some().then_some(self)
    }
}

// === impl Allowed ===

impl<T: Eq + std::hash::Hash> Allowed<T> {
    fn names(&self, item: &T) -> bool {
        match self {
            Self::Only(list) => list.contains(item),
            Self::All => true,
        }
    }
}
