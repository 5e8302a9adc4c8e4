//! `enforce`: whether what the policy would refuse is refused. `policy.toml` says it of the whole set, an entry of itself.

use crate::source::{FileSchema, Place, PolicyFiles, Problems};

/// What comes of a call that would be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Effect {
    /// It is refused.
    #[default]
    Refuse,
    /// It is noted, and passes.
    Count,
}

/// What comes of a call that any part of the set would refuse, and where that is said; nowhere, if nothing says it.
#[derive(Debug, Default)]
pub(crate) struct Enforcement {
    effect: Effect,
    place: Option<Place>,
}

// === impl Effect ===

impl Effect {
    /// Nothing but the word `false` lets pass what would be refused.
    pub(crate) fn of(enforce: Option<bool>) -> Self {
        if enforce == Some(false) { Self::Count } else { Self::Refuse }
    }
}

// === impl Enforcement ===

impl Enforcement {
    /// The file that says it. A set without it is enforced.
    const FILE: &str = "policy.toml";

    pub(crate) fn compile(files: &PolicyFiles, problems: &mut Problems) -> Self {
        let Some(source) = files.read(Self::FILE, problems) else { return Self::default() };
        let Some(mut file) = source.toml(problems) else { return Self::default() };
        let enforce = file.value::<bool>("enforce", problems);
        file.finish(problems);
        let place = enforce.as_ref().map(|word| source.place_of(word.span()));
        Self { effect: Effect::of(enforce.map(toml::Spanned::into_inner)), place }
    }

    /// The schema of the file.
    pub(crate) fn schema() -> FileSchema {
        FileSchema::new(Self::FILE).value::<bool>("enforce")
    }

    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// Where the file says it; none if it leaves it out.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }
}
