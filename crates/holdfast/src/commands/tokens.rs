//! `tokens` and `whoami`.

use super::{follow, write};
use crate::{
    args::{Global, TokensVerb},
    context::Context,
    failure::Failure,
    output::{self, Form, or_dash},
};
use api::{TokenRequest, TokenRow};
use tokio::time::Instant;

/// Lists, makes, revokes.
pub async fn run(context: &Context, global: &Global, verb: Option<TokensVerb>) -> Result<(), Failure> {
    let since = Instant::now();
    let done = match verb.unwrap_or(TokensVerb::List) {
        TokensVerb::List => return list(context).await,
        TokensVerb::Create { name, role, expires_in, service, scope } => {
            // Bound to an org only if one was named here: the remembered org is a convenience for
            // reading, and must not quietly decide what a secret may do.
            let scopes = (service || !scope.is_empty()).then_some(scope);
            let request = TokenRequest { name, role, org: global.org.clone(), expires_in, scopes };
            write::send(context, async |client, id| client.create_token(id, &request).await).await?
        }
        TokensVerb::Revoke { token } => {
            write::send(context, async |client, id| client.revoke_token(id, token).await).await?
        }
    };
    follow::finish(context, None, done, since).await
}

async fn list(context: &Context) -> Result<(), Failure> {
    let rows = context.client.tokens().await.map_err(Failure::of_read)?;
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                row.name.to_string(),
                row.role.to_string(),
                or_dash(row.org.as_ref()),
                row.expires.map_or_else(|| "never".to_owned(), output::time),
                if row.revoked { "revoked" } else { "" }.to_owned(),
                whose(row),
            ]
        })
        .collect();
    output::table(&["TOKEN", "NAME", "ROLE", "ORG", "EXPIRES", "", "WHOSE"], &rows, "no tokens");
    Ok(())
}

/// The member that a token belongs to, or what a service principal may confirm.
fn whose(row: &TokenRow) -> String {
    match (&row.member, &row.scopes) {
        (Some(member), _) => member.to_string(),
        (None, Some(scopes)) if scopes.is_empty() => "service".to_owned(),
        (None, Some(scopes)) => format!("service: {}", scopes.join(", ")),
        (None, None) => String::new(),
    }
}

/// Who the token is.
pub async fn whoami(context: &Context) -> Result<(), Failure> {
    let answer = context.client.whoami().await.map_err(Failure::of_read)?;
    match context.form {
        Form::Json => output::json(&answer),
        Form::Text => {
            let org = answer.org.as_ref().map_or_else(|| "every org".to_owned(), ToString::to_string);
            let expires = answer.expires.map_or_else(|| "it is revoked".to_owned(), output::time);
            let name = answer.member.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            output::line(&format!("{}{name} is {} of {org} until {expires}", answer.principal, answer.role));
        }
    }
    Ok(())
}
