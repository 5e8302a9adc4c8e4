//! Parts of a limit, and whose they are.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::{ApplicationId, EntraGroupId, UserId};
use crate::limit::charges::Caller;
use crate::limit::key::RuleId;
use crate::limit::window::Bounds;
use crate::principal::Tenants;
use crate::time::Wall;

/// A part of a limit that is promised to somebody: a window of its own, and a key of its own beside the limit's.
///
/// A call is counted in one part, or in the rest, and in all bounds of it. It goes to the first that has room: those of
/// its caller, the rest, and then the lent ones that nobody wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::limit) struct Part {
    /// Its owner's, in the file.
    pub(in crate::limit) name: Arc<str>,
    pub(in crate::limit) rule: RuleId,
    pub(in crate::limit) bounds: Bounds,
    pub(in crate::limit) owner: Owner,
    pub(in crate::limit) idle: Idle,
    /// From when on it is nobody's; none if that never comes.
    pub(in crate::limit) until: Option<Wall>,
}

/// To whom a part is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::limit) enum Owner {
    Application(ApplicationId),
    User(UserId),
    /// Whoever holds a role, as these groups and users.
    Holders {
        groups: HashSet<EntraGroupId>,
        users: HashSet<UserId>,
    },
    /// One of these in some tenants alone.
    Within(Tenants, Box<Self>),
}

/// What becomes of a part that its owner does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) enum Idle {
    /// Nobody else ever uses it.
    Kept,
    /// Others use what is idle, until its owner was refused: from then on nobody else is admitted into it, for one
    /// window of the bound that was full the longest.
    Lent,
}

// === impl Owner ===

impl Owner {
    /// The same in these tenants alone.
    pub(in crate::limit) fn within(self, tenants: &Tenants) -> Self {
        match tenants {
            Tenants::Every => self,
            only @ Tenants::Only(_) => Self::Within(only.clone(), Box::new(self)),
        }
    }

    /// No caller at all.
    pub(super) fn nobody() -> Self {
        Self::Holders { groups: HashSet::new(), users: HashSet::new() }
    }

    /// Whether the part is this caller's.
    pub(in crate::limit) fn is(&self, caller: Caller<'_>) -> bool {
        let user = caller.subject.user.as_ref();
        match self {
            Self::Application(application) => caller.subject.application == *application,
            Self::User(owner) => user == Some(owner),
            Self::Within(tenants, owner) => tenants.have(&caller.subject.tenant) && owner.is(caller),
            Self::Holders { groups, users } => {
                user.is_some_and(|user| users.contains(user))
                    || caller.groups.iter().any(|group| groups.contains(group))
            }
        }
    }
}
