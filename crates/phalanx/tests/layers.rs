//! No module imports a higher one, and nobody but `prim` takes an atomic from `std`: the table of `ARCHITECTURE.md` rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module to the modules that it may import.
type Table = BTreeMap<String, Vec<String>>;

/// The names in backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Reads `| level | module | what | may import |`.
fn table(text: &str) -> Table {
    let rows = text
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter(|cells| cells.len() == 6 && cells[1].parse::<u32>().is_ok());
    let rows = rows.filter_map(|cells| Some((names(cells[2]).pop()?, names(cells[4]))));
    rows.collect()
}

/// What a row allows itself that does not lie below it, or is no row at all.
fn upward(text: &str) -> Vec<String> {
    let rows = text
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows: Vec<(u32, String, Vec<String>)> = rows
        .filter(|cells| cells.len() == 6)
        .filter_map(|cells| Some((cells[1].parse().ok()?, names(cells[2]).pop()?, names(cells[4]))))
        .collect();
    let level = |name: &str| rows.iter().find(|row| row.1 == name).map(|row| row.0);
    rows.iter()
        .flat_map(|(own, module, allowed)| {
            let wrong = allowed.iter().filter(move |name| {
                level(name).is_none_or(|other| other > *own || (other == *own && other != 0))
            });
            wrong.map(move |name| format!("the table lets `{module}` import `{name}`"))
        })
        .collect()
}

/// The code of a line, without a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// What a path or a group that follows `crate::` begins with: `a::B` gives `a`, `{a::B, c}` gives `a` and `c`.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let (mut found, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                found.push(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

/// How many imports there are in `text`, a file of `module`, and what is wrong with them.
fn check(table: &Table, module: &str, top: bool, text: &str) -> (usize, Vec<String>) {
    let code: String = text.lines().map(|line| code(line).to_owned() + "\n").collect();
    let (mut count, mut wrong) = (0, Vec::new());
    let mut paths: Vec<&str> = vec!["crate::"];
    if top {
        // From the head of a module, `super` is the crate itself.
        paths.push("super::");
    }
    for path in paths {
        for (at, _) in code.match_indices(path) {
            // Not the end of a longer name, nor of `super::super::`.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            // In a module inside the file, `super` is the file.
            if path == "super::"
                && code[..at]
                    .rsplit('\n')
                    .next()
                    .is_some_and(|line| line.starts_with(' '))
            {
                continue;
            }
            for head in heads(code[at + path.len()..].trim_start()) {
                if !table.contains_key(&head) {
                    wrong.push(format!("`{module}` imports `{head}`, which is not in the table"));
                } else if head != module && !table[module].contains(&head) {
                    wrong.push(format!("`{module}` may not import `{head}`"));
                }
                count += 1;
            }
        }
    }
    let atomics = ["std::sync::atomic", "core::sync::atomic"];
    if module != "prim" && atomics.iter().any(|path| code.contains(path)) {
        wrong.push(format!(
            "`{module}` takes atomics from `std`, where loom cannot see them"
        ));
    }
    (count, wrong)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_import_goes_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("../../ARCHITECTURE.md")).unwrap();
    assert_eq!(upward(&text), [""; 0]);
    let table = table(&text);
    assert!(
        table.len() >= 8,
        "the table of layers was not understood: {table:?}"
    );
    let source = root.join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    let (mut count, mut wrong) = (0, Vec::new());
    for path in &found {
        let inside = path.strip_prefix(&source).unwrap();
        let module = inside
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        let text = fs::read_to_string(path).unwrap();
        if module == "lib" {
            for line in text
                .lines()
                .filter_map(|line| code(line).trim().strip_prefix("pub mod "))
            {
                let module = line.trim_end_matches(';');
                assert!(
                    table.contains_key(module),
                    "`{module}` is not in the table of layers"
                );
            }
            continue;
        }
        assert!(
            table.contains_key(module),
            "{} belongs to no module of the table",
            inside.display()
        );
        let top = inside.ends_with("mod.rs") && inside.components().count() == 2
            || inside.components().count() == 1;
        let (imports, faults) = check(&table, module, top, &text);
        count += imports;
        wrong.extend(
            faults
                .into_iter()
                .map(|fault| format!("{}: {fault}", inside.display())),
        );
    }
    println!("{count} imports in {} files checked", found.len());
    assert!(count > 0, "no import was found, so nothing was checked");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let text = "| level | module | what | may import |\n| --- | --- | --- | --- |\n\
        | 0 | `low` | | |\n| 1 | `mid` | | `low` |\n| 2 | `top` | | `low`, `mid` |\n";
    assert_eq!(upward(text), [""; 0]);
    for wrong in [
        "| 1 | `mid` | | `low`, `top` |",
        "| 1 | `mid` | | `low`, `nowhere` |",
    ] {
        let text = text.replace("| 1 | `mid` | | `low` |", wrong);
        assert_eq!(upward(&text).len(), 1, "{wrong}");
    }
    let table = table(text);
    assert_eq!(table.len(), 3);
    let faults = |module: &str, text: &str| check(&table, module, true, text).1.len();
    for good in [
        "use crate::low::X;",
        "use crate::{low::{X, Y}, mid::Z};",
        "// use crate::top;",
        "use super::low;",
    ] {
        assert_eq!(faults("mid", good), 0, "{good}");
    }
    let bad = [
        "use crate::top::X;",
        "use crate::{low::{X, Y}, top};",
        "use crate::{\n    low::X,\n    top::Y,\n};",
        "    crate::top::run();",
        "use super::top;",
        "use crate::nowhere::X;",
        "use std::sync::atomic::AtomicBool;",
    ];
    for bad in bad {
        assert_eq!(faults("mid", bad), 1, "{bad}");
    }
    assert_eq!(
        check(&table, "mid", true, "use crate::{low::{X, Y}, mid::Z};").0,
        2
    );
}
