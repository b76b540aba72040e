//! What the program says, on a terminal or into a pipe. A reader that has gone away, such as `head`, ends no work; and what comes from a
//! file's name moves no cursor.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// As `println!`, but nobody has to listen.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::out(format_args!($($words)*)) };
}

/// As `eprintln!`, but nobody has to listen.
macro_rules! complain {
    ($($words:tt)*) => { $crate::say::err(format_args!($($words)*)) };
}

pub fn out(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{}", harmless(&words.to_string()));
}

pub fn err(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{}", harmless(&words.to_string()));
}

/// A path in one line.
pub fn name(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn harmless(words: &str) -> String {
    let is_harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    words.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\tb\n\u{1b}[31mc\r\u{9b}é"), "a\tb\n\u{fffd}[31mc\u{fffd}\u{fffd}é");
        assert_eq!(name(Path::new("a\nb\u{7}.mp4")), "a\u{fffd}b\u{fffd}.mp4");
    }
}
