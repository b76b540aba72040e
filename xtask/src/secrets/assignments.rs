//! Passwords in configuration and scripts: a name that says "secret", and a value that is written out.

use super::Kind;

/// The lines, from one, with a secret in them.
pub fn find(text: &str, kind: Kind) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut waiting: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        // Text in comments is documentation, but a secret that was commented out is a secret.
        let mut hits: Vec<String> = names(line).filter_map(|name| assigned(line, name, kind)).collect();
        hits.extend(password_in_url(line));
        if kind == Kind::Yaml {
            hits.extend(value_of_name(line, waiting.take()));
            waiting = secret_in_name(line).or_else(|| block_of(line));
        }
        found.extend(hits.into_iter().map(|what| (index + 1, what)));
    }
    found
}

/// Ends of names whose values are secrets.
const ENDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secret_key",
    "access_key",
    "private_key",
    "api_key",
    "apikey",
    "token",
    "cookie",
];

/// The name of a secret: one of [`ENDS`] alone or after `_`, `-`, `.` or, as in `clientSecret`, a change of case.
fn is_secret(name: &str) -> bool {
    let plain = name.to_ascii_lowercase().replace('-', "_");
    ENDS.iter().any(|end| {
        plain.strip_suffix(end).is_some_and(|before| {
            let here = name[before.len()..].chars().next().unwrap_or(' ');
            let previous = name[..before.len()].chars().next_back().unwrap_or('_');
            matches!(previous, '_' | '-' | '.')
                || (here.is_ascii_uppercase() && previous.is_ascii_lowercase())
                || before == "pg"
        })
    })
}

/// Every name of a secret in a line, with the byte at which it ends and whether it is asked for its value (`$NAME`).
fn names(line: &str) -> impl Iterator<Item = Name<'_>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut from = 0;
    let words = std::iter::from_fn(move || {
        let start = from + line[from..].find(is_part)?;
        let end = line[start..].find(|c| !is_part(c)).map_or(line.len(), |length| start + length);
        from = end;
        Some((start, end))
    });
    words.filter_map(move |(start, end)| {
        let mut text = line[start..end].trim_start_matches('-');
        // The dash of `${NAME-default}` and the dots of prose are not the name's.
        text = text.trim_end_matches(['-', '.']);
        let asked = line[..start].ends_with('$') || line[..start].ends_with("${");
        is_secret(text).then_some(Name { text, end, asked })
    })
}

struct Name<'a> {
    text: &'a str,
    end: usize,
    asked: bool,
}

/// `NAME=value`, `name: value`, and the default in `${NAME:-value}`.
fn assigned(line: &str, name: Name<'_>, kind: Kind) -> Option<String> {
    let rest = &line[name.end..];
    let value = if name.asked {
        rest.strip_prefix(":-").or(rest.strip_prefix(":=")).or(rest.strip_prefix('='))?.split('}').next()?
    } else {
        let rest = rest.trim_start_matches(['"', '\'']).trim_start();
        let value = rest.strip_prefix('=').or(rest.strip_prefix(':').filter(|_| kind != Kind::Shell))?;
        // `name:value` is no assignment in YAML, and `==` is none anywhere.
        if value.starts_with('=')
            || (kind == Kind::Yaml && rest.starts_with(':') && !value.is_empty() && !value.starts_with(' '))
        {
            return None;
        }
        value
    };
    is_literal(value).then(|| format!("{} has a value", name.text))
}

/// Kubernetes' way: `name: JWT_SECRET`, and on the next line `value: text`.
fn secret_in_name(line: &str) -> Option<String> {
    let value =
        line.trim_start().trim_start_matches("- ").strip_prefix("name:")?.trim().trim_matches(['"', '\'']);
    (is_secret(value) && value.contains('_')).then(|| value.to_string())
}

/// `password: |`, whose value stands on the next line.
fn block_of(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim().trim_start_matches("- ");
    (is_secret(name) && value.trim_start().starts_with(['|', '>'])).then(|| name.to_string())
}

fn value_of_name(line: &str, name: Option<String>) -> Option<String> {
    let name = name?;
    let value = line.trim_start().strip_prefix("value:").unwrap_or(line);
    let is_other_key = value == line && line.contains(": ") || line.trim_end().ends_with(':');
    (!is_other_key && is_literal(value)).then(|| format!("{name} has a value"))
}

/// Whether a value is written out, instead of taken from elsewhere or left open.
fn is_literal(value: &str) -> bool {
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default(),
        _ => value
            .split(" #")
            .next()
            .unwrap_or_default()
            .split([',', ';', '`', ')'])
            .next()
            .unwrap_or_default(),
    };
    let value = value.trim();
    // A variable, a template, a placeholder, a list or a table, an alias, stars, an ellipsis, a comment, a block.
    let elsewhere =
        value.is_empty() || value.starts_with(['$', '{', '<', '[', '*', '!', '%', '…', '#', '|', '>', '\\']);
    let word = matches!(value, "null" | "~" | "true" | "false" | "none" | "read" | "write");
    !elsewhere && !word
}

/// `scheme://user:password@host`, but not the placeholders of documentation.
fn password_in_url(line: &str) -> Option<String> {
    let (_, after) = line.split_once("://")?;
    let authority = after.split(['/', '?', '"', '\'', ' ', '`', '>']).next().unwrap_or_default();
    let Some((user, password)) = authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':'))
    else {
        return password_in_url(after);
    };
    let placeholder = matches!(password.to_ascii_lowercase().as_str(), "password" | "secret" | "…" | "...");
    let open = placeholder || user.is_empty() || !is_literal(password);
    if open { password_in_url(after) } else { Some("a password stands in a URL".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(line: &str, kind: Kind) -> bool {
        !find(line, kind).is_empty()
    }

    #[test]
    fn a_secret_that_is_written_out_is_found() {
        for line in [
            "password: hunter22",
            "  - clientSecret: \"a b\"",
            "JWT_SECRET: 'sarcasm'",
            "# password: hunter22",
            "pwd: 123456",
        ] {
            assert!(is_found(line, Kind::Yaml), "{line}");
        }
        for line in [
            "JWT_SECRET=sarcasm",
            "export MYSQL_PASSWORD='Auth123'",
            "PGPASSWORD=x psql",
            "ENV GMAIL_PASSWORD=abc",
            "run --api-key=abc",
        ] {
            assert!(is_found(line, Kind::Shell), "{line}");
        }
        for line in
            ["jwt_secret = \"sarcasm\"", "api-key=abc", "\"access_key\": \"abc\"", "requirepass.password = x"]
        {
            assert!(is_found(line, Kind::Config), "{line}");
        }
    }

    #[test]
    fn a_default_of_a_variable_is_a_value() {
        assert!(is_found("echo ${JWT_SECRET:-sarcasm}", Kind::Shell));
        assert!(is_found("echo ${JWT_SECRET:=sarcasm}", Kind::Shell));
        assert!(!is_found("echo ${JWT_SECRET:?set it}", Kind::Shell));
        assert!(!is_found("echo ${JWT_SECRET:-$(random)} ${JWT_SECRET:-}", Kind::Shell));
    }

    #[test]
    fn what_is_taken_from_elsewhere_or_left_open_is_not_found() {
        for line in [
            "password: $PASSWORD",
            "password: ${{ secrets.X }}",
            "password: \"\"",
            "password:",
            "password: # yours",
            "token: <yours>",
            "id-token: write",
            "password: null",
            "automountServiceAccountToken: false",
            "secretName: auth-secret",
            "jwt_secret_file: /run/x",
            "rpassword: 7",
            "tokens: 5",
            "serviceAccountToken: {}",
        ] {
            assert!(!is_found(line, Kind::Yaml), "{line}");
        }
        for line in [
            "PASSWORD=$(openssl rand -hex 32)",
            "PASSWORD=",
            "[ \"$PASSWORD\" = x ]",
            "echo \"password: not given\"",
            "test $TOKEN == a",
        ] {
            assert!(!is_found(line, Kind::Shell), "{line}");
        }
        for line in [
            "jwt_secret = \"\"   # at least 32 bytes",
            "rpassword = \"7\"",
            "jsonwebtoken = { version = \"11\" }",
        ] {
            assert!(!is_found(line, Kind::Config), "{line}");
        }
    }

    #[test]
    fn kubernetes_variables_and_block_values_are_found_on_the_next_line() {
        assert!(is_found("- name: JWT_SECRET\n  value: sarcasm", Kind::Yaml));
        assert!(is_found("password: |\n  hunter22", Kind::Yaml));
        assert!(!is_found("- name: JWT_SECRET\n  valueFrom:\n    secretKeyRef:", Kind::Yaml));
        assert!(!is_found("- name: JWT_SECRET\n  value: $(OTHER)", Kind::Yaml));
        assert!(!is_found("- name: LOG\n  value: debug", Kind::Yaml));
        assert!(!is_found("  name: auth-secret\n  namespace: x", Kind::Yaml));
    }

    #[test]
    fn a_password_in_a_url_is_found_and_a_placeholder_is_not() {
        assert!(is_found("url: amqp://guest:guest@rabbitmq:5672", Kind::Yaml));
        assert!(is_found("x: http://a/b mongodb://u:hunter22@host", Kind::Yaml));
        for url in [
            "amqp://user:password@host",
            "amqp://$USER:$PASSWORD@host",
            "http://a.b:80/x@y",
            "amqp://host:5672",
            "smtp://user:…@host",
            "mysql://u:<password>@h",
        ] {
            assert!(!is_found(&format!("url: {url}"), Kind::Yaml), "{url}");
        }
    }
}
