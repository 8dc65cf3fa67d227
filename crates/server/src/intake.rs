//! Taking requests in: whole, before anybody works on them.
//!
//! Owns: how large requests may be, all of them together too, how long one may take to arrive, and what is said about one
//! that gRPC itself cannot read. Does not own: who may ask (`auth`), who answers (`forwarding`).
//!
//! Invariants: what callers make this server hold is bounded, however many ask, however large and however slowly; a refusal
//! made here changed nothing; no status leaves without a reason of ours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use stint_proto::limits::MESSAGE_BYTES_MAX;
use stint_proto::{ErrorReason, StatusDetails};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error;
use crate::limits::{REQUEST_BYTES_MIN, REQUEST_READ_MS, REQUESTS_BYTES_MAX};

/// Room for requests, shared by all ports of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    room: Arc<Semaphore>,
}

/// A request that has arrived.
pub struct Taken {
    /// The request, as whole as it was.
    pub request: Request<Body>,
    /// Its message, if there is a whole one that is not compressed.
    pub message: Option<Bytes>,
    /// Its room; given back when the request has been carried out.
    pub room: OwnedSemaphorePermit,
}

impl Default for Intake {
    fn default() -> Intake {
        Intake { room: Arc::new(Semaphore::new(REQUESTS_BYTES_MAX)) }
    }
}

impl Intake {
    /// Reads the one message of a request. What follows it, and what is no message, is left to who works on the request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a message that is too large, `RESOURCE_EXHAUSTED` if there is no room for it now,
    /// `DEADLINE_EXCEEDED` if it does not come in time. Nothing was changed then.
    pub async fn take(&self, request: Request<Body>) -> Result<Taken, Box<Status>> {
        let (parts, mut rest) = request.into_parts();
        let read = tokio::time::timeout(Duration::from_millis(REQUEST_READ_MS), self.read(&mut rest)).await;
        let (read, room) = read.map_err(|_| Box::new(error::read_timeout("sending the request")))??;
        let message = whole_message(&read);
        let body = Body::new(Arrived { read: Some(read).filter(|read| !read.is_empty()), rest });
        Ok(Taken { request: Request::from_parts(parts, body), message, room })
    }

    async fn read(&self, body: &mut Body) -> Result<(Bytes, OwnedSemaphorePermit), Box<Status>> {
        let mut read = BytesMut::new();
        let mut room = None;
        loop {
            if room.is_none()
                && let Some(message_bytes) = announced_bytes(&read)
            {
                room = Some(self.make_room(message_bytes)?);
            }
            if announced_bytes(&read).is_some_and(|bytes| read.len() >= PREFIX_BYTES + bytes) {
                break;
            }
            match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => read.extend_from_slice(&data),
                    Err(_) => break,
                },
                Some(Err(_)) | None => break,
            }
        }
        let room = match room {
            Some(room) => room,
            None => self.make_room(read.len())?,
        };
        Ok((read.freeze(), room))
    }

    fn make_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Box<Status>> {
        if bytes > MESSAGE_BYTES_MAX {
            return Err(Box::new(too_large(bytes)));
        }
        let bytes = u32::try_from(bytes.max(REQUEST_BYTES_MIN)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| {
            let message = format!("requests of {REQUESTS_BYTES_MAX} bytes are being carried out: try again");
            Box::new(error::overloaded(message))
        })
    }
}

/// Gives a status that gRPC itself has made, for a request that it cannot read, its reason and our words.
pub fn with_reason(response: Response<Body>) -> Response<Body> {
    const DETAILS: &str = "grpc-status-details-bin";
    if response.headers().contains_key(DETAILS) {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let (reason, message) = match status.code() {
        Code::Unimplemented => {
            (ErrorReason::Unimplemented, "this server has no such method: it may be older".to_owned())
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            (ErrorReason::RequestTooLarge, status.message().to_owned())
        }
        // What is ours has a reason; this is a message that is none.
        Code::Internal => {
            (ErrorReason::BadRequest, format!("the request cannot be read: {}", status.message()))
        }
        _ => return response,
    };
    StatusDetails::new(reason, message).into_status().into_http()
}

/// A message that is larger than the wire allows.
fn too_large(bytes: usize) -> Status {
    let message =
        format!("the request has {bytes} bytes and may have {MESSAGE_BYTES_MAX}: send less at once");
    StatusDetails::new(ErrorReason::RequestTooLarge, message).into_status()
}

/// What stands before each gRPC message: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;

fn announced_bytes(read: &[u8]) -> Option<usize> {
    let (mut prefix, _) = read.split_at_checked(PREFIX_BYTES)?;
    prefix.advance(1);
    Some(prefix.get_u32() as usize)
}

fn whole_message(read: &Bytes) -> Option<Bytes> {
    let end = PREFIX_BYTES + announced_bytes(read).filter(|_| read.first() == Some(&0))?;
    (read.len() >= end).then(|| read.slice(PREFIX_BYTES..end))
}

/// What has arrived of a body, then the rest of it.
struct Arrived {
    read: Option<Bytes>,
    rest: Body,
}

impl http_body::Body for Arrived {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.read.take() {
            Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use stint_proto::v1;
    use tokio_stream::wrappers::ReceiverStream;

    fn framed(message: &impl Message) -> Bytes {
        let encoded = message.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(encoded.len()).expect("small").to_be_bytes());
        bytes.extend_from_slice(&encoded);
        Bytes::from(bytes)
    }

    fn request(sent: &[u8]) -> Request<Body> {
        Request::new(Body::new(http_body_util::Full::new(Bytes::copy_from_slice(sent))))
    }

    async fn whole(request: Request<Body>) -> Bytes {
        request.into_body().collect().await.expect("a good body").to_bytes()
    }

    #[tokio::test]
    async fn a_message_is_seen_and_the_request_stays_whole() {
        let asked = v1::GetJobRequest { name: "a".to_owned(), stale: true, ..v1::GetJobRequest::default() };
        let sent = framed(&asked);
        let taken = Intake::default().take(request(&sent)).await.expect("taken");
        assert_eq!(v1::GetJobRequest::decode(taken.message.expect("a message")).expect("read"), asked);
        assert_eq!(whole(taken.request).await, sent);
    }

    #[tokio::test]
    async fn what_is_no_message_passes_unchanged() {
        let bodies: [&[u8]; 5] =
            [b"", b"\0", b"\0\0\0\0\xffabc", b"\x01\0\0\0\x02\x18\x01", b"\x01\0\0\0\x02\xff\xff"];
        for sent in bodies {
            let taken = Intake::default().take(request(sent)).await.expect("taken");
            assert_eq!(taken.message, None, "{sent:?}");
            assert_eq!(whole(taken.request).await, sent);
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_refused_before_it_is_read() {
        let mut sent = vec![0];
        sent.extend_from_slice(&u32::MAX.to_be_bytes());
        let refused = Intake::default().take(request(&sent)).await.err().expect("refused");
        assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::RequestTooLarge));
    }

    #[tokio::test]
    async fn r15_all_requests_together_are_bounded() {
        let intake = Intake::default();
        let mut sent = vec![0; PREFIX_BYTES + MESSAGE_BYTES_MAX];
        let length = u32::try_from(MESSAGE_BYTES_MAX).expect("a length").to_be_bytes();
        sent[1..PREFIX_BYTES].copy_from_slice(&length);
        let mut taken = Vec::new();
        for _ in 0..REQUESTS_BYTES_MAX / MESSAGE_BYTES_MAX {
            taken.push(intake.take(request(&sent)).await.expect("room").room);
        }
        let refused = intake.take(request(b"\0\0\0\0\0")).await.err().expect("no room");
        assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::TooManyRequests));
        assert!(stint_proto::status::retry_after(&refused).is_some());
        taken.pop();
        assert!(intake.take(request(&sent)).await.is_ok(), "what was carried out makes room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_arrive_is_given_up() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Status>>(4);
        sender.send(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x05ab")))).await.expect("room");
        let body = Body::new(http_body_util::StreamBody::new(ReceiverStream::new(receiver)));
        let intake = Intake::default();
        let refused = intake.take(Request::new(body)).await.err().expect("too slow");
        assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::Timeout));
        assert_eq!(intake.room.available_permits(), REQUESTS_BYTES_MAX, "and holds nothing");
        drop(sender);
    }

    #[test]
    fn statuses_of_grpc_itself_get_a_reason_and_ours_stay() {
        for (status, reason) in [
            (Status::unimplemented(""), ErrorReason::Unimplemented),
            (Status::out_of_range("decoded message length too large"), ErrorReason::RequestTooLarge),
            (Status::internal("failed to decode Protobuf message"), ErrorReason::BadRequest),
            (error::internal("reading", &"x"), ErrorReason::Internal),
            (error::list_expired(), ErrorReason::Expired),
        ] {
            let response = with_reason(status.into_http());
            let status = Status::from_header_map(response.headers()).expect("a status");
            assert_eq!((ErrorReason::of(&status), status.code()), (Some(reason), reason.code()));
        }
    }
}
