//! Every kind of mistake in every file, with its place.

use super::*;

/// Compiles the file and expects these problems and no others, each by its beginning.
#[track_caller]
fn refused(name: &str, text: impl Into<String>, expected: &[&str]) {
    let (_, problems) = compile_with(name, text);
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        let expected = format!("{name}:{expected}");
        assert!(problem.starts_with(&expected), "\n found {problem}\nwanted {expected}");
    }
}

#[test]
fn a_missing_file_is_a_problem_of_its_own() {
    let (_, problems) = compile(&PolicyFiles::default());
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for name in ["applications.toml", "device-groups.toml", "devices.csv", "operations.toml", "roles.toml"] {
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("{name}: the policy set"))));
    }
}

#[test]
fn operations_may_be_split_over_the_files_of_a_folder() {
    let (first, second) =
        OPERATIONS.split_at(OPERATIONS.find("[[operation]]\nname        = \"machine\"").unwrap());
    let mut split = files();
    split.remove("operations.toml");
    split.insert(SourceFile::new("operations/actions.toml", first));
    split.insert(SourceFile::new("operations/machines.toml", second));
    let (set, problems) = compile(&split);
    assert_eq!(problems, [""; 0]);
    assert_eq!(set.counts().operations, 5);

    split.insert(SourceFile::new("operations.toml", first));
    let (_, problems) = compile(&split);
    assert_eq!(
        problems[0],
        "operations/actions.toml:3:15: the operation `collect` is given twice, in line 3 of `operations.toml` for the first time"
    );
    assert!(problems[1].starts_with("operations/actions.toml:5:15: a request could ask for"), "{problems:?}");
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn a_file_that_is_not_toml_is_refused_at_its_place() {
    for name in ["operations.toml", "roles.toml", "device-groups.toml"] {
        let (_, problems) = compile_with(name, "unlisted = \n");
        assert!(
            problems[0].starts_with("applications.toml:") || problems[0].starts_with(name),
            "{problems:?}"
        );
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("{name}:1:"))), "{problems:?}");
    }
}

/// An operation with some lines in the place of its own.
fn operation(changes: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("name", "\"x\""),
        ("method", "\"POST\""),
        ("path", "\"/api/x/{device}\""),
        ("application", "[]"),
        ("delegated", "[]"),
    ];
    for change in changes {
        match lines.iter_mut().find(|(key, _)| key == &change.0) {
            Some(line) => *line = *change,
            None => lines.push(*change),
        }
    }
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<String> = lines.map(|(key, value)| format!("{key} = {value}")).collect();
    // Behind the set's own, so that applications.toml has what it names; the entry begins in line 100.
    let padding = "\n".repeat(99 - OPERATIONS.lines().count());
    format!("{OPERATIONS}{padding}[[operation]]\n{}\n", lines.join("\n"))
}

#[test]
fn every_mistake_of_an_operation_has_its_place() {
    let file = "operations.toml";
    let (_, problems) = compile_with(file, operation(&[]));
    assert_eq!(problems, [""; 0]);
    for (changes, expected) in [
        (&[("name", "\"\"")][..], "101:8: `` is not a name of an operation: 1 to 64 letters"),
        (&[("name", "\" x\"")], "101:8: ` x` is not a name of an operation"),
        (&[("name", "'a\"b'")], "101:8: `a\"b` is not a name of an operation"),
        (&[("name", "\"collect\"")], "101:8: the operation `collect` is given twice, in line 3 for"),
        (&[("name", "")], "100:1: missing field `name`"),
        (&[("method", "\"post\"")], "102:10: unknown variant `post`, expected one of `GET`, `POST`"),
        (&[("method", "\"TRACE\"")], "102:10: unknown variant `TRACE`"),
        (&[("path", "\"api/x\"")], "103:8: `api/x` does not begin with `/`"),
        (&[("path", "\"/api//x\"")], "103:8: `/api//x` has an empty segment"),
        (&[("path", "\"/api/x/\"")], "103:8: `/api/x/` has an empty segment"),
        (&[("path", "\"/\"")], "103:8: `/` has an empty segment"),
        (&[("path", "\"/api/x?y\"")], "103:8: the segment `x?y` is neither a parameter"),
        (&[("path", "\"/api/x%20\"")], "103:8: the segment `x%20` is neither"),
        (&[("path", "\"/api/../x\"")], "103:8: the segment `..` is neither"),
        (&[("path", "\"/api/x{device}\"")], "103:8: the segment `x{device}` is neither"),
        (&[("path", "\"/api/{device\"")], "103:8: the segment `{device` is neither"),
        (&[("path", "\"/api/{}\"")], "103:8: the segment `{}` is neither"),
        (&[("path", "\"/api/f(a={id})\"")], "103:8: the parameter `{id}` could be a device"),
        (&[("path", "\"/api/f(a={x}\"")], "103:8: the segment `f(a={x}` is neither"),
        (&[("path", "\"/api/f({x})\"")], "103:8: the segment `f({x})` is neither"),
        (&[("path", "\"/api/f(a='{x})\"")], "103:8: the segment `f(a='{x})` is neither"),
        (&[("path", "\"/api/(a={x})\"")], "103:8: the segment `(a={x})` is neither"),
        (&[("path", "\"/api/{Device}\"")], "103:8: the segment `{Device}` is neither"),
        (&[("path", "\"/api/{id}\"")], "103:8: the parameter `{id}` could be a device or an action"),
        (&[("path", "\"/api/{device_id}\"")], "103:8: the parameter `{device_id}` could be"),
        (&[("path", "\"/api/{machines}\"")], "103:8: the parameter `{machines}` could be"),
        (&[("path", "\"/api/{device}/{device}\"")], "103:8: a path names at most one"),
        (
            &[("path", "\"/API/V1.0/Machines/{other}/Collect\"")],
            "103:8: a request could ask for this operation and for `collect` alike",
        ),
        (&[("application", "")], "100:1: missing field `application`"),
        (&[("delegated", "")], "100:1: missing field `delegated`"),
        (&[("application", "[\"A B\"]")], "104:16: `A B` is not a permission"),
        (&[("delegated", "[\"A\", \"\"]")], "105:19: `` is not a permission"),
        (&[("application", "\"A\"")], "104:15: invalid type: string \"A\", expected a sequence"),
        (&[("role", "[]")], "106:8: an empty list of role permissions: leave `role` out"),
        (
            &[("role", "[\"View data\", \"View\"]")],
            "106:22: unknown role permission `View`; known are `View data`,",
        ),
        (
            &[("role", "\"Alert investigation\"")],
            "106:8: unknown role permission `Alert investigation`; did you mean `Alerts investigation`?",
        ),
        (&[("body", "{ type = \"text/plain\" }")], "106:17: unknown variant `text/plain`"),
        (&[("body", "{ required = {} }")], "106:8: missing field `type`"),
        (
            &[("body", "{ type = \"application/json\", required = { A = \"int\" } }")],
            "106:54: unknown variant `int`",
        ),
        (&[("body", "{ type = \"application/json\", optional = [] }")], "106:37: unknown field `optional`"),
        (
            &[("body", "{ type = \"application/json\", devices = \"a..b\" }")],
            "106:47: `a..b` is not a member such as `machineId`",
        ),
        (&[("max_body", "\"64 KiB\"")], "106:12: `max_body` without `body`"),
        (
            &[("limits", "[\"100 per minute\", \"9 per fortnight\"]")],
            "106:29: `9 per fortnight` is not a rate",
        ),
        (&[("limits", "[\"1 per minute\", \"2 per 60s\"]")], "106:27: two limits of one operation have"),
        (&[("action", "\"begun\"")], "106:10: unknown variant `begun`, expected `started` or `shown`"),
        (&[("action", "\"started\""), ("path", "\"/api/x/{y}\"")], "106:10: `action` needs a `{device}`"),
        (&[("limit", "[]")], "106:1: unknown field `limit`"),
    ] {
        refused(file, operation(changes), &[expected]);
    }
    let body = ("body", "{ type = \"application/json\" }");
    for size in ["64", "64 kB", "64KiB", "0 KiB", "2 MiB", "1025 KiB", "-1 KiB", "1 GiB"] {
        let quoted = format!("\"{size}\"");
        let expected = format!("107:12: `{size}` is not a size such as `64 KiB`");
        refused(file, operation(&[body, ("max_body", &quoted)]), &[&expected]);
    }
    refused(file, format!("{OPERATIONS}\n[operations]\n"), &["44:2: unknown key `operations`"]);
}

#[test]
fn several_mistakes_are_reported_at_once() {
    let text = operation(&[("path", "\"x\""), ("application", "[\"\"]"), ("limits", "[\"1\"]")]);
    refused("operations.toml", text, &["103:8: ", "104:16: ", "106:11: "]);
}

#[test]
fn every_mistake_of_a_role_has_its_place() {
    let role = |lines: &str| format!("{}[[role]]\n{lines}\n", "\n".repeat(9));
    for (lines, expected) in [
        ("name = \"\"\npermissions = []", "11:8: a name has"),
        ("permissions = []", "10:1: missing field `name`"),
        ("name = \"a\"", "10:1: missing field `permissions`"),
        (
            "name = \"a\"\npermissions = [\"view data\"]",
            "12:16: unknown role permission `view data`; did you mean `View data`?",
        ),
        ("name = \"a\"\npermissions = []\nentra_groups = [\"x\"]", "13:17: `x` is not a GUID"),
        ("name = \"a\"\npermissions = []\nusers = [\"x\"]", "13:10: `x` is not a GUID"),
        ("name = \"a\"\npermissions = []\nuser = []", "13:1: unknown field `user`"),
        (
            "name = \"a\"\npermissions = []\n[[role]]\nname = \"a\"\npermissions = []",
            "14:8: the role `a` is given twice, in line 11 for",
        ),
        ("name = \"a\"\npermissions = []\n[roles]", "13:2: unknown key `roles`"),
    ] {
        refused("roles.toml", role(lines), &[expected]);
    }
}

#[test]
fn every_mistake_of_a_device_group_has_its_place() {
    let group = |lines: &str| format!("{GROUPS}{}{lines}\n", "\n".repeat(29 - GROUPS.lines().count()));
    let rest = "rank = 9\nmatch = { name = [\"equals x\"] }";
    for (lines, expected) in [
        (format!("[[device_group]]\nname = \"\"\n{rest}"), "31:8: a name has"),
        (
            format!("[[device_group]]\nname = \"Executives\"\n{rest}"),
            "31:8: the device group `Executives` is",
        ),
        (
            format!("[[device_group]]\nname = \"Ungrouped devices (default)\"\n{rest}"),
            "31:8: `Ungrouped devices (default)` is what `[ungrouped]` describes",
        ),
        (
            "[[device_group]]\nname = \"a\"\nrank = 1\nmatch = { tag = [\"equals x\"] }".into(),
            "32:8: the rank `1` is",
        ),
        (
            "[[device_group]]\nname = \"a\"\nrank = 0\nmatch = { tag = [\"equals x\"] }".into(),
            "32:8: invalid value",
        ),
        ("[[device_group]]\nname = \"a\"\nrank = 9".into(), "31:8: no `match`, and `source` does not"),
        (
            "[[device_group]]\nname = \"a\"\nrank = 9\nmatch = {}".into(),
            "33:9: `match` must name at least one",
        ),
        (
            "[[device_group]]\nname = \"a\"\nrank = 9\nmatch = { name = [] }".into(),
            "33:18: an empty list of conditions matches nothing",
        ),
        (
            "[[device_group]]\nname = \"a\"\nrank = 9\nmatch = { os = [\"equals x\"] }".into(),
            "33:11: unknown field `os`",
        ),
        (
            "[[device_group]]\nname = \"a\"\nrank = 9\nmatch = { name = [\"equals x\", \"begins with y\"] }"
                .into(),
            "33:31: `begins with y` is not a condition",
        ),
        (
            "[[device_group]]\nname = \"a\"\nrank = 9\nmatch = { name = [\"equals  \"] }".into(),
            "33:19: `equals  ` is not a condition",
        ),
        (
            format!("[[device_group]]\nname = \"a\"\nentra_groups = [\"x\"]\n{rest}"),
            "32:17: `x` is not a GUID",
        ),
        (format!("[[device_group]]\nname = \"a\"\nusers = []\n{rest}"), "32:1: unknown field `users`"),
        ("[groups]".into(), "30:2: unknown key `groups`"),
    ] {
        refused("device-groups.toml", group(&lines), &[expected]);
    }
    for (head, expected) in [
        ("unknown_device = \"allow\"", "1:18: unknown variant `allow`, expected `refuse` or `ungrouped`"),
        ("max_age = \"0s\"", "1:11: `0s` is not an age such as `36h`"),
        ("max_age = \"9000h\"", "1:11: `9000h` is not an age such as `36h`, at most `8784h`"),
        ("max_age = 36", "1:11: invalid type: integer `36`"),
        ("stale_inventory = \"use\"", "1:19: `stale_inventory` without `max_age`"),
        ("source = \"portal\"", "1:10: unknown variant `portal`, expected `rules` or `inventory`"),
        ("unknown_action = \"allow\"", "1:18: unknown variant `allow`, expected `refuse` or `forward`"),
    ] {
        refused("device-groups.toml", format!("{head}\n{GROUPS}"), &[expected]);
    }
    let (_, problems) = compile_with("device-groups.toml", format!("source = \"inventory\"\n{GROUPS}"));
    let rules = "`match` has no say where `source` leaves it to the inventory";
    for line in [6, 12] {
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with(&format!("device-groups.toml:{line}:")) && p.ends_with(rules)),
            "{problems:#?}"
        );
    }
    let text = GROUPS.replace("00000000-0000-0000-0000-0000000000d0", "d0");
    refused("device-groups.toml", text, &["14:17: `d0` is not a GUID"]);
}

#[test]
fn every_mistake_of_an_application_has_its_place() {
    let id = "id = \"00000000-0000-0000-0000-000000000009\"";
    let all = "operations = \"all\"\ndevice_groups = \"all\"";
    for (lines, expected) in [
        (format!("id = \"9\"\nname = \"a\"\n{all}"), "2:6: `9` is not a GUID"),
        (format!("name = \"a\"\n{all}"), "1:1: missing field `id`"),
        (format!("{id}\nname = \"\"\n{all}"), "3:8: a name has"),
        (format!("{id}\nname = \"other\"\n{all}"), "3:8: `other` stands for every application without"),
        (format!("{id}\nname = \"a\"\ndevice_groups = \"all\""), "1:1: missing field `operations`"),
        (format!("{id}\nname = \"a\"\noperations = \"all\""), "1:1: missing field `device_groups`"),
        (
            format!("{id}\nname = \"a\"\noperations = \"every\"\ndevice_groups = \"all\""),
            "4:14: invalid value: string \"every\", expected a list of names or the word \"all\"",
        ),
        (
            format!("{id}\nname = \"a\"\noperations = [\"collect\", \"colect\"]\ndevice_groups = \"all\""),
            "4:26: unknown operation `colect`; did you mean `collect`?",
        ),
        (
            format!("{id}\nname = \"a\"\noperations = \"all\"\ndevice_groups = [\"Execs\"]"),
            "5:18: unknown device group `Execs`; known are `Executives`, `Workstations`, `Ungrouped",
        ),
        (format!("{id}\nname = \"a\"\n{all}\nunscoped_operations = [\"x\"]"), "6:24: unknown operation `x`"),
        (
            format!("{id}\nname = \"a\"\n{all}\nunscoped_operations = [\"collect\"]"),
            "6:24: `collect` names its device",
        ),
        (
            format!(
                "{id}\nname = \"a\"\noperations = []\ndevice_groups = []\nunscoped_operations = [\"machines\"]"
            ),
            "6:24: `machines` is not among this entry's `operations`",
        ),
        (format!("{id}\nname = \"a\"\n{all}\nuntil = \"x\""), "6:1: unknown field `until`"),
        (
            format!("{id}\nname = \"a\"\n{all}\n[[application]]\n{id}\nname = \"b\"\n{all}"),
            "7:6: the application id `00000000-0000-0000-0000-000000000009` is given twice, in line 2 for",
        ),
        (
            format!(
                "{id}\nname = \"a\"\n{all}\n[[application]]\n{}\nname = \"a\"\n{all}",
                id.replace('9', "8")
            ),
            "8:8: the application `a` is given twice, in line 3 for",
        ),
    ] {
        refused("applications.toml", format!("[[application]]\n{lines}\n"), &[expected]);
    }
    refused(
        "applications.toml",
        "unlisted = \"allow\"",
        &["1:12: unknown variant `allow`, expected `refuse`"],
    );
    refused(
        "applications.toml",
        "unlistd = \"refuse\"",
        &["1:1: unknown key `unlistd`; did you mean `unlisted`?"],
    );
}
