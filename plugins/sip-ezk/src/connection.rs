//! Connections that ezk opens for us, and why it cannot.

use crate::convert::backend;
use crate::engine::Engine;
use crate::shared::{Peer, Shared};
use ezk_sip_types::uri::SipUri as EzkUri;
use siprtc_core::{Error, Fault, Result};
use siprtc_sip_locate::tls::{explain, server_name};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest second attempt, which is made only to hear why the first one failed.
const SECOND_ATTEMPT: Duration = Duration::from_secs(5);

/// A TCP connection to `to`: one that is there, or a new one.
pub(crate) async fn tcp(
    engine: &Engine,
    shared: &Shared,
    to: SocketAddr,
    operation: &'static str,
) -> Result<Peer> {
    may_open(shared, to, operation)?;
    match ask(engine, &format!("sip:{to};transport=tcp"), operation).await? {
        Some(peer) => Ok(peer),
        None => Err(why_not(shared, to, None, operation).await),
    }
}

/// A TLS connection to `to` whose certificate is for `name`: one that is there, or a new one.
pub(crate) async fn tls(
    engine: &Engine,
    shared: &Shared,
    to: SocketAddr,
    name: &str,
    operation: &'static str,
) -> Result<Peer> {
    let wrong = |e: Error| e.backend(crate::NAME);
    server_name(name).map_err(wrong)?;
    let bare = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    if let Some(handle) = shared.flows.verified(to, bare) {
        return Ok(Peer { handle, to });
    }
    // One at a time: whoever waits finds the connection that the other has made.
    let _held = engine.names().hold(bare, to.ip()).await;
    if let Some(handle) = shared.flows.verified(to, bare) {
        return Ok(Peer { handle, to });
    }
    may_open(shared, to, operation)?;
    let host = match bare.parse::<IpAddr>() {
        Ok(ip) if ip == to.ip() => to.to_string(),
        Ok(ip) => return Err(other_name(to, &ip.to_string(), operation)),
        Err(_) => format!("{bare}:{}", to.port()),
    };
    let Some(peer) = ask(engine, &format!("sip:{host};transport=tls"), operation).await? else {
        return Err(why_not(shared, to, Some(bare), operation).await);
    };
    if peer.to != to || !shared.flows.verify(&peer.handle, to, bare) {
        return Err(other_name(to, bare, operation));
    }
    Ok(peer)
}

fn may_open(shared: &Shared, to: SocketAddr, operation: &'static str) -> Result<()> {
    if shared.flows.may_connect(to, shared.config.max_connections) {
        return Ok(());
    }
    Err(backend(operation, "too many connections are open").advice("close some, or raise max_connections"))
}

/// ezk's connection; `None` when there is none and it cannot open one.
async fn ask(engine: &Engine, text: &str, operation: &'static str) -> Result<Option<Peer>> {
    let unreadable = |_| backend(operation, format!("ezk cannot read {text}"));
    let ezk: EzkUri = text.parse().map_err(unreadable)?;
    let selected = engine.endpoint(operation)?.select_transport(&ezk).await;
    Ok(selected.ok().map(|(handle, to)| Peer { handle, to }))
}

/// ezk 0.9 takes any TLS connection to the same address for the right one, and says not why it cannot open one.
fn other_name(to: SocketAddr, name: &str, operation: &'static str) -> Error {
    let message = format!("ezk has another TLS connection to {to}, which was not verified to be {name}");
    Error::new(Fault::Unsupported, operation, message)
        .advice("ezk keeps one for each address: choose another stack, such as native")
        .backend(crate::NAME)
}

/// ezk writes to its log only why a connection could not be opened, so it is tried once more to hear it.
async fn why_not(shared: &Shared, to: SocketAddr, name: Option<&str>, operation: &'static str) -> Error {
    let trying = async {
        let stream = match TcpStream::connect(to).await {
            Ok(stream) => stream,
            Err(error) => {
                return backend(operation, format!("no connection to {to}"))
                    .caused_by(error)
                    .advice("check the address, the port and that somebody listens there");
            }
        };
        if let Some(name) = name
            && let Ok(expected) = server_name(name)
            && let Err(error) = TlsConnector::from(shared.tls.client.clone())
                .connect(expected, stream)
                .await
        {
            return explain(&error, name).backend(crate::NAME);
        }
        backend(operation, format!("no connection to {to} a moment ago")).advice("try again")
    };
    match tokio::time::timeout(SECOND_ATTEMPT, trying).await {
        Ok(error) => error,
        Err(_) => Error::new(Fault::TimedOut, operation, format!("{to} does not answer"))
            .advice("check the address, the port and the firewalls between")
            .backend(crate::NAME),
    }
}
