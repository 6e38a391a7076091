//! Reads of what holds: one page of effective values, and why a value is what it is.

use super::{Config, Entry, Held};
use std::ops::Bound;
use types::{ConfigKey, NamespaceId};

/// What a namespace says of a key, seen from one that inherits from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer<'c> {
    /// Its value holds.
    Holds(&'c Entry),
    /// It has a value, and a nearer namespace says something else.
    Shadowed(&'c Entry),
    /// It hides what would be inherited from further away.
    Deletes(&'c Entry),
    /// It said something once and says nothing any more.
    Inherits(&'c Entry),
    /// It never said anything.
    Silent,
}

impl Config {
    /// The effective values of a namespace after a key, in order, each with the namespace it comes
    /// from, as many as `take` lets through.
    pub fn effective_after<'c>(
        &'c self,
        id: NamespaceId,
        (prefix, after): (&str, Option<&ConfigKey>),
        mut take: impl FnMut(&'c ConfigKey, NamespaceId, &'c Entry) -> bool,
    ) {
        let layers: Vec<_> = self.chain(id).collect();
        let mut last: Option<&ConfigKey> = after;
        loop {
            // The next key that any layer has.
            let from = match last {
                Some(last) if last.as_str() >= prefix => Bound::Excluded(last.as_str()),
                _ => Bound::Included(prefix),
            };
            let next = layers.iter().filter_map(|(_, namespace)| {
                namespace.entries.range::<_, str>((from, Bound::Unbounded)).map(|(key, _)| key).next()
            });
            let Some(key) = next.min().filter(|key| key.as_str().starts_with(prefix)) else { return };
            last = Some(key);
            if let Some((from, entry)) = self.effective(id, key)
                && !take(key, from, entry)
            {
                return;
            }
        }
    }

    /// What each namespace of the chain says of a key, the nearest first.
    pub fn layers(&self, id: NamespaceId, key: &ConfigKey) -> Vec<(NamespaceId, Layer<'_>)> {
        let mut decided = false;
        let mut layers = Vec::new();
        for (id, namespace) in self.chain(id) {
            let said = match namespace.entries.get(key) {
                None => Layer::Silent,
                Some(entry) => match &entry.held {
                    Held::Inherited => Layer::Inherits(entry),
                    Held::Deleted if decided => Layer::Shadowed(entry),
                    Held::Value(_) if decided => Layer::Shadowed(entry),
                    Held::Deleted => Layer::Deletes(entry),
                    Held::Value(_) => Layer::Holds(entry),
                },
            };
            decided |= matches!(said, Layer::Holds(_) | Layer::Deletes(_));
            layers.push((id, said));
        }
        layers
    }
}
