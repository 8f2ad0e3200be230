//! Values as TOML text.

use toml::de::{DeTable, DeValue};

/// Text in quotes, on one line.
pub(in crate::rules) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `["a", "b"]`
pub(in crate::rules) fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A value that was read, written again on one line.
pub(super) fn value(node: &DeValue<'_>) -> String {
    match node {
        DeValue::String(text) => quote(text),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => "0".to_owned(),
        },
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| value(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(inner) => table(inner),
    }
}

/// `{ a = 1, b = "x" }`
pub(super) fn table(table: &DeTable<'_>) -> String {
    let entries: Vec<String> = table
        .iter()
        .map(|(key, inner)| format!("{} = {}", quote(key.get_ref()), value(inner.get_ref())))
        .collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_it_was() {
        let text = "a = \"x\\\"\\\\y\\n\\u0001é\"\nb = [1, 0o666, true, 1.5]\nc = { d.e = 'f' }\n";
        let (first, errors) = DeTable::parse_recoverable(text);
        assert!(errors.is_empty());
        let written = format!("all = {}", table(first.get_ref()));
        let before: toml::Table = toml::from_str(text).unwrap();
        let after: toml::Table = toml::from_str(&written).unwrap();
        assert_eq!(after["all"].as_table(), Some(&before));
    }
}
