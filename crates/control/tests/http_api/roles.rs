//! Every route of the table against every role: who may is let in, everybody else is refused, and
//! nothing comes of what was refused.

use crate::{access::everything, world::*};
use api::{ClientError, Code, Receipt, TokenRequest, TokenRole, routes};
use std::{collections::BTreeSet, fs, path::Path};
use types::DurationMs;

/// A token of this role, made by another.
async fn made(world: &World, by: &str, role: TokenRole) -> Result<Receipt, ClientError> {
    let expires_in = DurationMs::from_secs(3600);
    let request = TokenRequest { name: name(role.as_str()), role, org: None, expires_in, scopes: None };
    world.client(by).create_token(world.id(), &request).await
}

async fn secret(world: &World, role: TokenRole) -> String {
    made(world, OWNER, role).await.expect("an owner may").result.secret.expect("a secret")
}

/// Method and path of each route that the page says this column may use.
fn of_column(column: &str) -> BTreeSet<(String, String)> {
    let page = holdfast_control::access();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = page.lines().filter(|line| line.starts_with('|'));
    let head = cells(lines.next().expect("a head"));
    let at = head.iter().position(|cell| cell == column).expect("a column");
    let rows = lines.skip(1).map(cells).filter(|row| row[at] == "yes");
    rows.map(|row| (row[1].clone(), row[2].trim_matches('`').to_owned())).collect()
}

#[tokio::test]
async fn the_page_says_who_may_do_what() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/access.md");
    let written = holdfast_control::access();
    if std::env::var_os("UPDATE_ACCESS").is_some() {
        fs::write(&path, &written).expect("docs can be written");
    }
    let copy = fs::read_to_string(&path).expect("docs/access.md; UPDATE_ACCESS=1 makes it");
    assert!(copy == written, "docs/access.md is not what the table says; UPDATE_ACCESS=1 writes it anew");
}

#[tokio::test]
async fn each_role_gets_in_where_the_page_says_and_nowhere_else() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let open = of_column("all");
    let mut secrets = Vec::new();
    for role in TokenRole::ALL {
        secrets.push((role, secret(&world, role).await));
    }
    let head = world.core.head().event;
    for (role, secret) in &secrets {
        let may = of_column(role.as_str());
        for (method, path, url) in everything("main") {
            let key = (method.clone(), path.to_owned());
            if open.contains(&key) || may.contains(&key) {
                continue;
            }
            let request = world.bare(&method, &url).bearer_auth(secret);
            let (status, problem) =
                problem(request.header(routes::IDEMPOTENCY_KEY, world.id().to_string())).await;
            assert_eq!((status, problem.code), (403, Code::Forbidden), "{role} {method} {path}");
        }
    }
    assert_eq!(world.core.head().event, head, "nothing came of what was refused");
    for (role, secret) in &secrets {
        let may = of_column(role.as_str());
        for (method, path, url) in everything("main") {
            // What is one's own is nobody's with a token that belongs to no person: tried with people.
            if !may.contains(&(method.clone(), path.to_owned())) || path.starts_with("/v1/whoami/") {
                continue;
            }
            // Without a body and a request id nothing comes of a write; that it got in is what counts.
            let answer = world.bare(&method, &url).bearer_auth(secret).send().await.expect("an answer");
            assert!(![401, 403].contains(&answer.status().as_u16()), "{role} {method} {path}");
        }
    }
}

#[tokio::test]
async fn nobody_gives_or_takes_more_than_they_have() {
    let world = World::start().await;
    let admin = secret(&world, TokenRole::Admin).await;
    for role in TokenRole::ALL {
        let given = made(&world, &admin, role).await;
        assert_eq!(given.is_ok(), role != TokenRole::Owner, "{role}");
    }
    let tokens = world.owner().tokens().await.expect("tokens");
    let of = |role: TokenRole| tokens.iter().find(|row| row.role == role && !row.revoked).expect("one").id;
    let client = world.client(&admin);
    let refused = client.revoke_token(world.id(), of(TokenRole::Owner)).await.expect_err("an owner's");
    assert_eq!(refused.code(), Some(Code::Forbidden));
    client.revoke_token(world.id(), of(TokenRole::Auditor)).await.expect("an auditor's");
}

#[tokio::test]
async fn a_developer_deploys_and_an_auditor_reads_what_was_done() {
    let world = World::start().await;
    let developer = world.client(&secret(&world, TokenRole::Developer).await);
    let auditor = world.client(&secret(&world, TokenRole::Auditor).await);
    let request = shop("registry.test/shop:1");
    developer.apply(&name("main"), world.id(), &request).await.expect("applied");
    let kinds = |page: api::EventPage| page.events.into_iter().map(|row| row.kind).collect::<BTreeSet<_>>();
    let seen = kinds(auditor.events(api::EventsQuery::default()).await.expect("events"));
    assert!(["deploy.started", "token.created", "node.enrolled"].iter().all(|kind| seen.contains(*kind)));
    let theirs = kinds(developer.events(api::EventsQuery::default()).await.expect("events"));
    assert!(theirs.contains("deploy.started"));
    assert!(!theirs.contains("token.created") && !theirs.contains("node.enrolled"), "{theirs:?}");
    let refused = auditor.apply(&name("main"), world.id(), &request).await.expect_err("reads only");
    assert_eq!(refused.code(), Some(Code::Forbidden));
    let who = auditor.whoami().await.expect("an answer");
    assert_eq!(who.role, TokenRole::Auditor);
}
