//! `tollgate check`: what it prints, where, and how it exits.

use std::path::Path;
use std::process::{Command, Output};

use tollgate::sandbox::shipped;
use tollgate::source::{PolicyFiles, SourceFile};

fn check(folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("check").arg(folder).output().unwrap()
}

/// A folder with the shipped set, one file of it replaced.
fn shipped_with(name: &str, text: &str) -> tempfile::TempDir {
    let mut files: PolicyFiles = shipped::files();
    files.insert(SourceFile::new(name, text));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("operations")).unwrap();
    for file in files.iter() {
        std::fs::write(folder.path().join(&**file.name()), file.text()).unwrap();
    }
    folder
}

const PLAYBOOKS: &str = r#"
[[application]]
id                  = "00000000-0000-0000-0003-000000000001"
name                = "soar-playbooks"
operations          = ["list_machines", "run_advanced_query"]
device_groups       = ["Workstations"]
unscoped_operations = ["run_advanced_query", "list_machines"]
"#;

#[test]
fn the_shipped_set_passes_without_a_warning() {
    let output = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"));
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("policy ") && text.contains(": 113 operations, "), "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("limiter: ")), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_warning_is_printed_with_its_place_and_is_no_mistake() {
    let output = check(shipped_with("applications.toml", PLAYBOOKS).path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic())).collect();
    let warning = "warning: applications.toml:7:";
    assert!(lines[0].starts_with(&format!("{warning}24: `soar-playbooks` is confined")), "{text}");
    assert!(lines[0].contains("`run_advanced_query`"), "{text}");
    assert!(lines[1].starts_with(warning) && lines[1].contains("`list_machines`"), "{text}");
    assert!(lines[lines.len() - 3].starts_with("policy "), "{text}");
}

#[test]
fn a_mistake_in_a_folder_of_the_set_is_printed_with_its_place_and_exits_with_1() {
    let output = check(shipped_with("operations/mine.toml", "[[operation]]\nname = \"mine\"\n").path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("operations/mine.toml:1:1: missing field"), "{text}");
}
