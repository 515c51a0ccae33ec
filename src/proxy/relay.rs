//! The third stage: bytes pass through untouched and unbuffered, and are read along.
//!
//! Everything here runs between two chunks of someone's answer, so it only parses and merges; counting and writing happen
//! where the generation is attended to.

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::rewrite::{self, HeldBack};
use super::{agent_keys, framing, origins};
use crate::app::App;
use crate::generations::reader::StreamReader;
use crate::generations::telling::OwnerElsewhere;
use crate::generations::{End, Generation, Observation, Watch};
use crate::librechat::agent_keys::NewKeyReader;
use crate::librechat::login::LoginReader;
use crate::librechat::openai::ApiAnswerReader;
use crate::librechat::routes::{Route, created_at};
use crate::librechat::start::{StartAnswer, StartReader};

/// What is read of an answer.
#[derive(Debug, Default)]
pub enum Reading {
    /// Nothing.
    #[default]
    Nothing,
    /// The short JSON that answers a chat start or a steer.
    Start(StartReader),
    /// The stream that answers a chat start.
    Direct(Box<StreamReader>, Watch),
    /// A stream of a generation that runs detached.
    Stream(Box<StreamOfGeneration>),
    /// An answer of the OpenAI-compatible API.
    Api(Box<ApiAnswerReader>),
    /// The answer to a sign-in.
    Login(LoginReader),
    /// LibreChat's configuration, held back until it is whole.
    Config(HeldBack),
    /// A key that LibreChat makes.
    NewKey(NewKeyReader),
}

impl Reading {
    /// Tells a generation what was read of it by a request that does not come to its end.
    pub fn left_behind(&self) {
        match self {
            Self::Direct(reader, watch) => watch.generation().tell(reader.seen()),
            Self::Stream(stream) => {
                let Some(watch) = &stream.watch else { return };
                let (generation, seen) = (watch.generation(), stream.reader.seen());
                let (asked, known) = (stream.created_at, generation.created_at());
                // A stream that was not asked for by when its run was created may be of another one in the same conversation.
                let is_its_own = if asked.is_some() && known.is_some() {
                    asked == known
                } else {
                    generation.seen().run_id.is_none_or(|known| seen.run_id.as_ref().is_none_or(|run_id| *run_id == known))
                };
                if is_its_own {
                    generation.tell(seen);
                }
            }
            _ => {}
        }
    }
}

/// A stream that a client subscribed to.
#[derive(Debug)]
pub struct StreamOfGeneration {
    /// Reads it.
    pub reader: StreamReader,
    /// The generation, where this replica owns it.
    pub watch: Option<Watch>,
    /// The conversation it is for.
    pub conversation_id: String,
    /// The run it is for, where the client says when that was created.
    pub created_at: Option<i64>,
    /// The replica's generation that it shows, where this one does not own it.
    pub owner: Option<OwnerElsewhere>,
    /// Counted among the open streams as long as it lives.
    pub counted: crate::app::OpenStream,
}

/// The head of LibreChat's answer.
pub fn head(app: &App, session: &Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    response.insert_header("X-Request-Id", &*ctx.request_id)?;
    origins::answer(&ctx.cors, response)?;
    framing::answer(app, ctx, response)?;
    rewrite::head(response, ctx)?;
    let status = response.status.as_u16();
    let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if ctx.route == Route::Abort && is_event_stream(header("content-type")) {
        // Before 0.8.2 LibreChat takes this path for a chat start. Leaving its stream ends the run.
        return Error::e_explain(ErrorType::InternalError, "LibreChat started a chat where one was to be stopped");
    }
    if status < 200 {
        return Ok(());
    }
    agent_keys::answered(app, ctx, status);
    if let Some(body) = &mut ctx.body {
        // LibreChat has it, and nothing is sent twice from here on; the answer may take half an hour.
        *body = Bytes::new();
    }
    if !ctx.route.answer_is_read() {
        return Ok(());
    }
    match (&ctx.route, &ctx.generation) {
        (Route::NewAgentKey, _) if (200..300).contains(&status) => ctx.reading = Reading::NewKey(NewKeyReader::default()),
        (Route::Login(_), _) if ctx.login.is_some() => ctx.reading = Reading::Login(LoginReader::new(status)),
        (Route::Chat(_), Some(generation)) => ctx.reading = start_of_chat(app, generation, status, header("content-type")),
        (Route::Steer, Some(generation)) => {
            // Before 0.8.8 LibreChat takes this path for a chat start, and answers it as one.
            if status < 300 {
                ctx.reading = start_of_chat(app, generation, status, header("content-type"));
            } else {
                generation.dismiss();
            }
        }
        (Route::AgentApi(_), Some(generation)) => {
            if status == 200 {
                generation.streams_directly();
                ctx.reading = Reading::Api(Box::new(ApiAnswerReader::new(header("content-type"), header("content-encoding"))));
            } else {
                generation.dismiss();
            }
        }
        (Route::Stream { conversation_id }, _) if status == 200 => {
            let created_at = session.req_header().uri.query().and_then(created_at);
            let identity = ctx.identity.as_ref();
            let member = identity.map_or("", |identity| &identity.user);
            let watch = app.generations.find(member, conversation_id, created_at).map(|generation| generation.watch());
            let of_another = identity.filter(|_| watch.is_none()).and_then(|identity| Some((identity.org.as_ref()?, identity)));
            let owner = of_another.and_then(|(org, identity)| {
                app.generations.owner_elsewhere(org.id.clone(), identity.user.clone(), conversation_id.clone(), created_at)
            });
            ctx.reading = Reading::Stream(Box::new(StreamOfGeneration {
                reader: app.generations.detached_reader(),
                watch,
                conversation_id: conversation_id.clone(),
                created_at,
                owner,
                counted: app.open_stream(),
            }));
        }
        _ => {}
    }
    Ok(())
}

/// A 200 is not a start: JSON has to say so, and anything else is a stream whose frames do. LibreChat sends some refusals
/// as a stream without a `Content-Type`.
fn start_of_chat(app: &App, generation: &std::sync::Arc<Generation>, status: u16, content_type: &str) -> Reading {
    if matches!(status, 502 | 504) {
        // Only a proxy in between says so, and LibreChat may have begun all the same.
        generation.answer_unseen();
        Reading::Nothing
    } else if !(200..300).contains(&status) {
        generation.dismiss();
        Reading::Nothing
    } else if is_json(content_type) {
        Reading::Start(StartReader::default())
    } else {
        generation.streams_directly();
        Reading::Direct(Box::new(app.generations.reader()), generation.watch())
    }
}

fn is_json(content_type: &str) -> bool {
    content_type.to_ascii_lowercase().contains("json")
}

fn is_event_stream(content_type: &str) -> bool {
    content_type.to_ascii_lowercase().contains("event-stream")
}

/// A chunk of LibreChat's answer, or its end.
pub fn chunk(app: &App, chunk: Option<&Bytes>, end_of_stream: bool, ctx: &mut Ctx) {
    match &mut ctx.reading {
        Reading::Nothing | Reading::Config(_) => {}
        Reading::Start(reader) => {
            let clear = chunk.and_then(|chunk| reader.push(chunk));
            if let Some(answer) = clear.or_else(|| end_of_stream.then(|| reader.finish())) {
                ctx.reading = Reading::Nothing;
                start_answered(app, ctx, answer);
            }
        }
        Reading::Direct(reader, watch) => {
            if let Some(chunk) = chunk
                && reader.push(chunk, app.clock.now())
            {
                tell_direct(app, watch.generation(), reader.seen());
            }
        }
        Reading::Stream(stream) => {
            if let Some(chunk) = chunk
                && stream.reader.push(chunk, app.clock.now())
                && let Some(watch) = &stream.watch
            {
                app.generations.tell_of_run(watch.generation(), stream.created_at, stream.reader.seen());
            }
        }
        Reading::NewKey(reader) => {
            if let Some(key) = chunk.and_then(|chunk| reader.push(chunk)) {
                ctx.reading = Reading::Nothing;
                agent_keys::made(app, ctx, &key);
            }
        }
        Reading::Login(reader) => chunk.into_iter().for_each(|chunk| reader.push(chunk)),
        Reading::Api(reader) => {
            if let Some(chunk) = chunk {
                reader.push(chunk);
            }
        }
    }
}

fn start_answered(app: &App, ctx: &mut Ctx, answer: StartAnswer) {
    let Some(generation) = &ctx.generation else { return };
    match answer {
        StartAnswer::Started { conversation_id, created_at } => {
            ctx.asks.conversation_id = Some(conversation_id.clone());
            app.generations.started(generation, conversation_id, created_at);
        }
        StartAnswer::Resuming { conversation_id, created_at } => {
            ctx.asks.conversation_id = Some(conversation_id.clone());
            app.generations.resumed(generation, conversation_id, created_at);
        }
        // What is said to a running answer starts nothing, and was taken.
        _ if ctx.route == Route::Steer => generation.closed(End::Completed, app.clock.now()),
        StartAnswer::NotNew | StartAnswer::Refused => generation.dismiss(),
        StartAnswer::Unclear => generation.answer_unseen(),
    }
}

/// What a direct stream showed. A failure before LibreChat accepted the message is no generation at all.
pub fn tell_direct(app: &App, generation: &Generation, seen: &Observation) {
    let refused = seen.end == Some(End::Failed) && !seen.created && !seen.measured_anything();
    if refused {
        generation.dismiss();
    } else {
        app.generations.tell(generation, seen);
    }
}
