use super::*;

/// The actions that a reader finds in these pieces.
fn ended<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<String> {
    let (mut reader, mut found) = (StatusReader::default(), Vec::new());
    pieces.into_iter().for_each(|piece| reader.push(piece, |action| found.push(action.to_string())));
    found
}

fn in_one(answer: &str) -> Vec<String> {
    ended([answer.as_bytes()])
}

/// A page of the list, as the service sends it.
const LIST: &str = r#"{
  "@odata.context": "https://api.securitycenter.microsoft.com/api/$metadata#MachineActions",
  "value": [
    {"id": "5382f7ea-7557-4ab7-9782-d50480024a4e", "type": "Isolate", "requestorComment": "a \"status\": \"Failed\" }", "status": "Succeeded", "machineId": "x", "relatedFileInfo": null},
    {"id":"5382f7ea-7557-4ab7-9782-d50480024a4f","status":"InProgress","commands":[{"index":0,"id":"no","status":"Pending"}],"relatedFileInfo":{"status":"Failed"}},
    {"status": "TimeOut", "errorHResult": 0, "id": "5382F7EA-7557-4AB7-9782-D50480024A50", "commands": [{"command": {"params": [{"key": "id", "value": "status"}]}}]},
    {"\u0069d": "5382f7ea-7557-4ab7-9782-d50480024a\u0035\u0031", "st\u0061tus": "Cancell\u0065d"},
    {"id": "5382f7ea-7557-4ab7-9782-d50480024a52", "status": "Failed"},
    {"id": "5382f7ea-7557-4ab7-9782-d50480024a53", "status": "Pending"},
    {"id": null, "status": "Failed"},
    {"id": 7, "status": "Failed"},
    {"status": "Failed"}
  ]
}"#;

/// The ends of the ids in it that belong to actions that have ended.
const ENDED: [&str; 4] = ["4e", "50", "51", "52"];

#[test]
fn every_action_that_has_ended_is_found_and_no_other() {
    let found = in_one(LIST);
    assert_eq!(found, ENDED.map(|end| format!("5382f7ea-7557-4ab7-9782-d50480024a{end}")));
}

#[test]
fn an_answer_says_the_same_wherever_it_is_cut() {
    let bytes = LIST.as_bytes();
    let whole = in_one(LIST);
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(ended([first, second]), whole, "cut at {at}");
    }
    for size in [1, 2, 3, 7] {
        assert_eq!(ended(bytes.chunks(size)), whole, "pieces of {size}");
    }
}

#[test]
fn an_action_alone_is_an_answer_too() {
    for status in ["Succeeded", "Failed", "TimeOut", "Cancelled"] {
        assert_eq!(in_one(&format!(r#"{{"id":"a-1","status":"{status}"}}"#)), ["a-1"]);
    }
    for status in ["Pending", "InProgress", "succeeded", "", "Succeeded2"] {
        assert_eq!(in_one(&format!(r#"{{"id":"a-1","status":"{status}"}}"#)), [""; 0], "{status}");
    }
}

#[test]
fn an_object_within_an_action_says_nothing_of_the_action() {
    assert_eq!(in_one(r#"{"id":"a","status":"Pending","commands":[{"status":"Failed"}]}"#), [""; 0]);
    assert_eq!(in_one(r#"{"id":"a","file":{"x":1},"status":"Failed"}"#), ["a"]);
    assert_eq!(in_one(r#"{"id":["status","Failed"],"status":{"id":"a"}}"#), [""; 0]);
}

#[test]
fn what_is_kept_of_an_answer_is_bounded_however_it_is_made() {
    let (mut reader, mut found) = (StatusReader::default(), 0);
    for piece in [&br#"{"a":["#[..], br#"[{"a":"#, b"\"\\", b"\\xxxxxxxxxxxxxxxx"] {
        (0..10_000).for_each(|_| reader.push(piece, |_| found += 1));
    }
    let text = reader.text.as_ref().map_or(0, |text| text.bytes.len());
    assert!(reader.open.len() <= MAX_DEPTH && text <= MAX_TEXT + 1 && found == 0);
}

#[test]
fn an_action_is_found_behind_what_lies_too_deep() {
    let deep = format!("{}{}", "[".repeat(50), "]".repeat(50));
    assert_eq!(in_one(&format!(r#"{{"id":"a","x":{deep},"status":"Failed"}}"#)), ["a"]);
    let too_deep = format!(r#"{}{{"id":"a","status":"Failed"}}"#, "[".repeat(MAX_DEPTH));
    assert_eq!(in_one(&too_deep), [""; 0]);
}
