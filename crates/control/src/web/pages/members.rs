//! Who may get in: members with a name and a password, service principals, and oneself.

use super::{more, rows};
use crate::web::{
    acts::{self, Act},
    forms::{self, Input},
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::{Answer, Visit},
};
use api::{Page, PersonIdentity, PersonRow, TokenRow, routes};
use axum::response::Response;
use maud::{Markup, html};
use types::{Name, Timestamp, limits};

/// What a visitor may see of it.
struct Found {
    /// None for whom the API tells nothing of others.
    people: Option<Page<PersonRow>>,
    /// The same.
    services: Option<Vec<TokenRow>>,
    /// None for whoever is no member.
    own: Option<Vec<TokenRow>>,
}

/// `GET /members`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let content = collect(&visit).await.map(|found| {
        html! {
            h1 { "Members" }
            (you(&visit))
            @if let Some(own) = &found.own { (tokens("own", "Tokens of your own", own, visit.now)) }
            (others(&found, visit.now))
            @if let Some(people) = &found.people { (more(&visit, people.next.as_deref())) }
            (change(&visit, &found))
        }
    });
    visit.page(Place::Members, "Members", Renewed::ByEvents, content)
}

async fn collect(visit: &Visit) -> Answer<Found> {
    let people = match visit.may("GET", routes::MEMBERS) {
        true => Some(rows::<PersonRow>(visit, routes::MEMBERS).await?),
        false => None,
    };
    let services = match visit.may("GET", routes::TOKENS) {
        true => {
            let all: Page<TokenRow> = visit.get(&limited(routes::TOKENS)).await?;
            Some(all.rows.into_iter().filter(|token| token.scopes.is_some()).collect())
        }
        false => None,
    };
    let own = match visit.who.member {
        Some(_) => Some(visit.get::<Page<TokenRow>>(&limited(routes::OWN_TOKENS)).await?.rows),
        None => None,
    };
    Ok(Found { people, services, own })
}

fn limited(path: &str) -> String {
    format!("{path}?limit={}", limits::PAGE_ROWS)
}

fn you(visit: &Visit) -> Markup {
    let who = &visit.who;
    html! {
        section aria-labelledby="you-heading" {
            h2 #you-heading { "You" }
            dl {
                dt { "Logged in" }
                dd { @match (&who.member, who.has_session) {
                    (Some(name), true) => { "as " (name) ", with a password or by way of a provider" }
                    (Some(name), false) => { "as " (name) ", with a token" }
                    (None, _) => "with a token that is nobody's who could log in",
                } }
                dt { "Role" } dd { (parts::or_dash(who.role)) }
                dt { "Known to events as" } dd { span .id { (who.principal) } }
                dt { "This session ends" }
                dd {
                    "when you log out, after " (parts::span(limits::SESSION_IDLE.as_ms())) " without a visit, and after "
                    (parts::span(limits::SESSION_LIFE.as_ms())) " at the latest"
                }
            }
        }
    }
}

fn others(found: &Found, now: Timestamp) -> Markup {
    html! {
        @match &found.people {
            Some(people) => (table(&people.rows, now)),
            None => p { "Who else may log in is not told to this login." },
        }
        @if let Some(services) = &found.services {
            (tokens("services", "Service principals", services, now))
        }
    }
}

fn table(rows: &[PersonRow], now: Timestamp) -> Markup {
    let row = |person: &PersonRow| {
        vec![
            html! { (person.name) },
            html! { (person.role) },
            ways(person),
            html! { (person.tokens) },
            parts::time(person.added, now),
            html! { span .id { (person.id) } },
        ]
    };
    Table {
        id: "members",
        caption: "Members, who may log in",
        headings: &["Name", "Role", "Logs in with", "Living tokens", "Added", "Id"],
        rows: rows.iter().map(row).collect(),
        empty: "there is none: whoever is here has a token",
    }
    .show()
}

/// What a member may log in with; nothing, for one whose link was taken away.
fn ways(person: &PersonRow) -> Markup {
    match (person.password, &person.identity) {
        (true, None) => html! { "a password" },
        (false, None) => html! { "nothing" },
        (password, Some(PersonIdentity { issuer, subject })) => html! {
            @if password { "a password, or " }
            "as " span .id { (subject) } " at " (issuer)
        },
    }
}

fn tokens(id: &str, caption: &str, rows: &[TokenRow], now: Timestamp) -> Markup {
    let row = |token: &TokenRow| {
        let scopes = token.scopes.as_deref().unwrap_or_default();
        vec![
            html! { (token.name) },
            html! { (token.role) },
            html! { @if scopes.is_empty() { "nothing" } @else { (scopes.join(", ")) } },
            parts::time(token.created, now),
            parts::maybe_time(token.expires, now, "never"),
            parts::state_of(token, now),
            html! { span .id { (token.id) } },
        ]
    };
    Table {
        id,
        caption,
        headings: &["Name", "Role", "Confirms by itself", "Made", "Ends", "State", "Id"],
        rows: rows.iter().map(row).collect(),
        empty: "there are none",
    }
    .show()
}

fn change(visit: &Visit, found: &Found) -> Markup {
    let roles = visit.gives();
    let people = found.people.as_ref().map(|people| people.rows.as_slice()).unwrap_or_default();
    let people: Vec<(String, String)> =
        people.iter().map(|row| (row.name.to_string(), format!("{} ({})", row.name, row.role))).collect();
    let own: Vec<(String, String)> = found
        .own
        .iter()
        .flatten()
        .filter(|token| !token.revoked)
        .map(|token| (token.id.to_string(), format!("{} ({})", token.name, token.id)))
        .collect();
    let which = || Input::choice("name", "Member", &people);
    let role = || Input::choice("role", "Role", &roles);
    let name = || Input::text("name", "Name", "");
    let password = || Input::secret("password", "New password", "new-password");
    let life = |value| Input::text("expires_in", "How long it lives", value);
    let mut offered: Vec<(&Act, Vec<Input<'_>>)> = Vec::new();
    if visit.who.member.is_some() {
        let current = Input::secret("current", "Present password", "current-password");
        offered.push((&acts::OWN_PASSWORD, vec![current, password()]));
        if visit.who.has_session {
            offered.push((&acts::OWN_TOKEN, vec![name(), role(), life("12h")]));
        }
        if !own.is_empty() {
            offered.push((&acts::REVOKE_OWN, vec![Input::choice("id", "Token", &own)]));
        }
    }
    offered.push((&acts::ADD_MEMBER, vec![name(), role(), password()]));
    if !people.is_empty() {
        offered.push((&acts::SET_ROLE, vec![which(), role()]));
        offered.push((&acts::SET_PASSWORD, vec![which(), password()]));
        let issuer = Input::text("issuer", "The provider's URL", "");
        offered.push((&acts::LINK_MEMBER, vec![which(), issuer, Input::text("subject", "Subject", "")]));
        offered.push((&acts::UNLINK_MEMBER, vec![which()]));
        offered.push((&acts::REMOVE_MEMBER, vec![which()]));
    }
    let scopes = Input::text("scopes", "Scopes, with blanks between them", "confirm:cluster.promote");
    offered.push((&acts::CREATE_SERVICE, vec![name(), role(), scopes, life("90d")]));
    let member = visit.who.member.as_ref().map_or("", Name::as_str);
    forms::section(visit, &offered, &[("member", member)])
}
