//! SIP over WebSocket (RFC 7118): one message in each frame, and the subprotocol `sip` on both sides.

use crate::connection::{PING, PONG};
use crate::drive::{Incoming, Wire};
use crate::stream::Explain;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use siprtc_core::sip::{Limits, Transport};
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error as WsError, Message, Utf8Bytes};

/// RFC 7118 section 4.1.
const SUBPROTOCOL: &str = "sip";
const PROTOCOL_FIELD: &str = "Sec-WebSocket-Protocol";

/// Octets of the buffer that each connection holds.
const READ_BUFFER: usize = 4096;

const OPERATION: &str = "WebSocket handshake";

pub(crate) struct WsWire<S> {
    stream: WebSocketStream<S>,
    explain: Explain,
    /// Pings of ours that are unanswered.
    awaited: u32,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WsWire<S> {
    pub(crate) fn new(stream: WebSocketStream<S>, explain: Explain) -> Self {
        WsWire {
            stream,
            explain,
            awaited: 0,
            unflushed: false,
        }
    }

    fn why(&self, error: WsError) -> String {
        match error {
            WsError::ConnectionClosed | WsError::AlreadyClosed => "the peer closed the connection".to_owned(),
            WsError::Io(error) => (self.explain)(&error),
            error => error.to_string(),
        }
    }

    /// RFC 5626 section 3.5.1 inside frames, for those who cannot send WebSocket pings.
    fn read(&mut self, content: Bytes) -> Option<Incoming> {
        if content == PING {
            return Some(Incoming::Ping);
        }
        if content == PONG {
            let asked = self.awaited > 0;
            self.awaited = self.awaited.saturating_sub(1);
            return asked.then_some(Incoming::Pong);
        }
        // Other line ends are none of these, and no message either (RFC 3261 section 7.5).
        let says_something = content.iter().any(|octet| !b"\r\n".contains(octet));
        says_something.then_some(Incoming::Message(content))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for WsWire<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            let content = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(Message::Text(text))) => Bytes::from(text),
                Some(Ok(Message::Binary(content))) => content,
                // Pings are answered by the library.
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Poll::Ready(Incoming::End(self.why(error))),
                None => return Poll::Ready(Incoming::End("the peer closed the connection".to_owned())),
            };
            if let Some(incoming) = self.read(content) {
                return Poll::Ready(incoming);
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<Bytes>,
    ) -> Poll<std::result::Result<(), String>> {
        while !queue.is_empty() {
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_ready(cx)) {
                return Poll::Ready(Err(self.why(error)));
            }
            let Some(bytes) = queue.pop_front() else { break };
            // RFC 7118 section 5.1: a binary frame for what is no UTF-8.
            let message = match Utf8Bytes::try_from(bytes.clone()) {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(bytes),
            };
            self.unflushed = true;
            if let Err(error) = Pin::new(&mut self.stream).start_send(message) {
                return Poll::Ready(Err(self.why(error)));
            }
        }
        if self.unflushed {
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
                return Poll::Ready(Err(self.why(error)));
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The close frame; what the peer still says is read until its own.
        if ready!(Pin::new(&mut self.stream).poll_close(cx)).is_err() {
            return Poll::Ready(());
        }
        while ready!(Pin::new(&mut self.stream).poll_next(cx)).is_some_and(|next| next.is_ok()) {}
        Poll::Ready(())
    }

    fn expect_pong(&mut self) {
        self.awaited = self.awaited.saturating_add(1);
    }

    fn is_partial(&self) -> bool {
        false
    }
}

/// The client's handshake. `name`: the Host, and the path after its first slash.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    transport: Transport,
    remote: SocketAddr,
    name: &str,
    limits: &Limits,
) -> Result<WebSocketStream<S>> {
    let wrong = |error: WsError| failed(name, error);
    let uri = uri(transport, remote, name)?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config(limits))).await;
    let (stream, _) = opened.map_err(wrong)?;
    Ok(stream)
}

/// `sip.example.com` or `sip.example.com/ws`: what stands before the first slash, and the rest with it.
pub(crate) fn split_path(name: &str) -> (&str, &str) {
    match name.find('/') {
        Some(slash) => name.split_at(slash),
        None => (name, "/"),
    }
}

fn uri(transport: Transport, remote: SocketAddr, name: &str) -> Result<Uri> {
    let (host, path) = split_path(name);
    let host = match host.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_) => host.to_owned(),
    };
    let (scheme, default) = match transport {
        Transport::Wss => ("wss", 443),
        _ => ("ws", 80),
    };
    let port = match remote.port() {
        port if port == default => String::new(),
        port => format!(":{port}"),
    };
    format!("{scheme}://{host}{port}{path}").parse().map_err(|e| {
        Error::new(
            Fault::ApiMisuse,
            OPERATION,
            format!("\"{name}\" is no host name, with or without a path"),
        )
        .caused_by(e)
        .advice("write it as sip.example.com or sip.example.com/ws")
    })
}

/// The server's handshake: 400 for whoever does not ask for the subprotocol (RFC 7118 section 4.1).
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    limits: &Limits,
) -> std::result::Result<WebSocketStream<S>, WsError> {
    tokio_tungstenite::accept_hdr_async_with_config(stream, negotiate, Some(config(limits))).await
}

#[allow(clippy::result_large_err, reason = "the handshake's callback is made so")]
fn negotiate(request: &Request, mut response: Response) -> std::result::Result<Response, ErrorResponse> {
    if asks_for_sip(request.headers()) {
        response
            .headers_mut()
            .insert(PROTOCOL_FIELD, HeaderValue::from_static(SUBPROTOCOL));
        return Ok(response);
    }
    let why = "this is a SIP server: ask for the WebSocket subprotocol sip (RFC 7118)\n";
    let mut refusal = ErrorResponse::new(Some(why.to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

fn asks_for_sip(headers: &HeaderMap) -> bool {
    headers
        .get_all(PROTOCOL_FIELD)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(SUBPROTOCOL))
}

fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.message))
}

fn failed(name: &str, error: WsError) -> Error {
    let advice = match &error {
        WsError::Http(_) | WsError::Protocol(_) => {
            "check that a SIP server with WebSocket (RFC 7118) listens there, and the path, as in example.com/ws"
        }
        _ => "check the address and the port, and that a SIP server with WebSocket listens there",
    };
    let message = match &error {
        WsError::Http(response) => format!("{name} refuses the WebSocket with {}", response.status()),
        _ => format!("{name} makes no WebSocket with the subprotocol sip"),
    };
    Error::new(Fault::PeerIncompatible, OPERATION, message)
        .caused_by(error)
        .advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_host_and_path() {
        let uri = |transport, port, name| {
            let remote = SocketAddr::from(([192, 0, 2, 1], port));
            uri(transport, remote, name).map(|uri| uri.to_string())
        };
        assert_eq!(uri(Transport::Ws, 80, "a.example").unwrap(), "ws://a.example/");
        assert_eq!(
            uri(Transport::Wss, 443, "a.example/ws?x=1").unwrap(),
            "wss://a.example/ws?x=1"
        );
        assert_eq!(uri(Transport::Wss, 80, "::1").unwrap(), "wss://[::1]:80/");
        assert_eq!(uri(Transport::Ws, 8080, "[::1]/a").unwrap(), "ws://[::1]:8080/a");
        assert_eq!(
            uri(Transport::Ws, 80, "a b").unwrap_err().fault(),
            Fault::ApiMisuse
        );
    }

    #[test]
    fn the_subprotocol_is_one_of_those_asked_for() {
        for (values, asks) in [
            (&["sip"][..], true),
            (&["msrp, SIP"], true),
            (&["msrp", "sip"], true),
            (&["sips"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PROTOCOL_FIELD, HeaderValue::from_static(value));
            }
            assert_eq!(asks_for_sip(&headers), asks, "{values:?}");
        }
    }
}
