//! A command line as people type it, cut into words without a shell, so that the process we start is the one we kill.

use std::path::Path;

/// Cuts `template` into words (blanks separate; `'…'` and `"…"` hold together; `\` takes the next character as it is)
/// and puts the values of `{port}` and `{dir}` into them.
///
/// # Errors
/// An open quote, a backslash at the end, or no word at all, in words.
pub(crate) fn expand(template: &str, port: u16, directory: &Path) -> Result<Vec<String>, String> {
    expand_with(template, &[("port", port.to_string()), ("dir", directory.to_string_lossy().into_owned())])
}

/// The same with these values, each for its name in braces.
///
/// # Errors
/// As [`expand`].
pub(crate) fn expand_with(template: &str, values: &[(&str, String)]) -> Result<Vec<String>, String> {
    let words = split(template)?;
    if words.is_empty() {
        return Err("the command is empty".to_owned());
    }
    let filled = |word: String| {
        values.iter().fold(word, |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
    };
    Ok(words.into_iter().map(filled).collect())
}

fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => quoted(&mut characters, character, word.get_or_insert_default())?,
            '\\' => {
                let next = characters.next().ok_or("a backslash at the end escapes nothing")?;
                word.get_or_insert_default().push(next);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(characters: &mut std::str::Chars<'_>, quote: char, word: &mut String) -> Result<(), String> {
    loop {
        match characters.next() {
            None => return Err(format!("the quote {quote} is never closed")),
            Some(character) if character == quote => return Ok(()),
            Some('\\') if quote == '"' => word.extend(characters.next()),
            Some(character) => word.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expect: Result<&[&str], &str>) {
        let words = expand(template, 1234, Path::new("/data dir"));
        match (words, expect) {
            (Ok(words), Ok(expect)) => assert_eq!(words, expect, "{template}"),
            (Err(error), Err(expect)) => assert!(error.contains(expect), "{template}: {error}"),
            (words, _) => panic!("{template}: {words:?}"),
        }
    }

    #[test]
    fn words_are_cut_as_a_shell_would() {
        check(
            "mosquitto -c {dir}/m.conf  -p {port}",
            Ok(&["mosquitto", "-c", "/data dir/m.conf", "-p", "1234"]),
        );
        check(r#"a 'b c' "d \" e" f\ g ''"#, Ok(&["a", "b c", "d \" e", "f g", ""]));
        check("a'b'\"c\"", Ok(&["abc"]));
        check("  ", Err("empty"));
        check("a 'b", Err("never closed"));
        check("a \\", Err("backslash"));
    }
}
