//! What each role may do: the one place that says so.
//!
//! ```text
//!   token or session ─▶ Role ─▶ Permission ◀─ the table's row
//! ```
//! A row of the table names one [`Permission`]; [`Permission::roles`] names who has it. What is not
//! named there is denied. `docs/access.md` is written from both; a test keeps it equal.
//!
//! `nobody_gives_more_than_they_have`: a role is given, or taken away, only by one that has every
//! permission of it, see [`covers`].

use super::table::{self, Rule, TABLE};
use api::TokenRole;
use domain::Role;
use std::fmt::Write as _;

/// What a route asks of people and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Permission {
    /// Apps and what runs of them, the events of the org, requests, views, the cluster.
    Read,
    /// What instances print: apps say there what they like.
    ReadLogs,
    /// Nodes, and the events of the server as a whole.
    ReadServer,
    /// Who may get in, and what everybody did: tokens, members of the org, audit.
    ReadAccess,
    /// Changes of apps: apply, deploy, scale, restart, roll back, and void a request.
    Deploy,
    /// Work on the machines: nodes, snapshots, backups, views.
    Operate,
    /// Guarded acts.
    Guarded,
    /// Tokens and members of the org.
    Govern,
    /// What everybody may do for itself: its own password, its own tokens, its own session.
    Own,
    /// Another member of the cluster: whoever has one has the whole log and a vote.
    Enlarge,
}

use Permission::{Deploy, Enlarge, Govern, Guarded, Operate, Own, Read, ReadAccess, ReadLogs, ReadServer};

/// The roles of people and programs, from the one that may most.
pub(crate) const PEOPLE: [Role; 6] =
    [Role::Owner, Role::Admin, Role::Operator, Role::Developer, Role::Viewer, Role::Auditor];

impl Permission {
    /// All of them.
    pub(crate) const ALL: [Self; 10] =
        [Read, ReadLogs, ReadServer, ReadAccess, Deploy, Operate, Guarded, Govern, Own, Enlarge];

    /// Who has it.
    pub(crate) const fn roles(self) -> &'static [Role] {
        use Role::{Admin, Auditor, Developer, Operator, Owner, Viewer};
        match self {
            Read | Own => &PEOPLE,
            ReadLogs => &[Owner, Admin, Operator, Developer, Viewer],
            ReadServer => &[Owner, Admin, Operator, Auditor],
            ReadAccess => &[Owner, Admin, Auditor],
            Deploy => &[Owner, Admin, Operator, Developer],
            Operate | Guarded => &[Owner, Admin, Operator],
            Govern => &[Owner, Admin],
            Enlarge => &[Owner],
        }
    }

    /// Whether this role has it.
    pub(crate) fn is_of(self, role: Role) -> bool {
        self.roles().contains(&role)
    }

    /// `owner, admin or operator`, for refusals and the contract.
    pub(crate) fn holders(self) -> String {
        let names: Vec<&str> = self.roles().iter().map(|role| name(*role)).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

/// Whether whoever is `giver` may give `given` to somebody, or take it away.
pub(crate) fn covers(giver: Role, given: Role) -> bool {
    PEOPLE.contains(&given) && Permission::ALL.iter().all(|each| !each.is_of(given) || each.is_of(giver))
}

/// The role as the contract names it; none for those of nodes and of joining.
pub(crate) const fn told(role: Role) -> Option<TokenRole> {
    Some(match role {
        Role::Owner => TokenRole::Owner,
        Role::Admin => TokenRole::Admin,
        Role::Operator => TokenRole::Operator,
        Role::Developer => TokenRole::Developer,
        Role::Viewer => TokenRole::Viewer,
        Role::Auditor => TokenRole::Auditor,
        Role::Join | Role::Node | Role::MemberJoin => return None,
    })
}

/// The role that the contract's word means.
pub(crate) const fn meant(role: TokenRole) -> Role {
    match role {
        TokenRole::Owner => Role::Owner,
        TokenRole::Admin => Role::Admin,
        TokenRole::Operator => Role::Operator,
        TokenRole::Developer => Role::Developer,
        TokenRole::Viewer => Role::Viewer,
        TokenRole::Auditor => Role::Auditor,
    }
}

/// A role in one word.
pub(crate) fn name(role: Role) -> &'static str {
    told(role).map_or("machine", TokenRole::as_str)
}

/// Whether the table lets this role have a method of a path.
pub(crate) fn may(role: TokenRole, method: &str, path: &str) -> bool {
    table::row(method, path).is_some_and(|row| match row.rule {
        Rule::Open => true,
        Rule::May(permission) => permission.is_of(meant(role)),
        Rule::Node => false,
    })
}

/// The roles that this one may give, from the one that may most.
pub(crate) fn given_by(role: TokenRole) -> Vec<TokenRole> {
    TokenRole::ALL.into_iter().filter(|given| covers(meant(role), meant(*given))).collect()
}

/// Routes against roles, as Markdown.
pub fn access() -> String {
    let mut text = String::from(
        "# Who may do what\n\n\
         Written from the table of routes; `UPDATE_ACCESS=1` writes it anew. What is not marked is denied.\n\
         `node` is the credential of a machine, for itself only. `all` wants no credential.\n\n\
         | method | path | what | owner | admin | operator | developer | viewer | auditor | node | all |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let people = PEOPLE.map(|role| matches!(row.rule, Rule::May(permission) if permission.is_of(role)));
        let marks = people.into_iter().chain([row.rule == Rule::Node, row.rule == Rule::Open]);
        let marks: String = marks.map(|may| if may { " yes |" } else { " |" }).collect();
        writeln!(text, "| {} | `{}` | {} |{marks}", row.method, row.path, row.summary)
            .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_are_what_they_are_said_to_be() {
        let has = |role| Permission::ALL.into_iter().filter(|each| each.is_of(role)).collect::<Vec<_>>();
        assert_eq!(has(Role::Owner), Permission::ALL);
        assert_eq!(has(Role::Developer), [Read, ReadLogs, Deploy, Own]);
        assert_eq!(has(Role::Viewer), [Read, ReadLogs, Own]);
        assert_eq!(has(Role::Auditor), [Read, ReadServer, ReadAccess, Own]);
        for machine in [Role::Join, Role::Node, Role::MemberJoin] {
            assert_eq!(has(machine), []);
        }
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        for role in PEOPLE {
            assert!(covers(Role::Owner, role), "{role:?}");
            assert!(covers(role, role), "{role:?}");
            assert_eq!(covers(Role::Admin, role), role != Role::Owner, "{role:?}");
        }
        for (giver, given) in [
            (Role::Operator, Role::Auditor),
            (Role::Developer, Role::Operator),
            (Role::Viewer, Role::Auditor),
            (Role::Auditor, Role::Viewer),
            (Role::Owner, Role::Node),
            (Role::Owner, Role::MemberJoin),
        ] {
            assert!(!covers(giver, given), "{giver:?} {given:?}");
        }
    }
}
