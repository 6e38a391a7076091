//! Values: their kinds, and the one form in which each is kept.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeMap, fmt, sync::Arc};
use types::{Name, ValueKind, limits};

/// The bytes of a value, shared. In binary formats they are one piece; in JSON they are text, or
/// hexadecimal where they are none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(Arc<[u8]>);

impl Blob {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    Text(String),
    Hex(String),
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return to.serialize_bytes(&self.0);
        }
        let shown = match std::str::from_utf8(&self.0) {
            Ok(text) => Shown::Text(text.to_owned()),
            Err(_) => Shown::Hex(self.0.iter().map(|byte| format!("{byte:02x}")).collect()),
        };
        shown.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(bytes.into())
            }
        }
        if !from.is_human_readable() {
            return from.deserialize_bytes(Bytes);
        }
        match Shown::deserialize(from)? {
            Shown::Text(text) => Ok(text.into_bytes().into()),
            Shown::Hex(digits) => {
                let pair = |nth| digits.get(nth..nth + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
                let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
                bytes.map(Self::from).ok_or_else(|| de::Error::custom("wants hexadecimal digits"))
            }
        }
    }
}

/// A value as it is kept, with what people say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Its canonical form, see [`canonical`].
    pub bytes: Blob,
    /// What it is for; may be empty.
    pub description: Arc<str>,
    /// Sorted, each once.
    pub tags: Arc<[Name]>,
}

/// Why bytes are no value of a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not {wanted}: {why}")]
pub struct Unfit {
    wanted: &'static str,
    why: String,
}

impl Unfit {
    fn new(wanted: &'static str, why: impl Into<String>) -> Self {
        Self { wanted, why: why.into() }
    }
}

impl Value {
    /// A value of a kind, in its canonical form.
    ///
    /// # Errors
    /// The bytes are not of that kind, or something of it is too long.
    pub fn new(kind: ValueKind, bytes: &[u8], description: &str, tags: &[Name]) -> Result<Self, Unfit> {
        let mut sorted = tags.to_vec();
        sorted.sort();
        sorted.dedup();
        let bytes = canonical(kind, bytes)?.into();
        let value = Self { kind, bytes, description: description.into(), tags: sorted.into() };
        value.check_notes().map(|()| value)
    }

    /// Whether it is one that [`Value::new`] could have made.
    ///
    /// # Errors
    /// What of it is not.
    pub(crate) fn check(&self) -> Result<(), Unfit> {
        if canonical(self.kind, self.bytes.as_bytes())? != self.bytes.as_bytes() {
            return Err(Unfit::new("in its canonical form", "it was not made from its kind"));
        }
        if !self.tags.is_sorted_by(|one, next| one < next) {
            return Err(Unfit::new("in its canonical form", "its tags are not sorted"));
        }
        self.check_notes()
    }

    fn check_notes(&self) -> Result<(), Unfit> {
        if self.description.len() > limits::CONFIG_DESCRIPTION {
            let why = format!("it has {} bytes", self.description.len());
            return Err(Unfit::new("described in at most 1024 bytes", why));
        }
        if self.tags.len() > limits::CONFIG_TAGS {
            return Err(Unfit::new("tagged with at most 16 names", format!("it has {}", self.tags.len())));
        }
        Ok(())
    }

    /// What it counts against the limits of its namespace.
    pub fn size(&self) -> u64 {
        let tags: usize = self.tags.iter().map(|tag| tag.as_str().len()).sum();
        (self.bytes.as_bytes().len() + self.description.len() + tags) as u64
    }

    /// The value as JSON, as schemas and JSON readers take it; none for bytes and secrets.
    pub fn json(&self) -> Option<serde_json::Value> {
        let bytes = self.bytes.as_bytes();
        match self.kind {
            ValueKind::String | ValueKind::Text => {
                Some(serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned()))
            }
            ValueKind::Number | ValueKind::Boolean | ValueKind::Json => serde_json::from_slice(bytes).ok(),
            ValueKind::Binary | ValueKind::Secret => None,
        }
    }
}

/// The one form in which a value of this kind is kept: numbers and JSON without spaces, objects sorted
/// by key, everything else as it is.
///
/// # Errors
/// The bytes are not of that kind, or are too many.
pub fn canonical(kind: ValueKind, bytes: &[u8]) -> Result<Vec<u8>, Unfit> {
    if bytes.len() > limits::CONFIG_VALUE {
        return Err(Unfit::new("at most 1 MiB", format!("it has {} bytes", bytes.len())));
    }
    let text = |wanted| {
        std::str::from_utf8(bytes)
            .map_err(|error| Unfit::new(wanted, format!("byte {} is not UTF-8", error.valid_up_to())))
    };
    match kind {
        ValueKind::Binary => return Ok(bytes.to_vec()),
        ValueKind::String => {
            let wanted = "a string";
            match text(wanted)?.chars().position(char::is_control) {
                Some(place) => {
                    let why = format!("character {place} is a control character; text may have lines");
                    return Err(Unfit::new(wanted, why));
                }
                None => return Ok(bytes.to_vec()),
            }
        }
        ValueKind::Text => {
            let wanted = "text";
            return match text(wanted)?.contains('\0') {
                true => Err(Unfit::new(wanted, "it has a zero character")),
                false => Ok(bytes.to_vec()),
            };
        }
        ValueKind::Secret => {
            let wanted = "the name of a secret";
            let named = text(wanted)?.parse::<types::ConfigKey>();
            return named.map(|_| bytes.to_vec()).map_err(|error| Unfit::new(wanted, error.to_string()));
        }
        ValueKind::Number | ValueKind::Boolean | ValueKind::Json => {}
    }
    let wanted = match kind {
        ValueKind::Number => "a number",
        ValueKind::Boolean => "a boolean",
        _ => "JSON",
    };
    let json: Json = serde_json::from_slice(bytes).map_err(|error| Unfit::new(wanted, error.to_string()))?;
    match (kind, &json) {
        (ValueKind::Number, Json::Leaf(serde_json::Value::Number(_)))
        | (ValueKind::Boolean, Json::Leaf(serde_json::Value::Bool(_)))
        | (ValueKind::Json, _) => {}
        _ => return Err(Unfit::new(wanted, "it is other JSON")),
    }
    let mut out = Vec::with_capacity(bytes.len());
    json.write(&mut out);
    match out.len() > limits::CONFIG_VALUE {
        true => Err(Unfit::new("at most 1 MiB", format!("its canonical form has {} bytes", out.len()))),
        false => Ok(out),
    }
}

/// JSON whose objects are sorted and have no key twice.
enum Json {
    Leaf(serde_json::Value),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Leaf(leaf) => to.extend(leaf.to_string().bytes()),
            Self::List(items) => {
                to.push(b'[');
                for (nth, item) in items.iter().enumerate() {
                    to.extend((nth > 0).then_some(b','));
                    item.write(to);
                }
                to.push(b']');
            }
            Self::Object(fields) => {
                to.push(b'{');
                for (nth, (key, value)) in fields.iter().enumerate() {
                    to.extend((nth > 0).then_some(b','));
                    to.extend(serde_json::Value::String(key.clone()).to_string().bytes());
                    to.push(b':');
                    value.write(to);
                }
                to.push(b'}');
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> de::Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Leaf(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Leaf(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Leaf(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Leaf(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Leaf(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Leaf(serde_json::Value::Null))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
                let mut object = BTreeMap::new();
                while let Some(key) = fields.next_key::<String>()? {
                    let value = fields.next_value()?;
                    if object.contains_key(&key) {
                        return Err(de::Error::custom(format_args!("the key {key:?} is there twice")));
                    }
                    object.insert(key, value);
                }
                Ok(Json::Object(object))
            }
        }
        from.deserialize_any(Any)
    }
}
