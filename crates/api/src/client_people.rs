//! Members of the org from the client's side, and logging in.

use crate::{
    Client, ClientError, LoginAnswer, LoginRequest, OwnTokenRequest, PasswordChange, PersonChange,
    PersonIdentity, PersonRequest, PersonRow, Receipt, TokenRow,
    client::Wire,
    routes::{self, fill},
};
use reqwest::{Method, RequestBuilder, header};
use types::{Name, RequestId, TokenId};

/// A session that was opened with a name and a password. It belongs to the server that opened it.
#[derive(Clone, Debug)]
pub struct Session {
    wire: Wire,
    cookie: Cookie,
    /// Who has logged in.
    pub answer: LoginAnswer,
}

/// Printing it for debugging shows nothing of it.
#[derive(Clone)]
struct Cookie(String);

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie(…)")
    }
}

/// What each call can fail with is told by [`ClientError`]; each sends one request, once.
impl Client {
    /// Begins a session.
    pub async fn login(&self, request: &LoginRequest) -> Result<Session, ClientError> {
        let wire = self.wire.clone().without_secret();
        let response = wire.send(wire.call(Method::POST, routes::LOGIN).json(request)).await?;
        let status = response.status();
        let cookie = response.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        let Some(cookie) = cookie else { return Err(wire.bad(status, "no cookie came with it".into())) };
        let answer = wire.answer(response).await?;
        Ok(Session { wire, cookie: Cookie(cookie), answer })
    }

    /// The members of the org, who may log in.
    pub async fn members(&self) -> Result<Vec<PersonRow>, ClientError> {
        self.list(routes::MEMBERS).await
    }

    /// Adds a member.
    pub async fn create_member(
        &self,
        id: RequestId,
        request: &PersonRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(routes::MEMBERS, id, request).await
    }

    /// Gives a member another role, another password, or both.
    pub async fn set_member(
        &self,
        id: RequestId,
        name: &Name,
        change: &PersonChange,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&fill(routes::MEMBER, &[name.as_str()]), id, change).await
    }

    /// Removes a member, with its sessions and tokens.
    pub async fn delete_member(&self, id: RequestId, name: &Name) -> Result<Receipt, ClientError> {
        let call = self.wire.call(Method::DELETE, &fill(routes::MEMBER, &[name.as_str()]));
        self.wire.json(call.header(routes::IDEMPOTENCY_KEY, id.to_string())).await
    }

    /// Lets a member log in as somebody whom a provider knows.
    pub async fn link_member(
        &self,
        id: RequestId,
        name: &Name,
        identity: &PersonIdentity,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&fill(routes::MEMBER_IDENTITY, &[name.as_str()]), id, identity).await
    }

    /// Takes that away again.
    pub async fn unlink_member(&self, id: RequestId, name: &Name) -> Result<Receipt, ClientError> {
        let call = self.wire.call(Method::DELETE, &fill(routes::MEMBER_IDENTITY, &[name.as_str()]));
        self.wire.json(call.header(routes::IDEMPOTENCY_KEY, id.to_string())).await
    }

    /// Changes the password of the member whose token this client has.
    pub async fn change_password(
        &self,
        id: RequestId,
        change: &PasswordChange,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(routes::OWN_PASSWORD, id, change).await
    }

    /// The tokens of the member whose token this client has.
    pub async fn own_tokens(&self) -> Result<Vec<TokenRow>, ClientError> {
        self.list(routes::OWN_TOKENS).await
    }

    /// Revokes one of them.
    pub async fn revoke_own_token(&self, id: RequestId, token: TokenId) -> Result<Receipt, ClientError> {
        let call = self.wire.call(Method::DELETE, &fill(routes::OWN_TOKEN, &[&token.to_string()]));
        self.wire.json(call.header(routes::IDEMPOTENCY_KEY, id.to_string())).await
    }
}

impl Session {
    /// Makes a token of one's own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_token(
        &self,
        id: RequestId,
        request: &OwnTokenRequest,
    ) -> Result<Receipt, ClientError> {
        let call = self.call(routes::OWN_TOKENS).header(routes::IDEMPOTENCY_KEY, id.to_string());
        self.wire.json(call.json(request)).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn logout(self) -> Result<(), ClientError> {
        self.wire.send(self.call(routes::LOGOUT)).await.map(drop)
    }

    fn call(&self, path: &str) -> RequestBuilder {
        let call = self.wire.call(Method::POST, path).header(header::COOKIE, &self.cookie.0);
        call.header(header::ORIGIN, &self.wire.server).header(routes::CSRF, &self.answer.csrf)
    }
}
