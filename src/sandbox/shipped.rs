//! The shipped policy set, in the program itself: the sandbox runs without a checkout.

use crate::source::{PolicyFiles, SourceFile};

/// Embeds files of `policies/` under their names in it.
macro_rules! embed {
    ($($name:literal,)*) => {
        [$(($name, include_str!(concat!("../../policies/", $name))),)*]
    };
}

/// Every file of `policies/`, its cases left out, as it was when the program was built.
pub fn files() -> PolicyFiles {
    let embedded = embed![
        "applications.toml",
        "device-groups.toml",
        "devices.csv",
        "issuers.toml",
        "limits.toml",
        "operations.toml",
        "operations/alerts.toml",
        "operations/entities.toml",
        "operations/exports.toml",
        "operations/hunting.toml",
        "operations/indicators.toml",
        "operations/investigations.toml",
        "operations/library.toml",
        "operations/machine-actions.toml",
        "operations/machines.toml",
        "operations/scans.toml",
        "operations/scores.toml",
        "operations/vulnerabilities.toml",
        "policy.toml",
        "roles.toml",
    ];
    let mut files = PolicyFiles::default();
    embedded.into_iter().for_each(|(name, text)| files.insert(SourceFile::new(name, text)));
    files
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn walk(folder: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn every_file_of_the_shipped_set_is_embedded_and_no_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let mut on_disk: Vec<String> = walk(&folder)
            .iter()
            .map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned())
            .filter(|name| !name.starts_with("tests/"))
            .collect();
        on_disk.sort();
        let embedded: Vec<String> = files().iter().map(|file| file.name().to_string()).collect();
        assert_eq!(embedded, on_disk);
    }
}
