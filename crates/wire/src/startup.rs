//! How a client comes in: over TLS unless it is on this machine, as a key that may ask, or as anyone where no keys are needed.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::sasl::SCRAM_SHA_256_METHOD;
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::{
    ClientInfo, METADATA_DATABASE, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt};
use tokio::sync::Mutex;

use crate::scram::{Exchange, Fault, Verifier};
use crate::server::{Holder, MayAsk, Shared, Users};
use crate::session::{Admitted, Session};

const DATABASE: &str = "tally";

pub(crate) struct Startup {
    shared: Arc<Shared>,
    session: Arc<Session>,
    /// The login under way, once the client has begun it.
    exchange: Mutex<Option<Login>>,
}

struct Login {
    exchange: Exchange,
    may_ask: Option<Box<MayAsk>>,
}

impl Startup {
    pub fn new(shared: Arc<Shared>, session: Arc<Session>) -> Self {
        Self { shared, session, exchange: Mutex::new(None) }
    }

    /// Whether it may go on at all, before it is asked who it is.
    fn check_channel<C: ClientInfo>(&self, client: &C) -> PgWireResult<()> {
        if !client.is_secure() && !client.socket_addr().ip().to_canonical().is_loopback() {
            return Err(fatal(
                "28000",
                "this server takes connections from elsewhere with TLS only; use sslmode=require",
            ));
        }
        match client.metadata().get(METADATA_DATABASE).map(String::as_str) {
            Some(DATABASE) => Ok(()),
            other => {
                let asked = other.unwrap_or("(none)");
                Err(fatal("3D000", format!("there is no database {asked:?}; use {DATABASE:?}")))
            }
        }
    }

    fn refuse(&self, user: &str, fault: Fault) -> PgWireError {
        self.shared.metrics.refused_logins.inc();
        match fault {
            Fault::Protocol(what) => fatal("08P01", format!("the login is malformed: {what}")),
            Fault::Password => fatal(
                "28P01",
                format!(
                    "no key {user:?} with this secret may ask; the user is the name of an API key with the scope `query`, made \
                     or renewed since the Postgres port is there, and the password is the key itself, `tally_..`"
                ),
            ),
        }
    }

    async fn admit<C>(&self, client: &mut C, may_ask: Option<Box<MayAsk>>) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (process, secret) = self.shared.names.generate(client);
        let cancellable = self.shared.cancels.enter(process, secret.to_bytes().to_vec());
        self.session.admit(Admitted { cancellable, may_ask });
        client.set_pid_and_secret_key(process, secret);
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.is_superuser = false;
        parameters.default_transaction_read_only = true;
        finish_authentication(client, &parameters).await
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                self.check_channel(client)?;
                if matches!(self.shared.users, Users::Anyone) {
                    return self.admit(client, None).await;
                }
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                let methods = Authentication::SASL(vec![SCRAM_SHA_256_METHOD.to_owned()]);
                client.send(PgWireBackendMessage::Authentication(methods)).await?;
            }
            PgWireFrontendMessage::PasswordMessageFamily(message) => {
                // What comes before the startup message, or after the login, is no part of a login.
                if !matches!(client.state(), PgWireConnectionState::AuthenticationInProgress) {
                    return Err(self.refuse("", Fault::Protocol("it begins in the middle")));
                }
                let user = user_of(client);
                let mut exchange = self.exchange.lock().await;
                match exchange.take() {
                    None => {
                        let begun = self.begin(&user, message).map_err(|fault| self.refuse(&user, fault))?;
                        let answer = Authentication::SASLContinue(begun.exchange.server_first.clone().into());
                        *exchange = Some(begun);
                        client.send(PgWireBackendMessage::Authentication(answer)).await?;
                    }
                    Some(begun) => {
                        let response = message.into_sasl_response()?;
                        let proof = begun.exchange.finish(&response.data).map_err(|fault| self.refuse(&user, fault))?;
                        let answer = Authentication::SASLFinal(proof.into());
                        client.send(PgWireBackendMessage::Authentication(answer)).await?;
                        self.admit(client, begun.may_ask).await?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Startup {
    fn begin(&self, user: &str, message: PasswordMessageFamily) -> Result<Login, Fault> {
        let first = message.into_sasl_initial_response().map_err(|_| Fault::Protocol("it is not SCRAM"))?;
        if first.auth_method != SCRAM_SHA_256_METHOD {
            return Err(Fault::Protocol("only SCRAM-SHA-256 is offered"));
        }
        let data = first.data.ok_or(Fault::Protocol("the first message is empty"))?;
        let known = match &self.shared.users {
            Users::Keys(holder_of) => holder_of(user),
            Users::Anyone => None,
        };
        // Who tries names learns nothing of which there are.
        let (verifier, may_ask) = match known {
            Some(Holder { verifier, may_ask }) => (verifier, Some(may_ask)),
            None => (Verifier::of_nobody(user, self.shared.secret), None),
        };
        let exchange = Exchange::begin(&data, verifier, self.shared.entropy.bits())?;
        Ok(Login { exchange, may_ask })
    }
}

fn user_of<C: ClientInfo>(client: &C) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

/// An error after which the connection closes.
pub(crate) fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into())))
}
