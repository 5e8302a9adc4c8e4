//! `tollgate schema`: what may stand in policy files, as JSON Schemas.

use serde_json::{Map, Value};

use super::print::say;
use super::{Failure, test};
use crate::source::{FileSchema, known_are};
use crate::{limit, policy, token};

/// Prints the JSON Schema of a policy file, or those of all files in one object, by their names.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Editors complete and check a TOML file whose first line names its schema:
  #:schema ./roles.schema.json
Exit codes: 0 printed, 2 there is no such file")]
pub(super) struct Schema {
    /// Name of the file in a policy folder, such as `roles.toml`, `operations/mine.toml` or `tests/cases.toml`
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

impl Schema {
    pub(super) fn run(self) -> Result<(), Failure> {
        let schema = match self.file {
            None => Value::Object(all().into_iter().map(named).collect::<Map<_, _>>()),
            Some(file) => one(&file)?,
        };
        say(serde_json::to_string_pretty(&schema).map_err(Failure::unable)?);
        Ok(())
    }
}

fn named(schema: FileSchema) -> (String, Value) {
    (schema.name().to_owned(), schema.into_value())
}

fn all() -> Vec<FileSchema> {
    policy::schemas().into_iter().chain([limit::schema(), token::schema(), test::schema()]).collect()
}

fn one(file: &str) -> Result<Value, Failure> {
    let kind = match file.split_once('/') {
        Some(("operations", _)) => "operations.toml",
        Some(("tests", _)) => "tests/*.toml",
        Some(_) | None => file,
    };
    let names: Vec<_> = all().iter().map(FileSchema::name).collect();
    let found = all().into_iter().find(|schema| schema.name() == kind);
    found.map(FileSchema::into_value).ok_or_else(|| {
        let hint = known_are(file, names.iter().copied()).unwrap_or_default();
        Failure::unable(format_args!("no schema of `{file}`; {hint}"))
    })
}
