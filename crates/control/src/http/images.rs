//! How an image reference becomes a digest, before a deploy is decided.

use api::{Code, Problem};
use futures_util::future::BoxFuture;
use oci::ResolveError;
use std::sync::Arc;
use types::{limits, plan::PinnedImage};

/// A reference on its way to a digest.
pub type Resolving = BoxFuture<'static, Result<PinnedImage, Problem>>;

/// Finds digests. Tests bring one that asks nobody.
pub type Images = Arc<dyn Fn(String) -> Resolving + Send + Sync>;

/// Asks the registries and layouts that references name, for an image that this machine's kind runs.
pub(super) fn registries() -> Images {
    Arc::new(|reference| {
        Box::pin(async move {
            let platform = oci::Platform::host();
            oci::resolve(&reference, &platform).await.map_err(|error| problem(&error))
        })
    })
}

fn problem(error: &ResolveError) -> Problem {
    let code = match error {
        ResolveError::Unreachable { .. } | ResolveError::Store { .. } => Code::ImageUnavailable,
        ResolveError::NotFound { .. } => Code::ImageNotFound,
        ResolveError::Invalid { .. } | ResolveError::Mismatch { .. } => Code::ImageInvalid,
    };
    Problem::new(code, error.to_string()).with_path("image.ref")
}

/// Finds a digest within a bound.
pub(super) async fn resolve(images: &Images, reference: &str) -> Result<PinnedImage, Problem> {
    match tokio::time::timeout(limits::IMAGE_RESOLVE.into(), images(reference.to_owned())).await {
        Ok(resolved) => resolved,
        Err(_) => {
            let detail = format!("{reference}: its source did not answer within {}", limits::IMAGE_RESOLVE);
            Err(Problem::new(Code::ImageUnavailable, detail))
        }
    }
}
