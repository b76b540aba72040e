//! Secrets of Kubernetes with their values in them: they belong in the cluster, not in a file.

/// The lines, from one, with a value.
pub fn find(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut start = 0;
    for document in lines.split(|line| line.trim_end() == "---") {
        let is_secret = document.iter().any(|line| line.trim_end() == "kind: Secret");
        if is_secret {
            found.extend(
                values(document).map(|index| (start + index + 1, "a Secret with a value".to_string())),
            );
        }
        start += document.len() + 1;
    }
    found
}

/// Where values stand under the top-level keys `data` and `stringData`.
fn values<'a>(document: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
    let mut inside = false;
    document.iter().enumerate().filter_map(move |(index, line)| {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        if !line.starts_with(' ') {
            let (key, value) = text.split_once(':').unwrap_or((text, ""));
            inside = matches!(key, "data" | "stringData");
            // In one line: `data: {KEY: dmFsdWU=}`.
            return (inside && value.contains(':') && !value.contains('$')).then_some(index);
        }
        let value = text.split_once(':').map_or(text, |(_, value)| value).trim().trim_matches(['"', '\'']);
        let open = value.is_empty() || value.starts_with(['$', '<', '{', '#']);
        (inside && !open).then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        find(text).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_value_in_a_secret_is_found() {
        let secret = "kind: ConfigMap\ndata:\n  A: b\n---\nkind: Secret\nmetadata:\n  name: x\ndata:\n  KEY: c2FyY2FzbQ==\n";
        assert_eq!(lines(secret), [9]);
        assert_eq!(lines("kind: Secret\nstringData:\n  # mine\n  KEY: sarcasm\ntype: Opaque"), [4]);
        assert_eq!(lines("kind: Secret\ndata: {KEY: c2FyY2FzbQ==}"), [2]);
    }

    #[test]
    fn a_secret_without_values_and_another_kind_are_not_found() {
        assert_eq!(lines("kind: Secret\nmetadata:\n  name: x\ndata: {}\n"), [0; 0]);
        assert_eq!(lines("kind: Secret\nstringData:\n  KEY: \"\"\n  OTHER: ${OTHER}\n"), [0; 0]);
        assert_eq!(lines("kind: ConfigMap\ndata:\n  KEY: value\n"), [0; 0]);
    }
}
