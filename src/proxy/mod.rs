//! The four stages of a request, each in its own room: [`admit`], [`forward`], [`relay`], [`settle`]. The trait that
//! Pingora calls only hands over.
//!
//! [`door`] is where connections come in, `tls` ends their TLS where that is done here, [`ctx`] what a request carries from stage to stage, [`body`] how a body is read before anything is forwarded,
//! [`chat`] how a chat start is admitted, [`logins`] how sign-ins are watched, [`keys`] how programs come with API keys, [`keys_made`] how keys are made, [`agent_keys`] whose LibreChat's own keys are, [`client`] whose address it comes from, [`ranges`] which addresses a person may come
//! from, [`origins`] what pages of other origins may send and read, [`framing`] which of them may show LibreChat's, [`own`] what
//! Tollgate answers itself, [`reject`] how a rejection is sent, [`sign_in`] how people are signed in, [`rewrite`] what is changed of an answer, [`upstream`] which LibreChat it goes to, [`counted`] how one is written down that floods, [`cutoff`] how
//! a stream ends whose person was suspended.

pub mod admit;
pub mod agent_keys;
pub mod body;
pub mod chat;
pub mod client;
pub mod counted;
pub mod ctx;
pub mod cutoff;
pub mod door;
pub mod forward;
pub mod framing;
pub mod keys;
pub mod keys_made;
pub mod logins;
pub mod origins;
pub mod own;
pub mod ranges;
pub mod reject;
pub mod relay;
pub mod rewrite;
pub mod settle;
pub mod sign_in;
#[cfg(feature = "tls")]
pub mod tls;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::app::App;
use ctx::Ctx;

/// The gateway, as Pingora calls it.
#[derive(Debug)]
pub struct Gateway {
    app: Arc<App>,
}

impl Gateway {
    /// The gateway of this app.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.app.clock.now())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        ctx.counted = Some(self.app.open_requests.enter());
        client::set_up(session);
        match admit::admit(&self.app, session, ctx).await {
            Ok(admit::Admitted::Forward) => {
                upstream::choose(&self.app, session, ctx).await;
                ctx.admitted_in.get_or_insert_with(|| ctx.received.elapsed());
                Ok(false)
            }
            Ok(admit::Admitted::Answered) => Ok(true),
            Err(rejection) => {
                Box::pin(reject::send(&self.app, session, ctx, rejection)).await;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        forward::peer(ctx)
    }

    fn fail_to_connect(&self, _session: &mut Session, _peer: &HttpPeer, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
        if upstream::choose_another(&self.app, ctx, &error) {
            error.set_retry(true);
        }
        error
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
        forward::prepare(session, request, ctx)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        chunk: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        body::replay(chunk, end_of_stream, ctx);
        Ok(())
    }

    async fn response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        client::part_when_stopping(&self.app, session);
        relay::head(&self.app, session, response, ctx)?;
        if sign_in::gives_way(&self.app, session, response) {
            Box::pin(sign_in::give_way(&self.app, session, response)).await;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        chunk: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if !session.was_upgraded() {
            relay::chunk(&self.app, chunk.as_ref(), end_of_stream, ctx);
            cutoff::apply(&self.app, session, chunk, ctx)?;
            rewrite::chunk(chunk, end_of_stream, ctx);
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        reject::upstream_failed(&self.app, session, ctx, error).await
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        // Failures are logged once, where they are handled.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        if ctx.login.is_some() {
            Box::pin(logins::end(&self.app, session, error, ctx)).await;
        }
        settle::settle(&self.app, session, error, ctx);
    }
}
