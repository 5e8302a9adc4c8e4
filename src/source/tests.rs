use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    #[expect(dead_code, reason = "only its type is asked")]
    rank: Option<u32>,
}

fn read(text: &str) -> (Vec<String>, Vec<String>) {
    let source = SourceFile::new("set.toml", text);
    let mut problems = Problems::default();
    let mut names = Vec::new();
    if let Some(mut file) = source.toml(&mut problems) {
        names = file
            .entries::<Entry>("entry", &mut problems)
            .into_iter()
            .map(|e| e.into_inner().name.into_inner())
            .collect();
        file.finish(&mut problems);
    }
    (names, problems.into_sorted().iter().map(Problem::to_string).collect())
}

#[test]
fn every_entry_is_read_by_itself_and_every_mistake_has_its_place() {
    let (names, problems) = read(
        "[[entry]]\nname = \"a\"\n\n[[entry]]\nname = \"b\"\nrank = \"high\"\n\n[[entry]]\nnane = \"c\"\n\n[[entry]]\nname = \"d\"\n\n[other]\n",
    );
    assert_eq!(names, ["a", "d"]);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("set.toml:6:8: invalid type: string \"high\""), "{problems:?}");
    assert!(problems[1].starts_with("set.toml:9:1: unknown field `nane`"), "{problems:?}");
    assert_eq!(problems[2], "set.toml:14:2: unknown key `other`");
}

#[test]
fn a_mistake_of_syntax_has_its_place() {
    let (_, problems) = read("[[entry]]\nname = \n");
    assert!(problems[0].starts_with("set.toml:2:"), "{problems:?}");
}

#[test]
fn a_column_counts_characters() {
    assert_eq!(SourceFile::new("f", "äöü x").place(7), (1, 5));
}

#[test]
fn every_byte_of_a_file_has_the_line_and_column_that_a_walk_to_it_counts() {
    for text in ["", "\n", "a", "a\n", "\n\nä\r\nb\n", "one\ntwo ö\n\nfour"] {
        let source = SourceFile::new("f", text);
        for offset in (0..=text.len()).filter(|offset| text.is_char_boundary(*offset)) {
            let before = &text[..offset];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            assert_eq!(source.place(offset), (line, column), "{text:?} at {offset}");
        }
        let lines: Vec<_> = (1..).map_while(|line| Some(&text[source.line_span(line)?])).collect();
        assert_eq!(lines, text.split('\n').collect::<Vec<_>>(), "{text:?}");
        assert_eq!(source.line_span(0), None);
    }
}

fn only(problems: Problems) -> Problem {
    let [problem] = problems.into_sorted().try_into().unwrap();
    problem
}

#[test]
fn a_misspelt_key_or_word_is_followed_by_the_nearest_that_there_is() {
    for (text, said) in [
        ("[[entry]]\nnane = \"c\"\n", "; did you mean `name`?"),
        ("[[entry]]\nNAME = \"c\"\n", "; did you mean `name`?"),
        ("[[entri]]\n", "set.toml:1:3: unknown key `entri`; did you mean `entry`?"),
        ("[[limits]]\n", "set.toml:1:3: unknown key `limits`"),
    ] {
        let (_, problems) = read(text);
        assert!(problems[0].ends_with(said), "{problems:?}");
    }
}

#[test]
fn a_word_that_is_like_none_is_followed_by_all_that_there_are_or_some_of_many() {
    let known = ["View data", "Alerts investigation"];
    assert_eq!(known_are("x", known).unwrap(), "known are `View data`, `Alerts investigation`");
    let many: Vec<String> = (0..30).map(|number| format!("group number {number}")).collect();
    let hint = known_are("x", many.iter().map(String::as_str)).unwrap();
    assert!(hint.ends_with("`group number 11` and 18 more"), "{hint}");
    assert_eq!(did_you_mean("x", []), None);
}

#[test]
fn an_excerpt_is_the_line_with_the_word_in_it() {
    let source = SourceFile::new("f", "first\n\tname = \"ä b\"\r\nlast");
    let mut problems = Problems::default();
    let start = source.text().find("\"ä").unwrap();
    problems.at(&source, start..start + 6, "bad");
    let problem = only(problems);
    let excerpt = Excerpt { text: " name = \"ä b\"".into(), before: 8, width: 5 };
    assert_eq!((problem.place, problem.excerpt), (Some((2, 9)), Some(excerpt)));

    let mut problems = Problems::default();
    problems.line(&source, 3, "bad row");
    let excerpt = Excerpt { text: "last".into(), before: 0, width: 4 };
    assert_eq!(only(problems).excerpt, Some(excerpt));
}

#[test]
fn an_excerpt_of_a_very_long_line_is_the_part_around_the_word() {
    let source = SourceFile::new("f", format!("{}WORD{}", "a".repeat(5_000), "b".repeat(5_000)));
    let mut problems = Problems::default();
    problems.at(&source, 5_000..5_004, "bad");
    let Excerpt { text, before, width } = only(problems).excerpt.unwrap();
    assert_eq!((&text[before..before + width], text.len()), ("WORD", 160));
}

#[test]
fn a_place_that_was_kept_finds_its_line_again() {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("f", "one\ntwo = \"x y\"\n"));
    let place = files.get("f").unwrap().place_of(10..15);
    let mut problems = Problems::default();
    problems.place(&files, &place, "odd");
    let problem = only(problems);
    assert_eq!(problem.to_string(), "f:2:7: odd");
    assert_eq!(problem.excerpt, Some(Excerpt { text: "two = \"x y\"".into(), before: 6, width: 5 }));
}

#[test]
fn nothing_that_moves_a_terminals_cursor_is_printed() {
    let source = SourceFile::new("f", "a\u{1b}[31mb");
    let mut problems = Problems::default();
    problems.at(&source, 0..1, "no `\u{1b}[2J`\nhere");
    let problem = only(problems);
    assert_eq!(problem.message, "no `\\u{1b}[2J`\\nhere");
    assert_eq!(problem.excerpt.unwrap().text, "a\u{fffd}[31mb");
}
