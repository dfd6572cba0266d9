//! WebSocket (RFC 7118): the handshake of either side. rsipstack's own listener speaks `wss` without TLS, and its
//! connections send a body that is no UTF-8 as other octets.

use crate::convert::backend;
use siprtc_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const PROTOCOL_FIELD: &str = "Sec-WebSocket-Protocol";

fn config(max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
        .read_buffer_size(4096)
        .write_buffer_size(0)
}

/// The server's side. Who does not ask for the subprotocol `sip` gets 400 (RFC 7118 section 4.1).
pub(crate) async fn accept<S>(stream: S, max: usize) -> Result<WebSocketStream<S>, WsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let choose = |request: &Request, mut response: Response| {
        let offered = request.headers().get_all(PROTOCOL_FIELD).iter();
        let sip = offered
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim().eq_ignore_ascii_case("sip"));
        if !sip {
            let mut refusal = ErrorResponse::new(Some(
                "this is a SIP server: ask for the subprotocol sip".to_owned(),
            ));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return Err(refusal);
        }
        response
            .headers_mut()
            .insert(PROTOCOL_FIELD, HeaderValue::from_static("sip"));
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async_with_config(stream, choose, Some(config(max))).await
}

/// The client's side; `host` is what the Host field says.
pub(crate) async fn connect<S>(stream: S, host: &str, max: usize) -> Result<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const OPERATION: &str = "connect WebSocket";
    let failed = |error: WsError| -> Error {
        backend(OPERATION, format!("{host} did not agree to a WebSocket"))
            .caused_by(error)
            .advice("check that a SIP server with WebSocket listens there")
    };
    let mut request = format!("ws://{host}/").into_client_request().map_err(failed)?;
    let headers = request.headers_mut();
    headers.insert(PROTOCOL_FIELD, HeaderValue::from_static("sip"));
    let connected = tokio_tungstenite::client_async_with_config(request, stream, Some(config(max))).await;
    // tungstenite has checked that the server chose the one subprotocol that was offered.
    connected.map(|(stream, _)| stream).map_err(failed)
}
