//! The third stage: bytes pass through untouched and unbuffered, and are read along.
//!
//! Everything here runs between two chunks of someone's answer, so it only parses and merges; counting and writing happen
//! where the generation is attended to.

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::app::App;
use crate::generations::reader::StreamReader;
use crate::generations::{End, Generation, Observation, Watch};
use crate::librechat::openai::ApiAnswerReader;
use crate::librechat::routes::{Route, created_at};
use crate::librechat::start::{self, MAX_ANSWER_BYTES, StartAnswer};

/// What is read of an answer.
#[derive(Debug, Default)]
pub enum Reading {
    /// Nothing.
    #[default]
    Nothing,
    /// The short JSON that answers a chat start or a steer.
    Start(Vec<u8>),
    /// The stream that answers a chat start.
    Direct(Box<StreamReader>, Watch),
    /// A stream of a generation that runs detached.
    Stream(Box<StreamOfGeneration>),
    /// An answer of the OpenAI-compatible API.
    Api(Box<ApiAnswerReader>),
}

impl Reading {
    /// Tells a generation what was read of it by a request that does not come to its end.
    pub fn left_behind(&self) {
        let (reader, generation) = match self {
            Self::Direct(reader, watch) => (&**reader, watch.generation()),
            Self::Stream(stream) => match &stream.watch {
                Some(watch) => (&stream.reader, watch.generation()),
                None => return,
            },
            _ => return,
        };
        let (seen, known) = (reader.seen(), generation.seen().run_id);
        // A stream may be of another run in the same conversation.
        if known.is_none() || seen.run_id.is_none() || known == seen.run_id {
            generation.tell(seen);
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
    /// Counted among the open streams as long as it lives.
    pub counted: crate::app::OpenStream,
}

/// The head of LibreChat's answer.
pub fn head(app: &App, session: &Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    response.insert_header("X-Request-Id", &*ctx.request_id)?;
    let status = response.status.as_u16();
    let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if ctx.route == Route::Abort && is_event_stream(header("content-type")) {
        // Before 0.8.2 LibreChat takes this path for a chat start. Leaving its stream ends the run.
        return Error::e_explain(ErrorType::InternalError, "LibreChat started a chat where one was to be stopped");
    }
    if status < 200 {
        return Ok(());
    }
    if let Some(body) = &mut ctx.body {
        // LibreChat has it, and nothing is sent twice from here on; the answer may take half an hour.
        *body = Bytes::new();
    }
    if !ctx.route.answer_is_read() {
        return Ok(());
    }
    match (&ctx.route, &ctx.generation) {
        (Route::Chat(_), Some(generation)) => ctx.reading = start_of_chat(generation, status, header("content-type")),
        (Route::Steer, Some(generation)) => {
            // Before 0.8.8 LibreChat takes this path for a chat start, and answers it as one.
            if status < 300 {
                ctx.reading = start_of_chat(generation, status, header("content-type"));
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
            let member = ctx.identity.as_ref().map_or("", |identity| &identity.user);
            ctx.reading = Reading::Stream(Box::new(StreamOfGeneration {
                reader: StreamReader::default(),
                watch: app.generations.find(member, conversation_id, created_at).map(|generation| generation.watch()),
                conversation_id: conversation_id.clone(),
                counted: app.open_stream(),
            }));
        }
        _ => {}
    }
    Ok(())
}

/// A 200 is not a start: JSON has to say so, and anything else is a stream whose frames do. LibreChat sends some refusals
/// as a stream without a `Content-Type`.
fn start_of_chat(generation: &std::sync::Arc<Generation>, status: u16, content_type: &str) -> Reading {
    if matches!(status, 502 | 504) {
        // Only a proxy in between says so, and LibreChat may have begun all the same.
        generation.answer_unseen();
        Reading::Nothing
    } else if !(200..300).contains(&status) {
        generation.dismiss();
        Reading::Nothing
    } else if is_json(content_type) {
        Reading::Start(Vec::new())
    } else {
        generation.streams_directly();
        Reading::Direct(Box::default(), generation.watch())
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
        Reading::Nothing => {}
        Reading::Start(answer) => {
            if let Some(chunk) = chunk.filter(|chunk| answer.len() + chunk.len() <= MAX_ANSWER_BYTES) {
                answer.extend_from_slice(chunk);
            }
            // The client may ask for the stream as soon as it has the last byte, so that the end is not waited for.
            if end_of_stream || answer.last() == Some(&b'}') && start::read(answer) != StartAnswer::Refused {
                let answer = std::mem::take(answer);
                ctx.reading = Reading::Nothing;
                start_answered(app, ctx, &answer);
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
                app.generations.tell(watch.generation(), stream.reader.seen());
            }
        }
        Reading::Api(reader) => {
            if let Some(chunk) = chunk {
                reader.push(chunk);
            }
        }
    }
}

fn start_answered(app: &App, ctx: &mut Ctx, answer: &[u8]) {
    let Some(generation) = &ctx.generation else { return };
    match start::read(answer) {
        StartAnswer::Started { conversation_id, created_at } => {
            ctx.asks.conversation_id = Some(conversation_id.clone());
            app.generations.started(generation, conversation_id, created_at);
        }
        StartAnswer::Resuming { conversation_id, created_at } => {
            ctx.asks.conversation_id = Some(conversation_id.clone());
            app.generations.resumed(generation, conversation_id, created_at);
        }
        // What is said to a running answer starts nothing, and was taken.
        StartAnswer::NotNew | StartAnswer::Refused if ctx.route == Route::Steer => generation.closed(End::Completed, app.clock.now()),
        StartAnswer::NotNew | StartAnswer::Refused => generation.dismiss(),
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
