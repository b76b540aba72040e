//! What docs/ promises: every error code that the code can give stands in docs/api.md.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The string literals that follow `opening` in a source text, on the same line or the next.
fn literals_after<'a>(text: &'a str, opening: &str) -> BTreeSet<&'a str> {
    let calls = text.split(opening).skip(1);
    calls
        .filter_map(|call| call.split(';').next()?.split('"').nth(1))
        .filter(|code| !code.contains(' '))
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_error_code_stands_in_the_api_document() {
    let document = fs::read_to_string(root().join("docs/api.md")).unwrap();
    let mut codes: BTreeSet<String> = engine::Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    for path in sources(&root().join("crates/services/src")) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for opening in ["Problem::new(", "Failure { code: "] {
            codes.extend(literals_after(&text, opening).into_iter().map(str::to_owned));
        }
    }
    assert!(
        codes.contains("too-large") && codes.contains("video-missing") && codes.len() > 35,
        "the search finds them: {codes:?}"
    );
    let missing: Vec<_> = codes.iter().filter(|code| !document.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/api.md lacks {missing:?}");
}
