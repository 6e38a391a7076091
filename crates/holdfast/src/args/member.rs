//! `holdfast cluster init` and `join`: what makes a directory a member.

use clap::Args;
use control::cluster::Mode;
use std::{net::SocketAddr, path::PathBuf};
use types::Name;

/// Where a member lives, and where it is reached.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Where everything is kept
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// What this member is to be called; otherwise the machine's host name
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Where the other members reach this one, as in 10.0.0.1:7071
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Option<String>,
    /// Where it listens for them; otherwise at the address of --peer, or everywhere if that is a name
    #[arg(long, value_name = "ADDRESS")]
    pub peer_listen: Option<SocketAddr>,
    /// Where clients reach its API; others send them there if they ask to be sent
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `cluster init`
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Who may lead when the leader is gone: automatic (the others elect one) or operator (a person says so)
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub failover: Option<Mode>,
    /// After how long without a leader another may be elected, in milliseconds
    #[arg(long, value_name = "LEAST-MOST", value_parser = election)]
    pub election_ms: Option<[u64; 2]>,
}

/// `cluster join`
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// A member of the cluster, as HOST:PORT of its --peer
    #[arg(value_name = "MEMBER")]
    pub address: String,
    /// What `holdfast cluster join-token` printed
    #[arg(long, env = "HOLDFAST_CLUSTER_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub secret: String,
    /// It gets everything and never votes: a copy for reading
    #[arg(long)]
    pub read_only: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "automatic" => Ok(Mode::Automatic),
        "operator" => Ok(Mode::Operator),
        _ => Err("wants automatic or operator".to_owned()),
    }
}

fn election(text: &str) -> Result<[u64; 2], String> {
    let wrong = || "wants LEAST-MOST, as in 150-300".to_owned();
    let (least, most) = text.split_once('-').ok_or_else(wrong)?;
    Ok([least.parse().map_err(|_| wrong())?, most.parse().map_err(|_| wrong())?])
}
