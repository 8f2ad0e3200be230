//! Values of one key, each with its complaint.

use toml::de::DeTable;

use super::Builder;
use crate::model::{Fact, Text};
use crate::rules::reader::{Node, integer};

impl Builder<'_> {
    pub(super) fn text(&mut self, fields: &DeTable<'_>, key: &str) -> Option<String> {
        fields.get(key).and_then(|node| self.reader.text(node, key)).map(str::to_owned)
    }

    pub(super) fn fact(&mut self, fields: &DeTable<'_>, key: &str) -> Fact<Text> {
        match self.text(fields, key).as_deref() {
            None => Fact::Unknown,
            Some("none") => Fact::Absent,
            Some(text) => Fact::Known(text.into()),
        }
    }

    pub(super) fn texts(&mut self, fields: &DeTable<'_>, key: &str) -> Fact<Vec<Text>> {
        let Some(node) = fields.get(key) else { return Fact::Unknown };
        if node.get_ref().as_str() == Some("none") {
            return Fact::Absent;
        }
        let nodes = self.reader.list(node, key);
        Fact::Known(
            nodes.into_iter().filter_map(|each| self.reader.text(each, key).map(Text::from)).collect(),
        )
    }

    pub(super) fn flag(&mut self, fields: &DeTable<'_>, key: &str) -> Option<bool> {
        fields.get(key).and_then(|node| self.reader.flag(node, key))
    }

    pub(super) fn number(&mut self, fields: &DeTable<'_>, key: &str, most: u64) -> Option<u64> {
        let node = fields.get(key)?;
        let number =
            integer(node).and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= most);
        if number.is_none() {
            self.reader.say(node.span(), format!("`{key}` is a number from 0 to {most}"));
        }
        number
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        fields: &DeTable<'_>,
        key: &str,
        known: &[(&str, T)],
    ) -> Option<T> {
        fields.get(key).and_then(|node| self.one_of(node, key, known))
    }

    pub(super) fn one_of<T: Copy>(&mut self, node: &Node<'_>, key: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.reader.text(node, key)?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            self.reader.unknown_word(
                node.span(),
                text,
                &format!("value of `{key}`"),
                known.iter().map(|(name, _)| *name),
            );
        }
        found
    }
}
