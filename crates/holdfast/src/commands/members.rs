//! `members`, who may log in, `login` and `logout`.

use super::{follow, write};
use crate::{
    args::people::{LoginArgs, MembersVerb},
    context::{Context, Saved, saved_path},
    failure::Failure,
    output::{self, Form},
    password,
};
use api::{
    ClientError, Code, LoginRequest, Outcome, OwnTokenRequest, PasswordChange, PersonChange, PersonIdentity,
    PersonRequest, Problem,
};
use tokio::time::Instant;
use types::{Name, RequestId};

/// Lists, adds, changes, removes.
pub async fn run(context: &Context, verb: Option<MembersVerb>) -> Result<(), Failure> {
    let since = Instant::now();
    let done = match verb.unwrap_or(MembersVerb::List) {
        MembersVerb::List => return list(context).await,
        MembersVerb::Create { name, role, no_password } => {
            let asked = (!no_password).then(|| password::ask_new(&format!("password of {name}: ")));
            let password = asked.transpose()?;
            let request = PersonRequest { name, role, password };
            write::send(context, async |client, id| client.create_member(id, &request).await).await?
        }
        MembersVerb::Set { name, role, password } => {
            if role.is_none() && !password {
                let what = "nothing was asked for: name a role, or --password to be asked for one";
                return Err(Failure::usage(what, format!("holdfast members set {name} --password")));
            }
            let asked = password.then(|| password::ask_new(&format!("new password of {name}: ")));
            let change = PersonChange { role, password: asked.transpose()? };
            write::send(context, async |client, id| client.set_member(id, &name, &change).await).await?
        }
        MembersVerb::Delete { name } => {
            write::send(context, async |client, id| client.delete_member(id, &name).await).await?
        }
        MembersVerb::Link { name, issuer, subject } => {
            let identity = PersonIdentity { issuer, subject };
            write::send(context, async |client, id| client.link_member(id, &name, &identity).await).await?
        }
        MembersVerb::Unlink { name } => {
            write::send(context, async |client, id| client.unlink_member(id, &name).await).await?
        }
        MembersVerb::Password => {
            let current = password::ask("present password: ")?;
            let change = PasswordChange { current, password: password::ask_new("new password: ")? };
            let done =
                write::send(context, async |client, id| client.change_password(id, &change).await).await?;
            if context.form == Form::Text {
                output::note(
                    "your sessions and tokens ended with the old one; next: holdfast login NAME --replace",
                );
            }
            done
        }
    };
    follow::finish(context, None, done, since).await
}

async fn list(context: &Context) -> Result<(), Failure> {
    let rows = context.client.members().await.map_err(Failure::of_read)?;
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let cells = rows.iter().map(|row| {
        let identity = row.identity.as_ref().map(|linked| format!("{} at {}", linked.subject, linked.issuer));
        let ways: Vec<String> =
            row.password.then(|| "password".to_owned()).into_iter().chain(identity).collect();
        vec![
            row.name.to_string(),
            row.role.to_string(),
            ways.join(", "),
            row.tokens.to_string(),
            output::time(row.added),
            row.id.to_string(),
        ]
    });
    let none = "no members; add one with: holdfast members create NAME --role ROLE";
    output::table(
        &["MEMBER", "ROLE", "LOGS IN WITH", "TOKENS", "ADDED", "ID"],
        &cells.collect::<Vec<_>>(),
        none,
    );
    Ok(())
}

/// Asks for the password, makes a token of the member's own, and saves it for the commands that follow.
/// The session it takes for that ends at once.
pub async fn login(context: &Context, args: LoginArgs) -> Result<(), Failure> {
    let Some(path) = saved_path() else {
        let hint = "name a file with HOLDFAST_CONFIG";
        return Err(Failure::usage("there is no place to save a token in", hint));
    };
    let mut saved = Saved::load(Some(&path))?;
    if saved.token.is_some() && !args.replace {
        let what = format!("{} has a token already, which may be the only copy", path.display());
        let hint = format!(
            "holdfast logout, another file in HOLDFAST_CONFIG, or: holdfast login {} --replace",
            args.name
        );
        return Err(Failure::usage(what, hint));
    }
    let password = password::ask(&format!("password of {}: ", args.name))?;
    let request = LoginRequest { name: args.name.to_string(), password };
    let session = context.client.login(&request).await.map_err(Failure::of_read)?;
    let token = OwnTokenRequest { name: args.token_name, role: args.role, expires_in: args.expires_in };
    let id = context.intent();
    let made = session.create_token(id, &token).await;
    let (who, ended) = (session.answer.clone(), session.logout().await);
    if let Err(error) = ended {
        output::note(&format!("the session is still open and ends by itself: {error}"));
    }
    let receipt = made.map_err(|error| not_made(&error, id, &args.name))?;
    let Some(secret) = receipt.result.secret else {
        let what = format!("request {id} made a token before, and its secret was in that answer only");
        let failed = Problem::new(Code::Conflict, what).with_outcome(Outcome::Executed).with_request(id);
        return Err(failed.with_hint(format!("holdfast login {} (without --request-id)", args.name)).into());
    };
    saved.server = Some(context.client.server());
    saved.token = Some(secret);
    saved.save(&path).map_err(|error| {
        let what = format!("the token cannot be saved in {}: {error}", path.display());
        Failure::usage(what, "name another file with HOLDFAST_CONFIG and log in again")
    })?;
    match context.form {
        Form::Json => output::json(&who),
        Form::Text => {
            output::line(&format!("{} is logged in as {} until the token ends", who.name, who.role))
        }
    }
    Ok(())
}

/// No token came. One may have been made all the same: nobody has its secret, and it ends by itself.
fn not_made(error: &ClientError, id: RequestId, name: &Name) -> Failure {
    match error {
        ClientError::Unknown { .. } | ClientError::BadAnswer { .. } => {
            let what = format!("{error}; whether a token was made is not known, and nobody has its secret");
            Problem::new(Code::UnknownOutcome, what)
                .with_request(id)
                .with_hint(format!(
                    "holdfast login {name} (the other token, if there is one, ends by itself)"
                ))
                .into()
        }
        ClientError::Problem(problem) => Failure::of_write(problem.clone()),
        ClientError::NotSent { .. } => Failure::not_executed(error, id),
    }
}

/// Revokes the token of the member's own that is in use, and forgets it.
pub async fn logout(context: &Context) -> Result<(), Failure> {
    let since = Instant::now();
    let who = context.client.whoami().await.map_err(Failure::of_read)?;
    let Some(token) = who.token else {
        return Err(Failure::usage("there is no token to revoke", "holdfast whoami"));
    };
    let done = write::send(context, async |client, id| client.revoke_own_token(id, token).await).await?;
    if let Some(path) = saved_path() {
        let mut saved = Saved::load(Some(&path))?;
        saved.token = None;
        saved.save(&path).map_err(|error| {
            let what = format!("the token is revoked, and {} still names it: {error}", path.display());
            Failure::usage(what, format!("rm {}", path.display()))
        })?;
    }
    follow::finish(context, None, done, since).await
}
