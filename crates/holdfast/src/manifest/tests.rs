//! Bad manifests, and exactly what a person sees.

use super::*;

const GOOD: &str = r#"schema = 1
app = "shop"

[image]
ref = "registry.example/shop:1.4"

[processes.web]
command = ["/bin/shop", "serve"]
memory = "256Mi"
cpu = 0.5
replicas = 2
ports = [{ name = "http", port = 8080 }]
health = { type = "http", port = "http", path = "/ready", interval = "5s", timeout = "1s", grace = "10s" }

[[routes]]
host = "shop.example"
process = "web"
port = "http"
mode = "tls"
proxy_protocol = "off"
"#;

/// What a person sees when `from` in the good manifest is `to` instead.
fn seen(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} is there once");
    match parse("holdfast.toml", &GOOD.replacen(from, to, 1)) {
        Ok(_) => panic!("{to:?} was taken"),
        Err(error) => error.to_string(),
    }
}

fn check(from: &str, to: &str, expected: &str) {
    let seen = seen(from, to);
    assert_eq!(seen, expected.trim_matches('\n'), "\n--- seen for {to:?}:\n{seen}\n");
}

#[test]
fn the_manifest_of_the_documentation_is_taken() {
    let manifest = parse("holdfast.toml", GOOD).expect("good");
    assert_eq!(manifest.app.as_str(), "shop");
    assert_eq!(manifest.processes.len(), 1);
    assert_eq!(manifest.routes[0].host.as_ref().map(types::HostName::as_str), Some("shop.example"));
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_one() {
    check(
        "replicas = 2",
        "replica = 2",
        r#"
holdfast.toml:11:1: unknown key `replica` in processes.web
   |
11 | replica = 2
   | ^^^^^^^ did you mean `replicas`?
"#,
    );
    check(
        "app = \"shop\"",
        "app = \"shop\"\nowner = 5",
        r#"
holdfast.toml:3:1: unknown key `owner`
  |
3 | owner = 5
  | ^^^^^ known here: schema, app, image, processes, routes, volumes, secrets, config, deploy
"#,
    );
    check(
        "grace = \"10s\"",
        "gracee = \"10s\"",
        r#"
holdfast.toml:13:92: unknown key `gracee` in processes.web.health
   |
13 | health = { type = "http", port = "http", path = "/ready", interval = "5s", timeout = "1s", gracee = "10s" }
   |                                                                                            ^^^^^^ did you mean `grace`?
"#,
    );
    check(
        "host = ",
        "hots = ",
        r#"
holdfast.toml:16:1: unknown key `hots` in routes[0]
   |
16 | hots = "shop.example"
   | ^^^^ did you mean `host`?
"#,
    );
}

#[test]
fn a_wrong_type_says_what_is_wanted() {
    check(
        "replicas = 2",
        "replicas = \"two\"",
        r#"
holdfast.toml:11:12: processes.web.replicas: is the text "two"
   |
11 | replicas = "two"
   |            ^^^^^ wants a whole number
"#,
    );
    check(
        "memory = \"256Mi\"",
        "memory = 256",
        r#"
holdfast.toml:9:10: processes.web.memory: is the number `256`
  |
9 | memory = 256
  |          ^^^ wants a whole number and a unit in quotes, as in "256Mi"
"#,
    );
    check(
        "command = [\"/bin/shop\", \"serve\"]",
        "command = \"/bin/shop serve\"",
        r#"
holdfast.toml:8:11: processes.web.command: is the text "/bin/shop serve"
  |
8 | command = "/bin/shop serve"
  |           ^^^^^^^^^^^^^^^^^ wants a list: [ … ]
"#,
    );
    check(
        "replicas = 2",
        "replicas = -1",
        r#"
holdfast.toml:11:12: processes.web.replicas: is the number `-1`
   |
11 | replicas = -1
   |            ^^ wants a whole number from 0 to 1000
"#,
    );
}

#[test]
fn a_size_or_span_without_unit_says_so() {
    check(
        "\"256Mi\"",
        "\"256\"",
        r#"
holdfast.toml:9:10: processes.web.memory: "256" is not a valid size: wants a unit: B, Ki, Mi, Gi or Ti, as in "256Mi"
  |
9 | memory = "256"
  |          ^^^^^
"#,
    );
    check(
        "interval = \"5s\"",
        "interval = \"5\"",
        r#"
holdfast.toml:13:70: processes.web.health.interval: "5" is not a valid duration: wants a whole number and a unit: ms, s, m, h or d, as in "5s"
   |
13 | health = { type = "http", port = "http", path = "/ready", interval = "5", timeout = "1s", grace = "10s" }
   |                                                                      ^^^
"#,
    );
}

#[test]
fn a_word_that_is_none_of_the_values_is_shown_with_the_nearest() {
    check(
        "mode = \"tls\"",
        "mode = \"tsl\"",
        r#"
holdfast.toml:19:8: routes[0].mode: `tsl` is not one of its values
   |
19 | mode = "tsl"
   |        ^^^^^ did you mean `tls`?
"#,
    );
}

#[test]
fn a_missing_key_is_named_with_an_example() {
    check(
        "memory = \"256Mi\"\n",
        "",
        r#"
holdfast.toml:7:1: processes.web has no `memory`, which it needs
  |
7 | [processes.web]
  | ^^^^^^^^^^^^^^^ add memory = "256Mi"
"#,
    );
}

#[test]
fn broken_rules_point_at_the_value() {
    check(
        "replicas = 2",
        "replicas = 0",
        r#"
holdfast.toml:11:12: processes.web.replicas: is 0; wants 1 to 1000 (to stop a process: holdfast scale web=0)
   |
11 | replicas = 0
   |            ^
"#,
    );
    check(
        "replicas = 2",
        "replicas = 1_000_000",
        r#"
holdfast.toml:11:12: processes.web.replicas: is 1000000; wants 1 to 1000 (to stop a process: holdfast scale web=0)
   |
11 | replicas = 1_000_000
   |            ^^^^^^^^^
"#,
    );
    check(
        "process = \"web\"",
        "process = \"wbe\"",
        r#"
holdfast.toml:17:11: routes[0].process: no process "wbe"; there is web
   |
17 | process = "wbe"
   |           ^^^^^
"#,
    );
    check(
        "host = \"shop.example\"\n",
        "",
        r#"
holdfast.toml:15:1: routes[0].host: a tls route needs the host name it answers to
   |
15 | [[routes]]
   | ^^^^^^^^^^
"#,
    );
    check(
        "schema = 1",
        "schema = 2",
        r#"
holdfast.toml:1:10: schema: is 2, and this Holdfast reads schema 1
  |
1 | schema = 2
  |          ^
"#,
    );
}

#[test]
fn what_is_no_toml_is_shown_where_it_breaks() {
    let error = seen("replicas = 2", "replicas = = 2");
    assert!(error.starts_with("holdfast.toml:11:12: this is not TOML: "), "{error}");
    check(
        "replicas = 2",
        "replicas = 2\nreplicas = 3",
        r#"
holdfast.toml:12:1: this key is given twice
   |
12 | replicas = 3
   | ^^^^^^^^
"#,
    );
    let error = parse("m", "schema = 1\napp = \"ä\u{1F600}\" oops").expect_err("bad").to_string();
    assert!(error.starts_with("m:2:12: "), "columns are characters: {error}");
}

#[test]
fn names_and_hosts_are_checked_where_they_stand() {
    check(
        "app = \"shop\"",
        "app = \"Shop\"",
        r#"
holdfast.toml:2:7: app: "Shop" is not a valid name: wants lower-case letters, digits and hyphens only
  |
2 | app = "Shop"
  |       ^^^^^^
"#,
    );
    let error = seen("[processes.web]", "[processes.Web]");
    assert!(
        error.starts_with("holdfast.toml:7:") && error.contains("\"Web\" is not a valid name"),
        "{error}"
    );
}

#[test]
fn an_empty_text_and_any_cut_of_the_good_one_get_an_answer() {
    for end in 0..GOOD.len() {
        if let Err(error) = parse("m", &GOOD[..end]) {
            assert!(error.to_string().starts_with("m:"), "{end}: {error}");
        }
    }
}

#[test]
fn a_layout_beside_the_manifest_becomes_absolute() {
    let home = Path::new("/srv/shop");
    assert_eq!(absolute_reference("oci:./image:v1", home), "oci:/srv/shop/image:v1");
    assert_eq!(absolute_reference("oci:/elsewhere/image", home), "oci:/elsewhere/image");
    assert_eq!(absolute_reference("registry.example/shop:1", home), "registry.example/shop:1");
}

#[test]
fn files_that_cannot_be_a_manifest_get_a_clear_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("holdfast.toml");
    let of = |path: &Path| read(path).expect_err("no manifest").to_string();
    assert!(of(&path).contains("there is no such file"));
    std::fs::write(&path, b"app = \"\xff\"").expect("written");
    assert!(of(&path).contains("byte 7 is not part of a UTF-8 character"));
    std::fs::write(&path, vec![b'#'; limits::MANIFEST_BYTES + 1]).expect("written");
    assert!(of(&path).contains("bytes that a manifest may have"));
    std::fs::write(&path, GOOD.replace("registry.example/shop:1.4", "oci:image:v1")).expect("written");
    let manifest = read(&path).expect("good");
    assert_eq!(manifest.image.reference, format!("oci:{}/image:v1", dir.path().display()));
}

#[test]
fn a_unit_and_a_range_are_told_with_what_is_known() {
    let said = seen("memory = \"256Mi\"", "memory = \"64MB\"");
    assert!(
        said.contains("\"64MB\"") && said.contains("unit is not known; the units are B, Ki, Mi"),
        "{said}"
    );
    let said = seen("port = 8080", "port = 84430");
    assert!(
        said.contains("the number `84430`") && said.contains("wants a whole number from 1 to 65535"),
        "{said}"
    );
    let said = seen("replicas = 2", "replicas = -1");
    assert!(
        said.contains("the number `-1`") && said.contains("wants a whole number from 0 to 1000"),
        "{said}"
    );
}

#[test]
fn an_unknown_table_is_not_said_to_be_in_itself() {
    let said = seen("[processes.web]", "[procesess.web]");
    assert!(said.contains("unknown key `procesess`\n"), "{said}");
    let said = seen("grace = \"10s\" }", "grace = \"10s\", health = 1 }");
    assert!(said.contains("unknown key `health` in processes.web.health\n"), "{said}");
}

#[test]
fn a_manifest_is_a_file_or_standard_input_and_nothing_that_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = read(dir.path()).expect_err("a directory").to_string();
    assert!(said.contains("not a file") && said.contains("-f -"), "{said}");
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    assert!(read(&fifo).expect_err("a pipe without a writer").to_string().contains("not a file"));
    let endless = bounded(std::io::repeat(b'#')).expect("bytes");
    assert_eq!(endless.len(), limits::MANIFEST_BYTES + 1, "no more is read than says that it is too long");
}

#[test]
fn an_image_that_no_server_could_read_is_refused_at_its_line() {
    let good = "registry.example/shop:1.4";
    let said = seen(good, "Registry.Example/SHOP: 1.4");
    assert!(said.starts_with("holdfast.toml:5:7: image.ref: wants registry/name:tag"), "{said}");
    for taken in ["shop", "oci:image:v1", "oci:../image", "[::1]:5000/shop:1", "localhost:5000/shop"] {
        parse("holdfast.toml", &GOOD.replacen(good, taken, 1)).expect(taken);
    }
}
