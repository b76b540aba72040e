//! Keys and tokens that are known by their looks, whatever file they stand in.

/// The lines, from one, with a key or a token in them.
pub fn find(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let kind = if is_private_key(line) { Some("a private key") } else { words(line).find_map(token) };
        if let Some(kind) = kind {
            found.push((index + 1, kind.to_string()));
        }
    }
    found
}

/// PEM's first line, of any kind of private key.
fn is_private_key(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("-----BEGIN ") else { return false };
    rest.split_once("-----").is_some_and(|(label, _)| label.ends_with("PRIVATE KEY"))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
        .filter(|word| word.len() >= 20)
}

/// A prefix that a service gives its tokens, and how long they are with it, at least.
const PREFIXES: &[(&str, usize, &str)] = &[
    ("ghp_", 40, "a GitHub token"),
    ("gho_", 40, "a GitHub token"),
    ("ghu_", 40, "a GitHub token"),
    ("ghs_", 40, "a GitHub token"),
    ("ghr_", 40, "a GitHub token"),
    ("github_pat_", 40, "a GitHub token"),
    ("glpat-", 26, "a GitLab token"),
    ("AIza", 39, "a Google API key"),
    ("ya29.", 40, "a Google access token"),
    ("GOCSPX-", 35, "a Google client secret"),
    ("xoxb-", 24, "a Slack token"),
    ("xoxp-", 24, "a Slack token"),
    ("npm_", 40, "an npm token"),
    ("pypi-AgEI", 40, "a PyPI token"),
];

fn token(word: &str) -> Option<&'static str> {
    if is_aws(word) {
        return Some("an AWS access key");
    }
    if is_signed_jwt(word) {
        return Some("a signed JSON Web Token");
    }
    let known = PREFIXES.iter().find(|(prefix, least, _)| word.starts_with(prefix) && word.len() >= *least);
    known.map(|(_, _, kind)| *kind)
}

fn is_aws(word: &str) -> bool {
    let word = word.trim_matches(['.', '-', '_']);
    word.len() == 20
        && (word.starts_with("AKIA") || word.starts_with("ASIA"))
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// Header and claims are JSON objects, hence `eyJ`; without a signature it opens nothing.
fn is_signed_jwt(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    matches!(parts[..], [header, claims, signature]
        if header.starts_with("eyJ") && claims.starts_with("eyJ") && signature.len() >= 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Put together here, so that this file passes its own scan.
    fn token_of(prefix: &str, length: usize) -> String {
        format!("{prefix}{}", "Ab3".repeat(length).chars().take(length - prefix.len()).collect::<String>())
    }

    #[test]
    fn each_kind_of_token_is_found_and_a_shorter_word_is_not() {
        for (prefix, least, kind) in PREFIXES {
            let line = format!("let key = \"{}\";", token_of(prefix, *least));
            assert_eq!(find(&line), [(1, kind.to_string())], "{prefix}");
            assert_eq!(find(&format!("see {prefix}short")), [], "{prefix}");
        }
    }

    #[test]
    fn private_keys_of_each_kind_are_found_and_certificates_are_not() {
        for kind in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
            let pem = format!("text\n-----BEGIN {kind}{} KEY-----\nMIIE", "PRIVATE");
            assert_eq!(find(&pem), [(2, "a private key".to_string())], "{kind}");
        }
        assert_eq!(find("-----BEGIN CERTIFICATE-----\n-----BEGIN PUBLIC KEY-----"), []);
    }

    #[test]
    fn an_aws_key_is_found_and_another_word_of_capitals_is_not() {
        let key = format!("{}IOSFODNN7EXAMPLE", "AKIA");
        assert_eq!(find(&format!("aws_access_key_id = {key}")).len(), 1);
        assert_eq!(find(&format!("{key}MORE")), []);
    }

    #[test]
    fn a_signed_token_is_found_and_an_unsigned_one_is_not() {
        let unsigned = format!("{0}hbGciOiJIUzI1NiJ9.{0}zdWIiOiIxIn0.", "eyJ");
        assert_eq!(find(&format!("curl -H 'Authorization: Bearer {unsigned}{}'", "s".repeat(43))).len(), 1);
        assert_eq!(find(&unsigned), []);
    }
}
