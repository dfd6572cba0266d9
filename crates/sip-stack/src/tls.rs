//! The TLS of a stack, made when it is first needed: a stack without TLS holds nothing of it.

use crate::connection::Failure;
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};
use siprtc_core::Result;
use siprtc_core::sip::{ListenerConfig, TlsConfig, Transport};
use siprtc_sip_locate::tls::{client_config, explain, no_identity, server_config, server_name};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The clients' and the server's side.
pub(crate) struct Tls {
    config: TlsConfig,
    client: Mutex<Option<Arc<ClientConfig>>>,
    server: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the server's certificate if a listener needs one, and checks what was configured for connections.
    pub(crate) fn new(config: TlsConfig, listeners: &[ListenerConfig]) -> Result<Self> {
        let listens = listeners
            .iter()
            .any(|listener| matches!(listener.transport, Transport::Tls | Transport::Wss));
        let server = match listens {
            true => Some(server_config(&config)?.ok_or_else(no_identity)?),
            false => None,
        };
        let tls = Tls {
            server,
            client: Mutex::new(None),
            config,
        };
        if tls.config.ca.is_some() || tls.config.identity.is_some() || !tls.config.verify {
            tls.client()?;
        }
        Ok(tls)
    }

    fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut client = self.client.lock();
        match &*client {
            Some(client) => Ok(client.clone()),
            None => Ok(client.insert(client_config(&self.config)?).clone()),
        }
    }

    /// The client's handshake with the peer that has a certificate for `name`.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
    ) -> Result<client::TlsStream<S>, Failure> {
        let connector = TlsConnector::from(self.client()?);
        let connecting = connector.connect(server_name(name)?, stream);
        connecting.await.map_err(|error| explain(&error, name).into())
    }

    /// The server's handshake with the peer that is called `name`.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
    ) -> Result<server::TlsStream<S>, Failure> {
        let server = self.server.clone().ok_or_else(no_identity)?;
        let accepting = TlsAcceptor::from(server).accept(stream);
        accepting.await.map_err(|error| explain(&error, name).into())
    }
}

/// Says an error of a connection: TLS has its own, behind the handshake too (RFC 8446 section 4.4.2.4: a server refuses a
/// client's certificate then).
pub(crate) fn explain_io(error: &io::Error, name: &str) -> String {
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return explain(error, name).message().to_owned();
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the peer closed the connection without a goodbye".to_owned(),
        io::ErrorKind::TimedOut => "the peer no longer answers".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the peer reset the connection".to_owned()
        }
        _ => error.to_string(),
    }
}
