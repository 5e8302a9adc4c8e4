//! The floor plan of `src/lib.rs`, held against the source: no file uses what stands on its own floor or above.
//!
//! The check reads the text, not the compiled crate: comments and strings are blanked, and then every `crate::…` path
//! counts, in a `use` with its braces or inline, in tests too.

use std::path::{Path, PathBuf};

mod code;

use code::{code, modules_used, says};

/// Where a module stands, and whom it may know beside itself.
struct Place {
    module: &'static str,
    /// 1 to 5; 0 is the gallery.
    floor: u8,
    /// Modules of its own floor that it may use.
    beside: &'static [&'static str],
}

/// The house. A module may use itself, what it lists in `beside`, and every floor below its own; from floor 3 up also
/// the gallery.
const HOUSE: &[Place] = &[
    place("main", 5, &["cli", "sandbox", "server", "settings"]),
    place("cli", 5, &["sandbox", "server", "settings"]),
    place("sandbox", 5, &["server", "settings"]),
    place("server", 5, &["settings"]),
    place("settings", 5, &[]),
    place("proxy", 4, &[]),
    place("admin", 4, &[]),
    place("reload", 3, &["admit", "snapshot", "denial"]),
    place("admit", 3, &["snapshot", "denial"]),
    place("snapshot", 3, &["denial"]),
    place("denial", 3, &[]),
    place("token", 2, &[]),
    place("policy", 2, &[]),
    place("limit", 2, &[]),
    place("actions", 2, &[]),
    place("outcome", 1, &["principal", "id", "source", "time"]),
    place("principal", 1, &["id", "source", "time"]),
    place("id", 1, &["source", "time"]),
    place("source", 1, &["time"]),
    place("time", 1, &[]),
    // Knows no word of the others: its records say nothing to it.
    place("journal", 1, &[]),
    place("telemetry", 0, &[]),
];

/// A word of the source that only some files may say, and why.
struct Reserved {
    words: &'static [&'static str],
    modules: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved { words: &["pingora"], modules: &["proxy", "server"], why: "only the door speaks Pingora" },
    Reserved {
        words: &["Instant::now", "SystemTime::now", "Timestamp::now", "clock_gettime"],
        modules: &["time"],
        why: "only time.rs reads a clock",
    },
    Reserved {
        words: &["rehearsing", "Rehearsal"],
        modules: &["token", "cli"],
        why: "only a rehearsal has keys of its own",
    },
];

/// A screenful of files is read whole; a longer one is two files.
const MAX_LINES: usize = 400;

/// A source file: its path below `src/` and its text.
struct Source {
    path: PathBuf,
    text: String,
}

const fn place(module: &'static str, floor: u8, beside: &'static [&'static str]) -> Place {
    Place { module, floor, beside }
}

// === impl Place ===

impl Place {
    fn of(module: &str) -> Option<&'static Self> {
        HOUSE.iter().find(|place| place.module == module)
    }

    fn may_use(&self, other: &Self) -> Result<(), String> {
        let allowed = self.module == other.module
            || self.beside.contains(&other.module)
            || match (self.floor, other.floor) {
                (0, to) => to == 1,
                (from, 0) => from >= 3,
                (from, to) => to < from,
            };
        let floor = |place: &Self| match place.floor {
            0 => "the gallery".to_owned(),
            floor => format!("floor {floor}"),
        };
        allowed.then_some(()).ok_or_else(|| {
            format!("{} on {} uses {} on {}", self.module, floor(self), other.module, floor(other))
        })
    }
}

// === impl Source ===

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Every Rust file below `folder`.
    fn all(folder: &Path) -> Vec<Self> {
        let mut sources = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    sources.push(Self { path: path.strip_prefix(folder).unwrap().to_owned(), text });
                }
            }
        }
        sources
    }

    /// The module of the crate's root that the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.iter().next().and_then(|name| name.to_str()).unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Everything that the file must not say.
    fn faults(&self) -> Vec<String> {
        let code = code(&self.text);
        let mut faults = Vec::new();
        // The map names every module and stands on no floor.
        if self.module() != "lib" {
            faults.extend(self.arrows(&code));
            faults.extend(self.climbs(&code));
        }
        for Reserved { words, modules, why } in RESERVED {
            let said = words.iter().filter(|word| !modules.contains(&self.module()) && says(&code, word));
            faults.extend(said.map(|word| format!("`{word}`: {why}")));
        }
        let lines = self.text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{lines} lines, and {MAX_LINES} are the most"));
        }
        faults.into_iter().map(|fault| format!("src/{}: {fault}", self.path.display())).collect()
    }

    fn arrows(&self, code: &str) -> Vec<String> {
        let Some(from) = Place::of(self.module()) else {
            return vec![format!("`{}` has no floor: give it one in tests/floors.rs", self.module())];
        };
        let arrow = |used: &String| match Place::of(used) {
            Some(to) => from.may_use(to).err(),
            None => Some(format!("`{used}` has no floor, or is not named by its module")),
        };
        modules_used(code).iter().filter_map(arrow).collect()
    }

    /// Paths that reach the crate's root by `super::`, where the check of arrows would not see them.
    fn climbs(&self, code: &str) -> Option<String> {
        const UP: &str = "super::";
        let mut at = 0;
        while let Some(found) = code[at..].find(UP) {
            let start = at + found;
            let steps = code[start..].split(UP).take_while(|between| between.is_empty()).count();
            at = start + steps * UP.len();
            // An inline module, such as that of the tests, is one step further from the root.
            let inline = code[..start].split("mod ").skip(1).any(|after| {
                after
                    .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                    .trim_start()
                    .starts_with('{')
            });
            if steps >= self.path.iter().count() + usize::from(inline) {
                return Some("`super::` reaches the crate's root: write `crate::`".to_owned());
            }
        }
        None
    }
}

#[test]
fn no_file_uses_its_own_floor_or_one_above() {
    let sources = Source::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > HOUSE.len(), "only {} files found", sources.len());
    let faults: Vec<_> = sources.iter().flat_map(Source::faults).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_place_in_the_house_is_a_module() {
    let sources = Source::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for Place { module, beside, .. } in HOUSE {
        assert!(sources.iter().any(|source| source.module() == *module), "no file of `{module}`");
        assert!(beside.iter().all(|other| Place::of(other).is_some()), "`{module}` knows nobody's neighbour");
    }
}

#[test]
fn a_forbidden_arrow_is_caught_however_it_is_written() {
    for (path, text, fault) in [
        ("time.rs", "use crate::id::RequestId;", "time on floor 1 uses id on floor 1"),
        ("source.rs", "use crate::id::TenantId;", "source on floor 1 uses id on floor 1"),
        ("limit/store.rs", "use crate::policy::Policies;", "limit on floor 2 uses policy on floor 2"),
        (
            "limit.rs",
            "use crate::{id::{A, B}, outcome, token::{C}};",
            "limit on floor 2 uses token on floor 2",
        ),
        ("token.rs", "use crate::{\n    id,\n    telemetry::metrics,\n};", "token on floor 2 uses telemetry"),
        ("token.rs", "pub(crate) use crate::admit::Permit as P;", "token on floor 2 uses admit on floor 3"),
        (
            "policy/a/b.rs",
            "fn f() -> crate\n    ::admit::Permit {}",
            "policy on floor 2 uses admit on floor 3",
        ),
        ("telemetry.rs", "use crate::policy::X;", "telemetry on the gallery uses policy on floor 2"),
        ("admit.rs", "use crate::reload::X;", "admit on floor 3 uses reload on floor 3"),
        ("admin.rs", "use crate::proxy::X;", "admin on floor 4 uses proxy on floor 4"),
        ("settings.rs", "use crate::server::X;", "settings on floor 5 uses server on floor 5"),
        ("proxy/reply.rs", "use tollgate::cli::X;", "proxy on floor 4 uses cli on floor 5"),
        ("limit.rs", "use crate::*;", "`*` has no floor"),
        ("token.rs", "#[cfg(test)] mod tests { use crate::limit::X; }", "token on floor 2 uses limit"),
        ("cellar.rs", "", "`cellar` has no floor"),
        ("token.rs", "const Q: char = '\"'; use crate::limit::X; const R: char = '\"';", "uses limit"),
        ("token.rs", "use super::limit::X;", "reaches the crate's root"),
        ("token/keys.rs", "use super::super::limit::X;", "reaches the crate's root"),
        ("token.rs", "mod tests { use super::super::limit::X; }", "reaches the crate's root"),
        ("token.rs", "fn f<'a>() {} use crate::limit::X; fn g<'a>() {}", "uses limit"),
    ] {
        let faults = Source::new(path, text).faults();
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].starts_with("src/") && faults[0].contains(fault), "{text}: {faults:?}");
    }
}

#[test]
fn an_allowed_arrow_is_let_through_and_prose_is_no_arrow() {
    for (path, text) in [
        ("outcome.rs", "use crate::{principal::Principal, id::A, source::Problem, time::Wall};"),
        ("token/claims.rs", "use crate::token::keys::KeySet;\nuse crate::outcome::ReasonCode;"),
        ("reload.rs", "use crate::admit::X; use crate::denial::Y; use crate::telemetry::audit::Audit;"),
        ("proxy.rs", "use crate::admit::Permit; use pingora::proxy::Session;"),
        ("main.rs", "use tollgate::cli;"),
        ("token.rs", "pub(super) fn f() {} mod tests { use super::*; }"),
        ("token/keys.rs", "use super::claims::X; mod tests { use super::*; use super::super::claims::X; }"),
        ("lib.rs", "pub use crate::admit::Permit;"),
        (
            "token.rs",
            "// use crate::limit::X;\n/* use crate::policy::X; /* pingora */ */ /// [`crate::admit`]",
        ),
        (
            "token.rs",
            "const A: &str = \"use crate::limit::X; \\\" pingora\"; const B: &str = r#\"crate::admit \" \"#;",
        ),
        ("time.rs", "let now = clock_gettime(ClockId::Boottime);"),
        ("limit.rs", "use other_crate::limit::X; use my_tollgate::admit;"),
    ] {
        assert_eq!(Source::new(path, text).faults(), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn clocks_pingora_and_long_files_are_caught() {
    for (path, text, fault) in [
        ("admit.rs", "use pingora::proxy::Session;".to_owned(), "only the door speaks Pingora"),
        ("limit.rs", "let now = std::time::Instant::now();".to_owned(), "only time.rs reads a clock"),
        ("token.rs", "jiff::Timestamp::now()".to_owned(), "only time.rs reads a clock"),
        ("token.rs", "rustix::time::clock_gettime(id)".to_owned(), "only time.rs reads a clock"),
        ("reload.rs", "verifier.rehearsing(keys)".to_owned(), "only a rehearsal has keys of its own"),
        ("token.rs", "\n".repeat(401), "401 lines"),
    ] {
        let faults = Source::new(path, &text).faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(fault), "{faults:?}");
    }
    assert!(Source::new("token.rs", &"\n".repeat(400)).faults().is_empty());
}
