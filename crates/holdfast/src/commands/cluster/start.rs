//! `holdfast cluster init` and `join`: what makes a data directory a member. Both work on the disk,
//! and both may be run again.

use crate::{
    args::member::{InitArgs, JoinArgs, PlaceArgs},
    context::{DEFAULT_ORG, DEFAULT_SERVER},
    failure::Failure,
    output::{self, Form},
    roles::{cannot_start_server, host_name, owner, process},
};
use api::{Code, Fingerprint, Place, Problem};
use control::cluster::{Invitation, JoinError, Joined, Settings, join as ask};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use types::NodeId;

#[derive(Serialize)]
struct Made<'a> {
    cluster: &'a str,
    node: NodeId,
    /// It had been one before.
    before: bool,
    /// What the API of every member is known by over TLS.
    fingerprint: Option<String>,
}

/// `holdfast cluster init`
pub async fn init(args: InitArgs, form: Form) -> Result<(), Failure> {
    let data_dir = process::data_dir(&args.place.data_dir)?;
    let known = Settings::load(&data_dir).map_err(|error| unusable(&error))?;
    let mut settings = settings(&args.place, known)?;
    settings.failover = args.failover.unwrap_or(settings.failover);
    settings.election_ms = args.election_ms.unwrap_or(settings.election_ms);
    settings.check().map_err(|why| Failure::usage(why, "holdfast cluster init --help"))?;
    let org = DEFAULT_ORG.parse().expect("a valid name");
    let made = control::init(&data_dir, org, &settings).await;
    let made = made.map_err(|error| cannot_start_server(&error, &data_dir))?;
    if let Some(secret) = &made.owner {
        owner::hand_over(DEFAULT_SERVER, secret.reveal(), &data_dir);
    }
    let (dir, again) = (data_dir.display(), if made.before { "; its log is as it was" } else { "" });
    output::note(&format!("{dir} is member {} of cluster {}{again}", made.node, made.cluster));
    output::note(&format!("start it:         holdfast server --data-dir {dir}"));
    output::note("let another join: holdfast cluster join-token");
    let fingerprint = made.pin.map(|pin| pin.to_string());
    if let Some(fingerprint) = &fingerprint {
        output::note(&format!("known over TLS:   https://HOST:PORT#{fingerprint}"));
    }
    say(form, &Made { cluster: &made.cluster, node: made.node, before: made.before, fingerprint });
    Ok(())
}

/// `holdfast cluster join`
pub async fn join(args: JoinArgs, form: Form) -> Result<(), Failure> {
    let invitation: Invitation = args
        .secret
        .parse()
        .map_err(|why: String| Failure::usage(why, "holdfast cluster join-token, at a member"))?;
    let data_dir = process::data_dir(&args.place.data_dir)?;
    let known = Settings::load(&data_dir).map_err(|error| unusable(&error))?;
    let settings = settings(&args.place, known)?;
    if settings.peer.is_empty() {
        return Err(Failure::usage("the other members must reach this one", "--peer HOST:PORT"));
    }
    let joined = ask(&data_dir, settings, !args.read_only, &args.address, &invitation).await;
    let Joined { cluster, node, before } = joined.map_err(|error| not_joined(&error))?;
    let (dir, again) = (data_dir.display(), if before { ", and was before" } else { "" });
    output::note(&format!("{dir} is member {node} of cluster {cluster}{again}"));
    output::note(&format!("start it: holdfast server --data-dir {dir}"));
    let fingerprint = Some(Fingerprint(invitation.authority).to_string());
    say(form, &Made { cluster: &cluster, node, before, fingerprint });
    Ok(())
}

fn say(form: Form, made: &Made<'_>) {
    match form {
        Form::Json => output::json(made),
        Form::Text => output::line(&made.node.to_string()),
    }
}

/// What is asked for, over what is there already.
fn settings(args: &PlaceArgs, known: Option<Settings>) -> Result<Settings, Failure> {
    let mut settings = known.unwrap_or_default();
    if let Some(name) = &args.name {
        settings.name = name.to_string();
    }
    if settings.name.is_empty() {
        settings.name = host_name().to_string();
    }
    if let Some(peer) = &args.peer {
        settings.listen = Some(listen(peer)?);
        settings.peer.clone_from(peer);
    }
    settings.listen = args.peer_listen.or(settings.listen);
    if let Some(api) = &args.api {
        let way_on = "--api https://HOST:PORT: what is not on a loopback address is served over TLS";
        settings.api =
            api.parse::<Place>().map_err(|why| Failure::usage(format!("--api {api}: {why}"), way_on))?.url;
    }
    settings.check().map_err(|why| Failure::usage(why, "holdfast cluster --help"))?;
    Ok(settings)
}

/// Where one listens that is reached there: at that very address, or at every one if it has a name.
fn listen(peer: &str) -> Result<SocketAddr, Failure> {
    if let Ok(address) = peer.parse::<SocketAddr>() {
        return Ok(address);
    }
    let port = peer.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port =
        port.ok_or_else(|| Failure::usage(format!("{peer:?} is not HOST:PORT"), "--peer one.example:7071"))?;
    Ok(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port))
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::cannot_start(process::whole(error), None)
}

fn not_joined(error: &JoinError) -> Failure {
    let (code, hint) = match error {
        JoinError::Refused(_) => {
            (Code::Conflict, "holdfast cluster join-token, at a member, makes a new secret")
        }
        JoinError::NoAnswer(_) => {
            (Code::Unavailable, "run the same command again: it asks with the same request")
        }
        JoinError::Unclear(_) => (
            Code::UnknownOutcome,
            "run the same command again: it asks with the same request, and finishes it",
        ),
        JoinError::Taken { .. } => (Code::Conflict, "--data-dir DIR with one that is empty"),
        _ => return unusable(error),
    };
    Problem::new(code, process::whole(error)).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_listens_where_it_is_reached() {
        let at = |peer| listen(peer).map(|address| address.to_string()).map_err(|failure| failure.exit);
        assert_eq!(at("10.0.0.1:7071"), Ok("10.0.0.1:7071".into()));
        assert_eq!(at("[::1]:7071"), Ok("[::1]:7071".into()));
        assert_eq!(at("one.example:7071"), Ok("0.0.0.0:7071".into()));
        assert_eq!(at("one.example"), Err(2));
    }

    #[test]
    fn a_join_in_doubt_is_unknown_and_one_that_was_not_heard_is_not_executed() {
        let exit = |error| not_joined(&error).exit;
        assert_eq!(exit(JoinError::Unclear("no answer".into())), 7);
        assert_eq!(exit(JoinError::NoAnswer("nobody is there".into())), 6);
        assert_eq!(exit(JoinError::Refused("the secret was used".into())), 5);
    }
}
