//! A stream of answers that is opened again whenever it breaks, as the retry table says.
//!
//! Owns: opening, pauses, giving up. Does not own: where a stream goes on (`watch`, `logs`).
//!
//! Invariant: waiting for a message may be given up at any moment, as `tokio::select!` does, without losing one and without
//! opening another connection.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tonic::{Response, Status, Streaming};

use crate::connection::{AuthenticatedChannel, Client, StreamPlace, chance, trouble_of};
use crate::error::Error;
use crate::retry::{Meaning, StreamAttempts};
use crate::trouble::TroubleKind;

/// Sends a request whose answers are a stream.
pub(crate) type Opening<M> = Pin<Box<dyn Future<Output = Result<Response<Streaming<M>>, Status>> + Send>>;

/// Opens a stream for a request.
pub(crate) type Opener<Q, M> = Box<dyn Fn(AuthenticatedChannel, Q) -> Opening<M> + Send + Sync>;

pub(crate) struct ResumingStream<Q, M> {
    client: Client,
    open: Opener<Q, M>,
    attempts: StreamAttempts,
    connection: Connection<M>,
    /// On the connection to the server that was asked last.
    place: Option<StreamPlace>,
}

/// A stream that a server has begun, or what the attempt met.
type Opened<M> = Result<Streaming<M>, (Meaning, TroubleKind)>;

enum Connection<M> {
    Closed,
    /// Before it is opened again.
    Pausing(Pin<Box<tokio::time::Sleep>>),
    /// Kept here while it is waited for, so that giving up one wait does not begin it anew.
    Opening(Pin<Box<dyn Future<Output = Opened<M>> + Send>>),
    Open(Box<Streaming<M>>),
}

impl<Q, M: Send + 'static> ResumingStream<Q, M> {
    pub(crate) fn new(client: &Client, open: Opener<Q, M>) -> ResumingStream<Q, M> {
        let attempts = StreamAttempts::new(client.timeout());
        ResumingStream { client: client.clone(), open, attempts, connection: Connection::Closed, place: None }
    }

    /// How many servers can be asked.
    pub(crate) fn server_count(&self) -> usize {
        self.client.servers().count()
    }

    /// The next message of this connection or of one that goes on from where it ended; None at the end of one.
    /// `request` says where a new one begins.
    ///
    /// # Errors
    /// Refusals; those of every call if no server answers for as long as a call may take, after which another call of this
    /// function has that time again.
    pub(crate) async fn message(
        &mut self,
        mut request: impl FnMut() -> Result<Q, Error>,
    ) -> Result<Option<M>, Error> {
        loop {
            self.opened(&mut request).await?;
            let Connection::Open(stream) = &mut self.connection else { continue };
            match stream.message().await {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {
                    self.close();
                    return Ok(None);
                }
                Err(status) => self.met(Meaning::of(&status), trouble_of(&status))?,
            }
        }
    }

    /// Resolves once a server has begun to answer.
    pub(crate) async fn opened(
        &mut self,
        mut request: impl FnMut() -> Result<Q, Error>,
    ) -> Result<(), Error> {
        loop {
            match &mut self.connection {
                Connection::Open(_) => return Ok(()),
                Connection::Closed => {
                    let request = request()?;
                    let (address, patience) = self.attempts.next(self.client.servers(), Instant::now());
                    let (channel, place) = self.client.channel_for_stream(&address)?;
                    self.place = Some(place);
                    let opening = (self.open)(channel, request);
                    self.connection = Connection::Opening(Box::pin(async move {
                        match tokio::time::timeout(patience, opening).await {
                            Ok(Ok(answer)) => Ok(answer.into_inner()),
                            Ok(Err(status)) => Err((Meaning::of(&status), trouble_of(&status))),
                            Err(_) => Err((Meaning::no_answer(patience), TroubleKind::NoAnswer)),
                        }
                    }));
                }
                Connection::Pausing(pause) => {
                    pause.as_mut().await;
                    self.connection = Connection::Closed;
                }
                Connection::Opening(opening) => match opening.as_mut().await {
                    Ok(stream) => {
                        self.client.troubles().are_over();
                        self.attempts.opened(Instant::now());
                        self.connection = Connection::Open(Box::new(stream));
                    }
                    Err((meaning, trouble)) => self.met(meaning, trouble)?,
                },
            }
        }
    }

    /// A message brought it further: the time that opening may take begins anew.
    pub(crate) fn worked(&mut self) {
        self.attempts.worked();
    }

    /// It is opened again after a pause.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn broke(&mut self, meaning: Meaning) -> Result<(), Error> {
        self.met(meaning, TroubleKind::NoAnswer)
    }

    fn close(&mut self) {
        self.connection = Connection::Closed;
        self.place = None;
    }

    fn met(&mut self, meaning: Meaning, trouble: TroubleKind) -> Result<(), Error> {
        self.close();
        if matches!(meaning, Meaning::Final(_)) {
            self.client.troubles().are_over();
        }
        let pause = self.attempts.ended(self.client.servers(), meaning, Instant::now(), chance())?;
        if let Some(address) = self.attempts.upcoming(self.client.servers()) {
            self.client.troubles().met(trouble, &address);
        }
        if pause > Duration::ZERO {
            self.connection = Connection::Pausing(Box::pin(tokio::time::sleep(pause)));
        }
        Ok(())
    }
}
