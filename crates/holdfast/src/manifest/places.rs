//! Where each key and value of a TOML text stands.

use std::{collections::BTreeMap, ops::Range};
use toml::de::{DeTable, DeValue};

/// One key's or element's place in the text, in bytes.
#[derive(Clone, Debug)]
struct Place {
    /// The key; for an element of an array, the element.
    key: Range<usize>,
    /// The value.
    value: Range<usize>,
}

/// The places of a whole text, by path: `processes.web.replicas`, `routes[1].process`.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, Place>);

impl Places {
    /// Reads the text as TOML of any shape.
    pub(super) fn of(text: &str) -> Result<Self, toml::de::Error> {
        let table = DeTable::parse(text)?;
        let mut places = Self::default();
        places.walk_table("", table.get_ref());
        Ok(places)
    }

    fn walk_table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.0.insert(path.clone(), Place { key: key.span(), value: value.span() });
            self.walk_value(&path, value.get_ref());
        }
    }

    fn walk_value(&mut self, path: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.walk_table(path, table),
            DeValue::Array(array) => {
                for (place, element) in array.iter().enumerate() {
                    let path = format!("{path}[{place}]");
                    self.0.insert(path.clone(), Place { key: element.span(), value: element.span() });
                    self.walk_value(&path, element.get_ref());
                }
            }
            _ => {}
        }
    }

    /// The place of the value at this path or, where there is none, of the nearest thing around it.
    pub(super) fn around(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        let mut exact = true;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(if exact { place.value.clone() } else { place.key.clone() });
            }
            exact = false;
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The path of the narrowest key or value that covers this place.
    pub(super) fn path_at(&self, span: &Range<usize>) -> Option<&str> {
        let covers =
            |range: &Range<usize>| range.start <= span.start && span.start < range.end.max(range.start + 1);
        self.0
            .iter()
            .filter(|(_, place)| covers(&place.key) || covers(&place.value))
            .max_by_key(|(path, _)| path.len())
            .map(|(path, _)| path.as_str())
    }
}
