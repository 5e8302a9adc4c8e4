//! What can be wrong with a policy set, a row each.

/// Edits of one file, each of which makes a right set wrong: what the mistake is, what is replaced by what (nothing:
/// the file's end), and what is printed of it after the file's name.
pub(super) type Mistakes =
    (&'static str, &'static [(&'static str, &'static str, &'static str, &'static str)]);

#[rustfmt::skip]
pub(super) const OPERATIONS: Mistakes = (
    "operations.toml",
    &[
        ("bad syntax", "POST", "POST\"\"", ":3:21: unexpected key or value, expected newline, `#`"),
        ("an unknown table", "", "[[operations]]\n", ":56:3: unknown key `operations`"),
        ("an unknown key", "action ", "actoin ", ":10:1: unknown field `actoin`, expected one of `name`,"),
        ("a key that is missing", "method      = \"POST\"\n", "", ":1:1: missing field `method`"),
        ("a value of another type", "\"GET\"", "5", ":14:15: wanted string or table"),
        ("an unknown method", "GET", "FETCH", ":14:15: unknown variant `FETCH`, expected one of `GET`, `POST`,"),
        ("an empty name", "\"collect\"", "\"\"", ":2:15: `` is not a name of an operation: 1 to 64 letters,"),
        ("a name that is taken", "\"package_uri\"", "\"collect\"", ":13:15: the operation `collect` is given twice, in line 2 for"),
        ("a path that does not begin with a slash", "\"/api/lib", "\"api/lib", ":52:15: `api/libraryfiles` does not begin with `/`"),
        ("a path with an empty segment", "/api/lib", "/api//lib", ":52:15: `/api//libraryfiles` has an empty segment, or a `/` at"),
        ("a path with another character", "libraryfiles", "library%20files", ":52:15: the segment `library%20files` is neither a parameter"),
        ("a parameter that could be a device", "{device}/", "{machine}/", ":4:15: the parameter `{machine}` could be a device or an"),
        ("two devices in a path", "{device}/", "{device}/{device}/", ":4:15: a path names at most one `{device}` and one `{action}`"),
        ("a path that another operation has", "/api/libraryfiles", "/api/indicators/import", ":52:15: a request could ask for this operation and for"),
        ("a permission with a space", "\"Machine.CollectForensics\"", "\"Machine Collect\"", ":5:16: `Machine Collect` is not a permission: visible ASCII"),
        ("an unknown role permission", "Alerts investigation", "Alert investigation", ":7:15: unknown role permission `Alert investigation`"),
        ("an unknown body type", "application/json", "text/xml", ":8:24: unknown variant `text/xml`, expected `application/json`"),
        ("an unknown kind of member", "Comment = \"string\"", "Comment = \"text\"", ":8:67: unknown variant `text`, expected one of `string`"),
        ("a size without a unit", "512 KiB", "512", ":46:15: `512` is not a size such as `64 KiB`, from `1 KiB` to"),
        ("a size beyond the bound", "512 KiB", "2 MiB", ":46:15: `2 MiB` is not a size such as `64 KiB`, from `1 KiB` to"),
        ("a size for a body that is not read", "[\"Library.Manage\"]\ndelegated", "[]\nmax_body = \"2 KiB\"\ndelegated", ":54:12: `max_body` without `body`: a body that is not read has"),
        ("an action without a device", "[\"Library.Manage\"]\ndelegated", "[]\naction = \"started\"\ndelegated", ":54:10: `action` needs a `{device}` in the path: whose would"),
        ("a limit that is none", "100 per minute", "a hundred per minute", ":9:16: `a hundred per minute` is not a rate such as `100 per"),
        ("two limits of one window", "1500 per hour", "1500 per 60s", ":9:34: two limits of one operation have windows of the same"),
        ("limits that contradict each other", "1500 per hour", "50 per hour", ":9:16: limits of `collect`: `100 per 00:01:00` can't be reached"),
    ],
);

#[rustfmt::skip]
pub(super) const ISSUERS: Mistakes = (
    "issuers.toml",
    &[
        ("an unknown key", "keys  ", "kyes  ", ":7:9: unknown field `kyes`, expected one of `name`, `cloud`,"),
        ("a name that is taken", "\"v2\"", "\"v1\"", ":10:21: issuer `v1` has an entry already"),
        ("an empty name", "\"v2\"", "\"\"", ":10:21: an issuer must have a name"),
        ("an issuer that is no URL", "https://issuer.example/{tid}/\"", "{tenant}\"", ":4:21: `{tenant}` is not a URL, in which `{tid}` stands for the"),
        ("a tenant that is no GUID", "00000000-0000-0000-0000-00000000007e", "contoso", ":5:22: `contoso` is not a GUID"),
        ("no tenant", "[\"00000000-0000-0000-0000-00000000007e\"]", "[]", ":5:21: an issuer names at least one tenant: nobody speaks for"),
        ("no audience", "[\"https://api.securitycenter.microsoft.com\"]", "[]", ":6:21: an issuer names at least one audience"),
        ("an empty audience", "\"https://api.securitycenter.microsoft.com\"", "\"\"", ":6:22: an audience is not empty"),
        ("neither keys nor discovery", "keys      = \"keys-v1.json\"", "", ":2:9: an issuer has either `keys` or `discovery`"),
        ("a file that is missing", "keys-v1.json", "keys-v3.json", ":7:21: the policy set has no file `keys-v3.json`"),
        ("discovery without TLS", "keys      = \"keys-v1.json\"", "discovery = \"http://issuer.example/{tid}\"", ":7:21: `http://issuer.example/{tid}` can't be fetched: it is"),
        ("the issuer of an entry above", "{tid}/v2.0\"", "{tid}/\"", ":11:21: the tokens of issuer"),
        ("a skew beyond the bound", "\n", "clock_skew = \"1h\"\n", ":1:14: `1h` is not a time from `0s` to `300s`"),
    ],
);

#[rustfmt::skip]
pub(super) const KEYS: Mistakes = (
    "keys-v1.json",
    &[
        ("keys that are no JSON", "{", "{{", ":1:1: not a JSON web key set: key must be a string at line 1"),
        ("no key that can be used", "\"RSA\"", "\"EC\"", ": no key that verifies signatures, key"),
    ],
);

#[rustfmt::skip]
pub(super) const ROLES: Mistakes = (
    "roles.toml",
    &[
        ("a name that is taken", "\"Reader\"", "\"Responder\"", ":8:16: the role `Responder` is given twice, in line 2 for the"),
        ("an unknown role permission", "\"View data\"", "\"view data\"", ":3:17: unknown role permission `view data`"),
        ("a group that is no GUID", "00000000-0000-0000-0000-0000000000e1", "responders", ":4:17: `responders` is not a GUID"),
        ("a user that is no GUID", "00000000-0000-0000-0000-0000000000b9", "responder@test.example", ":5:17: `responder@test.example` is not a GUID"),
        ("an unknown key", "users  ", "user  ", ":5:1: unknown field `user`, expected one of `name`,"),
    ],
);

#[rustfmt::skip]
pub(super) const DEVICE_GROUPS: Mistakes = (
    "device-groups.toml",
    &[
        ("a name that is taken", "\"Workstations\"", "\"Executives\"", ":8:9: the device group `Executives` is given twice, in line 2"),
        ("the name of the ungrouped", "\"Workstations\"", "\"Ungrouped devices (default)\"", ":8:9: `Ungrouped devices (default)` is what `[ungrouped]`"),
        ("a rank that is taken", "rank  = 2", "rank  = 1", ":9:9: the rank `1` is given twice, in line 3 for the first time"),
        ("a rank of nothing", "rank  = 2", "rank  = 0", ":9:9: invalid value: integer `0`, expected a nonzero u32"),
        ("a condition that is none", "starts with EXEC-", "begins with EXEC-", ":4:26: `begins with EXEC-` is not a condition: write `starts"),
        ("an empty list of conditions", "[\"starts with EXEC-\"]", "[]", ":4:25: an empty list of conditions matches nothing: leave the"),
        ("a rule that matches all", "{ os_platform = [\"equals Windows11\"] }", "{}", ":10:9: `match` must name at least one property, or every device"),
        ("an unknown property", "os_platform", "os", ":10:11: unknown field `os`, expected one of `name`, `domain`,"),
        ("a group that is no GUID", "00000000-0000-0000-0000-0000000000e3", "executives", ":5:17: `executives` is not a GUID"),
        ("an unknown word", "[[", "unknown_device = \"allow\"\n[[", ":1:18: unknown variant `allow`, expected `refuse` or `ungrouped`"),
        ("another unknown word", "[[", "unknown_action = \"allow\"\n[[", ":1:18: unknown variant `allow`, expected `refuse` or `forward`"),
    ],
);

#[rustfmt::skip]
pub(super) const APPLICATIONS: Mistakes = (
    "applications.toml",
    &[
        ("an id that is no GUID", "00000000-0000-0000-0000-0000000000a1", "playbooks", ":2:17: `playbooks` is not a GUID"),
        ("an id that is taken", "0000000000a2", "0000000000a1", ":8:23: the application id"),
        ("a name that is taken", "\"portal\"", "\"playbooks\"", ":9:23: the application `playbooks` is given twice, in line 3"),
        ("the name of all others", "\"portal\"", "\"other\"", ":9:23: `other` stands for every application without an entry"),
        ("an unknown operation", "\"list_devices\"", "\"list_device\"", ":4:59: unknown operation `list_device`"),
        ("an unknown device group", "\"Workstations\"", "\"Workstation\"", ":5:18: unknown device group `Workstation`"),
        ("a word that is not all", "operations          = \"all\"", "operations          = \"any\"", ":10:23: invalid value: string \"any\", expected a list of names"),
        ("no device groups", "device_groups = [\"Workstations\"]\n", "", ":1:1: missing field `device_groups`"),
        ("an operation with a device as one without", "", "unscoped_operations = [\"collect\"]\n", ":12:24: `collect` names its device, so `device_groups` decides"),
        ("an operation without a device that is not listed", "[\"Workstations\"]", "[]\nunscoped_operations = [\"import_indicators\"]", ":6:24: `import_indicators` is not among this entry's"),
        ("an unknown word", "[[", "unlisted = \"allow\"\n[[", ":1:12: unknown variant `allow`, expected `refuse` or"),
    ],
);

#[rustfmt::skip]
pub(super) const LIMITS: Mistakes = (
    "limits.toml",
    &[
        ("a name that no header carries", "", "[[limit]]\nname = \"a b\"\noperations = \"all\"\nper = []\nwindows = [\"9 per hour\"]\n", ":3:8: `a b` is not a name of a limit: 1 to 64 letters, digits,"),
        ("the name of a documented limit", "", "[[limit]]\nname = \"collect\"\noperations = \"all\"\nper = []\nwindows = [\"9 per hour\"]\n", ":3:8: `collect` is the name of that operation's documented"),
        ("no operation", "", "[[limit]]\nname = \"a\"\noperations = []\nper = []\nwindows = [\"9 per hour\"]\n", ":4:14: a limit needs an operation, or `\"all\"` of them"),
        ("an unknown operation", "", "[[limit]]\nname = \"a\"\noperations = [\"x\"]\nper = []\nwindows = [\"9 per hour\"]\n", ":4:15: unknown operation `x`"),
        ("an operation twice", "", "[[limit]]\nname = \"a\"\noperations = [\"collect\", \"collect\"]\nper = []\nwindows = [\"9 per hour\"]\n", ":4:26: `collect` is named twice"),
        ("an unknown dimension", "", "[[limit]]\nname = \"a\"\noperations = \"all\"\nper = [\"planet\"]\nwindows = [\"9 per hour\"]\n", ":5:8: unknown variant `planet`, expected one of `tenant`,"),
        ("a dimension twice", "", "[[limit]]\nname = \"a\"\noperations = \"all\"\nper = [\"user\", \"user\"]\nwindows = [\"9 per hour\"]\n", ":5:16: `per` names this twice"),
        ("no window", "", "[[limit]]\nname = \"a\"\noperations = \"all\"\nper = []\nwindows = []\n", ":6:11: a limit needs a window such as `100 per minute`"),
        ("a window that is none", "", "[[limit]]\nname = \"a\"\noperations = \"all\"\nper = []\nwindows = [\"9 an hour\"]\n", ":6:12: `9 an hour` is not a rate such as `100 per minute` (1 to"),
        ("windows that contradict each other", "", "[[limit]]\nname = \"a\"\noperations = \"all\"\nper = []\nwindows = [\"9 per hour\", \"5 per day\"]\n", ":6:11: `9 per 01:00:00` can't be reached under `5 per 24:00:00`"),
        ("an unknown mode", "", "[[limit]]\nname = \"a\"\noperations = \"all\"\nper = []\nwhen_full = \"drop\"\nwindows = [\"9 per hour\"]\n", ":6:13: invalid value: string \"drop\", expected \"reject\", or { wait = \"5s\", queue = 100 }"),
        ("no key at all", "", "max_keys = 0\n", ":2:12: invalid value: integer `0`, expected a nonzero u32"),
    ],
);

#[rustfmt::skip]
pub(super) const DEVICES: Mistakes = (
    "devices.csv",
    &[
        ("no column for the id", "Device ID,", "ID,", ":1:1: no column `Device ID` in the header"),
        ("a column twice", "Domain", "Device Name", ":1:1: a second column `Device Name` of the same meaning"),
        ("an id that is none", "1111111111111111111111111111111111111111", "1111", ":2:1: `1111` is not a device id of 40 (or 32) hexadecimal digits"),
        ("a device twice", "2222222222222222222222222222222222222222", "1111111111111111111111111111111111111111", ":3:1: the device `1111111111111111111111111111111111111111` is"),
        ("a row with fewer fields", ",test.example,Linux,,", ",Linux", ":4:1: 3 fields where the header has 6"),
        ("an Entra id that is none", "00000000-0000-0000-0000-0000000000d1", "d1", ":2:1: `d1` is not a GUID"),
    ],
);
