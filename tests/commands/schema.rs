//! `tollgate schema`: what it says of a file is what the program takes.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::run;

/// The schema that is printed of a file.
async fn schema(file: &str) -> Validator {
    let ended = run(&["schema", file]).await;
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{file}: {ended:#?}");
    jsonschema::validator_for(&serde_json::from_str(&ended.out.concat()).unwrap()).unwrap()
}

fn read(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// The TOML files of a folder and of those within it, by their names in it.
fn files(folder: &Path, within: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(within)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(folder, &name));
        } else if name.ends_with(".toml") {
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn every_shipped_file_and_those_of_the_tests_fit_their_schemas() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for folder in ["policies", "tests/support/policy"] {
        for (name, text) in files(&root.join(folder), "") {
            let schema = schema(&name).await;
            let errors: Vec<_> = schema.iter_errors(&read(&text)).map(|error| error.to_string()).collect();
            assert_eq!(errors, [""; 0], "{folder}/{name}");
            seen += 1;
        }
    }
    assert!(seen > 35, "{seen}");
}

#[tokio::test]
async fn what_the_program_does_not_take_does_not_fit_either() {
    for (file, text) in [
        ("roles.toml", "[[rolle]]"),
        ("roles.toml", "[[role]]\nname = \"x\""),
        ("roles.toml", "[[role]]\nname = \"x\"\npermissions = \"View data\""),
        ("roles.toml", "[[role]]\nname = \"x\"\npermissions = []\nuser = []"),
        (
            "operations/mine.toml",
            "[[operation]]\nname = \"x\"\nmethod = \"FETCH\"\npath = \"/\"\napplication = []\ndelegated = []",
        ),
        ("operations.toml", "[[operation]]\nname = \"x\"\nmethod = \"GET\"\npath = \"/\"\napplication = []"),
        ("device-groups.toml", "unknown_device = \"allow\""),
        ("device-groups.toml", "[[device_group]]\nname = \"x\"\nrank = 0"),
        ("device-groups.toml", "[[device_group]]\nname = \"x\"\nrank = 1\nmatch = { os = [] }"),
        (
            "applications.toml",
            "[[application]]\nid = \"x\"\nname = \"x\"\noperations = \"any\"\ndevice_groups = \"all\"",
        ),
        ("policy.toml", "enforce = \"false\""),
        ("limits.toml", "max_keys = 0"),
        ("limits.toml", "[[limit]]\nname = \"x\"\nper = [\"planet\"]\nwindows = []"),
        ("issuers.toml", "[[issuer]]\ncloud = \"commercial\""),
        ("issuers.toml", "clock_skw = \"60s\""),
        ("tests/mine.toml", "[[case]]\nname = \"x\"\nsteps = [{ at = \"1s\" }]"),
        ("tests/mine.toml", "[[caller]]\nname = \"x\"\napplication = \"x\""),
    ] {
        assert!(!schema(file).await.is_valid(&read(text)), "{file}: {text}");
    }
}

#[tokio::test]
async fn all_schemas_are_printed_by_the_names_of_their_files_and_no_other() {
    let ended = run(&["schema"]).await;
    let all: Value = serde_json::from_str(&ended.out.concat()).unwrap();
    let names: Vec<_> = all.as_object().unwrap().keys().map(String::as_str).collect();
    let files = [
        "applications.toml",
        "device-groups.toml",
        "issuers.toml",
        "limits.toml",
        "operations.toml",
        "policy.toml",
        "roles.toml",
        "tests/*.toml",
    ];
    assert_eq!(names, files);

    let ended = run(&["schema", "limit.toml"]).await;
    let said = "error: no schema of `limit.toml`; did you mean `limits.toml`?".to_owned();
    assert_eq!((ended.code, ended.err), (Some(2), vec![said]));
}
