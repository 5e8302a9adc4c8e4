//! Who may be promised a part of a limit, by the names that the other files of the policy have for them.

use std::collections::{BTreeMap, HashSet};

use crate::id::{ApplicationId, ApplicationName, EntraGroupId, RoleName, UserId};
use crate::limit::quota::Owner;
use crate::principal::Tenants;

/// Everybody whom a policy set names: applications, the holders of roles, and users.
#[derive(Debug, Default)]
pub struct Owners {
    by_name: BTreeMap<String, Named>,
    users: HashSet<UserId>,
}

/// What a name stands for.
#[derive(Debug)]
enum Named {
    One(Owner),
    /// An application and a role.
    Two,
}

/// A name that nobody can be promised a part by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidOwner {
    #[error("`{0}` is the name of an application and of a role: a part is promised to one of them")]
    Ambiguous(String),
    #[error("`{0}` is no application of applications.toml, and no role or user id of roles.toml")]
    Unknown(String),
}

// === impl Owners ===

impl Owners {
    /// An application of this name, in these tenants.
    pub fn application(&mut self, name: &ApplicationName, tenants: &Tenants, id: ApplicationId) {
        self.add(name.as_str(), Owner::Application(id).within(tenants));
    }

    /// A role of this name, and who holds it in these tenants.
    pub fn role(
        &mut self,
        name: &RoleName,
        tenants: &Tenants,
        groups: impl IntoIterator<Item = EntraGroupId>,
        users: impl IntoIterator<Item = UserId>,
    ) {
        let users: HashSet<_> = users.into_iter().collect();
        self.users.extend(&users);
        let holders = Owner::Holders { groups: groups.into_iter().collect(), users };
        self.add(name.as_str(), holders.within(tenants));
    }

    fn add(&mut self, name: &str, owner: Owner) {
        let named = match self.by_name.remove(name) {
            None => Named::One(owner),
            Some(_) => Named::Two,
        };
        self.by_name.insert(name.to_owned(), named);
    }

    /// Whom a name, or the id of a user, stands for.
    pub(super) fn find(&self, name: &str) -> Result<Owner, InvalidOwner> {
        match self.by_name.get(name) {
            Some(Named::One(owner)) => Ok(owner.clone()),
            Some(Named::Two) => Err(InvalidOwner::Ambiguous(name.to_owned())),
            None => {
                let user = name.parse().ok().filter(|user| self.users.contains(user)).map(Owner::User);
                user.ok_or_else(|| InvalidOwner::Unknown(name.to_owned()))
            }
        }
    }

    /// The names of applications and roles.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.by_name.keys().map(String::as_str)
    }
}
