//! Values: written directly, inherited, held against schemas and limits.

use super::{Desk, confirmed, key, refusal, reviewed, set, value};
use holdfast_domain::{
    Command, Content, Rejection,
    config::{ConfigCommand, ConfigRefusal, Edit, Inherits, Mismatch, Put, Schema, Settings, Value},
    view::Became,
};
use std::sync::Arc;
use types::{EventId, NamespaceId, ValueKind, limits};

#[test]
fn every_write_is_a_version_of_its_key_and_a_release_of_its_namespace() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", Settings::default());
    desk.write(shop, &[set("a", "1"), set("b", "1")]).expect("written");
    desk.write(shop, &[set("a", "2")]).expect("written");
    assert!(desk.write(shop, &[set("a", "2")]).expect("the same").is_empty(), "nothing changed");
    let delete = Edit { key: key("a"), put: Put::Delete, expect: Some(2) };
    desk.write(shop, std::slice::from_ref(&delete)).expect("deleted");
    assert_eq!((desk.version(shop, "a"), desk.version(shop, "b")), (3, 1), "a deletion is a version too");
    assert_eq!(desk.read(shop, "a"), None);
    desk.write(shop, &[Edit { expect: Some(0), ..set("a", "3") }]).expect("absent is absent");
    assert_eq!(desk.version(shop, "a"), 4, "no version is used twice");
    let view = desk.world.views.config().namespaces[&shop].clone();
    assert_eq!(view.releases.len(), 4);
    assert_eq!(view.version_at(&key("a"), 2).map(|row| row.version), Some(2));
    assert_eq!(view.version_at(&key("a"), 3).map(|row| row.became), Some(Became::Deleted));
    assert_eq!(view.version_at(&key("b"), 4).map(|row| row.version), Some(1));
    assert_eq!(view.version_at(&key("b"), 0), None);
    let third = view.releases[2].published.event;
    assert_eq!((view.release_at(third), view.release_at(EventId::new(third.get() - 1))), (3, 2));
}

#[test]
fn several_keys_are_compared_and_set_together_or_not_at_all() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", Settings::default());
    desk.write(shop, &[set("a", "1"), set("b", "1")]).expect("written");
    let edits = [Edit { expect: Some(1), ..set("a", "2") }, Edit { expect: Some(7), ..set("b", "2") }];
    let found = refusal(desk.write(shop, &edits));
    let wanted = Mismatch { key: key("b"), wanted: 7, found: 1 };
    assert_eq!(found, ConfigRefusal::Versions(vec![wanted]));
    assert_eq!(found.to_string(), "b is version 1, not version 7");
    assert_eq!(desk.read(shop, "a").as_deref(), Some("1"));
    let twice = desk.write(shop, &[set("a", "2"), set("a", "3")]);
    assert!(matches!(twice, Err(Rejection::Invalid { .. })), "{twice:?}");
    let nowhere = desk.write(shop, &[Edit { put: Put::Delete, ..set("c", "") }]);
    assert!(matches!(nowhere, Err(Rejection::NotFound { .. })), "{nowhere:?}");
}

#[test]
fn the_nearest_value_holds_and_a_deletion_hides_what_is_inherited() {
    let mut desk = Desk::new();
    let [shop, prod, eu] =
        ["shop", "shop/prod", "shop/prod/eu"].map(|at| desk.namespace(at, Settings::default()));
    desk.write(shop, &[set("a", "shop"), set("b", "shop")]).expect("written");
    desk.write(prod, &[set("a", "prod")]).expect("written");
    assert_eq!(desk.read(eu, "a").as_deref(), Some("prod"));
    assert_eq!(desk.read(eu, "b").as_deref(), Some("shop"));
    desk.write(eu, &[Edit { put: Put::Delete, ..set("b", "") }]).expect("hidden");
    assert_eq!((desk.read(eu, "b"), desk.read(prod, "b").as_deref()), (None, Some("shop")));
    desk.write(eu, &[Edit { put: Put::Inherit, ..set("b", "") }]).expect("shown again");
    assert_eq!(desk.read(eu, "b").as_deref(), Some("shop"));
    assert_eq!(desk.version(eu, "b"), 2);
}

#[test]
fn inheritance_has_no_circle_and_is_not_pulled_away_from_under_anybody() {
    let mut desk = Desk::new();
    let [shop, prod] = ["shop", "shop/prod"].map(|at| desk.namespace(at, Settings::default()));
    let base = desk.namespace_from("base", Inherits::From(prod), Settings::default()).expect("made");
    let inherits = |namespace, from| ConfigCommand::SetNamespace {
        namespace,
        inherits: Some(Inherits::From(from)),
        description: None,
        settings: None,
    };
    let ann = desk.ann;
    for (of, from, circle) in
        [(shop, base, "shop → base → shop/prod → shop"), (prod, prod, "shop/prod → shop/prod")]
    {
        let found = refusal(desk.says(ann, inherits(of, from)));
        assert_eq!(found, ConfigRefusal::Cycle(circle.into()));
    }
    let front = refusal(desk.namespace_from("other/prod", Inherits::From(prod), Settings::default()));
    assert_eq!(front.to_string(), "other/prod has no parent: create other first");
    let taken = refusal(desk.namespace_from("shop", Inherits::Front, Settings::default()));
    assert_eq!(taken.to_string(), "shop exists already");
    let delete = |desk: &Desk, namespace| ConfigCommand::DeleteNamespace {
        namespace,
        shown: Content::of_namespace(&desk.world.state, namespace),
        confirmed: None,
    };
    for inherited in [shop, prod] {
        let command = delete(&desk, inherited);
        assert!(matches!(refusal(desk.says(ann, command)), ConfigRefusal::Inherited { .. }));
    }
    desk.says(ann, inherits(base, shop)).expect("prod is free");
    desk.write(prod, &[set("a", "1")]).expect("written");
    let command = delete(&desk, prod);
    let full = desk.says(ann, command.clone());
    assert!(matches!(full, Err(Rejection::Unconfirmed { .. })), "{full:?}");
    let ConfigCommand::DeleteNamespace { shown, .. } = command else { unreachable!() };
    desk.write(prod, &[set("a", "2")]).expect("written");
    let sure =
        |shown| ConfigCommand::DeleteNamespace { namespace: prod, shown, confirmed: Some(confirmed("")) };
    assert!(matches!(desk.says(ann, sure(shown)), Err(Rejection::Moved { .. })));
    let change = desk.draft(ann, prod, &[set("b", "1")]);
    let shown = Content::of_namespace(&desk.world.state, prod);
    desk.says(ann, sure(shown)).expect("deleted");
    let config = &desk.world.state.config;
    assert!(config.changes.is_empty() && config.touched.is_empty() && config.open.is_empty());
    let usage = config.usage[&desk.world.org];
    assert_eq!((usage.namespaces, usage.bytes), (2, 0));
    assert_eq!(desk.world.views.config().changes[&change].stage.as_str(), "withdrawn");
    desk.namespace("shop/prod", Settings::default());
}

#[test]
fn a_chain_that_is_too_long_is_refused_from_either_end() {
    let mut desk = Desk::new();
    let mut below = desk.namespace("n0", Settings::default());
    let first = below;
    for nth in 1..limits::CONFIG_CHAIN {
        below = desk
            .namespace_from(&format!("n{nth}"), Inherits::From(below), Settings::default())
            .expect("made");
    }
    let longer = desk.namespace_from("more", Inherits::From(below), Settings::default());
    assert!(matches!(longer, Err(Rejection::TooMany { .. })), "{longer:?}");
    let top = desk.namespace("top", Settings::default());
    let ann = desk.ann;
    let inherits = Some(Inherits::From(top));
    let lift = ConfigCommand::SetNamespace { namespace: first, inherits, description: None, settings: None };
    assert!(matches!(desk.says(ann, lift), Err(Rejection::TooMany { .. })));
}

#[test]
fn values_are_kept_in_one_form_and_nothing_else_is_taken() {
    let kept = |kind, text: &str| {
        let value = Value::new(kind, text.as_bytes(), "", &[]).map_err(|why| why.to_string())?;
        Ok(String::from_utf8(value.bytes.as_bytes().to_vec()).expect("text"))
    };
    let good = |kind, text, form: &str| assert_eq!(kept(kind, text), Ok::<_, String>(form.to_owned()));
    good(ValueKind::Number, " 12 ", "12");
    good(ValueKind::Number, "1e2", "100.0");
    good(ValueKind::Boolean, "true", "true");
    good(
        ValueKind::Json,
        r#"{"b": [1, 2 ], "a":{"d":null,"c":"ü"}}"#,
        r#"{"a":{"c":"ü","d":null},"b":[1,2]}"#,
    );
    good(ValueKind::Text, "a\nb", "a\nb");
    good(ValueKind::Secret, "db/password", "db/password");
    for (kind, text, why) in [
        (ValueKind::Number, "twelve", "it is not a number"),
        (ValueKind::Number, "\"12\"", "it is other JSON"),
        (ValueKind::Number, "1e999", "number out of range"),
        (ValueKind::Boolean, "yes", "it is not a boolean"),
        (ValueKind::Json, "{", "EOF while parsing"),
        (ValueKind::Json, r#"{"a":1,"a":2}"#, "\"a\" is there twice"),
        (ValueKind::String, "a\nb", "character 1 is a control character"),
        (ValueKind::Secret, "a//b", "part 2 of a//b"),
    ] {
        let found = kept(kind, text).expect_err(text);
        assert!(found.contains(why), "{found}");
    }
    let large = vec![b'x'; limits::CONFIG_VALUE + 1];
    assert!(Value::new(ValueKind::Binary, &large, "", &[]).is_err());
    // What did not go through the rim is looked at again.
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", Settings::default());
    let forged = Value {
        kind: ValueKind::Number,
        bytes: b"01".as_slice().into(),
        description: "".into(),
        tags: Arc::new([]),
    };
    let edit = Edit { key: key("a"), put: Put::Set(Arc::new(forged)), expect: None };
    assert!(matches!(refusal(desk.write(shop, &[edit])), ConfigRefusal::Unfit { .. }));
}

fn schema(desk: &mut Desk, namespace: NamespaceId, text: &str) -> Result<(), Rejection> {
    let schema = Some(Arc::from(text));
    let ann = desk.ann;
    desk.says(ann, ConfigCommand::SetSchema { namespace, schema, forced: None }).map(drop)
}

#[test]
fn a_schema_holds_where_it_is_and_below_until_another_is_nearer() {
    let mut desk = Desk::new();
    let [shop, prod] = ["shop", "shop/prod"].map(|at| desk.namespace(at, Settings::default()));
    schema(&mut desk, shop, r#"{"properties": {"port": {"type": "integer"}}, "required": ["port"]}"#)
        .expect_err("no port");
    let port = |text| Edit { key: key("port"), put: value(ValueKind::Number, text), expect: None };
    desk.write(shop, &[port("80")]).expect("written");
    schema(&mut desk, shop, r#"{"properties": {"port": {"type": "integer"}}, "required": ["port"]}"#)
        .expect("a schema");
    for namespace in [shop, prod] {
        let found = refusal(desk.write(namespace, &[port("8.5")]));
        assert_eq!(found.code(), "schema_violated", "{found}");
        assert!(found.to_string().contains("the schema of shop forbids it: port: "), "{found}");
        let delete = Edit { put: Put::Delete, ..port("1") };
        assert!(refusal(desk.write(namespace, &[delete])).to_string().contains("port: it is required"));
    }
    schema(&mut desk, prod, r#"{"properties": {"port": {"type": "number"}}}"#).expect("a nearer one");
    desk.write(prod, &[port("8.5")]).expect("a number");
    desk.write(prod, &[Edit { put: Put::Inherit, ..port("1") }]).expect("what is inherited is there");
}

#[test]
fn a_schema_that_breaks_what_is_there_says_what_and_is_set_only_when_that_is_confirmed() {
    let mut desk = Desk::new();
    let [shop, prod] = ["shop", "shop/prod"].map(|at| desk.namespace(at, Settings::default()));
    desk.write(shop, &[set("port", "http")]).expect("written");
    desk.write(prod, &[set("port", "https")]).expect("written");
    let text = r#"{"properties": {"port": {"type": "integer"}}}"#;
    let found = schema(&mut desk, shop, text).map_err(|refused| refused.to_string()).expect_err("breaks");
    assert!(found.contains("shop port: ") && found.contains("shop/prod port: "), "{found}");
    let parsed = Schema::parse(&Arc::from(text)).expect("a schema");
    let shown = Content::of_schema(&desk.world.state, shop, &parsed);
    desk.write(prod, &[Edit { put: Put::Inherit, ..set("port", "") }]).expect("written");
    let forced = |shown| ConfigCommand::SetSchema {
        namespace: shop,
        schema: Some(Arc::from(text)),
        forced: Some((shown, confirmed("soon"))),
    };
    let ann = desk.ann;
    assert!(matches!(desk.says(ann, forced(shown)), Err(Rejection::Moved { .. })));
    let shown = Content::of_schema(&desk.world.state, shop, &parsed);
    desk.says(ann, forced(shown)).expect("set");
    let bad = schema(&mut desk, shop, r#"{"type": 7}"#).map_err(|refused| refused.to_string());
    assert!(bad.expect_err("none").starts_with("it is not a schema that can be used: at #/type: "));
}

#[test]
fn limits_are_answers_and_room_can_always_be_made() {
    let mut desk = Desk::new();
    let settings =
        Settings { entries: Some(2), bytes: Some(types::ByteSize::from_bytes(8)), ..Settings::default() };
    let shop = desk.namespace("shop", settings);
    desk.write(shop, &[set("a", "1234"), set("b", "1234")]).expect("written");
    let many = desk.write(shop, &[set("c", "")]);
    assert!(matches!(many, Err(Rejection::TooMany { limit: 2, .. })), "{many:?}");
    let long = desk.write(shop, &[set("a", "12345")]);
    assert!(matches!(long, Err(Rejection::TooMany { limit: 8, .. })), "{long:?}");
    let less =
        Settings { entries: Some(1), bytes: Some(types::ByteSize::from_bytes(1)), ..Settings::default() };
    let ann = desk.ann;
    let settings = Some(Arc::new(less));
    desk.says(
        ann,
        ConfigCommand::SetNamespace { namespace: shop, inherits: None, description: None, settings },
    )
    .expect("set");
    desk.write(shop, &[set("a", "123")]).expect("less than it was");
    let edits: Vec<Edit> = (0..=limits::CONFIG_EDITS).map(|nth| set(&format!("k{nth}"), "")).collect();
    assert!(matches!(desk.write(shop, &edits), Err(Rejection::TooMany { limit: 256, .. })));
}

#[test]
fn a_namespace_that_asks_for_reviews_takes_no_direct_writes_and_its_children_neither() {
    let mut desk = Desk::new();
    desk.namespace("shop", reviewed());
    let prod = desk.namespace("shop/prod", Settings::default());
    let dev = desk.namespace("shop/dev", Settings { direct: Some(true), ..Settings::default() });
    let found = refusal(desk.write(prod, &[set("a", "1")]));
    assert_eq!(found.code(), "review_required");
    desk.write(dev, &[set("a", "1")]).expect("its own settings are nearer");
    let stranger = Settings {
        reviewers: Some(holdfast_domain::config::Reviewers {
            roles: [].into(),
            people: [types::PersonId::from_u128(1)].into(),
        }),
        ..Settings::default()
    };
    let settings = Some(Arc::new(stranger));
    let command = ConfigCommand::SetNamespace { namespace: dev, inherits: None, description: None, settings };
    assert!(matches!(desk.world.submit(Command::Config(command)), Err(Rejection::NotFound { .. })));
}
