//! Sets that are wrong in every way in which files go wrong: each refused with its file, its line and a sentence, and
//! the last good one in force.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate::reload::{PolicySource, PolicyStore, Reload};
use tollgate::snapshot::version;
use tollgate::time::{Clock, Wall};

use super::load::marked;
use super::{Folder, Way};

/// The set that ships, with some devices, by the names of its files.
type Texts = BTreeMap<String, String>;

/// One set that is wrong.
struct Case {
    kind: &'static str,
    /// The file that is spoilt.
    file: String,
    spoil: Spoil,
    /// How what is said of it begins, and what else it says.
    expected: (String, &'static str),
}

/// What is done to a file.
enum Spoil {
    Write(Vec<u8>),
    Remove,
    /// Puts a link to this in its place.
    Link(&'static str),
    Folder,
    /// Makes it this large, without a byte on the disk.
    Stretch(u64),
}

/// Edits of a file: which, what is replaced by what (nothing: the file's end), where, and what is said.
const EDITS: [(&str, &str, &str, &str, &str); 24] = [
    ("roles.toml", "\"View data\"", "\"View dada\"", "", "unknown role permission `View dada`; did you mean"),
    (
        "roles.toml",
        "[\"View data\"]",
        "\"View data\"",
        "",
        "invalid type: string \"View data\", expected a sequence",
    ),
    ("roles.toml", "0001-000000000002", "0001-00000000000g", "", "is not a GUID"),
    ("device-groups.toml", "rank         = 2", "rank         = 1", "", "the rank `1` is given twice"),
    ("device-groups.toml", "rank         = 2", "rank         = 0", "", "invalid value: integer `0`"),
    (
        "device-groups.toml",
        "rank         = 2",
        "rank         = 4294967296",
        "",
        "invalid value: integer `4294967296`",
    ),
    (
        "device-groups.toml",
        "starts with EXEC-",
        "begins with EXEC-",
        "",
        "`begins with EXEC-` is not a condition",
    ),
    (
        "device-groups.toml",
        "{ name = [\"starts with EXEC-\"] }",
        "{}",
        "",
        "`match` must name at least one property",
    ),
    (
        "device-groups.toml",
        "unknown_device = \"refuse\"",
        "unknown_device = \"allow\"",
        "",
        "unknown variant `allow`",
    ),
    (
        "device-groups.toml",
        "unknown_device = \"refuse\"",
        "stale_inventory = \"use\"",
        "",
        "`stale_inventory` without `max_age`",
    ),
    (
        "applications.toml",
        "\"get_package_uri\"",
        "\"get_package_url\"",
        "",
        "unknown operation `get_package_url`; did you mean `get_package_uri`?",
    ),
    (
        "applications.toml",
        "[\"Servers\", \"Workstations\"]",
        "[\"Servers\", \"Laptops\"]",
        "",
        "unknown device group `Laptops`",
    ),
    (
        "applications.toml",
        "device_groups = \"all\"",
        "device_groups = \"every\"",
        "",
        "expected a list of names or the word \"all\"",
    ),
    ("applications.toml", "device_groups = \"all\"", "", ":34:1:", "missing field `device_groups`"),
    ("applications.toml", "unlisted = \"refuse\"", "unlisted = true", "", "wanted string or table"),
    ("limits.toml", "300 per minute", "300 a minute", "", "`300 a minute` is not a rate"),
    ("limits.toml", "\"45 per minute\"", "\"-45 per minute\"", "", "`-45 per minute` is not a rate"),
    ("limits.toml", "max_keys = 1000000", "max_keys = 10000000000000000000000", "", ""),
    ("issuers.toml", "\"commercial\"", "\"comercial\"", "", "comercial"),
    ("issuers.toml", "clock_skew = \"60s\"", "clock_skew = 60", "", ""),
    (
        "operations/machines.toml",
        "method      = \"GET\"",
        "method      = \"GOT\"",
        "",
        "unknown variant `GOT`",
    ),
    (
        "operations/machines.toml",
        "/api/machines/{device}",
        "/api/machines/{device}/{device}",
        "",
        "a path names at most one `{device}`",
    ),
    (
        "operations/machines.toml",
        "\"/api/machines\"",
        "\"/api/alerts\"",
        "",
        "a request could ask for this operation and for",
    ),
    ("operations/hunting.toml", "path ", "paht ", "", "unknown field `paht`"),
];

/// Inventories that are none: the file, its text, and what is said of which line.
const INVENTORIES: [(&str, &str, &str, &str); 18] = [
    ("devices.csv", "", ":1:1:", "no column `Device ID` in the header"),
    ("devices.csv", "Device Name\na\n", ":1:1:", "no column `Device ID` in the header"),
    (
        "devices.csv",
        "Device ID,Device Name,Device ID\n",
        ":1:1:",
        "a second column `Device ID` of the same meaning",
    ),
    (
        "devices.csv",
        "Device ID,Device Name\nABC,a\n",
        ":2:1:",
        "`ABC` is not a device id of 40 (or 32) hexadecimal digits",
    ),
    ("devices.csv", "Device ID,Device Name\n\n\n@,a,b\n", ":4:1:", "3 fields where the header has 2"),
    ("devices.csv", "Device ID,Device Name\n@,a\n@,b\n", ":3:1:", "is listed twice"),
    ("devices.csv", "Device ID,Device Name,AAD Device ID\n@,a,b\n", ":2:1:", "`b` is not a GUID"),
    ("devices.csv", "Device ID,Device Name\n@,\"a\n#,b\n", ":2:1:", "has a control character"),
    ("devices.json", "{\"value\":[", ":1:1:", "EOF while parsing a list"),
    ("devices.json", "{\"value\":[\n{\"id\":\"@\"},\n{\"id\":\"x\"}]}", ":3:1:", "`x` is not a device id"),
    ("devices.json", "{\"value\":[\n{\"id\":5}]}", ":2:1:", "invalid type: integer `5`"),
    ("devices.json", "{\"value\":[\n{}]}", ":2:1:", "missing field `id`"),
    ("devices.json", "{\n\"values\":[]}", ":2:1:", "missing field `value`"),
    ("devices.json", "[]x", ":1:1:", "expected value"),
    ("devices.json", "{\"value\":{}}", ":1:1:", "invalid type: map, expected a sequence"),
    ("devices.json", "{\"value\":[\n{\"id\":\"@\"},\n\n{\"id\":\"@\"}]}", ":4:1:", "is listed twice"),
    (
        "devices/page-1.json",
        "{\"value\":[\n{\"id\":\"@\",\n\"machineTags\":\"VIP\"}]}",
        ":3:1:",
        "invalid type: string \"VIP\"",
    ),
    ("devices/page-1.csv", "Device ID;Device Name\n", ":1:1:", "no column `Device ID` in the header"),
];

/// Files that nobody reads, so that nothing in them is in force.
const UNREAD: [(&str, &str); 14] = [
    ("limit.toml", "did you mean `limits.toml`?"),
    ("role.toml", "did you mean `roles.toml`?"),
    ("operation/extra.toml", "did you mean `operations`?"),
    ("device/extra.csv", "did you mean `devices`?"),
    ("devices/extra.toml", ""),
    ("operations/extra.csv", ""),
    ("archive/roles.toml", ""),
    ("key.pem", ""),
    ("Roles.TOML", "did you mean `roles.toml`?"),
    ("operations/archive/hunting.toml", "did you mean `operations/hunting.toml`?"),
    ("devices/emea/page-1.json", "did you mean `devices/page-1.json`?"),
    ("devices/emea/2026/page-1.csv", "did you mean `devices/page-1.csv`?"),
    ("operation/emea/extra.toml", "did you mean `operations`?"),
    ("archive/2026/11/roles.toml", ""),
];

/// Links in the set, to what, and what is said of them.
const LINKS: [(&str, &str, &str); 6] = [
    ("devices", "gone", "cannot be read: No such file"),
    ("inventory", "gone", "cannot be read: No such file"),
    ("operations/more", "gone", "cannot be read: No such file"),
    ("again", ".", "cannot be read: it leads back to a folder that it lies in"),
    ("operations/again", "..", "cannot be read: it leads back to a folder that it lies in"),
    ("page.json", "/dev/null", "cannot be read: it is neither a file nor a folder"),
];

fn shipped() -> Texts {
    let mut texts = Texts::new();
    for file in tollgate::sandbox::shipped::files().iter() {
        texts.insert(file.name().to_string(), file.text().to_owned());
    }
    texts
}

/// The line, from 1, of a byte.
fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn case(kind: &'static str, file: &str, spoil: Spoil, place: &str, sentence: &'static str) -> Case {
    Case { kind, file: file.to_owned(), spoil, expected: (format!("{file}:{place}"), sentence) }
}

/// Ways to spoil any file of this kind.
fn generated(name: &str, text: &str, cases: &mut Vec<Case>) {
    let whole = |sentence| (format!(" {sentence}"), sentence);
    let mut add = |kind, text: Vec<u8>, line: usize, sentence| {
        cases.push(case(kind, name, Spoil::Write(text), &format!("{line}:"), sentence));
    };
    let middle = text[..text.len() / 2].rfind('\n').map_or(0, |at| at + 1);
    let (before, behind) = text.split_at(middle);
    let not_text = [before.as_bytes(), b"\xff", behind.as_bytes()].concat();
    add("not UTF-8", not_text, line(text, middle), "not UTF-8 text from here on");
    let wide: Vec<u8> =
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    add("UTF-16", wide, 1, "not UTF-8 text from here on");
    if name.ends_with(".toml") {
        let end = text.matches('\n').count() + 1;
        add("an unknown table", format!("{text}[surprise]\n").into(), end, "unknown key `surprise`");
        add("an unknown key", format!("surprise = 1\n{text}").into(), 1, "unknown key `surprise`");
        let zeros = [before.as_bytes(), &[0; 512]].concat();
        add("half written before a crash", zeros, line(text, middle), "invalid");
        let entry = text.rfind("\n[[").map_or(0, |at| at + 1);
        let (before, behind) = text.split_at(entry);
        let conflict = format!("{before}<<<<<<< ours\n{behind}");
        add("a merge conflict", conflict.into(), line(text, entry), "invalid");
        let entries = text.contains("\n[[");
        if let Some(at) = text.rfind(" = \"").filter(|_| entries) {
            add("truncated", text[..at + 5].into(), line(text, at), "invalid basic string");
        }
        if let Some(at) = text.rfind("\nname ") {
            let equals = at + text[at..].find('=').unwrap();
            let end = equals + text[equals..].find('\n').unwrap();
            let other = |value: &str| format!("{}= {value}{}", &text[..equals], &text[end..]).into();
            add(
                "a wrong type",
                other("5"),
                line(text, equals),
                "invalid type: integer `5`, expected a string",
            );
            add("an empty name", other("\"\""), line(text, equals), "name");
        }
        if name.starts_with("operations/") {
            let first = text.find("\nname ").unwrap() + 1;
            let twice = format!("{text}{text}");
            add("duplicates", twice.into(), line(text, first) + end - 1, "is given twice, in line");
        }
    }
    for (kind, spoil, sentence) in [
        ("a link that leads nowhere", Spoil::Link("gone"), "cannot be read: No such file"),
        ("a link to itself", Spoil::Link(""), "cannot be read: Too many levels of symbolic links"),
        ("huge", Spoil::Stretch((1 << 30) + 1), "larger than 1024 MiB"),
    ] {
        cases.push(case(kind, name, spoil, &whole(sentence).0, sentence));
    }
}

fn cases(texts: &Texts) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in texts {
        generated(name, text, &mut cases);
    }
    for (file, from, to, place, sentence) in EDITS {
        let text = &texts[file];
        let is_code = |at: &usize| !text[..*at].rsplit('\n').next().unwrap().starts_with('#');
        let start = text.match_indices(from).map(|(at, _)| at).find(is_code);
        let start = start.unwrap_or_else(|| panic!("{file} has no {from}"));
        let at = line(text, start);
        let place = if place.is_empty() { at.to_string() } else { place.trim_matches(':').to_owned() };
        let spoilt = [&text[..start], to, &text[start + from.len()..]].concat().into_bytes();
        cases.push(case("a wrong value", file, Spoil::Write(spoilt), &format!("{place}:"), sentence));
    }
    for (file, text, place, sentence) in INVENTORIES {
        let text = text.replace('@', &"1".repeat(40)).replace('#', &"2".repeat(40)).into_bytes();
        let place = format!("{}:", place.trim_matches(':'));
        cases.push(case("an inventory that is none", file, Spoil::Write(text), &place, sentence));
    }
    for (file, hint) in UNREAD {
        let said = " no part of the policy reads this file, so that nothing in it is in force";
        cases.push(case("a file that nobody reads", file, Spoil::Write(Vec::new()), said, hint));
    }
    for (file, to, said) in LINKS {
        cases.push(case("a link to no file", file, Spoil::Link(to), &format!(" {said}"), ""));
    }
    for file in [
        "applications.toml",
        "device-groups.toml",
        "issuers.toml",
        "limits.toml",
        "roles.toml",
        "devices.csv",
    ] {
        for (kind, spoil) in [("vanished", Spoil::Remove), ("a folder of its name", Spoil::Folder)] {
            cases.push(case(kind, file, spoil, " the policy set ", ""));
        }
    }
    cases
}

impl Spoil {
    fn apply(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let gone = || std::fs::remove_file(path).unwrap();
        match self {
            Self::Write(bytes) => std::fs::write(path, bytes).unwrap(),
            Self::Remove => gone(),
            Self::Link(to) => {
                if path.symlink_metadata().is_ok() {
                    gone();
                }
                let to = if to.is_empty() { path.file_name().unwrap() } else { to.as_ref() };
                symlink(to, path).unwrap();
            }
            Self::Folder => {
                gone();
                std::fs::create_dir(path).unwrap();
            }
            Self::Stretch(size) => {
                std::fs::File::options().write(true).open(path).unwrap().set_len(*size).unwrap()
            }
        }
    }
}

/// Puts a file back as it was.
fn mend(folder: &Path, file: &str, texts: &Texts) {
    let path = folder.join(file);
    let is_folder = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
    if is_folder {
        std::fs::remove_dir(&path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        std::fs::remove_file(&path).unwrap();
    }
    match texts.get(file) {
        Some(text) => std::fs::write(&path, text).unwrap(),
        None => {
            let made = path.ancestors().skip(1).take_while(|above| *above != folder);
            // The shipped folder of operations is not empty.
            made.take_while(|above| std::fs::remove_dir(above).is_ok()).for_each(drop);
        }
    }
}

#[test]
fn every_set_of_a_corpus_of_broken_ones_is_refused_with_file_line_and_sentence() {
    let (parent, texts) = (tempfile::tempdir().unwrap(), shipped());
    let folder = parent.path();
    for (name, text) in &texts {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }
    let (clock, _) = Clock::manual(Wall::default());
    let store = PolicyStore::open(PolicySource::Folder(folder.to_owned()), clock).unwrap();
    let mut good = store.load();
    let cases = cases(&texts);
    let mut wrong = Vec::new();
    for Case { kind, file, spoil, expected: (start, sentence) } in &cases {
        spoil.apply(&folder.join(file));
        match store.reload() {
            Reload::Refused(problems) => {
                let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
                if !said.iter().any(|said| said.starts_with(start) && said.contains(sentence)) {
                    let near: Vec<_> =
                        said.iter().filter(|said| said.starts_with(file.as_str())).take(3).collect();
                    wrong.push(format!("{kind}: wanted {start} … {sentence}, found {near:?}"));
                }
            }
            other => wrong
                .push(format!("{kind}: {file} {start} {sentence}: {other:?}").chars().take(300).collect()),
        }
        if !Arc::ptr_eq(&good, &store.load()) {
            wrong.push(format!("{kind}: {file} is in force"));
        }
        mend(folder, file, &texts);
        if !Arc::ptr_eq(&good, &store.load()) {
            store.reload();
            good = store.load();
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let kinds: std::collections::BTreeSet<_> = cases.iter().map(|case| case.kind).collect();
    assert!(cases.len() >= 200 && kinds.len() >= 12, "{} cases of {} kinds", cases.len(), kinds.len());
    assert!(matches!(store.reload(), Reload::Unchanged));
    assert!(store.refused().is_none());
}

#[test]
fn a_set_whose_link_is_swapped_while_it_is_read_is_one_or_the_other_or_not_read() {
    let sets = ["a", "b"].map(marked);
    let versions = sets.each_ref().map(version);
    let folder = Folder::of_links(&sets[0]);
    let (clock, _) = Clock::manual(Wall::default());
    let store = PolicyStore::open(PolicySource::Folder(folder.path.clone()), clock).unwrap();
    let swapping = AtomicBool::new(true);
    let mut loaded = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for swap in 1..=200 {
                folder.write(Way::LinkSwap, &sets[swap % 2]);
            }
            swapping.store(false, Ordering::Release);
        });
        while swapping.load(Ordering::Acquire) {
            match store.reload() {
                Reload::Loaded(snapshot) => {
                    assert!(versions.contains(&snapshot.version));
                    loaded += 1;
                }
                Reload::Unchanged => assert!(versions.contains(&store.load().version)),
                Reload::Refused(problems) => {
                    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
                    let moving = |said: &String| {
                        said.contains("while they are read") || said.contains("cannot be read")
                    };
                    assert!(said.iter().all(moving), "{said:#?}");
                }
            }
        }
    });
    assert!(matches!(store.reload(), Reload::Loaded(_) | Reload::Unchanged));
    assert_eq!(store.load().version, versions[0]);
    assert!(loaded > 0, "no swap was seen");
}
