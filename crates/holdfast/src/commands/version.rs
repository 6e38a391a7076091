//! `version`: what runs here and, if a server answers, there.

use crate::{
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Both {
    version: &'static str,
    server: Option<api::Version>,
}

/// Prints both. A server that does not answer is no failure: the question was what runs here.
pub async fn run(context: &Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let asked = context.client.version().await;
    if context.form == Form::Json {
        output::json(&Both { version, server: asked.ok() });
        return Ok(());
    }
    output::line(&format!("holdfast {version}"));
    match asked {
        Ok(server) => {
            output::line(&format!(
                "server {} (API {}, cluster {})",
                server.version, server.api, server.cluster
            ));
        }
        Err(error) => output::note(&format!("server unknown: {error}")),
    }
    Ok(())
}
