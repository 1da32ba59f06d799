//! The body of a response as it is received, with what was read ahead.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    connection::exchange::Connection,
    endpoint::lease::Lease,
    error::Error,
    exchange_observer::{ExchangeEnd, ExchangeWatch},
    grpc::code_set::GrpcCodes,
    request::buffer_quota::Reservation,
};

/// The body of a response. It may have been read ahead, to its end or in part.
#[derive(Debug)]
pub(crate) struct ReceivedBody {
    buffer: Option<Box<Buffer>>,
    /// What has not been read yet. `None` after the end.
    rest: Option<StreamedBody>,
}

/// What was read ahead.
#[derive(Debug, Default)]
struct Buffer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// `None` if the buffer does not count towards the quota.
    reservation: Option<Reservation>,
}

impl Buffer {
    fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.append(data),
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }

    /// Reserves what it holds. Returns whether the quota allows it.
    fn reserve(&mut self) -> bool {
        let length = self.length();
        self.reservation.as_mut().is_none_or(|reservation| reservation.cover(length))
    }

    fn append(&mut self, frame: Bytes) {
        // Over HTTP/2, the last frame of a body without a length is often empty.
        if frame.is_empty() {
            return;
        }
        self.data = match self.data.take() {
            // Most bodies have a single frame, which is not copied.
            None => Some(frame),
            Some(data) => {
                let mut data = BytesMut::from(data);
                data.extend_from_slice(&frame);
                Some(data.freeze())
            }
        };
    }

    fn length(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

/// A body that is read from its connection, which is released at the end.
#[derive(Debug)]
struct StreamedBody {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
    /// Counts the response as in flight.
    lease: Option<Lease>,
    watch: ExchangeWatch,
    /// The status codes of gRPC with which the trailers are those of a failure; empty if the head has decided that.
    grpc_codes: GrpcCodes,
}

impl StreamedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.poll_connection(cx));
        match &frame {
            Some(Ok(frame)) => self.frame_received(frame),
            Some(Err(error)) => self.watch.end(ExchangeEnd::Failed(error)),
            None => {}
        }
        match (&frame, &mut self.lease) {
            (Some(Err(_)), Some(lease)) => {
                lease.failed();
                self.lease = None;
            }
            _ if frame.is_none() || self.incoming.is_end_stream() => self.complete(),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn frame_received(&mut self, frame: &Frame<Bytes>) {
        self.watch.data_received(frame.data_ref().map_or(0, Bytes::len));
        if let Some(lease) = &mut self.lease
            && !self.grpc_codes.is_empty()
        {
            match frame.trailers_ref() {
                None => lease.message_received(),
                Some(trailers) if self.grpc_codes.blame_server(trailers) => lease.failed(),
                Some(_) => {}
            }
        }
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { incoming, connection, .. } = self;
        let mut poll = |cx: &mut Context<'_>| {
            Pin::new(&mut *incoming).poll_frame(cx).map_err(|error| Error::connection(error.into()))
        };
        let Some(connection) = connection else { return poll(cx) };
        let Poll::Ready(frame) = connection.poll_response(cx, poll) else {
            return connection.poll_stalled(cx).map(|timeout| Some(Err(Error::stalled(timeout))));
        };
        connection.stop_waiting();
        Poll::Ready(frame)
    }

    /// Ends the exchange after the last byte.
    fn complete(&mut self) {
        // First, as a request that the lease lets pass may need the connection.
        self.release_connection();
        self.watch.end(ExchangeEnd::Complete);
        if let Some(lease) = self.lease.take() {
            lease.complete();
        }
    }

    fn release_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        self.release_connection();
    }
}

impl ReceivedBody {
    /// With one of `grpc_codes` in the trailers, the response is a failure.
    pub(crate) fn new(
        incoming: Incoming,
        connection: Box<Connection>,
        lease: Option<Lease>,
        watch: ExchangeWatch,
        grpc_codes: GrpcCodes,
    ) -> Self {
        let mut body = StreamedBody { incoming, connection: Some(connection), lease, watch, grpc_codes };
        if body.incoming.is_end_stream() {
            body.complete();
        }
        Self { buffer: None, rest: Some(body) }
    }

    /// Reads a frame if it has arrived already. It does not count towards the quota, as the frame of a stream does not.
    pub(crate) fn read_arrived(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let Poll::Ready(frame) = rest.poll_frame(cx) else { return Ok(()) };
        let is_last = rest.incoming.is_end_stream();
        if let Some(frame) = frame {
            self.buffer.get_or_insert_default().add(frame?);
        }
        self.rest.take_if(|_| is_last);
        Ok(())
    }

    /// Counts what is read ahead towards the quota, as far as it is not reserved already.
    pub(crate) fn reserve(&mut self, reservation: Option<Reservation>) {
        self.buffer.get_or_insert_default().reservation = reservation;
    }

    /// Reads to the end, or until more than `max_bytes` are buffered, the quota is used up, or `is_enough` says so of the
    /// data that has arrived. If it is canceled, what was read remains buffered.
    pub(crate) async fn read_ahead(
        &mut self,
        max_bytes: usize,
        mut is_enough: impl FnMut(&Bytes) -> bool,
    ) -> Result<(), Error> {
        let buffer = self.buffer.get_or_insert_default();
        while let Some(rest) = &mut self.rest
            && buffer.length() <= max_bytes
            && buffer.reserve()
        {
            let Some(frame) = poll_fn(|cx| rest.poll_frame(cx)).await else {
                self.rest = None;
                break;
            };
            let frame = frame?;
            let is_enough = frame.data_ref().is_some_and(&mut is_enough);
            buffer.add(frame);
            if is_enough {
                break;
            }
        }
        Ok(())
    }

    /// Returns the trailers that were read ahead.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.buffer.as_ref()?.trailers.as_ref()
    }

    /// Whether nothing was read ahead.
    pub(crate) fn is_unread(&self) -> bool {
        self.buffer.is_none()
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.rest.is_none()
    }

    /// Returns what was read ahead.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.buffer.and_then(|buffer| buffer.data).unwrap_or_default()
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { buffer, rest } = &mut *self;
        if let Some(buffer) = buffer
            && let Some(data) = buffer.data.take()
        {
            buffer.reservation = None;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(streamed) = rest {
            match ready!(streamed.poll_frame(cx)) {
                None => *rest = None,
                frame => return Poll::Ready(frame),
            }
        }
        let trailers = buffer.as_mut().and_then(|buffer| buffer.trailers.take());
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let is_buffer_empty =
            self.buffer.as_ref().is_none_or(|buffer| buffer.data.is_none() && buffer.trailers.is_none());
        is_buffer_empty && self.rest.as_ref().is_none_or(|rest| rest.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.incoming.size_hint());
        let Some(buffer) = &self.buffer else { return rest };
        let buffered = buffer.length() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(buffered));
        // A body with an exact size gets a Content-Length, and trailers need chunks instead.
        if buffer.trailers.is_none()
            && let Some(upper) = rest.upper()
        {
            hint.set_upper(upper.saturating_add(buffered));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_buffered_is_in_the_order_of_its_frames() {
        let mut buffer = Buffer::default();
        for (data, expected) in
            [("", None), ("ab", Some("ab")), ("", Some("ab")), ("c", Some("abc")), ("", Some("abc"))]
        {
            buffer.add(Frame::data(Bytes::from(data)));
            assert_eq!(buffer.data.as_deref(), expected.map(str::as_bytes));
        }
    }
}
