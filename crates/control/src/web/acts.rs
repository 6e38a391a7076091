//! Everything that can be done from a page: the call of the API that does it, and the command of the
//! command line that would do the same.

use super::frame::Place;
use crate::http::leaves_verdict;
use api::{routes as at, shell};
use serde_json::{Map, Value, json};

/// One thing that can be done.
pub(super) struct Act {
    /// Its name in the page's own paths.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// What a person should know before.
    pub(super) note: &'static str,
    /// Where in the menu its answer stands.
    pub(super) place: Place,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The fields that fill the path, in its order; the org is the visitor's.
    pub(super) places: &'static [&'static str],
    pub(super) guarded: Guarded,
    /// What has to be typed to confirm it: the name of what is gone then. Nothing where that is not asked.
    pub(super) typed: fn(&Said) -> String,
    /// The fields that go into the body.
    pub(super) body: &'static [Field],
    /// The words of the command line, from the fields.
    command: fn(&Said) -> Vec<String>,
}

/// Whether an act is explained and confirmed before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    Yes,
    No,
}

/// One field of a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Text(&'static str),
    /// Left out where it is empty.
    Optional(&'static str),
    Number(&'static str),
    /// As typed, blanks and all.
    Secret(&'static str),
    /// Words with blanks between them.
    Words(&'static str),
}

/// What a form says.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(pub(super) Vec<(String, String)>);

impl Said {
    /// The value of a field; nothing where it was not sent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// The same with every blank that was typed.
    fn exactly(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Every value of a field, as typed.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.trim()).collect()
    }
}

impl Act {
    /// The path of the API, filled.
    pub(super) fn path(&self, said: &Said, org: &str) -> String {
        let values: Vec<&str> =
            self.places.iter().map(|name| if *name == ORG { org } else { said.get(name) }).collect();
        at::fill(self.path, &values)
    }

    /// The body of the call.
    pub(super) fn body(&self, said: &Said) -> Value {
        let mut body = Map::new();
        for field in self.body {
            match *field {
                Field::Text(name) => drop(body.insert(name.to_owned(), json!(said.get(name)))),
                Field::Optional(name) if said.get(name).is_empty() => {}
                Field::Optional(name) => drop(body.insert(name.to_owned(), json!(said.get(name)))),
                Field::Secret(name) => drop(body.insert(name.to_owned(), json!(said.exactly(name)))),
                Field::Words(name) => {
                    let words: Vec<&str> = said.get(name).split_whitespace().collect();
                    body.insert(name.to_owned(), json!(words));
                }
                // What is no number is refused by the API, which says where.
                Field::Number(name) => {
                    let text = said.get(name);
                    let value = text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number));
                    body.insert(name.to_owned(), value);
                }
            }
        }
        let acknowledged = said.all(ACKNOWLEDGE);
        if self.guarded == Guarded::Yes && acknowledged.iter().any(|text| !text.is_empty()) {
            body.insert(ACKNOWLEDGE.to_owned(), json!(acknowledged));
        }
        Value::Object(body)
    }

    /// Whether the log tells what became of it, under the id of its request.
    pub(super) fn leaves_verdict(&self) -> bool {
        leaves_verdict(self.method, self.path)
    }

    /// The command line that does the same.
    pub(super) fn command(&self, said: &Said) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in (self.command)(said) {
            match word.is_empty() {
                false => words.push(shell::quoted(&word)),
                // What was left out takes its option with it.
                true => drop(words.pop_if(|option| option.starts_with("--"))),
            }
        }
        format!("holdfast {}", words.join(" "))
    }
}

/// The place of a path that is the visitor's org.
const ORG: &str = "org";
/// The field of a guarded act's acknowledgements.
pub(super) const ACKNOWLEDGE: &str = "acknowledge";

fn words(fixed: &str, said: &[&str]) -> Vec<String> {
    fixed.split(' ').chain(said.iter().copied()).map(str::to_owned).collect()
}

/// The words that name an environment.
fn of_env(mut words: Vec<String>, said: &Said) -> Vec<String> {
    for name in ["app", "env"] {
        words.extend([format!("--{name}"), said.get(name).to_owned()]);
    }
    words
}

/// A write of an environment.
const ENV: Act = Act {
    key: "",
    title: "",
    note: "",
    place: Place::Apps,
    method: "POST",
    path: "",
    places: &[ORG, "app", "env"],
    guarded: Guarded::No,
    typed: |_| String::new(),
    body: &[],
    command: |_| Vec::new(),
};

pub(super) static SCALE: Act = Act {
    key: "scale",
    title: "Scale a process",
    note: "0 stops it. The process's routes then have nobody behind them.",
    path: at::SCALE,
    body: &[Field::Text("process"), Field::Number("replicas")],
    command: |said| {
        of_env(words("scale", &[&format!("{}={}", said.get("process"), said.get("replicas"))]), said)
    },
    ..ENV
};

pub(super) static RESTART: Act = Act {
    key: "restart",
    title: "Restart",
    note: "Each instance is replaced by a fresh one of the same release, one at a time.",
    path: at::RESTART,
    body: &[Field::Optional("process")],
    command: |said| of_env(words("restart", &[said.get("process")]), said),
    ..ENV
};

pub(super) static ROLLBACK: Act = Act {
    key: "rollback",
    title: "Roll back",
    note: "A deploy of an earlier release. What is declared besides (the number of instances) stays.",
    path: at::ROLLBACK,
    body: &[Field::Optional("release")],
    command: |said| of_env(words("rollback", &[said.get("release")]), said),
    ..ENV
};

pub(super) static DEPLOY: Act = Act {
    key: "deploy",
    title: "Deploy another image",
    note: "With the manifest as it is. A tag is pinned to the digest that it has now.",
    path: at::DEPLOY,
    body: &[Field::Text("image")],
    command: |said| of_env(words("deploy --image", &[said.get("image")]), said),
    ..ENV
};

pub(super) static DELETE_ENV: Act = Act {
    key: "delete-env",
    title: "Delete an environment",
    note: "With all it has. Explained first, then confirmed.",
    path: at::ENV_DELETE,
    guarded: Guarded::Yes,
    typed: |said| format!("{}/{}", said.get("app"), said.get("env")),
    body: &[Field::Text("reason")],
    command: |said| {
        words("envs delete", &[said.get("env"), "--app", said.get("app"), "--reason", said.get("reason")])
    },
    ..ENV
};

pub(super) static DELETE_APP: Act = Act {
    key: "delete-app",
    title: "Delete an app",
    note: "With all its environments. Explained first, then confirmed.",
    path: at::APP_DELETE,
    places: &[ORG, "app"],
    guarded: Guarded::Yes,
    typed: |said| said.get("app").to_owned(),
    body: &[Field::Text("reason")],
    command: |said| words("apps delete", &[said.get("app"), "--reason", said.get("reason")]),
    ..ENV
};

/// A write about a machine.
const NODE: Act = Act { place: Place::Nodes, places: &["node"], ..ENV };

pub(super) static DRAIN: Act = Act {
    key: "drain",
    title: "Drain a node",
    note: "It takes no new instances, and the present ones move to other nodes.",
    path: at::NODE_DRAIN,
    command: |said| words("nodes drain", &[said.get("node")]),
    ..NODE
};

pub(super) static ACTIVATE: Act = Act {
    key: "activate",
    title: "Activate a node",
    note: "It takes instances again.",
    path: at::NODE_ACTIVATE,
    command: |said| words("nodes activate", &[said.get("node")]),
    ..NODE
};

pub(super) static DISABLE: Act = Act {
    key: "disable",
    title: "Disable a node",
    note: "What it has is stopped at once, replaced elsewhere or not. Explained first, then confirmed.",
    path: at::NODE_DISABLE,
    guarded: Guarded::Yes,
    typed: |said| said.get("node").to_owned(),
    body: &[Field::Text("reason")],
    command: |said| words("nodes disable", &[said.get("node"), "--reason", said.get("reason")]),
    ..NODE
};

pub(super) static REMOVE_NODE: Act = Act {
    key: "remove-node",
    title: "Remove a node",
    note: "One that is disabled and has nothing; its id is never used again. Explained first, then confirmed.",
    path: at::NODE_REMOVE,
    guarded: Guarded::Yes,
    typed: |said| said.get("node").to_owned(),
    body: &[Field::Text("reason")],
    command: |said| words("nodes remove", &[said.get("node"), "--reason", said.get("reason")]),
    ..NODE
};

pub(super) static JOIN_TOKEN: Act = Act {
    key: "join-token",
    title: "Let a machine become a node",
    note: "Makes a secret that enrols one machine, once. It is shown in the answer and never again.",
    path: at::JOIN_TOKENS,
    places: &[],
    body: &[Field::Text("expires_in")],
    command: |said| words("nodes join-token --expires-in", &[said.get("expires_in")]),
    ..NODE
};

/// A write about tokens.
const TOKEN: Act = Act { place: Place::Tokens, places: &[], ..ENV };

pub(super) static CREATE_TOKEN: Act = Act {
    key: "token",
    title: "Make a token",
    note: "Its secret is shown in the answer and never again.",
    path: at::TOKENS,
    body: &[Field::Text("name"), Field::Text("role"), Field::Text("expires_in")],
    command: |said| {
        let mut words = words("tokens create", &[said.get("name"), "--role", said.get("role")]);
        words.extend(["--expires-in".to_owned(), said.get("expires_in").to_owned()]);
        words
    },
    ..TOKEN
};

pub(super) static REVOKE_TOKEN: Act = Act {
    key: "revoke",
    title: "Revoke a token",
    note: "Whoever holds it is nobody from then on, on open streams too.",
    method: "DELETE",
    path: at::TOKEN,
    places: &["id"],
    command: |said| words("tokens revoke", &[said.get("id")]),
    ..TOKEN
};

pub(super) static CREATE_SERVICE: Act = Act {
    key: "service",
    title: "Make a service principal",
    note: "A token that confirms the guarded acts that its scopes name, and no others. Its secret is shown in the \
           answer and never again.",
    path: at::TOKENS,
    body: &[Field::Text("name"), Field::Text("role"), Field::Words("scopes"), Field::Text("expires_in")],
    command: |said| {
        let mut words = words("tokens create", &[said.get("name"), "--role", said.get("role"), "--service"]);
        for scope in said.get("scopes").split_whitespace() {
            words.extend(["--scope".to_owned(), scope.to_owned()]);
        }
        words.extend(["--expires-in".to_owned(), said.get("expires_in").to_owned()]);
        words
    },
    ..MEMBER
};

/// A write about who may get in.
const MEMBER: Act = Act { place: Place::Members, places: &[], ..ENV };

pub(super) static ADD_MEMBER: Act = Act {
    key: "add-member",
    title: "Add a member",
    note: "Somebody who may log in, with this name and password.",
    path: at::MEMBERS,
    body: &[Field::Text("name"), Field::Text("role"), Field::Secret("password")],
    command: |said| words("members create", &[said.get("name"), "--role", said.get("role")]),
    ..MEMBER
};

pub(super) static SET_ROLE: Act = Act {
    key: "set-role",
    title: "Give a member another role",
    note: "At once, on open pages and streams too.",
    path: at::MEMBER,
    places: &["name"],
    body: &[Field::Text("role")],
    command: |said| words("members set", &[said.get("name"), "--role", said.get("role")]),
    ..MEMBER
};

pub(super) static SET_PASSWORD: Act = Act {
    key: "set-password",
    title: "Give a member another password",
    note: "Whoever is logged in with the old one is not any more.",
    path: at::MEMBER,
    places: &["name"],
    body: &[Field::Secret("password")],
    command: |said| words("members set", &[said.get("name"), "--password"]),
    ..MEMBER
};

pub(super) static LINK_MEMBER: Act = Act {
    key: "link-member",
    title: "Let a member log in by way of a provider",
    note: "Whoever the provider calls by this subject is this member from then on: be sure who it is. Whoever logs \
           in there without being linked is shown both.",
    path: at::MEMBER_IDENTITY,
    places: &["name"],
    body: &[Field::Text("issuer"), Field::Text("subject")],
    command: |said| {
        let linked = [said.get("name"), "--issuer", said.get("issuer"), "--subject", said.get("subject")];
        words("members link", &linked)
    },
    ..MEMBER
};

pub(super) static UNLINK_MEMBER: Act = Act {
    key: "unlink-member",
    title: "Let a member log in by way of no provider",
    note: "Whoever is logged in that way is not any more.",
    method: "DELETE",
    path: at::MEMBER_IDENTITY,
    places: &["name"],
    command: |said| words("members unlink", &[said.get("name")]),
    ..MEMBER
};

pub(super) static REMOVE_MEMBER: Act = Act {
    key: "remove-member",
    title: "Remove a member",
    note: "With its sessions and its tokens. The last owner cannot go.",
    method: "DELETE",
    path: at::MEMBER,
    places: &["name"],
    command: |said| words("members delete", &[said.get("name")]),
    ..MEMBER
};

pub(super) static OWN_PASSWORD: Act = Act {
    key: "own-password",
    title: "Change your password",
    note: "Every session that was opened with the old one ends, this one too.",
    path: at::OWN_PASSWORD,
    body: &[Field::Secret("current"), Field::Secret("password")],
    command: |_| words("members password", &[]),
    ..MEMBER
};

pub(super) static OWN_TOKEN: Act = Act {
    key: "own-token",
    title: "Make a token of your own",
    note: "With at most your role. Its secret is shown in the answer and never again.",
    path: at::OWN_TOKENS,
    body: &[Field::Text("name"), Field::Text("role"), Field::Text("expires_in")],
    command: |said| {
        let mut words = words("login", &[said.get("member"), "--role", said.get("role")]);
        words.extend(["--token-name".to_owned(), said.get("name").to_owned()]);
        words.extend(["--expires-in".to_owned(), said.get("expires_in").to_owned()]);
        words
    },
    ..MEMBER
};

pub(super) static REVOKE_OWN: Act = Act {
    key: "revoke-own",
    title: "Revoke a token of your own",
    note: "Whoever holds it is nobody from then on, on open streams too.",
    method: "DELETE",
    path: at::OWN_TOKEN,
    places: &["id"],
    command: |said| words("tokens revoke", &[said.get("id")]),
    ..MEMBER
};

/// A guarded act on the cluster.
const CLUSTER: Act = Act {
    place: Place::Cluster,
    places: &[],
    guarded: Guarded::Yes,
    body: &[Field::Optional("node"), Field::Text("reason")],
    ..ENV
};

fn on_member(verb: &str, said: &Said) -> Vec<String> {
    words(&format!("cluster {verb}"), &[said.get("node"), "--reason", said.get("reason")])
}

pub(super) static PROMOTE: Act = Act {
    key: "promote",
    title: "Promote a member",
    note: "Where the member that sequenced is gone. Explained first, then confirmed.",
    path: at::CLUSTER_PROMOTE,
    command: |said| on_member("promote", said),
    ..CLUSTER
};

pub(super) static HANDOVER: Act = Act {
    key: "handover",
    title: "Hand the lead over",
    note: "From the member that sequences and lives to another. Explained first, then confirmed.",
    path: at::CLUSTER_HANDOVER,
    command: |said| on_member("handover", said),
    ..CLUSTER
};

pub(super) static FENCE: Act = Act {
    key: "fence",
    title: "Fence a member",
    note: "It sequences nothing until it learns a higher epoch. Explained first, then confirmed.",
    path: at::CLUSTER_FENCE,
    command: |said| on_member("fence", said),
    ..CLUSTER
};

pub(super) static REMOVE: Act = Act {
    key: "remove",
    title: "Remove a member",
    note: "For ever; its id is never used again. Explained first, then confirmed.",
    path: at::CLUSTER_REMOVE,
    typed: |said| said.get("node").to_owned(),
    command: |said| on_member("remove", said),
    ..CLUSTER
};

pub(super) static ADOPT: Act = Act {
    key: "adopt",
    title: "Adopt nodes that hold another log's plans",
    note: "After a restore or a recovery. Explained first, then confirmed.",
    path: at::CLUSTER_ADOPT,
    body: &[Field::Text("reason")],
    command: |said| words("cluster adopt --reason", &[said.get("reason")]),
    ..CLUSTER
};

pub(super) static MEMBER_TOKEN: Act = Act {
    key: "member-token",
    title: "Let a machine become a member",
    note: "Makes a secret that admits one member, once. It is shown in the answer and never again.",
    path: at::CLUSTER_JOIN_TOKENS,
    guarded: Guarded::No,
    body: &[Field::Text("expires_in")],
    command: |said| words("cluster join-token --expires-in", &[said.get("expires_in")]),
    ..CLUSTER
};

pub(super) static SNAPSHOT: Act = Act {
    key: "snapshot",
    title: "Make a snapshot now",
    note: "Of the state, on this member.",
    path: at::CLUSTER_SNAPSHOT,
    guarded: Guarded::No,
    body: &[],
    command: |_| words("cluster snapshot", &[]),
    ..CLUSTER
};

pub(super) static BACKUP: Act = Act {
    key: "backup",
    title: "Make a backup now",
    note: "To where the member that sequences was told to. This page says when it is done.",
    path: at::CLUSTER_BACKUP,
    guarded: Guarded::No,
    body: &[],
    command: |_| words("cluster backup", &[]),
    ..CLUSTER
};

pub(super) static VOID: Act = Act {
    key: "void",
    title: "Void this request",
    note: "It may never run, whenever a copy of it may still arrive.",
    place: Place::Requests,
    path: at::REQUEST_VOID,
    places: &["id"],
    command: |said| words("requests void", &[said.get("id")]),
    ..ENV
};

pub(super) static REBUILD: Act = Act {
    key: "rebuild",
    title: "Fold a view anew and compare",
    note: "From the first event on. The view that readers see goes on meanwhile.",
    place: Place::Views,
    path: at::VIEW_REBUILD,
    places: &["name"],
    command: |said| words("views rebuild", &[said.get("name")]),
    ..ENV
};

static ALL: &[&Act] = &[
    &SCALE,
    &RESTART,
    &ROLLBACK,
    &DEPLOY,
    &DELETE_ENV,
    &DELETE_APP,
    &DRAIN,
    &ACTIVATE,
    &DISABLE,
    &REMOVE_NODE,
    &JOIN_TOKEN,
    &CREATE_TOKEN,
    &REVOKE_TOKEN,
    &CREATE_SERVICE,
    &ADD_MEMBER,
    &SET_ROLE,
    &SET_PASSWORD,
    &LINK_MEMBER,
    &UNLINK_MEMBER,
    &REMOVE_MEMBER,
    &OWN_PASSWORD,
    &OWN_TOKEN,
    &REVOKE_OWN,
    &PROMOTE,
    &HANDOVER,
    &FENCE,
    &REMOVE,
    &ADOPT,
    &MEMBER_TOKEN,
    &SNAPSHOT,
    &BACKUP,
    &VOID,
    &REBUILD,
];

/// The act of this name.
pub(super) fn find(key: &str) -> Option<&'static Act> {
    ALL.iter().copied().find(|act| act.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Said {
        Said(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn an_act_is_a_call_and_a_command() {
        let form = said(&[("app", "shop"), ("env", "prod"), ("process", "web"), ("replicas", " 3 ")]);
        assert_eq!(SCALE.path(&form, "main"), "/v1/orgs/main/apps/shop/envs/prod/scale");
        assert_eq!(SCALE.body(&form), json!({ "process": "web", "replicas": 3 }));
        assert_eq!(SCALE.command(&form), "holdfast scale web=3 --app shop --env prod");
        let form = said(&[("app", "shop"), ("env", "prod"), ("process", "")]);
        assert_eq!(RESTART.body(&form), json!({}));
        assert_eq!(RESTART.command(&form), "holdfast restart --app shop --env prod");
        let form = said(&[("app", "shop"), ("env", "prod"), ("reason", "over")]);
        assert_eq!(DELETE_ENV.command(&form), "holdfast envs delete prod --app shop --reason over");
        assert_eq!((DELETE_ENV.typed)(&form), "shop/prod");
        assert_eq!(DELETE_APP.path(&form, "main"), "/v1/orgs/main/apps/shop/delete");
        let form = said(&[("app", "shop"), ("env", "prod"), ("reason", " ")]);
        assert_eq!(DELETE_APP.command(&form), "holdfast apps delete shop", "no reason, no option");
        assert_eq!(DELETE_ENV.command(&form), "holdfast envs delete prod --app shop");
        let form = said(&[("node", "two"), ("reason", "it's gone"), ("acknowledge", "lost: 3")]);
        let body = json!({ "node": "two", "reason": "it's gone", "acknowledge": ["lost: 3"] });
        assert_eq!(PROMOTE.body(&form), body);
        assert_eq!(PROMOTE.command(&form), r"holdfast cluster promote two --reason 'it'\''s gone'");
        assert_eq!(FENCE.body(&form), body);
        assert_eq!(
            FENCE.command(&form),
            r"holdfast cluster fence two --reason 'it'\''s gone'",
            "the same one"
        );
    }

    #[test]
    fn a_field_never_becomes_another_path() {
        let form = said(&[("node", "../../x?y")]);
        assert_eq!(DRAIN.path(&form, "main"), "/v1/nodes/..%2F..%2Fx%3Fy/drain");
    }

    #[test]
    fn every_act_has_a_name_of_its_own_and_as_many_fields_as_its_path_has_places() {
        for act in ALL {
            assert!(std::ptr::eq(find(act.key).expect("it is found"), *act), "{}", act.key);
            assert_eq!(act.path.matches('{').count(), act.places.len(), "{}", act.key);
            let is_known = crate::http::may(api::TokenRole::Owner, act.method, act.path);
            assert!(is_known, "{}: the API has no {} {}", act.key, act.method, act.path);
            let takes_away = act.guarded == Guarded::Yes
                && ["Delete", "Disable", "Remove"].iter().any(|word| act.title.starts_with(word));
            let names = said(&[("app", "a"), ("env", "e"), ("node", "n"), ("name", "m")]);
            assert_eq!(!(act.typed)(&names).is_empty(), takes_away, "{}: what is gone is typed", act.key);
            let (path, name) = act.place.link();
            assert!(path.starts_with('/') && !name.is_empty(), "{}", act.key);
            assert!(
                !act.title.is_empty() && !act.note.is_empty() && !act.command(&Said::default()).is_empty()
            );
        }
    }
}
